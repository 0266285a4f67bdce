//! Controller references: who owns what, adoption and release (upstream's `ControllerRefManager`).

use copepod_machine::Action;
use copepod_model::request::PatchType;
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object};
use serde_json::{Value, json};

use super::patch;

/// What a controller should do about an object of the kind that it manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the controller's and matches.
    Keep,
    /// It matches and nobody's.
    Adopt,
    /// It is the controller's and no longer matches.
    Release,
    /// It is none of its business.
    Ignore,
}

/// Decides by owner reference and selector.
pub(crate) fn claim(owner: &Object, selector: &LabelSelector, object: &Object) -> Claim {
    let deleting = owner.meta.deletion_timestamp.is_some();
    match object.meta.controller() {
        Some(c) if *c.uid != *owner.meta.uid => Claim::Ignore,
        Some(_) if selector.matches(&object.meta.labels) => Claim::Keep,
        Some(_) if deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if deleting || object.meta.deletion_timestamp.is_some() => Claim::Ignore,
        None if selector.matches(&object.meta.labels) => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The reference that makes `owner` the managing controller.
pub(crate) fn controller_ref(gvk: (&str, &str), owner: &Object) -> Value {
    json!({
        "apiVersion": gvk.0, "kind": gvk.1, "name": owner.name(), "uid": &*owner.meta.uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Makes `owner` the controller of `object`.
pub(crate) fn adopt(gvk: (&str, &str), owner: &Object, object: &Object) -> Action {
    let refs = json!({"metadata": {"ownerReferences": [controller_ref(gvk, owner)]}});
    patch(object, "", PatchType::Strategic, refs)
}

/// Makes `owner` no longer the controller of `object`.
pub(crate) fn release(owner: &Object, object: &Object) -> Action {
    let refs = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": &*owner.meta.uid}]}});
    patch(object, "", PatchType::Strategic, refs)
}

/// The keys of the controllers of this kind that a change of an object concerns. `resource` is the controller's own.
pub(crate) fn owner_keys(kind: &str, resource: &str, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
    let of = |o: Option<&Object>| {
        let o = o?;
        let c = o.meta.controller().filter(|c| &*c.kind == kind)?;
        Some(Key::new(resource, o.key.namespace.clone(), &*c.name))
    };
    let (before, after) = (of(old), of(new));
    if before == after { after.into_iter().collect() } else { before.into_iter().chain(after).collect() }
}
