//! `downwardAPI`: the pod's own fields and resources as files.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Volume};

use super::files::{Files, mode};
use super::{Making, Problem};
use crate::effect::{VolumeContent, VolumeFile};
use crate::env;

pub(super) fn make(making: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.downward_api.as_ref()?;
    let items = v.items.as_deref().unwrap_or_default();
    Some(project(making, items, v.default_mode).map(VolumeContent::DownwardApi))
}

/// The same as one source of a projected volume.
pub(super) fn project(
    making: &mut Making<'_>,
    items: &[DownwardAPIVolumeFile],
    default: Option<i32>,
) -> Result<Files, Problem> {
    let mut files = Files::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(r), _) => env::file_field(making.source, &r.field_path)?,
            (None, Some(r)) => env::file_resource(making.source, r)?,
            (None, None) => return Err("one of fieldRef and resourceFieldRef is required".to_string().into()),
        };
        files.insert(item.path.clone(), VolumeFile { data: text.into_bytes(), mode: mode(item.mode, default) });
    }
    Ok(files)
}
