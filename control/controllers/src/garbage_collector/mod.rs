//! Deletes what its owners no longer need (upstream's `pkg/controller/garbagecollector`): background, foreground, orphan.

mod index;

use std::sync::Arc;

use copepod_machine::{Action, Plan, View};
use copepod_model::kinds::Kinds;
use copepod_model::request::{PatchType, Propagation};
use copepod_model::{Key, Object, OwnerReference, Time};
use serde_json::{Value, json};

use self::index::Index;
use crate::support::{BURST, patch_this_version};
use crate::{Config, Controller};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

struct GarbageCollector {
    kinds: Arc<Kinds>,
    index: Index,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    GarbageCollector { kinds: config.kinds.clone(), index: Index::default() }
}

fn has(object: &Object, finalizer: &str) -> bool {
    object.meta.finalizers.iter().any(|f| &**f == finalizer)
}

fn deleting(object: &Object) -> bool {
    object.meta.deletion_timestamp.is_some()
}

/// What a reference of a dependent points to.
enum Owner {
    /// It exists and stays, or cannot be looked up.
    Solid,
    /// It waits for its dependents before it goes.
    Waiting,
    /// There is no such object.
    Dangling,
}

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn watches(&self) -> &'static [&'static str] {
        &["*"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        self.index.change(old, new);
        let mut keys = Vec::new();
        match (old, new) {
            (old, Some(new)) => {
                let waits = deleting(new) && (has(new, FOREGROUND) || has(new, ORPHAN));
                let owners_changed = old.is_none_or(|o| o.meta.owner_references != new.meta.owner_references);
                if waits || (owners_changed && !new.meta.owner_references.is_empty()) {
                    keys.push(new.key.clone());
                }
                // Its dependents look at it again when it begins to wait for them.
                if waits && !old.is_some_and(|o| deleting(o) && o.meta.finalizers == new.meta.finalizers) {
                    keys.extend(self.index.dependents(&new.meta.uid));
                }
                if let Some(old) = old.filter(|_| owners_changed) {
                    keys.extend(self.waiting_owners(view, old));
                }
            }
            (Some(old), None) => {
                keys.extend(self.index.dependents(&old.meta.uid));
                keys.extend(self.waiting_owners(view, old));
            }
            (None, None) => {}
        }
        keys
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        self.index.clear();
        let mut keys = Vec::new();
        for kind in self.kinds.iter() {
            for o in view.list(&kind.group_resource(), None) {
                self.index.change(None, Some(&o));
                if !o.meta.owner_references.is_empty() || deleting(&o) && !o.meta.finalizers.is_empty() {
                    keys.push(o.key.clone());
                }
            }
        }
        keys
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(&key.resource, &key.namespace, &key.name) else { return plan };
        if deleting(&object) && has(&object, ORPHAN) {
            self.orphan(view, &object, &mut plan);
        } else if deleting(&object) && has(&object, FOREGROUND) {
            let blocks = |d: &Arc<Object>| reference(d, &object).is_some_and(|r| r.block_owner_deletion);
            if !self.dependents(view, &object).any(|d| blocks(&d)) {
                plan.push(without_finalizer(&object, FOREGROUND), "no dependent blocks its deletion");
            }
        } else if !deleting(&object) && !object.meta.owner_references.is_empty() {
            self.dependent(view, &object, &mut plan);
        }
        plan
    }
}

impl GarbageCollector {
    /// The objects that name `owner` as their owner. The index only proposes; the view decides.
    fn dependents<'a>(&self, view: &'a dyn View, owner: &'a Object) -> impl Iterator<Item = Arc<Object>> + 'a {
        let keys = self.index.dependents(&owner.meta.uid);
        keys.into_iter()
            .filter_map(|k| view.get(&k.resource, &k.namespace, &k.name))
            .filter(|d| reference(d, owner).is_some())
    }

    /// The owners of `object` that are being deleted in the foreground.
    fn waiting_owners(&self, view: &dyn View, object: &Object) -> Vec<Key> {
        let owners = object.meta.owner_references.iter().filter_map(|r| self.find(view, object, r));
        owners.filter(|o| deleting(o) && has(o, FOREGROUND)).map(|o| o.key.clone()).collect()
    }

    fn find(&self, view: &dyn View, dependent: &Object, r: &OwnerReference) -> Option<Arc<Object>> {
        let kind = self.kinds.kind(group(r), &r.kind)?;
        let namespace = if kind.namespaced { dependent.namespace() } else { "" };
        view.get(&kind.group_resource(), namespace, &r.name).filter(|o| *o.meta.uid == *r.uid)
    }

    fn judge(&self, view: &dyn View, dependent: &Object, r: &OwnerReference) -> Owner {
        // Of an unknown kind nothing can be said. And a cluster-scoped object cannot be owned by a namespaced one: such a
        // reference is an error that must not cost the object.
        let Some(kind) = self.kinds.kind(group(r), &r.kind) else { return Owner::Solid };
        if kind.namespaced && dependent.namespace().is_empty() {
            return Owner::Solid;
        }
        match self.find(view, dependent, r) {
            None => Owner::Dangling,
            Some(o) if deleting(&o) && has(&o, FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Solid,
        }
    }

    fn dependent(&self, view: &dyn View, object: &Object, plan: &mut Plan) {
        let (mut solid, mut waiting, mut gone) = (0, 0, Vec::new());
        for r in &object.meta.owner_references {
            match self.judge(view, object, r) {
                Owner::Solid => solid += 1,
                Owner::Waiting => {
                    waiting += 1;
                    gone.push(&*r.uid);
                }
                Owner::Dangling => gone.push(&*r.uid),
            }
        }
        if gone.is_empty() {
            return;
        }
        if solid > 0 {
            plan.push(without_owners(object, &gone), "these owners are gone, others stay");
            return;
        }
        let mut propagation = match () {
            () if has(object, ORPHAN) => Propagation::Orphan,
            () if has(object, FOREGROUND) => Propagation::Foreground,
            () => Propagation::Background,
        };
        if waiting > 0 && self.dependents(view, object).next().is_some() {
            // In a cycle each would wait for the other for ever.
            if self.dependents(view, object).any(|d| deleting(&d) && has(&d, FOREGROUND)) {
                plan.push(unblocked(object), "it owns what waits for it");
            }
            propagation = Propagation::Foreground;
        }
        let delete = Action::Delete {
            resource: object.key.resource.to_string(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            uid: object.meta.uid.to_string(),
            propagation: Some(propagation),
            grace_seconds: None,
        };
        plan.push(delete, if waiting > 0 { "its owner waits for it to go" } else { "its owner is gone" });
    }

    fn orphan(&self, view: &dyn View, owner: &Object, plan: &mut Plan) {
        let mut dependents = self.dependents(view, owner);
        for d in dependents.by_ref().take(BURST) {
            plan.push(without_owners(&d, &[&*owner.meta.uid]), "its owner leaves it behind");
        }
        if dependents.next().is_none() {
            plan.push(without_finalizer(owner, ORPHAN), "no dependent names it any more");
        }
    }
}

fn group(r: &OwnerReference) -> &str {
    r.api_version.split_once('/').map_or("", |(group, _)| group)
}

fn reference<'a>(dependent: &'a Object, owner: &Object) -> Option<&'a OwnerReference> {
    dependent.meta.owner_references.iter().find(|r| *r.uid == *owner.meta.uid)
}

fn without_owners(object: &Object, gone: &[&str]) -> Action {
    let refs = object.value()["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let rest: Vec<Value> = refs.into_iter().filter(|r| !gone.iter().any(|uid| r["uid"] == *uid)).collect();
    let rest = if rest.is_empty() { Value::Null } else { rest.into() };
    patch_this_version(object, PatchType::Merge, json!({"metadata": {"ownerReferences": rest}}))
}

fn unblocked(object: &Object) -> Action {
    let mut refs = object.value()["metadata"]["ownerReferences"].clone();
    for r in refs.as_array_mut().into_iter().flatten() {
        r["blockOwnerDeletion"] = false.into();
    }
    patch_this_version(object, PatchType::Merge, json!({"metadata": {"ownerReferences": refs}}))
}

fn without_finalizer(object: &Object, finalizer: &str) -> Action {
    let rest: Vec<&str> = object.meta.finalizers.iter().map(|f| &**f).filter(|f| *f != finalizer).collect();
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    patch_this_version(object, PatchType::Merge, json!({"metadata": {"finalizers": rest}}))
}

#[cfg(test)]
mod tests;
