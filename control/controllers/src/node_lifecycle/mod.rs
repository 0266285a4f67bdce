//! Watches over nodes by their Leases: a node that is not heard of becomes Unknown, is tainted, and its pods are evicted
//! after their tolerations (upstream's `nodelifecycle` and `tainteviction`).

mod disruption;
mod eviction;
mod taints;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::facts::PodFacts;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use crate::support::conditions;
use crate::support::node_addresses::is_ready;
use crate::support::{event, keys_of, patch, patch_this_version};
use crate::{Config, Controller};
use disruption::{Evictions, Memory};

const GVK: (&str, &str) = ("v1", "Node");
const RESOURCE: &str = "nodes";
const LEASES: &str = "leases.coordination.k8s.io";
const LEASE_NAMESPACE: &str = "kube-node-lease";

struct NodeLifecycle {
    grace: Duration,
    started: Time,
    /// The version of each node's lease and when it was first seen here, by the steady clock: neither is the node's own clock
    /// trusted, nor is anybody silent because this server's was set (upstream's `probeTimestamp`).
    heard: Mutex<BTreeMap<String, (u64, Time)>>,
    /// How much of the cluster is lost.
    lost: Mutex<Memory>,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    NodeLifecycle { grace: config.node_grace, started: config.started, heard: Mutex::default(), lost: Mutex::default() }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-lifecycle"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, LEASES, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            RESOURCE => {
                let ready = |node: Option<&Object>| node.map(is_ready);
                let mut keys = vec![object.key.clone()];
                // What may be done to all that are lost depends on how many they are.
                if ready(old) != ready(new) && self.lost().has_changed(view) {
                    keys.extend(view.list(RESOURCE, None).filter(|n| !is_ready(n)).map(|n| n.key.clone()));
                }
                keys
            }
            LEASES if object.namespace() == LEASE_NAMESPACE => vec![Key::new(RESOURCE, "", object.key.name.clone())],
            LEASES => vec![],
            _ => {
                // A pod that is newly bound to a node with taints may have to leave it again.
                let Some(pod) = new.filter(|p| old.is_none_or(|o| o.meta.node_name != p.meta.node_name)) else {
                    return vec![];
                };
                let node = pod.meta.node_name.as_deref().and_then(|n| view.get(RESOURCE, "", n));
                let tainted = node.filter(|n| taints::evicts(n));
                tainted.map(|n| n.key.clone()).into_iter().collect()
            }
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        self.lost().has_changed(view);
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        self.reconcile_steadily(view, key, now, now)
    }

    fn reconcile_steadily(&self, view: &dyn View, key: &Key, now: Time, steady: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(node) = view.get(RESOURCE, "", &key.name) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&*key.name);
            return plan;
        };
        let mut value = node.value();
        let left = (self.last_heard(view, &node, steady) + self.grace).since(steady);
        if left.is_zero() {
            lose(&node, &mut value, now, &mut plan);
        } else {
            plan.push(Action::After(left), "unless its lease is renewed before");
        }
        let ready = conditions::of(&value).iter().find(|c| c["type"] == "Ready").map(|c| c["status"].clone());
        if ready.as_ref().is_some_and(|r| *r != "True") {
            pods_not_ready(view, &node, now, &mut plan);
        }
        // Before its first report there is nobody to be evicted.
        let begun = ready.is_none() || taints::is_emptied(&value);
        let evictions = self.lost().judge(view, &node, ready.is_some_and(|r| r == "True"), begun, steady);
        if let Evictions::Wait(Some(left)) = evictions {
            plan.push(Action::After(left), "many of its zone are lost: one after the other");
        }
        if let Some(wanted) = taints::wanted(&value, evictions, now) {
            // Merge patches replace lists, so this must be the version that was read; kubectl writes taints too.
            let taints = json!({"spec": {"taints": wanted}});
            plan.push(patch_this_version(&node, PatchType::Merge, taints), "as its conditions say");
            value["spec"]["taints"] = wanted.into();
        }
        // Whoever has just begun to hear anybody has not heard everybody yet.
        let since = self.lost().again().map_or(self.started, |again| again.max(self.started));
        let quiet_until = since + self.grace;
        if quiet_until > steady {
            if !taints::evicting(&value).is_empty() {
                plan.push(Action::After(quiet_until.since(steady)), "this controller has just begun to listen");
            }
        } else {
            eviction::evict(view, &node, &value, now, &mut plan);
        }
        // The taints' patch insists on the version that was read, so it comes before the patch of the status.
        plan.0.sort_by_key(|s| !matches!(s.action, Action::Patch { subresource: "", .. }));
        plan
    }
}

impl NodeLifecycle {
    fn lost(&self) -> MutexGuard<'_, Memory> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the node was last heard of, by this controller's steady clock, which says `steady`.
    fn last_heard(&self, view: &dyn View, node: &Object, steady: Time) -> Time {
        let lease = view.get(LEASES, LEASE_NAMESPACE, node.name());
        // Without a lease the node's creation counts.
        let revision = lease.map_or(0, |l| l.revision);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = heard.entry(node.name().into()).or_insert((revision, steady));
        if entry.0 != revision {
            *entry = (revision, steady);
        }
        entry.1
    }
}

/// Turns the conditions that the node itself reports to Unknown.
fn lose(node: &Object, value: &mut Value, now: Time, plan: &mut Plan) {
    let mut list = conditions::of(value);
    let mut changed = Vec::new();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let current = conditions::find(&list, kind);
        if current.is_some_and(|c| c["status"] == "Unknown") {
            continue;
        }
        let (reason, message) = match current {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let mut new = json!({
            "type": kind, "status": "Unknown", "reason": reason, "message": message,
            "lastTransitionTime": now.rfc3339(),
        });
        new["lastHeartbeatTime"] = match current {
            Some(c) => c["lastHeartbeatTime"].clone(),
            None => node.meta.creation_timestamp.as_deref().into(),
        };
        conditions::remove(&mut list, kind);
        list.push(new.clone());
        changed.push(new);
    }
    if changed.is_empty() {
        return;
    }
    let body = json!({"status": {"conditions": changed}});
    plan.push(patch(node, "status", PatchType::Strategic, body), "its lease has not been renewed");
    let message = format!("Node {} status is now: NodeNotReady", node.name());
    plan.push(event(GVK, node, EventType::Normal, "NodeNotReady", message), "for people");
    value["status"]["conditions"] = list.into();
}

/// Pods of a node that is not heard of must not count as ready: nobody else can say so.
fn pods_not_ready(view: &dyn View, node: &Object, now: Time, plan: &mut Plan) {
    let pods = view.on_node("pods", node.name(), None);
    for pod in pods.filter(|p| p.facts::<PodFacts>().ready) {
        let body = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": now.rfc3339()},
        ]}});
        plan.push(patch(&pod, "status", PatchType::Strategic, body), "its node is not ready");
        let message = "Node is not ready".to_string();
        plan.push(event(("v1", "Pod"), &pod, EventType::Warning, "NodeNotReady", message), "for people");
    }
}

#[cfg(test)]
mod tests;
