//! `emptyDir`: a directory that is there as long as the pod, whatever becomes of its containers or of the agent.

use std::path::PathBuf;

use crate::{VolumeError, Volumes};

/// The folder's name.
pub(crate) const PLUGIN: &str = "kubernetes.io~empty-dir";

pub(super) fn set_up(volumes: &Volumes, uid: &str, name: &str, memory: bool) -> Result<PathBuf, VolumeError> {
    if memory && volumes.memory.is_none() {
        let why = "no file system in memory with room for it at /dev/shm on this node";
        return Err(VolumeError::Refused(format!("medium \"Memory\": {why}")));
    }
    volumes.folder(memory, uid, &["volumes", PLUGIN, name])
}
