//! Floor 3a: volumes on the node's disk and in its memory. One file per type under `types`; each makes a directory of the
//! host, which the runtime then opens for its guests.
//!
//! ```text
//! <data>/pods/<pod's UID>/volumes/<plugin>/<volume>    on disk
//! <memory>/<pod's UID>/volumes/<plugin>/<volume>       in memory: Secrets, projected volumes, emptyDir of that medium
//! …/<pod's UID>/views/<container>/<n>                   directories for files that are mounted one by one
//! <data>/pods/<pod's UID>/messages/<container>/<n>      what the n-th attempt leaves as its last message
//! ```
//!
//! Nobody but the node's own user can enter either root. The memory is `/dev/shm` where that is a file system in memory
//! with room; otherwise what would be there is on disk, except for `emptyDir`, which is refused.

mod atomic;
mod memory;
mod message;
mod types;
mod usage;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use copepod_node_plan::{Mount, VolumeContent};

pub use message::MessageFile;
pub use usage::{disk_usage, disk_usage_with_inodes};

/// Why a volume cannot be had, in words for its pod's events.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Something on the host.
    #[error("{what}: {error}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// What the kubelet would say, or this node's own refusal.
    #[error("{0}")]
    Refused(String),
}

impl VolumeError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> VolumeError {
        let what = what.into();
        move |error| VolumeError::Io { what, error }
    }
}

/// What a node's volumes may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's data folder.
    pub data_dir: PathBuf,
    /// Whether pods may mount paths of the host.
    pub allow_host_path: bool,
}

/// The volumes of a node. All calls block on the file system.
pub struct Volumes {
    disk: PathBuf,
    memory: Option<PathBuf>,
    allow_host_path: bool,
    /// `emptyDir` volumes with a limit: pod, name, path and bytes.
    limited: Mutex<Vec<Limited>>,
}

#[derive(Clone)]
struct Limited {
    uid: Arc<str>,
    name: String,
    path: PathBuf,
    limit: u64,
    /// Bytes in it, once it has been looked at.
    bytes: Option<u64>,
}

/// A volume that is measured, as it was last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Name of the volume.
    pub name: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub limit: u64,
}

/// A volume that holds more than its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Name of the volume.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

impl Volumes {
    /// Opens the node's folders. What earlier agents have left is still there: see [`Volumes::orphans`].
    pub fn open(config: &Config) -> io::Result<Volumes> {
        let disk = config.data_dir.join("pods");
        private_dir(&disk)?;
        let memory = memory::root(&config.data_dir);
        Ok(Volumes { disk, memory, allow_host_path: config.allow_host_path, limited: Mutex::default() })
    }

    /// Sets up a volume, or makes one that is there show this content; where it is.
    pub fn mount(&self, uid: &Arc<str>, name: &str, content: &VolumeContent) -> Result<PathBuf, VolumeError> {
        if !plain(uid) || !plain(name) {
            return Err(VolumeError::Refused(format!("\"{uid}\" and \"{name}\" cannot be names of folders")));
        }
        let at = types::set_up(self, uid, name, content)?;
        if let VolumeContent::EmptyDir { size_limit: Some(limit), .. } = content {
            let mut limited = self.limited();
            limited.retain(|l| (&l.uid, l.name.as_str()) != (uid, name));
            limited.push(Limited { uid: uid.clone(), name: name.into(), path: at.clone(), limit: *limit, bytes: None });
        }
        Ok(at)
    }

    /// Makes a container's mounts ready to be opened: each is a directory afterwards.
    pub fn prepare(&self, uid: &str, container: &str, mounts: &mut [Mount]) -> Result<(), VolumeError> {
        view::prepare(self, uid, container, mounts)
    }

    /// Deletes all that a pod has.
    pub fn remove(&self, uid: &str) {
        self.limited().retain(|l| *l.uid != *uid);
        if !plain(uid) {
            return;
        }
        for root in self.roots() {
            let dir = root.join(uid);
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(dir = %dir.display(), %error, "cannot delete a pod's volumes");
            }
        }
    }

    /// What is here of pods other than these.
    pub fn orphans(&self, keep: &BTreeSet<Arc<str>>) -> BTreeSet<String> {
        let entries = self.roots().flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten());
        let uids = entries.filter_map(|e| e.file_name().into_string().ok());
        uids.filter(|uid| !keep.contains(uid.as_str())).collect()
    }

    /// Looks at every `emptyDir` with a limit; those that hold more.
    pub fn overruns(&self) -> Vec<Overrun> {
        let mut looked = self.limited().clone();
        for l in &mut looked {
            l.bytes = Some(disk_usage(&l.path));
        }
        let measured: HashMap<&Path, u64> = looked.iter().filter_map(|l| Some((l.path.as_path(), l.bytes?))).collect();
        for l in self.limited().iter_mut() {
            l.bytes = measured.get(l.path.as_path()).copied().or(l.bytes);
        }
        let over = looked.into_iter().filter_map(|l| {
            let bytes = l.bytes.filter(|bytes| *bytes > l.limit)?;
            Some(Overrun { uid: l.uid, name: l.name, bytes })
        });
        over.collect()
    }

    /// Every `emptyDir` with a limit that has been looked at, as it was then.
    pub fn measured(&self) -> Vec<Measured> {
        let limited = self.limited();
        let one =
            |l: &Limited| Some(Measured { uid: l.uid.clone(), name: l.name.clone(), bytes: l.bytes?, limit: l.limit });
        limited.iter().filter_map(one).collect()
    }

    /// Bytes that a pod's `emptyDir`s and messages hold on disk.
    pub fn local_bytes(&self, uid: &str) -> u64 {
        self.local_usage(uid).0
    }

    /// The same, and how many files and folders are in them.
    pub fn local_usage(&self, uid: &str) -> (u64, u64) {
        if !plain(uid) {
            return (0, 0);
        }
        let (bytes, inodes) = disk_usage_with_inodes(&self.disk.join(uid).join("volumes").join(types::EMPTY_DIR));
        let (more, files) = disk_usage_with_inodes(&self.messages(uid));
        (bytes.saturating_add(more), inodes.saturating_add(files))
    }

    /// The folder of a pod's messages.
    fn messages(&self, uid: &str) -> PathBuf {
        self.disk.join(uid).join("messages")
    }

    fn limited(&self) -> std::sync::MutexGuard<'_, Vec<Limited>> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.disk.as_path()).chain(self.memory.as_deref())
    }

    /// A folder of a pod, made if need be; in memory if there is some.
    fn folder(&self, memory: bool, uid: &str, rest: &[&str]) -> Result<PathBuf, VolumeError> {
        let root = self.memory.as_deref().filter(|_| memory).unwrap_or(&self.disk);
        let mut dir = root.join(uid);
        dir.extend(rest);
        private_dir(&dir).map_err(VolumeError::io(format!("mkdir {}", dir.display())))?;
        Ok(dir)
    }
}

/// One component of a path, and nothing else.
fn plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// A directory, and those above it, that nobody else can enter.
fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests;
