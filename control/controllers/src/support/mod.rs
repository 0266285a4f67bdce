//! What several controllers share.

pub(crate) mod certificates;
pub(crate) mod conditions;
pub(crate) mod endpoints;
pub(crate) mod names;
pub(crate) mod node_addresses;
pub(crate) mod ownership;
pub(crate) mod per_namespace;
pub(crate) mod pods;
pub(crate) mod ports;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod services;
#[cfg(test)]
pub(crate) mod sim;
pub(crate) mod slices;

use copepod_machine::{Action, EventType, View};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object};
use serde_json::{Map, Value, json};

/// The most creates or deletes that one reconcile plans.
pub(crate) const BURST: usize = 500;

/// An integer, 0 when absent.
pub(crate) fn int(v: &Value) -> i64 {
    v.as_i64().unwrap_or(0)
}

/// A text, empty when absent.
pub(crate) fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

/// An IntOrString that may be a percentage of `total`.
pub(crate) fn int_or_percent(v: &Value, total: i64, round_up: bool) -> i64 {
    let Some(percent) = v.as_str().and_then(|s| s.strip_suffix('%')).and_then(|s| s.parse::<i64>().ok()) else {
        return int(v).max(0);
    };
    let hundredfold = total.saturating_mul(percent.max(0));
    if round_up { hundredfold.saturating_add(99) / 100 } else { hundredfold / 100 }
}

/// All objects of a resource as keys.
pub(crate) fn keys_of(view: &dyn View, resource: &str) -> Vec<Key> {
    view.list(resource, None).map(|o| o.key.clone()).collect()
}

/// An Event about `object`.
pub(crate) fn event(
    gvk: (&str, &str),
    object: &Object,
    kind: EventType,
    reason: &'static str,
    message: String,
) -> Action {
    let mut regarding = json!({"apiVersion": gvk.0, "kind": gvk.1, "name": object.name(), "uid": &*object.meta.uid});
    if !object.namespace().is_empty() {
        regarding["namespace"] = object.namespace().into();
    }
    Action::Event { regarding, kind, reason, message }
}

/// A patch of `object`, which must still be the one with this UID.
pub(crate) fn patch(object: &Object, subresource: &'static str, kind: PatchType, mut patch: Value) -> Action {
    patch["metadata"]["uid"] = (*object.meta.uid).into();
    Action::Patch {
        resource: object.key.resource.to_string(),
        namespace: object.namespace().into(),
        name: object.name().into(),
        subresource,
        kind,
        patch,
    }
}

/// The same, which must also still be at this version.
pub(crate) fn patch_this_version(object: &Object, kind: PatchType, mut body: Value) -> Action {
    body["metadata"]["resourceVersion"] = object.revision.to_string().into();
    patch(object, "", kind, body)
}

/// The merge patch of `status` that makes the named fields so; null is the same as absent. Nothing if they are.
pub(crate) fn status_patch<const N: usize>(
    object: &Object,
    current: &Value,
    wanted: [(&str, Value); N],
) -> Option<Action> {
    let changed: Map<String, Value> =
        wanted.into_iter().filter(|(k, v)| current["status"][k] != *v).map(|(k, v)| (k.to_string(), v)).collect();
    (!changed.is_empty()).then(|| patch(object, "status", PatchType::Merge, json!({"status": changed})))
}

/// A count as Kubernetes writes it where zero is left out.
pub(crate) fn nonzero(n: i64) -> Value {
    if n == 0 { Value::Null } else { n.into() }
}

/// Drops nulls and the pod-template-hash label, so that templates compare as upstream's semantic equality has it.
pub(crate) fn bare_template(mut template: Value) -> Value {
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    strip_nulls(&mut template);
    if let Some(meta) = template["metadata"].as_object_mut() {
        meta.retain(|_, v| v.as_object().is_none_or(|m| !m.is_empty()));
    }
    template
}

fn strip_nulls(v: &mut Value) {
    match v {
        Value::Object(m) => {
            m.retain(|_, v| !v.is_null());
            m.values_mut().for_each(strip_nulls);
        }
        Value::Array(a) => a.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        for (v, total, up, want) in [
            (json!("25%"), 10, true, 3),
            (json!("25%"), 10, false, 2),
            (json!(3), 10, true, 3),
            (json!("0%"), 10, true, 0),
            (json!(null), 10, true, 0),
        ] {
            assert_eq!(int_or_percent(&v, total, up), want, "{v} of {total}");
        }
    }
}
