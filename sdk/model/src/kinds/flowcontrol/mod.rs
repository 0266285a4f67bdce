//! The group `flowcontrol.apiserver.k8s.io`, `v1`. The objects are served and kept; requests are not queued by them.

pub mod flow_schema;
pub mod priority_level_configuration;
mod suggested;

use serde_json::{Value, json};

use super::fields::{Path, list, text};
use crate::FieldError;

/// Why these have no effect.
const UNENFORCED: &str = "requests are not queued by priority";
/// Group and version.
const V1: (&str, &str) = ("flowcontrol.apiserver.k8s.io", "v1");

/// One of the objects that every cluster has.
fn mandatory(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
        "metadata": {
            "name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"},
        },
        "spec": spec, "status": {},
    })
}

/// Rules of `status.conditions`.
fn conditions(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::root("status.conditions");
    let all = list(&object["status"], "conditions");
    for (i, c) in all.iter().enumerate() {
        let path = path.index(i);
        let kind = text(c, "type");
        if all[..i].iter().any(|other| text(other, "type") == kind) {
            errors.push(FieldError::duplicate(path.child("type"), kind));
        }
        if kind.is_empty() {
            errors.push(FieldError::required(path.child("type"), "must not be empty"));
        }
    }
}

/// Rules of an object that every cluster has: its spec is fixed.
fn fixed(mandatory: &[(&'static str, Value)], object: &Value, errors: &mut Vec<FieldError>) {
    let name = text(&object["metadata"], "name");
    if mandatory.iter().any(|(n, spec)| *n == name && object["spec"] != *spec) {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.push(FieldError::invalid("spec", object["spec"].clone(), why));
    }
}
