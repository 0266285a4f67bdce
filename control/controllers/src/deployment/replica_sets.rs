//! The ReplicaSets of one Deployment as a reconcile sees and changes them: sizes and annotations are changed in memory,
//! then written once.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::selector::LabelSelector;
use copepod_model::{Object, Time};
use serde_json::{Map, Value, json};

use super::{Deployment, GVK, REVISION, RS, hash, history_limit};
use crate::support::ownership::{self, Claim};
use crate::support::{bare_template, event, int, patch};

const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of the Deployment that its ReplicaSets do not inherit.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The longest revision history that is kept.
const HISTORY_BYTES: usize = 2000;

/// One ReplicaSet.
pub(super) struct Rs {
    /// Absent while it is yet to be created.
    pub object: Option<Arc<Object>>,
    pub name: String,
    value: Value,
    /// `spec.replicas` as it is to be.
    pub replicas: i64,
    /// `spec.replicas` as it was.
    was: i64,
    pub actual: i64,
    pub ready: i64,
    pub available: i64,
    pub terminating: i64,
    pub created: Time,
    pub revision: u64,
    /// Whether its status tells of its present size.
    pub observed: bool,
    annotations: BTreeMap<String, String>,
    min_ready: Option<i64>,
}

impl Rs {
    fn read(object: Arc<Object>) -> Rs {
        let value = object.value();
        let status = &value["status"];
        let replicas = value["spec"]["replicas"].as_i64().unwrap_or(1);
        Rs {
            name: object.name().into(),
            replicas,
            was: replicas,
            actual: int(&status["replicas"]),
            ready: int(&status["readyReplicas"]),
            available: int(&status["availableReplicas"]),
            terminating: int(&status["terminatingReplicas"]),
            created: object.meta.created().unwrap_or_default(),
            revision: revision_of(&object),
            observed: int(&status["observedGeneration"]) >= object.meta.generation,
            annotations: BTreeMap::new(),
            min_ready: None,
            object: Some(object),
            value,
        }
    }

    pub(super) fn conditions(&self) -> Option<&Vec<Value>> {
        self.value["status"]["conditions"].as_array()
    }

    pub(super) fn desired_annotation(&self) -> Option<i64> {
        self.annotation(DESIRED)?.parse().ok()
    }

    pub(super) fn max_annotation(&self) -> Option<i64> {
        self.annotation(MAX)?.parse().ok()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let changed = self.annotations.get(key).map(String::as_str);
        changed.or_else(|| self.object.as_ref()?.meta.annotations.get(key).map(|v| &**v))
    }

    fn annotate(&mut self, key: &str, value: String) {
        if self.annotation(key) != Some(&value) {
            self.annotations.insert(key.into(), value);
        }
    }

    /// Changes the size; also notes the Deployment's size on it, by which later scaling knows its share.
    pub(super) fn resize(&mut self, d: &Deployment, replicas: i64) {
        self.replicas = replicas.max(0);
        self.note_size(d);
    }

    fn note_size(&mut self, d: &Deployment) {
        self.annotate(DESIRED, d.replicas.to_string());
        self.annotate(MAX, (d.replicas + d.surge).to_string());
    }

    fn inherit(&mut self, d: &Deployment, revision: u64) {
        for (k, v) in d.object.meta.annotations.iter().filter(|(k, _)| !OWN.contains(&&***k)) {
            self.annotate(k, v.to_string());
        }
        if self.revision < revision {
            if self.revision > 0 {
                let past = self.annotation(HISTORY).unwrap_or_default();
                let mut all: Vec<String> = past.split(',').filter(|p| !p.is_empty()).map(Into::into).collect();
                all.push(self.revision.to_string());
                while all.join(",").len() > HISTORY_BYTES {
                    all.remove(0);
                }
                self.annotate(HISTORY, all.join(","));
            }
            self.annotate(REVISION, revision.to_string());
            self.revision = revision;
        }
    }
}

/// The revision annotation, 0 when absent.
pub(super) fn revision_of(object: &Object) -> u64 {
    object.meta.annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// All ReplicaSets of a Deployment.
pub(super) struct ReplicaSets {
    /// The one with the Deployment's present template.
    pub new: Option<Rs>,
    /// The others, oldest first.
    pub old: Vec<Rs>,
}

impl ReplicaSets {
    /// Finds them, and adopts and releases.
    pub(super) fn claim(view: &dyn View, d: &Deployment, selector: &LabelSelector, plan: &mut Plan) -> ReplicaSets {
        let mut all = Vec::new();
        for object in view.list(RS, Some(d.object.namespace())) {
            match ownership::claim(&d.object, selector, &object) {
                Claim::Ignore => {}
                Claim::Release => {
                    plan.push(ownership::release(&d.object, &object), "the ReplicaSet no longer matches the selector");
                }
                verdict => {
                    if verdict == Claim::Adopt {
                        plan.push(ownership::adopt(GVK, &d.object, &object), "the ReplicaSet matches and is nobody's");
                    }
                    all.push(Rs::read(object));
                }
            }
        }
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let template = bare_template(d.template().clone());
        // Of several that are equal the oldest counts as the new one, always.
        let at = all.iter().position(|rs| bare_template(rs.value["spec"]["template"].clone()) == template);
        let new = at.map(|i| all.remove(i));
        ReplicaSets { new, old: all }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rs> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Rs> {
        self.old.iter_mut().chain(&mut self.new)
    }

    pub(super) fn total(&self) -> i64 {
        self.iter().map(|rs| rs.replicas).sum()
    }

    fn next_revision(&self) -> u64 {
        self.old.iter().map(|rs| rs.revision).max().unwrap_or(0) + 1
    }

    /// An existing newest ReplicaSet gets the highest revision, the Deployment's annotations and its minReadySeconds.
    pub(super) fn sync_revision(&mut self, d: &Deployment) {
        let revision = self.next_revision();
        if let Some(new) = &mut self.new {
            new.inherit(d, revision);
            let wanted = int(&d.value["spec"]["minReadySeconds"]);
            if int(&new.value["spec"]["minReadySeconds"]) != wanted {
                new.min_ready = Some(wanted);
            }
        }
    }

    /// Plans the ReplicaSet of the present template if there is none. When another object has its name, the error is the
    /// collision count to go on with.
    pub(super) fn ensure_new(&mut self, view: &dyn View, d: &Deployment) -> Result<(), i64> {
        if self.new.is_some() {
            return Ok(());
        }
        let collisions = d.value["status"]["collisionCount"].as_i64();
        let hash = hash::of(&bare_template(d.template().clone()), collisions);
        let name = format!("{}-{hash}", d.object.name());
        if view.get(RS, d.object.namespace(), &name).is_some() {
            return Err(collisions.unwrap_or(0) + 1);
        }
        let mut template = d.template().clone();
        template["metadata"]["labels"]["pod-template-hash"] = hash.as_str().into();
        let mut selector = d.value["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = hash.into();
        let mut spec = json!({"selector": selector, "template": template});
        if let Some(seconds) = d.value["spec"].get("minReadySeconds") {
            spec["minReadySeconds"] = seconds.clone();
        }
        let labels = template["metadata"]["labels"].clone();
        let value = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": name, "namespace": d.object.namespace(), "labels": labels,
                "ownerReferences": [ownership::controller_ref(GVK, &d.object)],
            },
            "spec": spec,
        });
        let mut new = Rs {
            object: None,
            name,
            value,
            replicas: 0,
            was: 0,
            actual: 0,
            ready: 0,
            available: 0,
            terminating: 0,
            created: Time::default(),
            revision: 0,
            observed: false,
            annotations: BTreeMap::new(),
            min_ready: None,
        };
        new.inherit(d, self.next_revision());
        let room = if d.rolling { d.replicas + d.surge - self.total() } else { d.replicas };
        new.resize(d, room.clamp(0, d.replicas));
        self.new = Some(new);
        Ok(())
    }

    /// Scales all old ones to nothing; whether any was not.
    pub(super) fn scale_down_old(&mut self) -> bool {
        let mut any = false;
        for rs in self.old.iter_mut().filter(|rs| rs.replicas > 0) {
            rs.replicas = 0;
            any = true;
        }
        any
    }

    pub(super) fn scale_new(&mut self, replicas: i64) {
        if let Some(new) = &mut self.new {
            new.replicas = replicas;
        }
    }

    /// Deletes old ReplicaSets beyond the history limit.
    pub(super) fn clean_up(&self, d: &Deployment, plan: &mut Plan) {
        let Some(limit) = history_limit(d) else { return };
        let mut old: Vec<(&Rs, &Arc<Object>)> = self
            .old
            .iter()
            .filter_map(|rs| Some((rs, rs.object.as_ref()?)))
            .filter(|(_, o)| o.meta.deletion_timestamp.is_none())
            .collect();
        old.sort_by_key(|(rs, _)| (rs.revision, rs.created));
        let excess = old.len().saturating_sub(limit);
        for (rs, object) in old.into_iter().take(excess) {
            if rs.actual != 0 || rs.was != 0 || rs.replicas != 0 || !rs.observed {
                continue;
            }
            let delete = Action::Delete {
                resource: RS.into(),
                namespace: object.namespace().into(),
                name: rs.name.clone(),
                uid: object.meta.uid.to_string(),
                propagation: None,
                grace_seconds: None,
            };
            plan.push(delete, "beyond the history limit");
        }
    }

    /// Writes what changed, one step and at most one Event for each.
    pub(super) fn write(&mut self, d: &Deployment, plan: &mut Plan) {
        for rs in self.iter_mut() {
            if rs.replicas != rs.was {
                rs.note_size(d);
            }
            write(rs, d, plan);
        }
    }
}

fn write(rs: &Rs, d: &Deployment, plan: &mut Plan) {
    let annotations: Map<String, Value> = rs.annotations.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
    match &rs.object {
        None => {
            let mut object = rs.value.clone();
            object["metadata"]["annotations"] = annotations.into();
            object["spec"]["replicas"] = rs.replicas.into();
            let create = Action::Create { resource: RS, namespace: d.object.namespace().into(), object };
            plan.push(create, "no ReplicaSet has the present template");
        }
        Some(object) => {
            let (mut body, mut why) = (json!({}), "annotations");
            if !annotations.is_empty() {
                body["metadata"]["annotations"] = annotations.into();
            }
            if let Some(seconds) = rs.min_ready {
                (body["spec"]["minReadySeconds"], why) = (seconds.into(), "minReadySeconds");
            }
            if rs.replicas != rs.was {
                (body["spec"]["replicas"], why) = (rs.replicas.into(), "scale");
            }
            if body == json!({}) {
                return;
            }
            plan.push(patch(object, "", PatchType::Merge, body), why);
        }
    }
    if rs.replicas != rs.was {
        let direction = if rs.replicas > rs.was { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {} to {}", rs.name, rs.was, rs.replicas);
        plan.push(event(GVK, &d.object, EventType::Normal, "ScalingReplicaSet", message), "for people");
    }
}
