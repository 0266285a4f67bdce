//! Every type of volume that this node has.

mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod projected;
mod secret;

use std::path::PathBuf;

use copepod_node_plan::VolumeContent;

use crate::{VolumeError, Volumes};

/// Folder names of the types whose files come from the API: nobody writes to them, and they are copied rather than shared
/// where one file of them is mounted.
pub(crate) const SHOWN: [&str; 4] = [config_map::PLUGIN, downward_api::PLUGIN, projected::PLUGIN, secret::PLUGIN];

/// Sets up a volume by its type.
pub(crate) fn set_up(
    volumes: &Volumes,
    uid: &str,
    name: &str,
    content: &VolumeContent,
) -> Result<PathBuf, VolumeError> {
    match content {
        VolumeContent::ConfigMap(files) => config_map::set_up(volumes, uid, name, files),
        VolumeContent::DownwardApi(files) => downward_api::set_up(volumes, uid, name, files),
        VolumeContent::EmptyDir { memory, .. } => empty_dir::set_up(volumes, uid, name, *memory),
        VolumeContent::HostPath { path, kind } => host_path::set_up(volumes, path, kind),
        VolumeContent::Projected(files) => projected::set_up(volumes, uid, name, files),
        VolumeContent::Secret(files) => secret::set_up(volumes, uid, name, files),
    }
}
