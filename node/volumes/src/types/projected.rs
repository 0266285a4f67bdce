//! `projected`: files in memory, since tokens and Secrets may be among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use copepod_node_plan::VolumeFile;

use crate::{VolumeError, Volumes, atomic};

pub(super) const PLUGIN: &str = "kubernetes.io~projected";

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
