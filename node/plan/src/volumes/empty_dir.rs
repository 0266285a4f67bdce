//! `emptyDir`: a directory that lives as long as the pod.

use copepod_model::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::Volume;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Making, Problem};
use crate::effect::VolumeContent;

pub(super) fn make(_: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.empty_dir.as_ref()?;
    let size_limit = v.size_limit.as_ref().and_then(bytes);
    Some(match v.medium.as_deref() {
        None | Some("") => Ok(VolumeContent::EmptyDir { memory: false, size_limit }),
        Some("Memory") => Ok(VolumeContent::EmptyDir { memory: true, size_limit }),
        Some(other) => Err(format!("unknown storage medium \"{other}\"").into()),
    })
}

/// A limit in bytes; zero is none.
pub(super) fn bytes(q: &Quantity) -> Option<u64> {
    let amount: Amount = q.0.parse().ok()?;
    u64::try_from(amount.value()).ok().filter(|n| *n > 0)
}
