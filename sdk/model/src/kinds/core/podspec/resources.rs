//! Rules of `resources`.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, entries};
use crate::kinds::names;
use crate::quantity::Quantity;

/// Rules of a container's requests and limits; also of a pod's own.
pub fn validate(path: Path<'_>, resources: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["limits", "requests"] {
        let path = path.child(kind);
        for (name, amount) in entries(resources, kind) {
            let path = path.key(name);
            resource_name(path, name, errors);
            quantity(path, name, amount, errors);
        }
    }
    let limits = &resources["limits"];
    for (name, amount) in entries(resources, "requests") {
        let (Some(request), limit) = (parse(amount), parse(&limits[name.as_str()])) else { continue };
        let path = path.child("requests");
        match limit {
            Some(limit) if !overcommit(name) && request != limit => errors.push(FieldError::invalid(
                path,
                request.to_string(),
                format!("must be equal to {name} limit of {limit}"),
            )),
            Some(limit) if request > limit => errors.push(FieldError::invalid(
                path,
                request.to_string(),
                format!("must be less than or equal to {name} limit of {limit}"),
            )),
            None if !overcommit(name) => errors.push(FieldError::required(
                Path::child(&path, name),
                "Limit must be set for non overcommitable resources",
            )),
            _ => {}
        }
    }
}

/// Rules of one amount of a resource.
pub(super) fn quantity(path: Path<'_>, name: &str, amount: &Value, errors: &mut Vec<FieldError>) {
    match parse(amount) {
        None => errors.push(FieldError::invalid(path, amount.clone(), crate::quantity::ParseError.to_string())),
        Some(q) if q.is_negative() => {
            errors.push(FieldError::invalid(path, q.to_string(), "must be greater than or equal to 0"));
        }
        Some(q) if !native(name) && !q.is_integer() => {
            errors.push(FieldError::invalid(path, q.to_string(), "must be an integer"));
        }
        Some(_) => {}
    }
}

fn parse(v: &Value) -> Option<Quantity> {
    match v {
        Value::String(s) => s.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

fn resource_name(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    if let Err(why) = names::qualified(name) {
        errors.push(FieldError::invalid(path, name, why));
    } else if !name.contains('/') && !standard(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    } else if name.contains('/') && !native(name) && name.starts_with("requests.") {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

fn standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

fn native(name: &str) -> bool {
    !name.contains('/') || name.split_once('/').is_some_and(|(prefix, _)| prefix.ends_with("kubernetes.io"))
}

fn overcommit(name: &str) -> bool {
    native(name) && !name.starts_with("hugepages-")
}
