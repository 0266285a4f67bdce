//! Lost contact is not death: who has just begun to rule has not heard anybody yet, and evicts no pod before a node has had the
//! time to be heard.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_model::Time;
use copepod_state::Change;

use super::Broken;
use crate::group::Origin;

/// The controllers' `node_grace`.
const GRACE: Duration = Duration::from_secs(40);

/// When terms began.
#[derive(Default)]
pub struct Evictions {
    /// When each was first led, by a clock that nobody sets: how long a server has listened does not depend on its time of day.
    led: BTreeMap<u64, Time>,
}

impl Evictions {
    /// The control loops of a term's leader begin.
    pub fn led(&mut self, term: u64, now: Time) {
        self.led.entry(term).or_insert(now);
    }

    /// Checks a deletion, or the mark of one, by the controller that evicts.
    pub fn check(&self, change: &Change, origin: &Origin) -> Result<(), Broken> {
        if origin.actor != "node-lifecycle" || &*change.key.resource != "pods" {
            return Ok(());
        }
        let Some(old) = &change.old else { return Ok(()) };
        let marks = old.meta.deletion_timestamp.is_none();
        if change.new.as_ref().is_some_and(|new| !marks || new.meta.deletion_timestamp.is_none()) {
            return Ok(());
        }
        let (Some(term), Some(decided)) = (origin.term, origin.decided) else { return Ok(()) };
        let Some(led) = self.led.get(&term) else { return Ok(()) };
        let after = decided.since(*led);
        if after >= GRACE {
            return Ok(());
        }
        Err(("evictions", format!("{} was evicted {after:?} after term {term} was first led", change.key)))
    }
}

#[cfg(test)]
mod tests {
    use copepod_state::Tables;
    use serde_json::{Value, json};

    use super::*;
    use crate::made;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "d", "uid": "p"}})
    }

    /// What an actor of term 2, which was first led at 100, decides at so many seconds.
    fn origin(actor: &'static str, seconds: u64) -> Origin {
        Origin { term: Some(2), decided: Some(Time::from_secs(seconds)), ..Origin::of(actor) }
    }

    #[test]
    fn an_eviction_before_nodes_could_be_heard_is_found() {
        let mut all = Evictions::default();
        all.led(2, Time::from_secs(100));
        // Led again, by the same server: it was first led before.
        all.led(2, Time::from_secs(150));
        let mut tables = Tables::default();
        made::put(&mut tables, "pods", &pod());
        let mut doomed = pod();
        doomed["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        let marked = made::put(&mut tables, "pods", &doomed);
        let removed = made::delete(&mut tables, "pods", "d", "p");
        for change in [&marked, &removed] {
            assert!(all.check(change, &origin("node-lifecycle", 139)).is_err());
            all.check(change, &origin("node-lifecycle", 140)).unwrap();
            all.check(change, &origin("garbage-collector", 101)).unwrap();
        }
        // What it says of a pod is no eviction.
        made::put(&mut tables, "pods", &pod());
        let mut told = pod();
        told["status"] = json!({"phase": "Running"});
        let told = made::put(&mut tables, "pods", &told);
        all.check(&told, &origin("node-lifecycle", 101)).unwrap();
    }

    #[test]
    fn the_grace_is_the_controllers() {
        let kinds = copepod_model::kinds::Kinds::shared();
        let config = copepod_controllers::Config::new(kinds, "ca".into(), Time::from_secs(0));
        assert_eq!(config.node_grace, GRACE);
    }
}
