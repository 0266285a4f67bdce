//! `secret`: its keys as files.

use k8s_openapi::api::core::v1::{SecretProjection, Volume};

use super::files::{self, Files, Keys};
use super::{Making, Problem};
use crate::effect::VolumeContent;

pub(super) fn make(making: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.secret.as_ref()?;
    let keys = Keys {
        resource: "secrets",
        name: v.secret_name.as_deref().unwrap_or_default(),
        items: v.items.as_deref(),
        mode: v.default_mode,
        optional: v.optional == Some(true),
    };
    Some(files::of(making, &keys).map(VolumeContent::Secret))
}

/// The same as one source of a projected volume.
pub(super) fn project(making: &mut Making<'_>, v: &SecretProjection, mode: Option<i32>) -> Result<Files, Problem> {
    let (items, optional) = (v.items.as_deref(), v.optional == Some(true));
    files::of(making, &Keys { resource: "secrets", name: &v.name, items, mode, optional })
}
