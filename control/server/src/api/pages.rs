//! Snapshots that `continue` tokens speak of: the pages of one list come from one revision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_machine::Time;
use copepod_state::Tables;

/// How long a token lives, as etcd's default compaction gives upstream.
const LIFETIME: Duration = Duration::from_secs(300);
/// How many snapshots are kept; a snapshot shares all objects that have not changed since.
const KEPT: usize = 256;

/// The kept snapshots, by revision.
#[derive(Default)]
pub struct Pages(Mutex<BTreeMap<u64, (Time, Arc<Tables>)>>);

impl Pages {
    /// Keeps a snapshot for the pages that follow.
    pub fn keep(&self, tables: &Arc<Tables>, now: Time) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.retain(|_, (since, _)| now.since(*since) < LIFETIME);
        while kept.len() >= KEPT {
            kept.pop_first();
        }
        kept.entry(tables.revision()).or_insert_with(|| (now, tables.clone()));
    }

    /// The snapshot of a revision, unless it is gone.
    pub fn at(&self, revision: u64) -> Option<Arc<Tables>> {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.get(&revision).map(|(_, tables)| tables.clone())
    }
}
