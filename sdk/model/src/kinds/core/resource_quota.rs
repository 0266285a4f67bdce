//! ResourceQuota.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resource_names::{is_quota_name, quantity, quota_name};
use crate::kinds::fields::{Path, entries, list, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["quota"],
        status: true,
        ..Kind::new(super::V1, "ResourceQuota", ("resourcequotas", "resourcequota"), ResourceQuota)
    }
}

struct ResourceQuota;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes of which nobody needs both.
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const POD_COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

impl Strategy for ResourceQuota {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        amounts(Path::root("spec.hard"), spec, "hard", errors);
        scopes(spec, errors);
        selector(spec, errors);
        amounts(Path::root("status.hard"), &object["status"], "hard", errors);
        amounts(Path::root("status.used"), &object["status"], "used", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let set = |v: &Value| -> BTreeSet<String> {
            list(&v["spec"], "scopes").iter().filter_map(Value::as_str).map(String::from).collect()
        };
        if set(new) != set(old) {
            errors.push(FieldError::invalid("spec.scopes", new["spec"]["scopes"].clone(), "field is immutable"));
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        amounts(Path::root("status.hard"), &new["status"], "hard", errors);
        amounts(Path::root("status.used"), &new["status"], "used", errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "Request",
                    "string",
                    "Request represents a minimum amount of cpu/memory that a container may consume.",
                ),
                col(
                    "Limit",
                    "string",
                    "Limits control the maximum amount of cpu/memory that a container may use independent of \
                     contention on the node.",
                ),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (k, hard) in entries(&o["status"], "hard") {
            let used = text(&o["status"]["used"], k);
            let used = if used.is_empty() { "0" } else { used };
            let cell = format!("{k}: {used}/{}", hard.as_str().unwrap_or_default());
            if k.starts_with("limits") { &mut limits } else { &mut requests }.push(cell);
        }
        vec![name(o), requests.join(", ").into(), limits.join(", ").into(), age(o, now)]
    }
}

fn amounts(path: Path<'_>, parent: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (k, v) in entries(parent, field) {
        quota_name(path.key(k), k, errors);
        quantity(path.key(k), k, v, errors);
    }
}

/// Whether a scope says anything about what is limited.
fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || POD_COMPUTE.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn scopes(spec: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::root("spec.scopes");
    let all: Vec<&str> = list(spec, "scopes").iter().filter_map(Value::as_str).collect();
    for scope in &all {
        if !SCOPES.contains(scope) {
            errors.push(FieldError::invalid(path, spec["scopes"].clone(), "unsupported scope"));
        }
        for _ in entries(spec, "hard").filter(|(k, _)| is_quota_name(k) && !applies(scope, k)) {
            errors.push(FieldError::invalid(path, spec["scopes"].clone(), "unsupported scope applied to resource"));
        }
    }
    conflicts(path, &all, spec, errors);
}

fn conflicts(path: Path<'_>, scopes: &[&str], spec: &Value, errors: &mut Vec<FieldError>) {
    for pair in CONFLICTS {
        if pair.iter().all(|p| scopes.contains(p)) {
            errors.push(FieldError::invalid(path, spec["scopes"].clone(), "conflicting scopes"));
        }
    }
}

fn selector(spec: &Value, errors: &mut Vec<FieldError>) {
    let selector = &spec["scopeSelector"];
    if !selector.is_object() {
        return;
    }
    let path = Path::root("spec.scopeSelector.matchExpressions");
    let requirements = list(selector, "matchExpressions");
    for r in requirements {
        let (scope, operator, values) = (text(r, "scopeName"), text(r, "operator"), list(r, "values"));
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in entries(spec, "hard").filter(|(k, _)| is_quota_name(k) && !applies(scope, k)) {
            errors.push(FieldError::invalid(path, selector.clone(), "unsupported scope applied to resource"));
        }
        let is_a_state = matches!(
            scope,
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        );
        if is_a_state && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(path.child("operator"), operator, why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                path.child("values"),
                r["values"].clone(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
        }
    }
    let all: Vec<&str> = requirements.iter().map(|r| text(r, "scopeName")).collect();
    conflicts(path, &all, spec, errors);
}
