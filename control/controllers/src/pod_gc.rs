//! Removes pods that are bound to a node which no longer exists, and fails those that are deleted before any node had them
//! (upstream's `pkg/controller/podgc`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use copepod_machine::{Action, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::patch;
use crate::support::pods::Pod;
use crate::{Config, Controller};

/// A node that comes back this soon, such as one that registers anew, keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(40);

#[derive(Default)]
struct PodGc {
    /// Since when each node has been seen missing. Nothing in the view tells.
    missing: Mutex<BTreeMap<String, Time>>,
}

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    PodGc::default()
}

fn node_key(name: &str) -> Key {
    Key::new("nodes", "", name)
}

/// Whether a pod is held by finalizers alone: it is being deleted, no node has it, and nobody has said how it ended.
fn is_unborn(pod: &Pod) -> bool {
    pod.terminating() && pod.facts.node_name.is_empty() && !pod.finished()
}

/// Says of such a pod that it failed, as no agent ever will. The deletion itself waits for the finalizers only.
fn fail_unborn(view: &dyn View, key: &Key) -> Plan {
    let mut plan = Plan::none();
    if let Some(pod) = view.get(&key.resource, &key.namespace, &key.name).map(Pod::of).filter(is_unborn) {
        let version = pod.object.revision.to_string();
        let body = json!({"metadata": {"resourceVersion": version}, "status": {"phase": "Failed"}});
        plan.push(patch(&pod.object, "status", PatchType::Strategic, body), "it is deleted and was on no node");
    }
    plan
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-gc"
    }

    fn watches(&self) -> &'static [&'static str] {
        &["nodes", "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        match (old, new) {
            (Some(node), None) if &*node.key.resource == "nodes" => vec![node.key.clone()],
            (None, Some(node)) if &*node.key.resource == "nodes" => vec![node.key.clone()],
            (_, Some(pod)) if pod.meta.node_name.as_deref().is_none_or(str::is_empty) => {
                let deleted = pod.meta.deletion_timestamp.is_some();
                deleted.then(|| pod.key.clone()).into_iter().collect()
            }
            (_, Some(pod)) => {
                let node =
                    pod.meta.node_name.as_deref().filter(|n| !n.is_empty() && view.get("nodes", "", n).is_none());
                node.map(node_key).into_iter().collect()
            }
            _ => vec![],
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let mut names: Vec<_> = view.list("pods", None).filter_map(|p| p.meta.node_name.clone()).collect();
        names.sort();
        names.dedup();
        let missing = names.iter().filter(|n| !n.is_empty() && view.get("nodes", "", n).is_none());
        let mut all: Vec<Key> = missing.map(|n| node_key(n)).collect();
        all.extend(view.list("pods", None).map(Pod::of).filter(is_unborn).map(|p| p.object.key.clone()));
        all
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        if &*key.resource == "pods" {
            return fail_unborn(view, key);
        }
        let mut plan = Plan::none();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if view.get("nodes", "", &key.name).is_some() {
            missing.remove(&*key.name);
            return plan;
        }
        let pods: Vec<Pod> = view.on_node("pods", &key.name, None).map(Pod::of).collect();
        if pods.is_empty() {
            missing.remove(&*key.name);
            return plan;
        }
        let since = *missing.entry(key.name.to_string()).or_insert(now);
        let left = (since + QUARANTINE).since(now);
        if !left.is_zero() {
            plan.push(Action::After(left), "the node may come back");
            return plan;
        }
        for pod in pods {
            if !pod.finished() {
                let status = json!({"status": {"phase": "Failed", "conditions": [{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": now.rfc3339(),
                }]}});
                plan.push(patch(&pod.object, "status", PatchType::Strategic, status), "its node no longer exists");
            }
            let delete = Action::Delete {
                resource: "pods".into(),
                namespace: pod.object.namespace().into(),
                name: pod.object.name().into(),
                uid: pod.object.meta.uid.to_string(),
                propagation: None,
                grace_seconds: Some(0),
            };
            plan.push(delete, "its node no longer exists");
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};

    #[test]
    fn pods_of_a_missing_node_go_after_the_quarantine() {
        let mut view = TestView::default();
        let pod = |name: &str, node: &str| {
            json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": node},
                "status": {"phase": "Succeeded"}})
        };
        view.put("pods", pod("lost", "gone"));
        view.put("pods", pod("fine", "here"));
        view.put("nodes", json!({"metadata": {"name": "here"}}));
        let controller = new(&config());
        let keys = controller.all(&view);
        assert_eq!(keys, [node_key("gone")]);
        let at = |s| controller.reconcile(&view, &keys[0], Time::from_secs(s)).to_string();
        assert_eq!(at(100), "again after 40s (the node may come back)");
        assert_eq!(at(139), "again after 1s (the node may come back)");
        assert_eq!(at(140), "delete pods/lost (its node no longer exists)");
        view.put("nodes", json!({"metadata": {"name": "gone"}}));
        assert!(controller.reconcile(&view, &keys[0], Time::from_secs(141)).is_empty());
    }

    #[test]
    fn a_deleted_pod_that_no_node_had_has_failed() {
        let mut view = TestView::default();
        let pod = |name: &str, node: &str, deleted: bool| {
            let mut v = json!({"metadata": {"name": name, "namespace": "a", "uid": name, "finalizers": ["x/y"]},
                "spec": {"nodeName": node}, "status": {"phase": "Pending"}});
            if deleted {
                v["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            v
        };
        view.put("nodes", json!({"metadata": {"name": "here"}}));
        view.put("pods", pod("waits", "", false));
        view.put("pods", pod("runs", "here", true));
        let key = view.put("pods", pod("unborn", "", true));
        let controller = new(&config());
        assert_eq!(controller.all(&view), std::slice::from_ref(&key));
        let told = view.changes.iter().flat_map(|(old, new)| controller.keys(&view, old.as_deref(), new.as_deref()));
        assert_eq!(told.collect::<Vec<_>>(), [node_key("here"), key.clone()]);
        let plan = controller.reconcile(&view, &key, Time::default());
        assert!(view.execute(&plan));
        assert_eq!(view.value(&key)["status"]["phase"], "Failed");
        assert!(controller.all(&view).is_empty() && controller.reconcile(&view, &key, Time::default()).is_empty());
        // One that was bound after all is its agent's.
        view.edit(&key, |v| v["status"]["phase"] = "Pending".into());
        let plan = controller.reconcile(&view, &key, Time::default());
        view.edit(&key, |v| v["spec"]["nodeName"] = "here".into());
        assert!(!view.execute(&plan) && controller.reconcile(&view, &key, Time::default()).is_empty());
    }
}
