//! What is in the store and when it was used last: for the node's status and for garbage collection.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use copepod_model::Time;

use crate::blobs::Blobs;
use crate::index::Index;

/// A module in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The module's digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// The names by which it was pulled: `repository@digest` of its manifests, then references.
    pub names: Vec<String>,
    /// When a container that runs it, or a pull, was last seen.
    pub last_used: Time,
}

/// When modules were last used, as far as this process has seen.
#[derive(Default)]
pub(crate) struct LastUsed(Mutex<HashMap<String, Time>>);

impl LastUsed {
    pub(crate) fn mark(&self, digest: &str, now: Time) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(digest) {
            Some(at) => *at = now.max(*at),
            None => drop(all.insert(digest.into(), now)),
        }
    }
    pub(crate) fn at(&self, digest: &str) -> Option<Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }
    pub(crate) fn forget(&self, digest: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

/// Every module in the store, by digest.
pub(crate) fn images(blobs: &Blobs, index: &Index, used: &LastUsed) -> io::Result<Vec<Image>> {
    let mut names: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (name, entry) in index.all() {
        let (digests, references) = names.entry(entry.digest).or_default();
        if !entry.manifest.is_empty() {
            let by_digest = format!("{}@{}", repository(&name), entry.manifest);
            if !digests.contains(&by_digest) {
                digests.push(by_digest);
            }
        }
        if !name.contains('@') {
            references.push(name);
        }
    }
    let image = |(digest, size, on_disk): (String, u64, Time)| {
        let (mut all, references) = names.remove(&digest).unwrap_or_default();
        all.extend(references);
        let last_used = used.at(&digest).unwrap_or_default().max(on_disk);
        Image { digest, size, names: all, last_used }
    };
    Ok(blobs.all()?.into_iter().map(image).collect())
}

/// A reference without its tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let path_at = name.rfind('/').map_or(0, |i| i + 1);
    name[path_at..].find(':').map_or(name, |i| &name[..path_at + i])
}
