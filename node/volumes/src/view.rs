//! What a guest can be given is a directory. So a file that is mounted by itself (a `subPath` or a `hostPath` that is one)
//! stands in a directory made for it, together with the others that are mounted beside it. A file that comes from the API
//! is copied, and so does not follow, as upstream's does not; another one is the same file by a hard link.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{DirOptions, FollowSymlinks, Metadata, OpenOptions, create_dir, open, open_ambient_dir, stat};
use copepod_node_plan::Mount;

use crate::types::is_shown;
use crate::{VolumeError, Volumes};

/// Makes every mount a directory that is there.
pub(crate) fn prepare(volumes: &Volumes, uid: &str, container: &str, mounts: &mut [Mount]) -> Result<(), VolumeError> {
    let mut files: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    for (i, m) in mounts.iter().enumerate() {
        if is_file(m)? {
            let (parent, name) = m.path.rsplit_once('/').unwrap_or(("", &m.path));
            let parent = if parent.is_empty() { "/" } else { parent };
            files.entry(parent.into()).or_default().push((i, name.into()));
        }
    }
    for (parent, members) in files {
        if let Some(outer) =
            mounts.iter().enumerate().find(|(i, m)| m.path == parent && !members.iter().any(|(j, _)| i == j))
        {
            let (file, outer) = (&mounts[members[0].0].path, &outer.1.path);
            let why =
                format!("mountPath \"{file}\" is a file in the mount \"{outer}\": not possible for wasm containers");
            return Err(VolumeError::Refused(why));
        }
        // In memory if all of them may be there: what is linked must be on its own file system.
        let memory = members.iter().all(|(i, _)| shown(&mounts[*i].host));
        let number = members[0].0.to_string();
        let dir = volumes.folder(memory, uid, &["views", container, &number])?;
        clear(&dir).map_err(VolumeError::io(format!("clear {}", dir.display())))?;
        let read_only = members.iter().all(|(i, _)| mounts[*i].read_only);
        for (i, name) in &members {
            let m = &mounts[*i];
            place(m, &dir.join(name), read_only)?;
        }
        for (i, _) in members {
            let (path, host) = (parent.clone(), dir.clone());
            mounts[i] = Mount { path, host, sub_path: String::new(), read_only, memory: None };
        }
    }
    Ok(())
}

/// Whether a mount is of a file. A `subPath` that is not there becomes a directory.
fn is_file(m: &Mount) -> Result<bool, VolumeError> {
    let failed = || VolumeError::io(format!("failed to prepare subPath for volumeMount at \"{}\"", m.path));
    if m.sub_path.is_empty() {
        return Ok(fs::metadata(&m.host).map_err(failed())?.is_file());
    }
    let root = open_ambient_dir(&m.host, ambient_authority()).map_err(failed())?;
    match stat(&root, Path::new(&m.sub_path), FollowSymlinks::Yes) {
        Ok(meta) => Ok(meta.is_file()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(&root, &m.sub_path).map_err(failed())?;
            Ok(false)
        }
        Err(e) => Err(failed()(e)),
    }
}

fn make(root: &File, path: &str) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        so_far.push(part);
        match create_dir(root, &so_far, &DirOptions::new()) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Puts a mounted file where its guest will look for it.
fn place(m: &Mount, to: &Path, read_only: bool) -> Result<(), VolumeError> {
    let failed = || VolumeError::io(format!("failed to prepare the file for volumeMount at \"{}\"", m.path));
    let mut from = open_file(m).map_err(failed())?;
    // In a directory that can be written to, what may only be read is a copy.
    if !shown(&m.host) && (read_only || !m.read_only) {
        // By its descriptor, so that it is the very file that was opened beneath the volume.
        use std::os::fd::AsRawFd;
        let link = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
        let linked =
            rustix::fs::linkat(rustix::fs::CWD, &link, rustix::fs::CWD, to, rustix::fs::AtFlags::SYMLINK_FOLLOW);
        match linked {
            Ok(()) => return Ok(()),
            Err(e) if !m.read_only => {
                let why = format!(
                    "mountPath \"{}\": a file that cannot be linked into the node's data folder can only be mounted read-only: {e}",
                    m.path
                );
                return Err(VolumeError::Refused(why));
            }
            Err(_) => {}
        }
    }
    let mut out = {
        use std::os::unix::fs::OpenOptionsExt;
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed())?
    };
    io::copy(&mut from, &mut out).map_err(failed())?;
    Ok(())
}

fn open_file(m: &Mount) -> io::Result<File> {
    if m.sub_path.is_empty() {
        return File::open(&m.host);
    }
    let root = open_ambient_dir(&m.host, ambient_authority())?;
    let mut options = OpenOptions::new();
    options.read(true);
    let file = open(&root, Path::new(&m.sub_path), &options)?;
    match Metadata::from_file(&file)?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Whether what is there comes from the API.
fn shown(host: &Path) -> bool {
    let plugin = host.parent().and_then(Path::file_name).and_then(|n| n.to_str());
    plugin.is_some_and(is_shown)
}

fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}
