//! `secret`: files in memory that follow their Secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use copepod_node_plan::VolumeFile;

use crate::{VolumeError, Volumes, atomic};

pub(super) const PLUGIN: &str = "kubernetes.io~secret";

pub(super) fn set_up(
    volumes: &Volumes,
    uid: &str,
    name: &str,
    files: &BTreeMap<String, VolumeFile>,
) -> Result<PathBuf, VolumeError> {
    let dir = volumes.folder(true, uid, &["volumes", PLUGIN, name])?;
    atomic::write(&dir, files)?;
    Ok(dir)
}
