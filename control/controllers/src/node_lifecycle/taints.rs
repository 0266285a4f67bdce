//! The taints that a node's conditions call for.

use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::disruption::Evictions;
use crate::support::conditions;

/// Taint keys that are this controller's to set and remove, with the effects it uses.
const OURS: [(&str, &[&str]); 7] = [
    ("node.kubernetes.io/not-ready", &["NoSchedule", "NoExecute"]),
    ("node.kubernetes.io/unreachable", &["NoSchedule", "NoExecute"]),
    ("node.kubernetes.io/memory-pressure", &["NoSchedule"]),
    ("node.kubernetes.io/disk-pressure", &["NoSchedule"]),
    ("node.kubernetes.io/pid-pressure", &["NoSchedule"]),
    ("node.kubernetes.io/network-unavailable", &["NoSchedule"]),
    ("node.kubernetes.io/unschedulable", &["NoSchedule"]),
];

/// Whether the node has taints that make pods leave. Asked for each pod that is bound, so a node without one, whose object
/// lists all its images, is not decoded for it.
pub(super) fn evicts(node: &Object) -> bool {
    let may = std::str::from_utf8(&node.body).is_ok_and(|body| body.contains("NoExecute"));
    may && !evicting(&node.value()).is_empty()
}

/// The node's taints that make pods leave.
pub(super) fn evicting(node: &Value) -> Vec<Value> {
    let all = node["spec"]["taints"].as_array().into_iter().flatten();
    all.filter(|t| t["effect"] == "NoExecute").cloned().collect()
}

/// The taints by which the pods of a node leave that is lost.
fn empties(key: &str, effect: &str) -> bool {
    effect == "NoExecute" && OURS[..2].iter().any(|(lost, _)| *lost == key)
}

/// Whether the node has one of those.
pub(super) fn is_emptied(node: &Value) -> bool {
    evicting(node).iter().any(|t| empties(t["key"].as_str().unwrap_or_default(), "NoExecute"))
}

/// The taints that the node should have, if they differ from those it has.
pub(super) fn wanted(node: &Value, evictions: Evictions, now: Time) -> Option<Vec<Value>> {
    let conditions = conditions::of(node);
    let status = |kind: &str| conditions::find(&conditions, kind).and_then(|c| c["status"].as_str());
    let ready = status("Ready");
    let applies = |key: &str, effect: &str| match key.rsplit('/').next() {
        _ if evictions != Evictions::Go && empties(key, effect) => false,
        // Before the first report nothing may be scheduled there, and nothing is there to be evicted.
        Some("not-ready") => ready == Some("False") || (ready.is_none() && effect == "NoSchedule"),
        Some("unreachable") => ready == Some("Unknown"),
        Some("memory-pressure") => status("MemoryPressure") == Some("True"),
        Some("disk-pressure") => status("DiskPressure") == Some("True"),
        Some("pid-pressure") => status("PIDPressure") == Some("True"),
        Some("network-unavailable") => status("NetworkUnavailable") == Some("True"),
        Some("unschedulable") => node["spec"]["unschedulable"] == true,
        _ => false,
    };
    let have = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut out = have.clone();
    for (key, effects) in OURS {
        for effect in effects {
            let is_it = |t: &Value| t["key"] == key && t["effect"] == *effect;
            match (applies(key, effect), out.iter().any(is_it)) {
                (false, true) => out.retain(|t| !is_it(t)),
                (true, false) => out.push(json!({"key": key, "effect": effect, "timeAdded": now.rfc3339()})),
                _ => {}
            }
        }
    }
    // Tolerations count from when a taint was added; kubectl does not say when.
    for t in out.iter_mut().filter(|t| t["effect"] == "NoExecute" && t["timeAdded"].is_null()) {
        t["timeAdded"] = now.rfc3339().into();
    }
    (out != have).then_some(out)
}
