//! Names and amounts of resources where they are no container's: in LimitRanges, ResourceQuotas and volumes.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, check};
use crate::kinds::names;
use crate::quantity::{ParseError, Quantity};

/// What a quota may count or limit without a prefix.
const QUOTA: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Of these there are only whole ones.
const INTEGER: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Whether a quota knows the name as it is.
pub(super) fn is_quota_name(name: &str) -> bool {
    QUOTA.contains(&name) || is_huge_page(name)
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// Rules of the name of a resource, whatever it is for (`validateResourceName`). Whether it has passed.
pub(super) fn resource_name(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) -> bool {
    let before = errors.len();
    check(path, name, names::qualified, errors);
    if errors.len() == before && !name.contains('/') && name != "storage" && !is_quota_name(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    errors.len() == before
}

/// Rules of a name in a quota.
pub(super) fn quota_name(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    resource_name(path, name, errors);
    if !name.contains('/') && !is_quota_name(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for quota"));
    }
}

/// Rules of the name of a container's resource.
pub(crate) fn container_resource_name(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    resource_name(path, name, errors);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') {
        if !standard {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !name.contains("kubernetes.io/") && name.starts_with("requests.") {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// Whether requests may be below limits.
pub(super) fn overcommits(name: &str) -> bool {
    (!name.contains('/') || name.contains("kubernetes.io/")) && !name.starts_with("hugepages-")
}

/// An amount, as it is stored.
pub(super) fn amount(v: &Value) -> Option<Quantity> {
    match v {
        Value::String(s) => s.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

/// Rules of an amount of a resource (`ValidateResourceQuantityValue`).
pub(super) fn quantity(path: Path<'_>, name: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let Some(q) = amount(value) else {
        errors.push(FieldError::invalid(path, value.clone(), ParseError.to_string()));
        return;
    };
    if q.is_negative() {
        errors.push(FieldError::invalid(path, q.to_string(), "must be greater than or equal to 0"));
    }
    let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    if (INTEGER.contains(&name) || extended) && !q.is_integer() {
        errors.push(FieldError::invalid(path, q.to_string(), "must be an integer"));
    }
}

/// Adds upstream's error for an amount that is zero or less.
pub(super) fn positive(path: Path<'_>, value: &Value, errors: &mut Vec<FieldError>) {
    match amount(value) {
        None => errors.push(FieldError::invalid(path, value.clone(), ParseError.to_string())),
        Some(q) if q <= Quantity::default() => {
            errors.push(FieldError::invalid(path, q.to_string(), "must be greater than zero"));
        }
        Some(_) => {}
    }
}
