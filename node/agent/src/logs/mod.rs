//! Container logs in CRI's file format: `<root>/<ns>_<pod>_<uid>/<container>/<attempt>.log`, and beside it the rotated
//! `<attempt>.log.1`. Files are opened by the first line and closed when nothing was written for a while, so that an idle
//! container holds no file descriptor.

pub(crate) mod line;
mod read;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use copepod_node_plan::ContainerId;

pub(crate) use read::{LogOptions, stream};
pub(crate) use write::{LogFile, Sink};

/// How many log files stay open between writes; beyond, each write opens and closes its own.
const OPEN_FILES: usize = 256;

/// All logs of a node.
pub(crate) struct Logs {
    root: PathBuf,
    live: Mutex<HashMap<ContainerId, Weak<LogFile>>>,
    /// Files that may be open.
    open: Arc<Mutex<Vec<Weak<LogFile>>>>,
}

impl Logs {
    /// Logs under `root`.
    pub fn new(root: impl Into<PathBuf>) -> Logs {
        Logs { root: root.into(), live: Mutex::default(), open: Arc::default() }
    }

    /// The log of an attempt that is about to run. Logs of attempts before the one before are deleted.
    pub fn create(&self, id: &ContainerId, namespace: &str, pod: &str) -> Arc<LogFile> {
        let dir = self.pod_dir(namespace, pod, &id.pod_uid).join(&*id.container);
        if id.attempt > 0 {
            keep_last(&dir, id.attempt);
        }
        let file = Arc::new(LogFile::new(dir.join(format!("{}.log", id.attempt)), self.open.clone()));
        let mut live = lock(&self.live);
        live.retain(|_, f| f.strong_count() > 0);
        live.insert(id.clone(), Arc::downgrade(&file));
        file
    }

    /// The log of an attempt that still runs.
    pub fn live(&self, id: &ContainerId) -> Option<Arc<LogFile>> {
        lock(&self.live).get(id).and_then(Weak::upgrade)
    }

    /// Where the log of an attempt is.
    pub fn path(&self, id: &ContainerId, namespace: &str, pod: &str) -> PathBuf {
        self.pod_dir(namespace, pod, &id.pod_uid).join(&*id.container).join(format!("{}.log", id.attempt))
    }

    /// Bytes on disk of the logs of a pod's containers, by their names.
    pub fn usage(&self, namespace: &str, pod: &str, uid: &str) -> BTreeMap<Arc<str>, u64> {
        let entries = std::fs::read_dir(self.pod_dir(namespace, pod, uid)).into_iter().flatten().flatten();
        entries.filter_map(|e| Some((e.file_name().to_str()?.into(), copepod_volumes::disk_usage(&e.path())))).collect()
    }

    /// How many files and folders they are.
    pub fn inodes(&self, namespace: &str, pod: &str, uid: &str) -> u64 {
        copepod_volumes::disk_usage_with_inodes(&self.pod_dir(namespace, pod, uid)).1
    }

    /// Deletes a pod's logs.
    pub fn remove(&self, namespace: &str, pod: &str, uid: &str) {
        lock(&self.live).retain(|id, _| &*id.pod_uid != uid);
        let dir = self.pod_dir(namespace, pod, uid);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot delete a pod's logs");
        }
    }

    /// Deletes the logs of pods that are no more, by `keep` over their UIDs.
    pub fn sweep(&self, keep: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let uid = name.to_str().and_then(|n| n.rsplit('_').next());
            if uid.is_some_and(|uid| !keep(uid)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Closes files that nobody has written to since the last call.
    pub fn close_idle(&self) {
        let files: Vec<_> = lock(&self.open).drain(..).collect();
        let busy: Vec<_> = files.into_iter().filter(|f| f.upgrade().is_some_and(|f| f.close_if_idle())).collect();
        lock(&self.open).extend(busy);
    }

    fn pod_dir(&self, namespace: &str, pod: &str, uid: &str) -> PathBuf {
        self.root.join(format!("{namespace}_{pod}_{uid}"))
    }
}

/// Deletes the logs of all attempts but the one before `attempt`.
fn keep_last(dir: &Path, attempt: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.split('.').next()).and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|n| n + 1 < attempt) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(crate) fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
