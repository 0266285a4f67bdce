//! Counts what a ResourceQuota limits (upstream's `pkg/controller/resourcequota`). Admission adds what is created; this
//! controller makes the first count of a quota, and takes back what is gone. It writes only over the version of the quota that
//! it has counted by: whatever was let in meanwhile has changed that version.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Action, Plan, View};
use copepod_model::facts::PodFacts;
use copepod_model::kinds::Kinds;
use copepod_model::pod_resources::{Amounts, add, amounts};
use copepod_model::quantity::Quantity;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time, quota};
use serde_json::{Value, json};

use crate::support::{keys_of, patch};
use crate::{Config, Controller};

const RESOURCE: &str = "resourcequotas";
/// How often to count anew even if nothing is heard of: upstream's resync.
const RESYNC: Duration = Duration::from_secs(300);

struct ResourceQuotas {
    kinds: Arc<Kinds>,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    ResourceQuotas { kinds: config.kinds.clone() }
}

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resource-quota"
    }

    fn watches(&self) -> &'static [&'static str] {
        &["*"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        let resource = &*object.key.resource;
        if let (RESOURCE, Some(new)) = (resource, new) {
            // What admission charges is counted already.
            let wakes = old.is_none_or(|old| is_news(old, new));
            return wakes.then(|| object.key.clone()).into_iter().collect();
        }
        // What is created was charged when it was.
        if object.namespace().is_empty() || old.is_none() || !quota::counts(resource) {
            return vec![];
        }
        if let (Some(old), Some(new)) = (old, new)
            && !may_free(resource, old, new)
        {
            return vec![];
        }
        view.list(RESOURCE, Some(object.namespace())).map(|q| q.key.clone()).collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let value = object.value();
        let hard = &value["spec"]["hard"];
        let used = self.used(view, &value, &key.namespace, now);
        let status = &value["status"];
        let same = amounts(&status["used"]) == used && amounts(&status["hard"]) == amounts(hard);
        if !same {
            let shown =
                |all: &Amounts| -> Value { all.iter().map(|(k, q)| (k.clone(), json!(q.to_string()))).collect() };
            let mut body = json!({"status": {
                "hard": with_nulls(&status["hard"], hard.clone()),
                "used": with_nulls(&status["used"], shown(&used)),
            }});
            body["metadata"]["resourceVersion"] = object.revision.to_string().into();
            plan.push(patch(&object, "status", PatchType::Merge, body), "what is used");
        }
        plan.push(Action::After(RESYNC), "to count anew");
        plan
    }
}

/// Whether a change of a quota makes its count another one: by what it limits, or because somebody has lost a part of it.
fn is_news(old: &Object, new: &Object) -> bool {
    let ((was, before), (spec, status)) = (old.spec_and_status(), new.spec_and_status());
    let counted = |name: &String| status["used"].get(name).is_some();
    was != spec
        || before["hard"] != status["hard"]
        || !spec["hard"].as_object().into_iter().flatten().all(|(name, _)| counted(name))
}

/// Whether a change can make an object cost less, or something else, without admission knowing.
fn may_free(resource: &str, old: &Object, new: &Object) -> bool {
    match resource {
        "pods" => {
            let phase = |o: &Object| o.facts::<PodFacts>().phase.clone();
            let ended = |o: &Object| matches!(phase(o).as_str(), "Failed" | "Succeeded");
            ended(old) != ended(new) || old.meta.deletion_timestamp != new.meta.deletion_timestamp
        }
        _ => quota::updates_cost(resource),
    }
}

impl ResourceQuotas {
    /// What the objects of the namespace use of what the quota limits.
    fn used(&self, view: &dyn View, quota_object: &Value, namespace: &str, now: Time) -> Amounts {
        let spec = &quota_object["spec"];
        let names: BTreeSet<&str> = spec["hard"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
        let mut used = Amounts::new();
        for resource in quota::tracked(names.iter().copied()) {
            let served = self.kinds.group_resource(resource).is_some_and(|k| k.namespaced);
            if !served || !quota::counts(resource) {
                continue;
            }
            let own: Vec<&str> = names.iter().copied().filter(|n| quota::tracks(resource, n)).collect();
            for name in &own {
                used.entry((*name).into()).or_insert_with(|| Quantity::from_units(0));
            }
            if quota::is_plain_count(spec, resource, &own) {
                let count = Quantity::from_units(view.count(resource, Some(namespace)) as i64);
                used.extend(own.iter().map(|name| ((*name).to_string(), count)));
                continue;
            }
            for object in view.list(resource, Some(namespace)) {
                let value = object.value();
                if !quota::in_scopes(spec, resource, &value) {
                    continue;
                }
                let mut cost = quota::usage(resource, &value, now);
                cost.retain(|k, _| own.contains(&k.as_str()));
                add(&mut used, &cost);
            }
        }
        used
    }
}

/// `wanted` as a merge patch of `current`: what is no longer wanted is null.
fn with_nulls(current: &Value, wanted: Value) -> Value {
    let mut out = current.as_object().into_iter().flatten().map(|(k, _)| (k.clone(), Value::Null)).collect::<Value>();
    if let (Some(out), Value::Object(wanted)) = (out.as_object_mut(), wanted) {
        out.extend(wanted);
    }
    out
}

#[cfg(test)]
mod tests;
