//! `configMap`: its keys as files.

use k8s_openapi::api::core::v1::{ConfigMapProjection, Volume};

use super::files::{self, Files, Keys};
use super::{Making, Problem};
use crate::effect::VolumeContent;

pub(super) fn make(making: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.config_map.as_ref()?;
    let keys = Keys {
        resource: "configmaps",
        name: &v.name,
        items: v.items.as_deref(),
        mode: v.default_mode,
        optional: v.optional == Some(true),
    };
    Some(files::of(making, &keys).map(VolumeContent::ConfigMap))
}

/// The same as one source of a projected volume.
pub(super) fn project(making: &mut Making<'_>, v: &ConfigMapProjection, mode: Option<i32>) -> Result<Files, Problem> {
    let (items, optional) = (v.items.as_deref(), v.optional == Some(true));
    files::of(making, &Keys { resource: "configmaps", name: &v.name, items, mode, optional })
}
