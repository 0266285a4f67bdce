//! Floor 2: the scheduler. Filter and score plugins, one file each, over a [`Cache`] of what every node has left; a
//! decision is a [`Plan`] that binds the pod or says why it cannot be.
#![deny(clippy::iter_over_hash_type)]

mod cache;
mod node;
mod peers;
mod plugins;
mod pod;

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

pub use cache::Cache;

use crate::node::Node;
use crate::peers::World;
use crate::plugins::{Filter, Score};
use crate::pod::Pod;

/// The name that pods ask for this scheduler by.
pub const NAME: &str = "default-scheduler";

/// A pod that could not be placed is looked at again after this time even if nothing seems to have changed.
const RETRY: Duration = Duration::from_secs(300);

/// Which of two nodes is preferred when both have room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// The emptier one: Kubernetes' default.
    #[default]
    LeastAllocated,
    /// The fuller one, so that others can be switched off.
    MostAllocated,
}

/// The lists of plugins.
pub struct Scheduler {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<Box<dyn Score>>,
}

impl Default for Scheduler {
    fn default() -> Scheduler {
        Scheduler::new(Packing::default())
    }
}

impl Scheduler {
    /// A scheduler with all plugins.
    pub fn new(packing: Packing) -> Scheduler {
        Scheduler { filters: plugins::filters(), scores: plugins::scores(packing) }
    }

    /// Decides on one pod. `cache` has seen every change up to `view`, and from now on counts a bound pod where it was
    /// bound; if the binding fails, calling this again forgets that.
    pub fn schedule(&self, view: &dyn View, key: &Key, now: Time, cache: &mut Cache) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get("pods", &key.namespace, &key.name).filter(|p| wants_scheduling(p)) else {
            cache.settled(key);
            return plan;
        };
        cache.forget(key);
        let pod = Pod::read(&object);
        if pod.gated {
            return plan;
        }
        match self.choose(&pod, World { view, cache: &*cache }) {
            Ok(node) => {
                cache.assume(key.clone(), &pod, &node);
                let (namespace, name) = (object.namespace().to_string(), object.name().to_string());
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                let bind = Action::Bind { namespace, name, uid: object.meta.uid.to_string(), node };
                plan.push(bind, "the best node that it fits on");
                plan.push(event(&object, EventType::Normal, "Scheduled", message), "for people");
            }
            Err(message) => {
                cache.unschedulable(key.clone(), pod.minds_others());
                explain(&object, message, now, &mut plan);
                plan.push(Action::After(RETRY), "in case a change went unnoticed");
            }
        }
        plan
    }

    /// The best node, or in upstream's words why there is none.
    fn choose(&self, pod: &Pod, world: World<'_>) -> Result<String, String> {
        let cache = world.cache;
        let judges: Vec<_> = self.filters.iter().map(|f| f.prepare(pod, world)).collect();
        let (mut fitting, mut reasons): (Vec<&Node>, BTreeMap<String, usize>) = (Vec::new(), BTreeMap::new());
        for node in cache.nodes() {
            // The first plugin that refuses speaks for the node.
            match judges.iter().map(|judge| judge(node)).find(|r| !r.is_empty()) {
                None => fitting.push(node),
                Some(refused) => refused.into_iter().for_each(|r| *reasons.entry(r).or_default() += 1),
            }
        }
        if fitting.is_empty() {
            return Err(refusal(cache.nodes().count(), &reasons));
        }
        if let [only] = fitting[..] {
            return Ok(only.name.clone());
        }
        let mut totals = vec![0; fitting.len()];
        for plugin in &self.scores {
            for (total, score) in totals.iter_mut().zip(plugin.scores(pod, &fitting, world)) {
                *total += score * plugin.weight();
            }
        }
        let best = totals.iter().max().copied().unwrap_or(0);
        let equals: Vec<&&Node> = fitting.iter().zip(&totals).filter(|(_, t)| **t == best).map(|(n, _)| n).collect();
        // Equally good nodes share the pods; which gets which must not depend on anything that varies.
        let pick = fnv(pod.uid.as_bytes()) % equals.len() as u64;
        Ok(equals[pick as usize].name.to_string())
    }
}

/// Whether a pod is this scheduler's to place.
pub fn wants_scheduling(pod: &Object) -> bool {
    let facts = pod.facts::<copepod_model::facts::PodFacts>();
    facts.node_name.is_empty()
        && pod.meta.deletion_timestamp.is_none()
        && (facts.scheduler_name == NAME || facts.scheduler_name.is_empty())
        && !matches!(facts.phase.as_str(), "Succeeded" | "Failed")
}

/// All pods that wait to be placed: what a scheduler that starts has to look at.
pub fn all(view: &dyn View) -> Vec<Key> {
    let pending = view.list("pods", None).filter(|p| p.meta.node_name.is_none() && wants_scheduling(p));
    pending.map(|p| p.key.clone()).collect()
}

fn refusal(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut texts: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
    texts.sort();
    format!("0/{nodes} nodes are available: {}.", texts.join(", "))
}

/// Says why in the condition and in an Event, once for each reason.
fn explain(pod: &Object, message: String, now: Time, plan: &mut Plan) {
    let value = pod.value();
    let conditions = value["status"]["conditions"].as_array();
    let current = conditions.into_iter().flatten().find(|c| c["type"] == "PodScheduled");
    if current.is_some_and(|c| c["status"] == "False" && c["reason"] == "Unschedulable" && c["message"] == *message) {
        return;
    }
    let since = current.filter(|c| c["status"] == "False").and_then(|c| c["lastTransitionTime"].as_str());
    let since: Value = since.map_or_else(|| now.rfc3339().into(), Into::into);
    let patch = json!({"metadata": {"uid": &*pod.meta.uid}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": since,
    }]}});
    let action = Action::Patch {
        resource: "pods".into(),
        namespace: pod.namespace().into(),
        name: pod.name().into(),
        subresource: "status",
        kind: PatchType::Strategic,
        patch,
    };
    plan.push(action, "no node fits");
    plan.push(event(pod, EventType::Warning, "FailedScheduling", message), "for people");
}

fn event(pod: &Object, kind: EventType, reason: &'static str, message: String) -> Action {
    let regarding = json!({
        "apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": &*pod.meta.uid,
    });
    Action::Event { regarding, kind, reason, message }
}

/// FNV-1a, 64 bit.
fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests;
