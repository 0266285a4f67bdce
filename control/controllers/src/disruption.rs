//! Keeps the status of PodDisruptionBudgets: how many pods there should be, how many are healthy, and how many may go
//! (upstream's disruption controller). Evictions spend from it in between and leave a note of each pod that they took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::kinds::Kinds;
use copepod_model::request::PatchType;
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, OwnerReference, Time};
use serde_json::{Map, Value, json};

use crate::support::conditions::{self, Wanted};
use crate::support::pods::Pod;
use crate::support::{event, int, int_or_percent, keys_of, patch};
use crate::{Config, Controller};

const GVK: (&str, &str) = ("policy/v1", "PodDisruptionBudget");
const RESOURCE: &str = "poddisruptionbudgets.policy";
/// What says how many pods there should be.
const SCALED: [&str; 4] = ["deployments.apps", "replicasets.apps", "replicationcontrollers", "statefulsets.apps"];
/// An evicted pod that has not begun to go after so long stays.
const DELETION: Duration = Duration::from_secs(120);

struct Disruption {
    kinds: Arc<Kinds>,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    Disruption { kinds: config.kinds.clone() }
}

impl Controller for Disruption {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, "pods", SCALED[0], SCALED[1], SCALED[2], SCALED[3]]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        let budgets = || view.list(RESOURCE, Some(object.namespace()));
        match &*object.key.resource {
            RESOURCE => vec![object.key.clone()],
            "pods" => {
                let selects = |b: &Arc<Object>| {
                    let selector = selector(&b.value());
                    let matches = |o: &Object| selector.as_ref().is_some_and(|s| s.matches(&o.meta.labels));
                    old.into_iter().chain(new).any(matches)
                };
                budgets().filter(selects).map(|b| b.key.clone()).collect()
            }
            _ => {
                let replicas = |o: Option<&Object>| o.map(|o| o.spec_and_status().0["replicas"].clone());
                if replicas(old) == replicas(new) {
                    return vec![];
                }
                budgets().map(|b| b.key.clone()).collect()
            }
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(budget) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let value = budget.value();
        let selector = selector(&value);
        let selected = |o: &Arc<Object>| selector.as_ref().is_some_and(|s| s.matches(&o.meta.labels));
        let pods: Vec<Pod> = view.list("pods", Some(&key.namespace)).filter(selected).map(Pod::of).collect();
        let (disrupted, late, again) = disrupted(&value, &pods, now);
        let mut reports = Vec::new();
        let status = match self.expected(view, &value, &pods) {
            Ok(Expected { pods: expected, healthy: desired, unmanaged }) => {
                let healthy = |p: &&Pod| p.facts.ready && !p.terminating() && !disrupted.contains_key(p.object.name());
                let current = pods.iter().filter(healthy).count() as i64;
                let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
                if pods.is_empty() {
                    reports.push((EventType::Normal, "NoPods", "No matching pods found".to_string()));
                }
                if unmanaged > 0 {
                    reports.push((EventType::Warning, "UnmanagedPods", unmanaged_words(unmanaged)));
                }
                let generation = budget.meta.generation;
                let (state, reason) =
                    if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
                vec![
                    ("observedGeneration", generation.into()),
                    ("disruptedPods", disrupted.into()),
                    ("disruptionsAllowed", allowed.into()),
                    ("currentHealthy", current.into()),
                    ("desiredHealthy", desired.into()),
                    ("expectedPods", expected.into()),
                    ("conditions", condition(&value, state, reason, String::new(), generation, now)),
                ]
            }
            // While nothing is known nobody may go.
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                reports.push((EventType::Warning, "CalculateExpectedPodCountFailed", message));
                let seen = int(&value["status"]["observedGeneration"]);
                vec![
                    ("disruptionsAllowed", 0.into()),
                    ("conditions", condition(&value, "False", "SyncFailed", why, seen, now)),
                ]
            }
        };
        for pod in late {
            let message = format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.name);
            plan.push(
                event(("v1", "Pod"), &pod, EventType::Warning, "NotDeleted", message),
                "an eviction came to nothing",
            );
        }
        if let Some(change) = change(&budget, &value, status) {
            // What is reported is news only when something has changed.
            for (kind, reason, message) in reports {
                plan.push(event(GVK, &budget, kind, reason, message), "for people");
            }
            plan.push(change, "as observed");
        }
        if let Some(at) = again {
            plan.push(Action::After(at.since(now)), "an evicted pod has not gone yet");
        }
        plan
    }
}

/// The pods that a budget is about; none without a selector, all with an empty one.
fn selector(budget: &Value) -> Option<LabelSelector> {
    let selector = &budget["spec"]["selector"];
    LabelSelector::from_json(selector).ok().filter(|_| !selector.is_null())
}

fn unmanaged_words(pods: usize) -> String {
    format!(
        "{pods} pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot \
         be calculated correctly, which may result in undefined behavior. To account for these pods please set \
         \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// What there should be.
struct Expected {
    pods: i64,
    healthy: i64,
    /// Pods without a controller, which are in no sum.
    unmanaged: usize,
}

impl Disruption {
    fn expected(&self, view: &dyn View, budget: &Value, pods: &[Pod]) -> Result<Expected, String> {
        let (min, max) = (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]);
        if max.is_null() && !min.is_string() {
            let known = !min.is_null();
            let pods = if known { pods.len() as i64 } else { 0 };
            return Ok(Expected { pods, healthy: int(min), unmanaged: 0 });
        }
        let (total, unmanaged) = self.scale(view, pods)?;
        let healthy = match max {
            Value::Null => int_or_percent(min, total, true),
            max => (total - int_or_percent(max, total, true)).max(0),
        };
        Ok(Expected { pods: total, healthy, unmanaged })
    }

    /// The sum of what the pods' controllers ask for, each counted once, and the pods that have none.
    fn scale(&self, view: &dyn View, pods: &[Pod]) -> Result<(i64, usize), String> {
        let (mut scales, mut unmanaged) = (BTreeMap::new(), 0);
        for pod in pods {
            match pod.object.meta.controller() {
                None => unmanaged += 1,
                Some(owner) => {
                    let (uid, replicas) = self.controller(view, &pod.object, owner)?;
                    scales.insert(uid, replicas);
                }
            }
        }
        Ok((scales.values().sum(), unmanaged))
    }

    /// Who decides how many pods of this kind there are: the owner, or the Deployment above it.
    fn controller(&self, view: &dyn View, pod: &Object, owner: &OwnerReference) -> Result<(Arc<str>, i64), String> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let missing = || format!("found no controllers for pod {:?}", pod.name());
        let kind = self.kinds.kind(group, &owner.kind).ok_or_else(missing)?;
        let found = view.get(&kind.group_resource(), pod.namespace(), &owner.name);
        let found = found.filter(|o| *o.meta.uid == *owner.uid).ok_or_else(missing)?;
        if let Some(above) =
            found.meta.controller().filter(|c| &*owner.kind == "ReplicaSet" && &*c.kind == "Deployment")
        {
            return self.controller(view, pod, above);
        }
        let Some(scale) = kind.scale else {
            return Err(format!("{} does not implement the scale subresource", kind.group_resource()));
        };
        let value = found.value();
        let replicas = scale.spec_replicas.split('.').fold(&value, |v, part| &v[part]);
        Ok((found.meta.uid.clone(), int(replicas)))
    }
}

/// The evicted pods that have not begun to go: those that still may, as the status has them, those for which it is too
/// late, and when to look again.
fn disrupted(budget: &Value, pods: &[Pod], now: Time) -> (Map<String, Value>, Vec<Arc<Object>>, Option<Time>) {
    let noted = &budget["status"]["disruptedPods"];
    let (mut waiting, mut late, mut again) = (Map::new(), Vec::new(), None);
    for pod in pods.iter().filter(|p| !p.terminating()) {
        let name = pod.object.name();
        let Some(since) = noted[name].as_str().and_then(Time::parse) else { continue };
        let end = since + DELETION;
        if end <= now {
            late.push(pod.object.clone());
        } else {
            waiting.insert(name.into(), noted[name].clone());
            again = Some(again.map_or(end, |a: Time| a.min(end)));
        }
    }
    (waiting, late, again)
}

/// The list of conditions with the one of this kind.
fn condition(budget: &Value, status: &str, reason: &str, message: String, generation: i64, now: Time) -> Value {
    let mut all = conditions::of(budget);
    let kind = "DisruptionAllowed";
    conditions::replace(&mut all, &Wanted { kind, status, reason, message }, false, now);
    if let Some(last) = all.last_mut() {
        last["observedGeneration"] = generation.into();
    }
    all.into()
}

/// The patch of the status, if something in it differs. It holds for this version only: an eviction may have spent
/// something meanwhile.
fn change(budget: &Object, value: &Value, wanted: Vec<(&'static str, Value)>) -> Option<Action> {
    let current = &value["status"];
    let mut fields = Map::new();
    for (name, mut v) in wanted {
        if name == "disruptedPods" {
            let had = current[name].as_object().cloned().unwrap_or_default();
            if v.as_object() == Some(&had) {
                continue;
            }
            // A merge patch takes away what it names as null.
            for pod in had.keys().filter(|k| v.get(k.as_str()).is_none()).cloned().collect::<Vec<_>>() {
                v[pod] = Value::Null;
            }
        }
        if current[name] != v {
            fields.insert(name.into(), v);
        }
    }
    if fields.is_empty() {
        return None;
    }
    let body = json!({"metadata": {"resourceVersion": budget.revision.to_string()}, "status": fields});
    Some(patch(budget, "status", PatchType::Merge, body))
}

#[cfg(test)]
mod tests;
