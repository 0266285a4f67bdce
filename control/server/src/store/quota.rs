//! The space quota: what happens when the objects have as many bytes as they may.
//!
//! Counted are the bytes of all objects' bodies in memory, not those of the files: they fall at once when something is
//! deleted, and are the same on all members. While the alarm is on, what adds is refused, and what is needed to get out
//! of it goes on: deletions, and changes of objects that are there by as much as marks of deletion, finalizers,
//! heartbeats and statuses take. (An etcd that is full refuses those, too, so that nodes seem dead and nothing with a
//! grace period or a finalizer can be deleted.)

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use copepod_state::quota::{adds_nothing, alarm, slack};
use copepod_state::{Tables, Txn};

use super::ProposeError;

/// The quota unless another is set: what etcd suggests as a maximum.
pub const DEFAULT_QUOTA: u64 = 8 << 30;

/// The quota and its alarm.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Bytes, 0 for none.
    limit: AtomicU64,
    full: AtomicBool,
}

impl Quota {
    pub(super) fn set(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether a transaction on these objects may be proposed.
    pub(super) fn admit(&self, txn: &Txn, tables: &Tables) -> Result<(), ProposeError> {
        if !self.is_full(tables) || adds_nothing(txn, tables, slack(bytes(tables), self.limit())) {
            return Ok(());
        }
        Err(ProposeError::NoSpace)
    }

    /// Whether there is space for more; the error says what to do.
    pub(super) fn check(&self, tables: &Tables) -> Result<(), String> {
        if !self.is_full(tables) {
            return Ok(());
        }
        let (used, limit) = (bytes(tables), self.limit());
        Err(format!(
            "the objects have {used} bytes, and the quota is {limit}: delete some, or start with a larger --quota-bytes"
        ))
    }

    /// Looks, and says in the log when the alarm begins and ends.
    pub(super) fn is_full(&self, tables: &Tables) -> bool {
        let (used, limit) = (bytes(tables), self.limit());
        let before = self.full.load(Ordering::Relaxed);
        let now = alarm(before, used, limit);
        let turned = now != before;
        if turned && self.full.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            if now {
                tracing::warn!(
                    used,
                    quota = limit,
                    "the space quota is exceeded: nothing new is stored until objects are deleted"
                );
            } else {
                tracing::warn!(used, quota = limit, "there is space again");
            }
        }
        now
    }
}

fn bytes(tables: &Tables) -> u64 {
    tables.total_bytes() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{put, txn};
    use copepod_model::{Key, Object};
    use std::sync::Arc;

    fn tables(bytes: usize) -> Tables {
        let mut tables = Tables::default();
        let key = Key::new("configmaps", "d", "old");
        tables.put(Arc::new(Object::decode(key, 1, vec![b'x'; bytes].into())));
        tables
    }

    #[test]
    fn it_ends_by_itself() {
        let quota = Quota::default();
        assert_eq!(quota.admit(&txn([put("new", "1")]), &tables(2000)), Ok(()));
        quota.set(2000);
        assert_eq!(quota.admit(&txn([put("new", "1")]), &tables(2000)), Err(ProposeError::NoSpace));
        assert_eq!(quota.admit(&txn([put("new", "1")]), &tables(1950)), Err(ProposeError::NoSpace));
        assert!(quota.is_full(&tables(1950)));
        assert_eq!(quota.admit(&txn([put("new", "1")]), &tables(1899)), Ok(()));
        assert_eq!(quota.admit(&txn([put("new", "1")]), &tables(1950)), Ok(()));
    }
}
