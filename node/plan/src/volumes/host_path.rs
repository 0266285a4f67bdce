//! `hostPath`: what is there on the host. Whether it may be mounted is the data plane's to say.

use k8s_openapi::api::core::v1::Volume;

use super::{Making, Problem};
use crate::effect::VolumeContent;

pub(super) fn make(_: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.host_path.as_ref()?;
    Some(Ok(VolumeContent::HostPath { path: v.path.clone().into(), kind: v.type_.clone().unwrap_or_default() }))
}
