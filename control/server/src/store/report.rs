//! What a store tells about itself: for `/metrics`, `/readyz` and whoever asks.

use std::path::PathBuf;

use prometheus_client::metrics::histogram::Histogram;

use super::Store;
use super::folder::{LOG, MIRROR};

/// Numbers of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The databases' file names and bytes on disk; none once the store is closed.
    pub files: Vec<(&'static str, u64)>,
    /// How many objects there are.
    pub objects: u64,
    /// The bytes of their bodies, which count for the quota.
    pub object_bytes: u64,
    /// The quota in bytes, 0 for none.
    pub quota: u64,
    /// Whether the quota is exceeded, and nothing new is stored.
    pub full: bool,
}

impl Store {
    /// Sets the space quota: the bytes that all objects may have together, 0 for any number. There is none at first.
    pub fn set_quota(&self, bytes: u64) {
        self.inner.shared.quota.set(bytes);
    }

    /// How large everything is.
    pub fn report(&self) -> Report {
        let (shared, tables) = (&self.inner.shared, self.snapshot());
        let size = |dir: &PathBuf, name| std::fs::metadata(dir.join(name)).map(|m| (name, m.len())).ok();
        let dir = shared.dir();
        Report {
            files: dir.iter().flat_map(|d| [LOG, MIRROR].into_iter().filter_map(|name| size(d, name))).collect(),
            objects: tables.len() as u64,
            object_bytes: tables.total_bytes() as u64,
            quota: shared.quota.limit(),
            full: shared.quota.is_full(&tables),
        }
    }

    /// Whether there is space for more; the error says how much too much there is.
    pub fn space(&self) -> Result<(), String> {
        self.inner.shared.quota.check(&self.snapshot())
    }

    /// Whether the log's commits go on; the error says since when one does not.
    pub fn disk(&self) -> Result<(), String> {
        self.inner.shared.disk.check()
    }

    /// How long the log's durable commits took, in seconds.
    pub fn commit_durations(&self) -> Histogram {
        self.inner.shared.disk.durations()
    }
}
