//! The space quota: what happens when the objects have as many bytes as they may.
//!
//! Counted are the bytes of all objects' bodies in memory, not those of the files: they fall at once when something is
//! deleted, and are the same on all members. While the alarm is on, what adds is refused, and what is needed to get out
//! of it goes on: deletions, and changes of objects that are there by as much as marks of deletion, finalizers,
//! heartbeats and statuses take. (An etcd that is full refuses those, too, so that nodes seem dead and nothing with a
//! grace period or a finalizer can be deleted.)

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use copepod_state::{Op, Tables, Txn};

use super::ProposeError;

/// The quota unless another is set: what etcd suggests as a maximum.
pub const DEFAULT_QUOTA: u64 = 8 << 30;

/// By how much an object may grow while the alarm is on and there is some of the reserve: a pod's first statuses, or
/// the conditions of a namespace that ends, are the largest that must pass.
const SLACK: usize = 4 << 10;

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

/// Whether the alarm is on: from the quota on, and then until 95 % of it.
fn alarm(before: bool, used: u64, limit: u64) -> bool {
    limit > 0 && (used >= limit || before && used >= limit - limit / 20)
}

/// By how many bytes a put may make an object larger while the alarm is on: the reserve for that is 5 % of the quota.
fn slack(used: u64, limit: u64) -> usize {
    if used < limit.saturating_add(limit / 20) { SLACK } else { 0 }
}

/// Whether a transaction only deletes, counts, or changes objects that are there by no more than `slack` bytes each.
fn adds_nothing(txn: &Txn, tables: &Tables, slack: usize) -> bool {
    txn.ops.iter().all(|op| match op {
        Op::Delete { .. } | Op::CheckedAdd { .. } => true,
        Op::Put { key, body, .. } => tables.at(key).is_some_and(|old| body.len() <= old.body.len() + slack),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{put, txn};
    use copepod_model::{Key, Object};
    use std::sync::Arc;

    #[test]
    fn the_alarm_goes_on_at_the_quota_and_off_below_95_percent() {
        for (before, used, limit, expected) in [
            (false, 0, 0, false),
            (true, u64::MAX, 0, false),
            (false, 999, 1000, false),
            (false, 1000, 1000, true),
            (true, 999, 1000, true),
            (true, 950, 1000, true),
            (true, 949, 1000, false),
            (false, 950, 1000, false),
            (true, 0, 1, false),
        ] {
            assert_eq!(alarm(before, used, limit), expected, "{before} {used} {limit}");
        }
        assert_eq!([slack(1000, 1000), slack(1049, 1000), slack(1050, 1000)], [SLACK, SLACK, 0]);
        assert_eq!(slack(u64::MAX - 1, u64::MAX), SLACK);
    }

    fn tables(bytes: usize) -> Tables {
        let mut tables = Tables::default();
        let key = Key::new("configmaps", "d", "old");
        tables.put(Arc::new(Object::decode(key, 1, vec![b'x'; bytes].into())));
        tables
    }

    #[test]
    fn what_adds_is_refused_and_what_frees_or_stays_is_not() {
        let key = || Key::new("configmaps", "d", "old");
        let tables = tables(5000);
        let same = Op::Put { key: key(), body: vec![0; 5000 + SLACK].into(), revised: true };
        let larger = Op::Put { key: key(), body: vec![0; 5001 + SLACK].into(), revised: true };
        let delete = || Op::Delete { key: key() };
        let count = Op::CheckedAdd { key: Key::new("_n", "", "n"), delta: 1, max: 9 };
        for (ops, expected) in [
            (vec![], true),
            (vec![delete(), count], true),
            (vec![same.clone()], true),
            (vec![larger], false),
            (vec![put("new", "1")], false),
            (vec![delete(), put("new", "1")], false),
        ] {
            assert_eq!(adds_nothing(&txn(ops.clone()), &tables, SLACK), expected, "{ops:?}");
        }
        assert!(!adds_nothing(&txn([same]), &tables, 0));
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
