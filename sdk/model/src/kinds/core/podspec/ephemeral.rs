//! Rules of ephemeral containers (KEP-277): what they may say, and that they are only ever added.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, list, text};

/// Marks a pod in the API as the image of a static one.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
/// The fields of a container that an ephemeral one has in common with it and may not set: those of what is part of the
/// workload.
const FORBIDDEN: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// Rules of one ephemeral container of a pod spec, besides those of every container.
pub(super) fn validate(path: Path<'_>, spec: &Value, c: &Value, errors: &mut Vec<FieldError>) {
    let target = text(c, "targetContainerName");
    let others = ["containers", "initContainers"];
    if !target.is_empty() && !others.iter().any(|l| list(spec, l).iter().any(|o| text(o, "name") == target)) {
        errors.push(FieldError::not_found(path.child("targetContainerName"), target));
    }
    for name in FORBIDDEN {
        if !is_unset(name, &c[name]) {
            errors.push(FieldError::forbidden(path.child(name), NOT_HERE));
        }
    }
    for (i, m) in list(c, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts");
        let path = path.index(i);
        for name in ["subPath", "subPathExpr"] {
            if !text(m, name).is_empty() {
                errors.push(FieldError::forbidden(path.child(name), NOT_HERE));
            }
        }
    }
}

/// Whether a field has upstream's zero value. `resources` is no pointer there: without content it is not set.
fn is_unset(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => name == "resources" && o.is_empty(),
        _ => false,
    }
}

/// Keeps of a changed pod nothing but its ephemeral containers.
pub fn only_ephemeral_containers(new: &mut Value, old: &Value) {
    let given = new["spec"].get_mut("ephemeralContainers").map(Value::take);
    new.clone_from(old);
    if let Some(spec) = new["spec"].as_object_mut() {
        match given {
            Some(given) => drop(spec.insert("ephemeralContainers".into(), given)),
            None => drop(spec.remove("ephemeralContainers")),
        }
    }
}

/// Errors of a change of a pod's ephemeral containers (`ValidatePodEphemeralContainersUpdate`). Their order says nothing:
/// patches do not keep it.
pub fn validate_ephemeral_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if !old["metadata"]["annotations"][MIRROR].is_null() {
        errors.clear();
        return errors.push(FieldError::forbidden("", "static pods do not support ephemeral containers"));
    }
    let all = "ephemeralContainers";
    for before in list(&old["spec"], all) {
        let name = text(before, "name");
        let wrong = match list(&new["spec"], all).iter().find(|c| text(c, "name") == name) {
            None => "removed",
            Some(after) if after != before => "changed",
            Some(_) => continue,
        };
        let why = format!("existing ephemeral containers {name:?} may not be {wrong}\n");
        errors.push(FieldError::forbidden(Path::root("spec").child(all), why));
    }
}
