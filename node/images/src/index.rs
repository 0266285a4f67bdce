//! Which reference stands for which module.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use copepod_model::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::blobs::{hex, replace};
use crate::registries::Credential;

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
    /// Hashes of the credentials of pods that it was given for; absent if anyone on this node may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<Vec<String>>,
}

/// How many credentials an image is remembered for.
const CREDENTIALS: usize = 100;

impl Entry {
    /// An image that was pulled just now, for nobody yet.
    pub(crate) fn new(digest: String, size: u64, manifest: String, now: Time) -> Entry {
        Entry { digest, size, manifest, pulled_at: now.rfc3339(), only_for: Some(Vec::new()) }
    }

    /// Whether a pod with these credentials may use it without asking the registry (KEP-2535): what one tenant may pull is
    /// not another's because it lies on the same node.
    pub(crate) fn allows(&self, credentials: &[Credential]) -> bool {
        self.only_for.as_ref().is_none_or(|list| credentials.iter().any(|c| list.contains(&fingerprint(c))))
    }

    /// The registry has given it for this credential, or to anyone.
    pub(crate) fn grant(&mut self, credential: Option<&Credential>) {
        let Some(credential) = credential else {
            self.only_for = None;
            return;
        };
        if let Some(list) = &mut self.only_for {
            let print = fingerprint(credential);
            if !list.contains(&print) {
                let too_many = (list.len() + 1).saturating_sub(CREDENTIALS);
                list.drain(..too_many);
                list.push(print);
            }
        }
    }
}

fn fingerprint(c: &Credential) -> String {
    let mut hash = Sha256::new();
    for part in [&c.username, &c.password] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(hash)
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
        let same =
            |e: &Entry| (&e.digest, &e.manifest, &e.only_for) == (&entry.digest, &entry.manifest, &entry.only_for);
        if entries.get(&name).is_some_and(same) {
            return Ok(());
        }
        entries.insert(name, entry);
        replace(&self.file, &serde_json::to_vec_pretty(&*entries)?)
    }

    /// The entry of a repository (`host/path`) that came by a manifest.
    pub(crate) fn by_manifest(&self, repository: &str, manifest: &str) -> Option<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |name: &str| name.strip_prefix(repository).is_some_and(|rest| rest.starts_with([':', '@']));
        entries.iter().find(|(name, e)| e.manifest == manifest && of(name)).map(|(_, e)| e.clone())
    }

    /// Forgets every name of a module.
    pub(crate) fn remove(&self, digest: &str) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.len();
        entries.retain(|_, e| e.digest != digest);
        if entries.len() == before {
            return Ok(());
        }
        replace(&self.file, &serde_json::to_vec_pretty(&*entries)?)
    }
}
