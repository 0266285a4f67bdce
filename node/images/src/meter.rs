//! How far a pull is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what a pull downloads. Clones are the same meter. A pull that waits for another one's download shows nothing.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// Bytes that are here, and bytes that there are; `None` before a download has begun.
    pub fn read(&self) -> Option<(u64, u64)> {
        let total = self.0.total.load(Relaxed);
        (total > 0).then(|| (self.0.done.load(Relaxed).min(total), total))
    }

    /// A download begins.
    pub(crate) fn expect(&self, total: u64) {
        self.0.total.store(total, Relaxed);
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.done.fetch_add(bytes as u64, Relaxed);
    }

    /// What was here has to come again.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.0.done.fetch_sub(bytes, Relaxed);
    }
}
