//! The group `rbac.authorization.k8s.io`: what roles and bindings of both scopes share.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;

use serde_json::{Value, json};

use super::fields::{Path, check, child_mut, fill, items_mut, list, required, text};
use super::table::{col, columns, name, wide};
use super::{Column, NAME, age, names};
use crate::{FieldError, Time};

/// The group's name.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Group and version.
const V1: (&str, &str) = (GROUP, "v1");

/// Rules of `rules`.
fn validate_rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    for (i, rule) in list(object, "rules").iter().enumerate() {
        let path = Path::root("rules");
        let path = path.index(i);
        if list(rule, "verbs").is_empty() {
            errors.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
        }
        let urls = list(rule, "nonResourceURLs");
        let (groups, resources) = (list(rule, "apiGroups"), list(rule, "resources"));
        if !urls.is_empty() {
            let mut say = |why: &str| errors.push(FieldError::invalid(path.child("nonResourceURLs"), json!(urls), why));
            if namespaced {
                say("namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !list(rule, "resourceNames").is_empty() {
                say("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(FieldError::required(
                path.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if resources.is_empty() {
            errors.push(FieldError::required(
                path.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

/// Columns of the two roles.
fn role_columns() -> Vec<Column> {
    vec![NAME, col("Created At", "date", super::AGE.description)]
}

fn role_cells(o: &Value) -> Vec<Value> {
    vec![name(o), text(&o["metadata"], "creationTimestamp").into()]
}

/// Defaults of the two bindings.
fn default_binding(object: &mut Value) {
    let Some(o) = object.as_object_mut() else { return };
    if let Some(r) = child_mut(o, "roleRef") {
        fill(r, "apiGroup", GROUP);
    }
    for s in items_mut(o, "subjects") {
        if matches!(s.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            fill(s, "apiGroup", GROUP);
        }
    }
}

/// Rules of the two bindings.
fn validate_binding(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (path, role) = (Path::root("roleRef"), &object["roleRef"]);
    if text(role, "apiGroup") != GROUP {
        errors.push(FieldError::not_supported(path.child("apiGroup"), text(role, "apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.push(FieldError::not_supported(path.child("kind"), text(role, "kind"), kinds));
    }
    required(path.child("name"), text(role, "name"), names::path_segment, errors);
    for (i, s) in list(object, "subjects").iter().enumerate() {
        let path = Path::root("subjects");
        subject(path.index(i), s, namespaced, errors);
    }
}

fn subject(path: Path<'_>, s: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (name, group) = (text(s, "name"), text(s, "apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    match text(s, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                check(path.child("name"), name, names::subdomain, errors);
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(s, "namespace").is_empty() {
                errors.push(FieldError::required(path.child("namespace"), ""));
            }
        }
        kind @ ("User" | "Group") => {
            // Upstream says it a second time.
            if name.is_empty() {
                let why = format!("{} name cannot be empty", kind.to_lowercase());
                errors.push(FieldError::invalid(path.child("name"), name, why));
            }
            if group != GROUP {
                errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errors.push(FieldError::not_supported(path.child("kind"), other, &["ServiceAccount", "User", "Group"]))
        }
    }
}

/// Who may do something is decided with the binding's creation, so what they may do cannot be swapped later.
fn validate_binding_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new["roleRef"] != old["roleRef"] {
        errors.push(FieldError::invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef"));
    }
}

/// Columns of the two bindings.
fn binding_columns() -> Vec<Column> {
    let role = col("Role", "string", "The role that the subjects get.");
    let mut out = columns(&[role], &[]);
    out.extend([
        wide("Users", "string", "Users in the roleBinding"),
        wide("Groups", "string", "Groups in the roleBinding"),
        wide("ServiceAccounts", "string", "ServiceAccounts in the roleBinding"),
    ]);
    out
}

fn binding_cells(o: &Value, now: Time) -> Vec<Value> {
    let role = format!("{}/{}", text(&o["roleRef"], "kind"), text(&o["roleRef"], "name"));
    let of = |kind: &str| -> Value {
        let all =
            list(o, "subjects").iter().filter(|s| s["kind"] == kind).map(|s| match (kind, text(s, "namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(s, "name")),
                _ => text(s, "name").to_string(),
            });
        all.collect::<Vec<_>>().join(", ").into()
    };
    vec![name(o), role.into(), age(o, now), of("User"), of("Group"), of("ServiceAccount")]
}
