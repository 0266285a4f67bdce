//! Rolls a pod template out over ReplicaSets (upstream's `pkg/controller/deployment`).

mod hash;
mod replica_sets;
mod rolling;
mod scale;
mod status;

use std::sync::Arc;

use copepod_machine::{EventType, Plan, View};
use copepod_model::facts::PodFacts;
use copepod_model::request::PatchType;
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use self::replica_sets::{ReplicaSets, revision_of};
use crate::support::{event, int, int_or_percent, keys_of, ownership, patch};
use crate::{Config, Controller};

const GVK: (&str, &str) = ("apps/v1", "Deployment");
const RESOURCE: &str = "deployments.apps";
const RS: &str = "replicasets.apps";
const REVISION: &str = "deployment.kubernetes.io/revision";

struct Deployments;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    Deployments
}

/// A Deployment, as far as its decisions need it.
struct Deployment {
    object: Arc<Object>,
    value: Value,
    replicas: i64,
    rolling: bool,
    /// `maxSurge` in pods, 0 unless rolling.
    surge: i64,
    /// `maxUnavailable` in pods, 0 unless rolling.
    unavailable: i64,
    paused: bool,
    /// `progressDeadlineSeconds`, unless it is the value that means never.
    deadline: Option<u64>,
}

impl Deployment {
    fn read(object: Arc<Object>) -> Deployment {
        let value = object.value();
        let spec = &value["spec"];
        let replicas = spec["replicas"].as_i64().unwrap_or(1).max(0);
        let rolling = spec["strategy"]["type"] != "Recreate";
        let (mut surge, mut unavailable) = (0, 0);
        if rolling {
            let quarter = json!("25%");
            let given = |v: &'_ Value| if v.is_null() { quarter.clone() } else { v.clone() };
            let update = &spec["strategy"]["rollingUpdate"];
            surge = int_or_percent(&given(&update["maxSurge"]), replicas, true);
            unavailable = int_or_percent(&given(&update["maxUnavailable"]), replicas, false);
            // Both may round to zero; the rollout must still be able to move.
            if surge == 0 && unavailable == 0 {
                unavailable = 1;
            }
            unavailable = unavailable.min(replicas);
        }
        let deadline = spec["progressDeadlineSeconds"].as_i64().unwrap_or(600);
        Deployment {
            replicas,
            rolling,
            surge,
            unavailable,
            paused: spec["paused"] == true,
            deadline: u64::try_from(deadline).ok().filter(|d| *d != i32::MAX as u64),
            object,
            value,
        }
    }

    fn template(&self) -> &Value {
        &self.value["spec"]["template"]
    }
}

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, RS, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            RESOURCE => vec![object.key.clone()],
            RS => {
                let mut keys = ownership::owner_keys(GVK.1, RESOURCE, old, new);
                if let Some(rs) = new.filter(|rs| rs.meta.controller().is_none()) {
                    let selects = |d: &Arc<Object>| selector(&d.value()).is_some_and(|s| s.matches(&rs.meta.labels));
                    keys.extend(view.list(RESOURCE, Some(rs.namespace())).filter(selects).map(|d| d.key.clone()));
                }
                keys
            }
            // Only a Recreate that waits for the last old pod to go cares for pods.
            _ if new.is_none() => {
                let rs = object.meta.controller().and_then(|c| view.get(RS, object.namespace(), &c.name));
                ownership::owner_keys(GVK.1, RESOURCE, None, rs.as_deref())
            }
            _ => vec![],
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let d = Deployment::read(object);
        let Some(selector) = selector(&d.value) else {
            let message = "This deployment is selecting all pods. A non-empty selector is required.".to_string();
            plan.push(event(GVK, &d.object, EventType::Warning, "SelectingAll", message), "its selector is empty");
            return plan;
        };
        let mut sets = ReplicaSets::claim(view, &d, &selector, &mut plan);
        let mut status = status::Status::begin(&d, now);
        let deleting = d.object.meta.deletion_timestamp.is_some();
        if !deleting {
            sets.sync_revision(&d);
            if d.paused || scale::wanted(&d, &sets) {
                scale::scale(&d, &mut sets);
                if d.paused {
                    sets.clean_up(&d, &mut plan);
                }
                sets.write(&d, &mut plan);
                status.write(&d, &sets, false, &mut plan);
                self.revision(&d, &sets, &mut plan);
                return plan;
            }
            if d.rolling {
                if let Err(collision) = sets.ensure_new(view, &d) {
                    status.collided(collision);
                }
                rolling::step(&d, &mut sets);
            } else if !sets.scale_down_old() && !old_pods_run(view, &sets) {
                match sets.ensure_new(view, &d) {
                    Ok(()) => sets.scale_new(d.replicas),
                    Err(collision) => status.collided(collision),
                }
            }
            if status::complete(&d, &d.value["status"]) {
                sets.clean_up(&d, &mut plan);
            }
            sets.write(&d, &mut plan);
            self.revision(&d, &sets, &mut plan);
        }
        status.write(&d, &sets, !deleting, &mut plan);
        plan
    }
}

impl Deployments {
    /// The Deployment shows the revision of its newest ReplicaSet.
    fn revision(&self, d: &Deployment, sets: &ReplicaSets, plan: &mut Plan) {
        let Some(revision) = sets.new.as_ref().map(|rs| rs.revision).filter(|r| *r > 0) else { return };
        if revision_of(&d.object) != revision {
            let annotations = json!({"metadata": {"annotations": {REVISION: revision.to_string()}}});
            plan.push(patch(&d.object, "", PatchType::Merge, annotations), "its newest ReplicaSet's revision");
        }
    }
}

fn selector(d: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(&d["spec"]["selector"]).ok().filter(|s| !s.is_empty())
}

/// Whether pods of old ReplicaSets still run, terminating ones included.
fn old_pods_run(view: &dyn View, sets: &ReplicaSets) -> bool {
    if sets.old.iter().any(|rs| rs.actual > 0) {
        return true;
    }
    let Some(first) = sets.old.first().and_then(|rs| rs.object.as_ref()) else { return false };
    let old = |uid: &str| sets.old.iter().any(|rs| rs.object.as_ref().is_some_and(|o| *o.meta.uid == *uid));
    view.list("pods", Some(first.namespace()))
        .filter(|p| p.meta.controller().is_some_and(|c| old(&c.uid)))
        .any(|p| !matches!(p.facts::<PodFacts>().phase.as_str(), "Succeeded" | "Failed"))
}

/// The history limit, unless it is the value that means no limit.
fn history_limit(d: &Deployment) -> Option<usize> {
    let limit = d.value["spec"].get("revisionHistoryLimit").map_or(10, int);
    usize::try_from(limit).ok().filter(|l| *l != i32::MAX as usize)
}

#[cfg(test)]
mod tests;
