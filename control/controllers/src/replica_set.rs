//! Keeps as many pods of a template as a ReplicaSet asks for.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, Step, View};
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, Status, Time};
use serde_json::{Value, json};

use crate::support::conditions::{self, Wanted};
use crate::support::ownership::{self, Claim};
use crate::support::pods::Pod;
use crate::support::{BURST, event, int, keys_of, names, nonzero, status_patch};
use crate::{Config, Controller};

const GVK: (&str, &str) = ("apps/v1", "ReplicaSet");
const RESOURCE: &str = "replicasets.apps";
/// Pods named one by one in Events of one plan; the rest share one. Upstream's recorder combines after as many.
const EVENTS: usize = 10;

struct ReplicaSets;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    ReplicaSets
}

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        if &*object.key.resource == RESOURCE {
            return vec![object.key.clone()];
        }
        let mut keys = ownership::owner_keys(GVK.1, RESOURCE, old, new);
        // Nobody's pod may be adopted by any that selects it.
        if let Some(pod) = new.filter(|p| p.meta.controller().is_none() && p.meta.deletion_timestamp.is_none()) {
            let selects = |rs: &Arc<Object>| selector(&rs.value()).is_some_and(|s| s.matches(&pod.meta.labels));
            keys.extend(view.list(RESOURCE, Some(pod.namespace())).filter(selects).map(|rs| rs.key.clone()));
        }
        keys
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(rs) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let value = rs.value();
        let Some(selector) = selector(&value) else { return plan };
        let deleting = rs.meta.deletion_timestamp.is_some();

        let (mut active, mut terminating) = (Vec::new(), 0);
        for object in view.list("pods", Some(rs.namespace())) {
            match ownership::claim(&rs, &selector, &object) {
                Claim::Ignore => {}
                Claim::Release => plan.push(ownership::release(&rs, &object), "the pod no longer matches the selector"),
                verdict => {
                    let pod = Pod::of(object);
                    if pod.active() {
                        if verdict == Claim::Adopt {
                            plan.push(ownership::adopt(GVK, &rs, &pod.object), "the pod matches and is nobody's");
                        }
                        active.push(pod);
                    } else if pod.terminating() && !pod.finished() {
                        terminating += 1;
                    }
                }
            }
        }

        let wanted = usize::try_from(value["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0);
        let found = active.len();
        let doomed = if deleting { vec![] } else { excess(view, &rs, &mut active, wanted, now) };
        // Those about to be deleted no longer count, or a Deployment might count on them once more.
        terminating += doomed.len() as i64;
        plan.0.extend(status(&rs, &value, &active, terminating, found == wanted, now).0);
        if !deleting && found < wanted {
            create(&mut plan, &rs, &value, wanted - found);
        }
        delete(&mut plan, &rs, &doomed, found.saturating_sub(wanted));
        plan
    }

    fn failed(&self, view: &dyn View, key: &Key, step: &Step, status: &Status, now: Time) -> Plan {
        let mut plan = Plan::none();
        let (reason, doing) = match step.action {
            Action::Create { resource: "pods", .. } => ("FailedCreate", "creating"),
            Action::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return plan,
        };
        let Some(rs) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let message = format!("Error {doing}: {}", status.message);
        plan.push(event(GVK, &rs, EventType::Warning, reason, message), "the API refused");
        let value = rs.value();
        let mut list = conditions::of(&value);
        let failure = Wanted { kind: "ReplicaFailure", status: "True", reason, message: status.message.clone() };
        conditions::set(&mut list, &failure, false, now);
        if let Some(action) = status_patch(&rs, &value, [("conditions", list.into())]) {
            plan.push(action, "the API refused");
        }
        plan
    }
}

fn selector(rs: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(&rs["spec"]["selector"]).ok().filter(|s| !s.is_empty())
}

fn create(plan: &mut Plan, rs: &Object, value: &Value, missing: usize) {
    let template = &value["spec"]["template"];
    let mut metadata = json!({
        "generateName": format!("{}-", rs.name()), "namespace": rs.namespace(),
        "ownerReferences": [ownership::controller_ref(GVK, rs)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
    let first = plan.0.len();
    let count = missing.min(BURST);
    for _ in 0..count {
        let create = Action::Create { resource: "pods", namespace: rs.namespace().into(), object: pod.clone() };
        plan.push(create, format!("{missing} too few"));
    }
    let named = (first..first + count).map(names::of_step);
    events(plan, rs, "SuccessfulCreate", "Created pod", named);
}

fn events(plan: &mut Plan, rs: &Object, reason: &'static str, what: &str, named: impl Iterator<Item = String>) {
    for (i, name) in named.take(EVENTS + 1).enumerate() {
        let combined = if i == EVENTS { "(combined from similar events): " } else { "" };
        let message = format!("{combined}{what}: {name}");
        plan.push(event(GVK, rs, EventType::Normal, reason, message), "for people");
    }
}

/// Takes the pods that are to go out of `active`.
fn excess(view: &dyn View, rs: &Object, active: &mut Vec<Pod>, wanted: usize, now: Time) -> Vec<Pod> {
    let excess = active.len().saturating_sub(wanted);
    if excess > 0 && wanted > 0 {
        let crowds = crowds(view, rs);
        let crowd = |p: &Pod| crowds.get(p.facts.node_name.as_str()).copied().unwrap_or(0);
        active.sort_by(|a, b| by_expendability((a, crowd(a)), (b, crowd(b)), now));
    }
    active.drain(..excess.min(BURST)).collect()
}

fn delete(plan: &mut Plan, rs: &Object, doomed: &[Pod], excess: usize) {
    for pod in doomed {
        let delete = Action::Delete {
            resource: "pods".into(),
            namespace: rs.namespace().into(),
            name: pod.object.name().into(),
            uid: pod.object.meta.uid.to_string(),
            propagation: None,
            grace_seconds: None,
        };
        plan.push(delete, format!("{excess} too many"));
    }
    events(plan, rs, "SuccessfulDelete", "Deleted pod", doomed.iter().map(|p| p.object.name().to_string()));
}

/// How many active pods of the same Deployment each node has.
fn crowds(view: &dyn View, rs: &Object) -> BTreeMap<String, usize> {
    let owner = rs.meta.controller().map(|c| c.uid.clone());
    let sibling = |o: &Object| owner.is_some() && o.meta.controller().map(|c| &c.uid) == owner.as_ref();
    let mut siblings: BTreeSet<Arc<str>> =
        view.list(RESOURCE, Some(rs.namespace())).filter(|o| sibling(o)).map(|o| o.meta.uid.clone()).collect();
    siblings.insert(rs.meta.uid.clone());
    let mut out = BTreeMap::new();
    for object in view.list("pods", Some(rs.namespace())) {
        if object.meta.controller().is_some_and(|c| siblings.contains(&*c.uid)) {
            let pod = Pod::of(object);
            if pod.active() {
                *out.entry(pod.facts.node_name.clone()).or_default() += 1;
            }
        }
    }
    out
}

/// Which of two pods goes first, by upstream's rules in upstream's order. The number is how many siblings its node has.
fn by_expendability((a, crowd_a): (&Pod, usize), (b, crowd_b): (&Pod, usize), now: Time) -> Ordering {
    let phase = |p: &Pod| match p.facts.phase.as_str() {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |p: &Pod| -> i64 {
        p.object
            .meta
            .annotations
            .get("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|c| c.parse().ok())
            .unwrap_or(0)
    };
    // Ages compare by their logarithm, so that a rolling scale-down does not always hit the youngest.
    let age = |t: Option<Time>| t.map_or(0, |t| now.since(t).as_nanos().max(1).ilog2());
    let by_age = |x: Option<Time>, y: Option<Time>| {
        if x == y {
            return Ordering::Equal;
        }
        age(x).cmp(&age(y)).then_with(|| a.object.meta.uid.cmp(&b.object.meta.uid))
    };
    let assigned = |p: &Pod| !p.facts.node_name.is_empty();
    (assigned(a), phase(a), a.facts.ready, cost(a), Reverse(crowd_a))
        .cmp(&(assigned(b), phase(b), b.facts.ready, cost(b), Reverse(crowd_b)))
        .then_with(|| if a.facts.ready { by_age(a.facts.ready_since, b.facts.ready_since) } else { Ordering::Equal })
        .then_with(|| b.facts.restarts.cmp(&a.facts.restarts))
        .then_with(|| by_age(a.object.meta.created(), b.object.meta.created()))
        .then_with(|| a.object.meta.uid.cmp(&b.object.meta.uid))
}

fn status(rs: &Object, value: &Value, active: &[Pod], terminating: i64, enough: bool, now: Time) -> Plan {
    let mut plan = Plan::none();
    let min_ready = Duration::from_secs(int(&value["spec"]["minReadySeconds"]).max(0) as u64);
    let (mut ready, mut available, mut labelled) = (0, 0, 0);
    let mut next: Option<Time> = None;
    let labels = value["spec"]["template"]["metadata"]["labels"].as_object();
    for pod in active {
        let has = |(k, v): (&String, &Value)| pod.object.meta.labels.get(k.as_str()).map(|l| &**l) == v.as_str();
        labelled += i64::from(labels.into_iter().flatten().all(has));
        ready += i64::from(pod.facts.ready);
        match pod.available_at(min_ready) {
            Some(at) if at <= now => available += 1,
            Some(at) => next = Some(next.map_or(at, |n| n.min(at))),
            None => {}
        }
    }
    let mut list = conditions::of(value);
    // What failed before is over once there is nothing left to create or delete.
    if enough {
        conditions::remove(&mut list, "ReplicaFailure");
    }
    let fields = [
        ("replicas", active.len().into()),
        ("fullyLabeledReplicas", nonzero(labelled)),
        ("readyReplicas", nonzero(ready)),
        ("availableReplicas", nonzero(available)),
        ("terminatingReplicas", terminating.into()),
        ("observedGeneration", nonzero(rs.meta.generation)),
        ("conditions", if list.is_empty() { Value::Null } else { list.into() }),
    ];
    if let Some(action) = status_patch(rs, value, fields) {
        plan.push(action, "as observed");
    }
    if let Some(at) = next {
        plan.push(Action::After(at.since(now)), "a pod is ready but not yet for minReadySeconds");
    }
    plan
}

#[cfg(test)]
mod tests;
