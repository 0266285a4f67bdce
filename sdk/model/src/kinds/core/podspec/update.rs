//! What may change in a pod's spec once it exists (`ValidatePodUpdate`).

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, list};

const ONLY: &str = "pod updates may not change fields other than \
     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
     to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Errors of a change of a pod's spec.
pub fn validate_update(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["containers", "initContainers"] {
        if list(new, kind).len() != list(old, kind).len() {
            let why = format!(
                "pod updates may not add or remove {}",
                if kind == "containers" { "containers" } else { "init containers" }
            );
            errors.push(FieldError::forbidden(path.child(kind), why));
            return;
        }
    }
    deadline(path, new, old, errors);
    tolerations(path, new, old, errors);
    if !same_otherwise(new, old) {
        errors.push(FieldError::forbidden(path, ONLY));
    }
}

fn deadline(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (n, o) = (&new["activeDeadlineSeconds"], &old["activeDeadlineSeconds"]);
    let path = path.child("activeDeadlineSeconds");
    match (n.as_i64(), o.as_i64()) {
        (None, Some(o)) => errors.push(FieldError::invalid(
            path,
            Value::Null,
            format!("must not update from a positive integer to nil value (was {o})"),
        )),
        (Some(n), Some(o)) if n > o => {
            errors.push(FieldError::invalid(path, n, "must be less than or equal to previous value"));
        }
        _ => {}
    }
}

/// Tolerations may be added, and the seconds of existing ones changed.
fn tolerations(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let same = |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|k| a[*k] == b[*k]);
    let kept = list(old, "tolerations").iter().all(|o| list(new, "tolerations").iter().any(|n| same(n, o)));
    if !kept {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path.child("tolerations"), why));
    }
}

/// Whether the specs differ in nothing but what may change. Compares in place: a pod's spec is not cloned for this.
fn same_otherwise(new: &Value, old: &Value) -> bool {
    let gone = |k: &str| {
        matches!(
            k,
            "containers" | "initContainers" | "activeDeadlineSeconds" | "tolerations" | "terminationGracePeriodSeconds"
        )
    };
    let grace = |v: &Value| v["terminationGracePeriodSeconds"].as_i64();
    if grace(new) != grace(old) && !(grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1)) {
        return false;
    }
    if !same_fields(new, old, gone) {
        // A gate may be lifted, and a gated pod's node selector tightened.
        return gated_change(new, old, gone);
    }
    containers_same(new, old)
}

fn containers_same(new: &Value, old: &Value) -> bool {
    ["containers", "initContainers"].iter().all(|kind| {
        let (n, o) = (list(new, kind), list(old, kind));
        n.iter().zip(o).all(|(n, o)| same_fields(n, o, |k| k == "image"))
    })
}

fn gated_change(new: &Value, old: &Value, gone: impl Fn(&str) -> bool) -> bool {
    let gates = |v: &Value| list(v, "schedulingGates").to_vec();
    let (had, has) = (gates(old), gates(new));
    if had.is_empty() || !has.iter().all(|g| had.contains(g)) {
        return false;
    }
    let selector_kept =
        old["nodeSelector"].as_object().into_iter().flatten().all(|(k, v)| new["nodeSelector"][k.as_str()] == *v);
    selector_kept
        && same_fields(new, old, |k| gone(k) || matches!(k, "schedulingGates" | "nodeSelector"))
        && containers_same(new, old)
}

fn same_fields(a: &Value, b: &Value, except: impl Fn(&str) -> bool) -> bool {
    let one_way = |a: &Value, b: &Value| {
        a.as_object()
            .into_iter()
            .flatten()
            .all(|(k, v)| except(k) || *v == b[k.as_str()] || (v.is_null() && b[k.as_str()].is_null()))
    };
    one_way(a, b) && one_way(b, a)
}
