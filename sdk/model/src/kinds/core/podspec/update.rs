//! What may change in a pod once it exists (`ValidatePodUpdate`).

use serde_json::Value;

use super::ephemeral::MIRROR;
use crate::FieldError;
use crate::kinds::fields::{Path, list, text};

const ONLY: &str = "pod updates may not change fields other than \
     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
     to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Errors of a change of a pod's annotations: what says that a pod is the image of a static one stays.
pub fn validate_annotations_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let annotation = |pod: &Value| pod["metadata"]["annotations"][MIRROR].clone();
    let why = match (annotation(new), annotation(old)) {
        (new, old) if new == old => return,
        (_, Value::Null) => "may not add mirror pod annotation",
        _ => "may not remove or update mirror pod annotation",
    };
    errors.push(FieldError::forbidden(Path::root("metadata.annotations").key(MIRROR), why));
}

/// Errors of a change of a pod's spec.
pub fn validate_update(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["containers", "initContainers"] {
        if list(new, kind).len() != list(old, kind).len() {
            let why = "pod updates may not add or remove containers";
            return errors.push(FieldError::forbidden(path.child(kind), why));
        }
    }
    if !deadline(path.child("activeDeadlineSeconds"), new, old, errors) {
        return;
    }
    tolerations(path, new, old, errors);
    gates(path.child("schedulingGates"), new, old, errors);
    // What waits for its gates may still be told where to run.
    let gated = !list(old, "schedulingGates").is_empty();
    if gated {
        node_selector(path.child("nodeSelector"), &new["nodeSelector"], &old["nodeSelector"], errors);
        let at = path.child("affinity");
        node_affinity(at.child("nodeAffinity"), &new["affinity"], &old["affinity"], errors);
    }
    if !same_otherwise(new, old, gated) {
        errors.push(FieldError::forbidden(path, ONLY));
    }
}

/// Answers whether there is more to be said.
fn deadline(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) -> bool {
    match (new["activeDeadlineSeconds"].as_i64(), old["activeDeadlineSeconds"].as_i64()) {
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, why));
            true
        }
        (Some(n), Some(o)) if n > o => {
            errors.push(FieldError::invalid(path, n, "must be less than or equal to previous value"));
            false
        }
        _ => true,
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

/// Gates may be lifted.
fn gates(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let had = list(old, "schedulingGates");
    for (i, gate) in list(new, "schedulingGates").iter().enumerate() {
        if !had.iter().any(|h| h["name"] == gate["name"]) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            let path = path.index(i);
            errors.push(FieldError::forbidden(path.child("name"), why));
        }
    }
}

fn node_selector(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if old.as_object().into_iter().flatten().any(|(k, v)| new[k.as_str()] != *v) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(path, new.clone(), why));
    }
}

/// Terms that nodes must match stay, and get further conditions at their ends.
fn node_affinity(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let terms = |affinity: &Value| list(&affinity["nodeAffinity"][REQUIRED], "nodeSelectorTerms").to_vec();
    let (now, was) = (terms(new), terms(old));
    let path = path.child(REQUIRED);
    let path = path.child("nodeSelectorTerms");
    if !was.is_empty() && was.len() != now.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.push(FieldError::invalid(path, now, why));
    }
    for (i, (now, was)) in now.iter().zip(&was).enumerate() {
        let lists = ["matchExpressions", "matchFields"];
        let grown = lists.iter().all(|l| list(now, l).starts_with(list(was, l)));
        // An empty term matches nothing, and is not to begin to match.
        let empty = |term: &Value| lists.iter().all(|l| list(term, l).is_empty());
        if !grown || (empty(was) && !empty(now)) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(path.index(i), now.clone(), why));
        }
    }
}

/// Whether the specs differ in nothing but what may change. Compares in place: a pod's spec is not cloned for this.
fn same_otherwise(new: &Value, old: &Value, gated: bool) -> bool {
    let grace = |v: &Value| v["terminationGracePeriodSeconds"].as_i64();
    if grace(new) != grace(old) && !(grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1)) {
        return false;
    }
    let judged = |k: &str| {
        matches!(
            k,
            "containers"
                | "initContainers"
                | "activeDeadlineSeconds"
                | "tolerations"
                | "terminationGracePeriodSeconds"
                | "schedulingGates"
        ) || (gated && matches!(k, "nodeSelector" | "affinity"))
    };
    same_fields(new, old, judged)
        && (!gated || same_fields(&new["affinity"], &old["affinity"], |k| k == "nodeAffinity"))
        && ["containers", "initContainers"].iter().all(|kind| {
            let (n, o) = (list(new, kind), list(old, kind));
            n.iter().zip(o).all(|(n, o)| same_fields(n, o, |k| k == "image"))
        })
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
