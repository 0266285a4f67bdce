//! The log as the first to apply each entry made it: what everybody else must make of it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_consensus::{ConfState, Position};
use copepod_state::{Change, Outcome, Tables};
use serde_json::Value;

use super::{Broken, revisions};
use crate::group::disk::Applied;
use crate::trace::digest;

/// How many states are kept for those who compare with the past.
const KEPT: usize = 3000;

/// What an entry came to.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    term: u64,
    tag: u64,
    outcome: Option<Outcome>,
    changes: u64,
    revision: u64,
    members: ConfState,
}

/// The one history.
pub struct Canon {
    first: u64,
    log: Vec<Entry>,
    /// The objects after it.
    pub tables: Tables,
    /// The objects as they were, by revision.
    pub history: BTreeMap<u64, Tables>,
    /// A digest of everything.
    pub digest: u64,
    by_tag: BTreeMap<u64, u64>,
    /// The last revision of a change that says something, and what it was.
    pub spoken: (u64, String),
}

impl Canon {
    /// A history that begins with a state.
    pub fn new(applied: &Applied, tables: Tables) -> Canon {
        Canon {
            first: applied.at.index + 1,
            log: Vec::new(),
            history: [(tables.revision(), tables.clone())].into(),
            spoken: (tables.revision(), String::new()),
            tables,
            digest: 0,
            by_tag: BTreeMap::new(),
        }
    }

    /// The index of the last entry.
    pub fn last(&self) -> u64 {
        self.first + self.log.len() as u64 - 1
    }

    /// What became of a transaction, if it was applied: its index and its outcome.
    pub fn of(&self, tag: u64) -> Option<(u64, &Outcome)> {
        let index = *self.by_tag.get(&tag)?;
        let entry = self.log.get((index - self.first) as usize)?;
        Some((index, entry.outcome.as_ref()?))
    }

    /// An entry that somebody applied; whether it was the first to do so.
    pub fn applied(
        &mut self,
        at: Position,
        tag: u64,
        outcome: &Option<Outcome>,
        changes: &[Arc<Change>],
        tables: &Tables,
        members: &ConfState,
    ) -> Result<bool, Broken> {
        let mut sum = 0u64;
        for c in changes {
            let body = c.new.as_ref().map_or(0, |o| digest(&o.body));
            sum = sum.rotate_left(7) ^ digest(c.key.name.as_bytes()) ^ body ^ c.revision;
        }
        let entry = Entry {
            term: at.term,
            tag,
            outcome: outcome.clone(),
            changes: sum,
            revision: tables.revision(),
            members: members.clone(),
        };
        if at.index < self.first {
            return Err(("raft", format!("entry {} was applied, which all began with", at.index)));
        }
        let place = (at.index - self.first) as usize;
        if let Some(known) = self.log.get(place) {
            if *known == entry {
                return Ok(false);
            }
            return Err(("raft", format!("entry {} is {known:?} to one and {entry:?} to another", at.index)));
        }
        if place > self.log.len() {
            return Err(("raft", format!("entry {} was applied after {}", at.index, self.last())));
        }
        if tag > 0 && self.by_tag.insert(tag, at.index).is_some() {
            return Err((
                "acknowledged",
                format!("transaction {tag} was applied twice, at last as entry {}", at.index),
            ));
        }
        revisions::check(at.index, self.tables.revision(), changes, tables.revision())?;
        self.digest = self.digest.rotate_left(5) ^ sum ^ at.term;
        self.log.push(entry);
        self.tables = tables.clone();
        self.history.insert(tables.revision(), tables.clone());
        if self.history.len() > KEPT {
            self.history.pop_first();
        }
        if let Some(c) = changes.iter().rev().find(|c| !is_silent(c)) {
            self.spoken = (c.revision, c.key.to_string());
        }
        Ok(true)
    }
}

/// Whether a change says no more than that a node lives, or that something happened long ago: what was reported goes by itself
/// in time.
fn is_silent(change: &Change) -> bool {
    let silent = |o: &copepod_model::Object| {
        let mut value = o.value();
        let conditions = value["status"]["conditions"].as_array_mut();
        conditions.into_iter().flatten().for_each(|c| c["lastHeartbeatTime"] = Value::Null);
        for field in ["resourceVersion", "managedFields"] {
            value["metadata"][field] = Value::Null;
        }
        value
    };
    match (&*change.key.resource, &change.old, &change.new) {
        ("nodes", Some(old), Some(new)) => silent(old) == silent(new),
        ("events", Some(_), None) => true,
        (resource, ..) => resource.starts_with("leases"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn a_heartbeat_says_nothing_and_what_is_reported_does() {
        let mut tables = Tables::default();
        let node = |heard: &str, ready: &str| {
            let ready = json!({"type": "Ready", "status": ready, "lastHeartbeatTime": heard});
            json!({"metadata": {"name": "n"}, "status": {"conditions": [ready]}})
        };
        made::put(&mut tables, "nodes", &node("2027-01-15T08:00:00Z", "True"));
        assert!(is_silent(&made::put(&mut tables, "nodes", &node("2027-01-15T08:00:10Z", "True"))));
        assert!(!is_silent(&made::put(&mut tables, "nodes", &node("2027-01-15T08:00:20Z", "False"))));
        let event = |count: u64| json!({"metadata": {"name": "n.1", "namespace": "default"}, "count": count});
        assert!(!is_silent(&made::put(&mut tables, "events", &event(1))));
        assert!(!is_silent(&made::put(&mut tables, "events", &event(2))), "it happens again and again");
        assert!(is_silent(&made::delete(&mut tables, "events", "default", "n.1")));
    }
}
