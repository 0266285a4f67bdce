//! Which operations on which resources: the rules of webhooks and policies.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Fields, Path, fill_absent, list, one_of};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// Defaults of a rule.
pub(super) fn default(rule: &mut Fields) {
    fill_absent(rule, "scope", || "*".into());
}

/// Rules of a rule.
pub(super) fn validate(path: Path<'_>, rule: &Value, errors: &mut Vec<FieldError>) {
    star_alone(path.child("operations"), rule, "operations", "operations", errors);
    for (i, operation) in list(rule, "operations").iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("operations");
        one_of(path.index(i), operation, &OPERATIONS, errors);
    }
    star_alone(path.child("apiGroups"), rule, "apiGroups", "API groups", errors);
    star_alone(path.child("apiVersions"), rule, "apiVersions", "API versions", errors);
    for (i, _) in list(rule, "apiVersions").iter().enumerate().filter(|(_, v)| *v == "") {
        let path = path.child("apiVersions");
        errors.push(FieldError::required(path.index(i), ""));
    }
    resources(path.child("resources"), rule, errors);
    if let Some(scope) = rule["scope"].as_str() {
        one_of(path.child("scope"), scope, &SCOPES, errors);
    }
}

/// A list that has something in it, and `*` alone if at all.
fn star_alone(path: Path<'_>, rule: &Value, field: &str, words: &str, errors: &mut Vec<FieldError>) {
    let all = list(rule, field);
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if all.len() > 1 && all.iter().any(|v| v == "*") {
        let why = format!("if '*' is present, must not specify other {words}");
        errors.push(FieldError::invalid(path, rule[field].clone(), why));
    }
}

/// Resources and subresources: what one with a wildcard includes is not named besides.
fn resources(path: Path<'_>, rule: &Value, errors: &mut Vec<FieldError>) {
    let all: Vec<&str> = list(rule, "resources").iter().filter_map(Value::as_str).collect();
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    // `x/*` and `*/x` so far.
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (i, name) in all.iter().enumerate() {
        if name.is_empty() {
            errors.push(FieldError::required(path.index(i), ""));
            continue;
        }
        let Some((resource, sub)) = name.split_once('/') else {
            // As upstream: the last one without a subresource counts.
            plain = *name != "*";
            continue;
        };
        if whole.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {name}");
            errors.push(FieldError::invalid(path.index(i), *name, why));
        }
        if everywhere.contains(sub) {
            let why = format!("if '*/{sub}' is present, must not specify {name}");
            errors.push(FieldError::invalid(path.index(i), *name, why));
        }
        if sub == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(sub);
        }
    }
    let listed = || rule["resources"].clone();
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, listed(), why));
    }
    if all.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, listed(), why));
    }
}
