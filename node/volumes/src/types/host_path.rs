//! `hostPath`: what is there on the host, where the node allows it.

use std::fs::{self, FileType};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{VolumeError, Volumes};

type Is = fn(&FileType) -> bool;

pub(super) fn set_up(volumes: &Volumes, path: &Path, kind: &str) -> Result<PathBuf, VolumeError> {
    let refused = |why: String| Err(VolumeError::Refused(why));
    if !volumes.allow_host_path {
        return refused("hostPath volumes are not allowed on this node".into());
    }
    let shown = path.display();
    if !path.is_absolute() || path.components().any(|c| c == std::path::Component::ParentDir) {
        return refused(format!("path {shown} must be absolute and without '..'"));
    }
    let there = || fs::metadata(path).ok().map(|m| m.file_type());
    match kind {
        "DirectoryOrCreate" if there().is_none() => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(VolumeError::io(format!("mkdir {shown}")))?;
        }
        "FileOrCreate" if there().is_none() => {
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            made.map_err(VolumeError::io(format!("open {shown}")))?;
        }
        _ => {}
    }
    let found = there();
    let wanted: Option<(Is, &str)> = match kind {
        "Directory" | "DirectoryOrCreate" => Some((FileType::is_dir, "directory")),
        "File" | "FileOrCreate" => Some((FileType::is_file, "file")),
        "Socket" => Some((FileType::is_socket, "socket file")),
        "CharDevice" => Some((FileType::is_char_device, "character device")),
        "BlockDevice" => Some((FileType::is_block_device, "block device")),
        _ => None,
    };
    if let Some((is, what)) = wanted
        && !found.as_ref().is_some_and(is)
    {
        return refused(format!("hostPath type check failed: {shown} is not a {what}"));
    }
    match found {
        Some(t) if t.is_dir() || t.is_file() => Ok(path.into()),
        Some(_) => refused(format!("{shown} is neither a directory nor a file: no wasm guest can open it")),
        None => refused(format!("{shown} does not exist")),
    }
}
