//! Every type of volume that this node has.

mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod projected;
mod secret;

use std::collections::BTreeMap;
use std::path::PathBuf;

use copepod_node_plan::{VolumeContent, VolumeFile};

use crate::{VolumeError, Volumes, atomic};

/// A type whose files come from the API: nobody writes to them, and they are copied rather than shared where one file of them
/// is mounted.
pub(crate) struct Shown {
    /// The folder's name.
    plugin: &'static str,
    /// In memory, where the node has some for files.
    memory: bool,
}

pub(crate) use empty_dir::PLUGIN as EMPTY_DIR;

const SHOWN: [Shown; 4] = [config_map::TYPE, downward_api::TYPE, projected::TYPE, secret::TYPE];

/// Whether a folder of this name is of such a type.
pub(crate) fn is_shown(plugin: &str) -> bool {
    SHOWN.iter().any(|t| t.plugin == plugin)
}

impl Shown {
    fn set_up(
        &self,
        volumes: &Volumes,
        uid: &str,
        name: &str,
        files: &BTreeMap<String, VolumeFile>,
    ) -> Result<PathBuf, VolumeError> {
        let dir = volumes.folder(self.memory, uid, &["volumes", self.plugin, name])?;
        atomic::write(&dir, files)?;
        Ok(dir)
    }
}

/// Sets up a volume by its type.
pub(crate) fn set_up(
    volumes: &Volumes,
    uid: &str,
    name: &str,
    content: &VolumeContent,
) -> Result<PathBuf, VolumeError> {
    match content {
        VolumeContent::ConfigMap(files) => config_map::TYPE.set_up(volumes, uid, name, files),
        VolumeContent::DownwardApi(files) => downward_api::TYPE.set_up(volumes, uid, name, files),
        VolumeContent::EmptyDir { memory, .. } => empty_dir::set_up(volumes, uid, name, *memory),
        VolumeContent::HostPath { path, kind } => host_path::set_up(volumes, path, kind),
        VolumeContent::Projected(files) => projected::TYPE.set_up(volumes, uid, name, files),
        VolumeContent::Secret(files) => secret::TYPE.set_up(volumes, uid, name, files),
    }
}
