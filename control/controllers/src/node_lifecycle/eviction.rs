//! Which pods of a tainted node must leave, and when.

use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::taints;
use crate::support::{BURST, event, patch};

/// How long pods that say nothing tolerate the loss of their node (upstream's DefaultTolerationSeconds admission).
const DEFAULT: Duration = Duration::from_secs(300);

/// Plans the evictions that are due, and a second look when the next will be.
pub(super) fn evict(view: &dyn View, node: &Object, value: &Value, now: Time, plan: &mut Plan) {
    let taints = taints::evicting(value);
    if taints.is_empty() {
        return;
    }
    let mut next: Option<Time> = None;
    let mut due = 0;
    let here = view.on_node("pods", node.name(), None);
    for pod in here.filter(|p| p.meta.deletion_timestamp.is_none()) {
        let Some(at) = leaves_at(&pod.value()["spec"], &taints, now) else { continue };
        if at > now {
            next = Some(next.map_or(at, |n| n.min(at)));
        } else if due < BURST {
            due += 1;
            remove(&pod, now, plan);
        } else {
            // The rest at once, when these are on their way.
            next = Some(now);
        }
    }
    if let Some(at) = next {
        plan.push(Action::After(at.since(now)), "until then a pod tolerates a taint");
    }
}

fn remove(pod: &Object, now: Time, plan: &mut Plan) {
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    plan.push(event(("v1", "Pod"), pod, EventType::Normal, "TaintManagerEviction", message), "for people");
    let condition = json!({"status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": now.rfc3339(),
    }]}});
    plan.push(patch(pod, "status", PatchType::Strategic, condition), "a taint that it does not tolerate");
    let delete = Action::Delete {
        resource: "pods".into(),
        namespace: pod.namespace().into(),
        name: pod.name().into(),
        uid: pod.meta.uid.to_string(),
        propagation: None,
        grace_seconds: None,
    };
    plan.push(delete, "a taint that it does not tolerate");
}

/// When a pod must leave a node with these taints; never if it tolerates all of them for ever.
fn leaves_at(pod: &Value, taints: &[Value], now: Time) -> Option<Time> {
    taints.iter().filter_map(|t| leaves_for(pod, t, now)).min()
}

fn leaves_for(pod: &Value, taint: &Value, now: Time) -> Option<Time> {
    let added = taint["timeAdded"].as_str().and_then(Time::parse).unwrap_or(now);
    let tolerations = pod["tolerations"].as_array().into_iter().flatten();
    let mut seconds = tolerations.filter(|t| tolerates(t, taint)).map(|t| t["tolerationSeconds"].as_i64()).peekable();
    if seconds.peek().is_none() {
        let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
        let patience = if lost.iter().any(|k| taint["key"] == *k) { DEFAULT } else { Duration::ZERO };
        return Some(added + patience);
    }
    // The shortest of those with a limit counts; without any limit the pod stays.
    seconds.flatten().min().map(|s| added + Duration::from_secs(s.max(0) as u64))
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let given = |field: &str| toleration[field].as_str().filter(|s| !s.is_empty());
    let value = taint["value"].as_str().unwrap_or("");
    given("effect").is_none_or(|e| taint["effect"] == e)
        && given("key").is_none_or(|k| taint["key"] == k)
        && match given("operator") {
            Some("Exists") => true,
            None | Some("Equal") => given("key").is_some() && toleration["value"].as_str().unwrap_or("") == value,
            Some(_) => false,
        }
}
