//! Applying one transaction: deterministic, all or nothing, everything re-checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use copepod_model::{Key, Object, object};

use crate::change::{self, Change};
use crate::{Op, Outcome, Require, Tables, Txn};

/// Applies `txn`, which the log carries at `term`. The tables change only when the outcome is `Applied`; each change has
/// a revision of its own.
pub fn apply(tables: &mut Tables, term: u64, txn: &Txn) -> (Outcome, Vec<Change>) {
    if txn.fence.is_some_and(|fence| fence != term) {
        return (Outcome::Fenced, Vec::new());
    }
    if let Some(i) = txn.require.iter().position(|r| !holds(tables, r)) {
        return (Outcome::Failed(i), Vec::new());
    }
    if let Err(i) = check_sums(tables, &txn.ops) {
        return (Outcome::OutOfRange(i), Vec::new());
    }
    let mut revisions = Vec::with_capacity(txn.ops.len());
    let mut changes = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let revision = tables.revision() + 1;
        let change = match op {
            Op::Put { key, body, revised } => Some(put(tables, revision, key, spliced(body, *revised, revision))),
            Op::Delete { key } => tables.remove(key).map(|old| Change {
                revision,
                key: old.key.clone(),
                new: None,
                old: Some(Arc::new(change::at_revision(&old, revision))),
            }),
            Op::CheckedAdd { key, delta, max } => match counter(tables, key).and_then(|n| sum(n, *delta, *max)) {
                Some(sum) if *delta != 0 => Some(put(tables, revision, key, sum.to_string().into())),
                _ => None,
            },
        };
        if let Some(change) = change {
            tables.set_revision(revision);
            changes.push(change);
        }
        revisions.push(tables.revision());
    }
    (Outcome::Applied(revisions), changes)
}

fn holds(tables: &Tables, require: &Require) -> bool {
    match require {
        Require::Absent(key) => tables.at(key).is_none(),
        Require::At(key, revision) => tables.at(key).is_some_and(|o| o.revision == *revision),
        Require::Exists(key) => tables.at(key).is_some(),
        Require::PrefixEmpty { resource, namespace } => tables.is_none(resource, namespace.as_deref()),
    }
}

/// Finds the first `CheckedAdd` that would leave its range, following the counters through the transaction without
/// touching the tables.
fn check_sums(tables: &Tables, ops: &[Op]) -> Result<(), usize> {
    if !ops.iter().any(|op| matches!(op, Op::CheckedAdd { .. })) {
        return Ok(());
    }
    let mut counters: BTreeMap<&Key, Option<i64>> = BTreeMap::new();
    for (i, op) in ops.iter().enumerate() {
        match op {
            Op::Put { key, body, .. } => {
                counters.insert(key, parse(body));
            }
            Op::Delete { key } => {
                counters.insert(key, Some(0));
            }
            Op::CheckedAdd { key, delta, max } => {
                let n = counters.get(key).copied().unwrap_or_else(|| counter(tables, key));
                let sum = n.and_then(|n| sum(n, *delta, *max)).ok_or(i)?;
                counters.insert(key, Some(sum));
            }
        }
    }
    Ok(())
}

/// The counter's value, 0 when absent; none when what is stored there is no counter.
fn counter(tables: &Tables, key: &Key) -> Option<i64> {
    tables.at(key).map_or(Some(0), |o| parse(&o.body))
}

fn parse(body: &[u8]) -> Option<i64> {
    std::str::from_utf8(body).ok()?.parse().ok()
}

fn sum(n: i64, delta: i64, max: i64) -> Option<i64> {
    n.checked_add(delta).filter(|sum| (0..=max).contains(sum))
}

fn spliced(body: &Bytes, revised: bool, revision: u64) -> Bytes {
    // A body too short to have the place for a revision is stored as it is: the log may hold anything, and every member
    // must get past it in the same way.
    if revised && body.len() >= object::revision_at() { object::with_revision(body, revision) } else { body.clone() }
}

fn put(tables: &mut Tables, revision: u64, key: &Key, body: Bytes) -> Change {
    let key = tables.shared_key(key);
    let new = Arc::new(Object::decode(key.clone(), revision, body));
    let old = tables.put(new.clone());
    Change { revision, key, new: Some(new), old }
}

#[cfg(test)]
mod tests;
