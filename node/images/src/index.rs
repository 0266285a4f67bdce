//! Which reference stands for which module.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::blobs::replace;

/// One known reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Of the module.
    pub digest: String,
    /// Of the module, in bytes.
    pub size: u64,
    /// Digest of the manifest that the registry gave for the reference; empty for files.
    #[serde(default)]
    pub manifest: String,
    /// RFC 3339.
    #[serde(default)]
    pub pulled_at: String,
}

pub(crate) struct Index {
    file: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Index {
    pub(crate) fn open(dir: &Path) -> io::Result<Index> {
        let file = dir.join("index.json");
        let entries = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                // Nothing is lost but the shortcut: the next pull of each reference asks the registry again.
                tracing::warn!("{}: {e}; starting with an empty index", file.display());
                BTreeMap::new()
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(e),
        };
        Ok(Index { file, entries: Mutex::new(entries) })
    }

    pub(crate) fn get(&self, name: &str) -> Option<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records an entry. The lock is held over the write, so that the file never goes back in time.
    pub(crate) fn set(&self, name: String, entry: Entry) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |e: &Entry| (&e.digest, &e.manifest) == (&entry.digest, &entry.manifest);
        if entries.get(&name).is_some_and(same) {
            return Ok(());
        }
        entries.insert(name, entry);
        replace(&self.file, &serde_json::to_vec_pretty(&*entries)?)
    }
}
