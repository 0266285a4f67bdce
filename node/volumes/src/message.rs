//! The file that a container leaves its last message in. Who reads it must not be led anywhere by what a guest has made of
//! it: every name is looked up beneath its directory.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{OpenOptions, OpenOptionsExt, open, open_ambient_dir, open_dir};
use copepod_node_plan::message::{LONGEST, Place, place};
use copepod_node_plan::{ContainerId, Mount, TerminationMessage};

use crate::{Volumes, plain};

/// The file of one attempt.
#[derive(Clone, Debug)]
pub struct MessageFile {
    /// A directory of the host, and what leads from there to the file.
    dir: PathBuf,
    sub_path: String,
    path: String,
    /// Whether the directory is there for this alone.
    own: bool,
    /// In a mount: what was there when the attempt began, which is no message of it.
    before: Option<Seen>,
}

/// What tells a file from the same one written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Volumes {
    /// The directory of an attempt for a message file of its own.
    pub fn message_dir(&self, id: &ContainerId) -> Option<PathBuf> {
        let named = plain(&id.pod_uid) && plain(&id.container);
        named.then(|| self.messages(&id.pod_uid).join(&*id.container).join(id.attempt.to_string()))
    }
}

impl MessageFile {
    /// The file of an attempt that is about to begin, with its mounts as they were prepared. Looks at what is there
    /// already if it is in one of them, else at nothing.
    pub fn of(termination: &TerminationMessage, mounts: &[Mount]) -> Option<MessageFile> {
        match place(&termination.path, mounts)? {
            Place::Own { name, .. } => {
                let dir = termination.own.clone()?;
                Some(MessageFile { dir, sub_path: String::new(), path: name.into(), own: true, before: None })
            }
            Place::Mounted { mount, path } => {
                let (dir, sub_path) = (mount.host.clone(), mount.sub_path.clone());
                let mut file = MessageFile { dir, sub_path, path: path.into(), own: false, before: None };
                file.before = file.open().ok().map(|(_, seen)| seen);
                Some(file)
            }
        }
    }

    /// The end of what the container has written, or why it cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let read = || -> io::Result<Vec<u8>> {
            let (mut file, seen) = match self.open() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                opened => opened?,
            };
            let mut bytes = Vec::new();
            if self.before != Some(seen) {
                file.seek(SeekFrom::Start(seen.size.saturating_sub(LONGEST as u64)))?;
                file.take(LONGEST as u64).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        read().map_err(|e| e.to_string())
    }

    /// Whether there is a directory of its own to be deleted.
    pub fn is_to_go(&self) -> bool {
        self.own && self.dir.exists()
    }

    /// Deletes it, with all that a guest has put there. Nothing in a mount.
    pub fn remove(self) {
        if self.own
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot delete a container's message");
        }
    }

    fn open(&self) -> io::Result<(File, Seen)> {
        let mut dir = open_ambient_dir(&self.dir, ambient_authority())?;
        if !self.sub_path.is_empty() {
            dir = open_dir(&dir, Path::new(&self.sub_path))?;
        }
        let mut options = OpenOptions::new();
        // Whatever else it may be is not waited for.
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let file = open(&dir, Path::new(&self.path), &options)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let changed = (meta.mtime(), meta.mtime_nsec());
        Ok((file, Seen { inode: meta.ino(), size: meta.len(), changed }))
    }
}
