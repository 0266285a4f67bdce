//! Deliberate faults: a run with one must fail, or the invariants see nothing.

use copepod_machine::View as _;

use crate::api::Api;
use crate::chance::Chance;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A bound pod is moved to another node.
    MovedPod,
    /// The scheduler writes what the node says of a pod.
    SecondWriter,
    /// A watcher misses a change.
    LostChange,
    /// Controllers overlook some changes, also after healing.
    Overlooked,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::MovedPod, Fault::SecondWriter, Fault::LostChange, Fault::Overlooked];

    /// Does it now and then.
    pub fn step(self, api: &mut Api, chance: &mut Chance) {
        if !chance.one_in(50) {
            return;
        }
        let bound = api.view().list("pods", None).find(|p| p.meta.node_name.is_some());
        match (self, bound.map(|p| p.key.clone())) {
            (Fault::MovedPod, Some(pod)) => api.tamper("scheduler", &pod, |v| v["spec"]["nodeName"] = "n9".into()),
            (Fault::SecondWriter, Some(pod)) => {
                api.tamper("scheduler", &pod, |v| v["status"]["phase"] = "Failed".into())
            }
            (Fault::LostChange, _) => api.lose_a_change(),
            _ => {}
        }
    }
}
