//! Lost contact is not death: who has just begun to rule has not heard anybody yet, and evicts no pod before a node has had the
//! time to be heard. Nobody evicts pods of a node that has no taint for it.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_machine::View as _;
use copepod_model::Time;
use copepod_state::{Change, Tables};

use super::Broken;
use crate::group::Origin;

/// The controllers' `node_grace` where nothing else is said.
pub const GRACE: Duration = Duration::from_secs(40);

/// When terms began.
#[derive(Default)]
pub struct Evictions {
    /// When each was first led, by a clock that nobody sets: how long a server has listened does not depend on its time of day.
    /// And for how long nodes may be silent.
    led: BTreeMap<u64, (Time, Duration)>,
}

impl Evictions {
    /// The control loops of a term's leader begin, for which nodes may be silent for `grace`.
    pub fn led(&mut self, term: u64, now: Time, grace: Duration) {
        self.led.entry(term).or_insert((now, grace));
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
        let node = old.meta.node_name.as_deref().unwrap_or_default();
        if origin.view.as_ref().is_some_and(|view| !is_tainted(view, node)) {
            return Err(("evictions", format!("{} was evicted from {node:?}, which has no taint for it", change.key)));
        }
        let (Some(term), Some(decided)) = (origin.term, origin.decided) else { return Ok(()) };
        let Some((led, grace)) = self.led.get(&term) else { return Ok(()) };
        let after = decided.since(*led);
        if after >= *grace {
            return Ok(());
        }
        Err(("evictions", format!("{} was evicted {after:?} after term {term} was first led", change.key)))
    }
}

/// Whether a node had a taint by which pods leave. All pods here tolerate one for a while, so that it is there before.
fn is_tainted(view: &Tables, node: &str) -> bool {
    let taints = view.get("nodes", "", node).map(|n| n.value()["spec"]["taints"].take()).unwrap_or_default();
    taints.as_array().into_iter().flatten().any(|taint| taint["effect"] == "NoExecute")
}

#[cfg(test)]
mod tests {
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
        all.led(2, Time::from_secs(100), GRACE);
        // Led again, by the same server: it was first led before.
        all.led(2, Time::from_secs(150), GRACE);
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
    fn an_eviction_from_a_node_without_a_taint_for_it_is_found() {
        let mut view = Tables::default();
        let node = |name: &str, effect: &str| {
            let taint = json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
            json!({"metadata": {"name": name}, "spec": {"taints": [taint]}})
        };
        made::put(&mut view, "nodes", &node("lost", "NoExecute"));
        made::put(&mut view, "nodes", &node("full", "NoSchedule"));
        let evicted = |from: &str| {
            let mut tables = Tables::default();
            let mut pod = pod();
            pod["spec"] = json!({"nodeName": from});
            made::put(&mut tables, "pods", &pod);
            let change = made::delete(&mut tables, "pods", "d", "p");
            let mut all = Evictions::default();
            all.led(2, Time::from_secs(100), Duration::from_secs(8));
            all.check(&change, &Origin { view: Some(view.clone()), ..origin("node-lifecycle", 108) })
        };
        evicted("lost").unwrap();
        assert!(evicted("full").is_err());
        assert!(evicted("unknown").is_err());
    }

    #[test]
    fn the_grace_is_the_controllers() {
        let kinds = copepod_model::kinds::Kinds::shared();
        let config = copepod_controllers::Config::new(kinds, "ca".into(), Time::from_secs(0));
        assert_eq!(config.node_grace, GRACE);
    }
}
