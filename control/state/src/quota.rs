//! What the space quota lets through. While the alarm is on, what adds is refused, and what is needed to get out of it
//! goes on: deletions, and changes of objects that are there by as much as marks of deletion, finalizers, heartbeats and
//! statuses take.

use crate::{Op, Tables, Txn};

/// By how much an object may grow while the alarm is on and there is some of the reserve: a pod's first statuses, or
/// the conditions of a namespace that ends, are the largest that must pass.
pub const SLACK: usize = 4 << 10;

/// Whether the alarm is on: from the quota on, and then until 95 % of it.
pub fn alarm(before: bool, used: u64, limit: u64) -> bool {
    limit > 0 && (used >= limit || before && used >= limit - limit / 20)
}

/// By how many bytes a put may make an object larger while the alarm is on: the reserve for that is 5 % of the quota.
pub fn slack(used: u64, limit: u64) -> usize {
    if used < limit.saturating_add(limit / 20) { SLACK } else { 0 }
}

/// Whether a transaction only deletes, counts, or changes objects that are there by no more than `slack` bytes each.
pub fn adds_nothing(txn: &Txn, tables: &Tables, slack: usize) -> bool {
    txn.ops.iter().all(|op| match op {
        Op::Delete { .. } | Op::CheckedAdd { .. } => true,
        Op::Put { key, body, .. } => tables.at(key).is_some_and(|old| body.len() <= old.body.len() + slack),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_adds_is_refused_and_what_frees_or_stays_is_not() {
        let key = || Key::new("configmaps", "d", "old");
        let mut tables = Tables::default();
        tables.put(Arc::new(Object::decode(key(), 1, vec![b'x'; 5000].into())));
        let same = Op::Put { key: key(), body: vec![0; 5000 + SLACK].into(), revised: true };
        let larger = Op::Put { key: key(), body: vec![0; 5001 + SLACK].into(), revised: true };
        let delete = || Op::Delete { key: key() };
        let new = || Op::Put { key: Key::new("configmaps", "d", "new"), body: vec![0; 9].into(), revised: true };
        let count = Op::CheckedAdd { key: Key::new("_n", "", "n"), delta: 1, max: 9 };
        for (ops, expected) in [
            (vec![], true),
            (vec![delete(), count], true),
            (vec![same.clone()], true),
            (vec![larger], false),
            (vec![new()], false),
            (vec![delete(), new()], false),
        ] {
            assert_eq!(adds_nothing(&Txn { ops: ops.clone(), ..Txn::default() }, &tables, SLACK), expected, "{ops:?}");
        }
        assert!(!adds_nothing(&Txn { ops: vec![same], ..Txn::default() }, &tables, 0));
    }
}
