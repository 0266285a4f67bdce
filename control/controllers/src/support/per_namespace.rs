//! Objects of which every namespace has one.

use copepod_machine::View;
use copepod_model::{Key, Object};

/// The key in the namespace that a change is about.
pub(crate) fn keys(resource: &str, name: &str, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
    match new.or(old) {
        Some(o) if &*o.key.resource == "namespaces" => vec![Key::new(resource, o.key.name.clone(), name)],
        Some(o) if &*o.key.name == name => vec![o.key.clone()],
        _ => vec![],
    }
}

/// The keys in all namespaces.
pub(crate) fn all(view: &dyn View, resource: &str, name: &str) -> Vec<Key> {
    view.list("namespaces", None).map(|n| Key::new(resource, n.key.name.clone(), name)).collect()
}

/// Whether the key's namespace is there to stay.
pub(crate) fn live(view: &dyn View, key: &Key) -> bool {
    view.get("namespaces", "", &key.namespace).is_some_and(|n| n.meta.deletion_timestamp.is_none())
}
