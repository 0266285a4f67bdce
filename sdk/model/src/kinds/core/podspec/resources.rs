//! Rules of `resources`, of containers and of whole pods.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::FieldError;
use crate::kinds::core::resource_names::{amount, container_resource_name, overcommits, quantity, resource_name};
use crate::kinds::fields::{Path, check, entries, list, one_of, text};
use crate::kinds::names;
use crate::pod_resources::{amounts, of_containers};
use crate::quantity::Quantity;

/// What a whole pod may ask for (KEP-2837).
const POD_LEVEL: [&str; 3] = ["cpu", "hugepages-", "memory"];
const HUGE: &str = "hugepages-";

/// Rules of a container's requests and limits. `claims` are the names of its pod's resource claims.
pub fn validate(path: Path<'_>, resources: &Value, claims: &[&str], errors: &mut Vec<FieldError>) {
    requirements(path, resources, container_resource_name, errors);
    claimed(path.child("claims"), resources, claims, errors);
}

/// Rules of a pod's own: its containers ask for no more together, and none is limited to more.
pub(super) fn validate_pod(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let resources = &spec["resources"];
    if !resources.is_object() {
        return;
    }
    if !resources["claims"].is_null() {
        errors.push(FieldError::forbidden(path.child("claims"), "claims cannot be set for Resources at pod-level"));
    }
    let supported = |path: Path<'_>, name: &str, errors: &mut Vec<FieldError>| {
        if resource_name(path, name, errors) && !name.starts_with(HUGE) {
            one_of(path, name, &POD_LEVEL, errors);
        }
    };
    requirements(path, resources, supported, errors);
    let own = amounts(&resources["requests"]);
    for (name, sum) in of_containers(spec, "requests") {
        if let Some(request) = own.get(&name).filter(|own| sum > **own) {
            let path = path.child("requests");
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(path.key(&name), request.to_string(), why));
        }
    }
    let most = amounts(&resources["limits"]);
    for (i, c) in list(spec, "containers").iter().enumerate() {
        for (name, limit) in amounts(&c["resources"]["limits"]) {
            if let Some(most) = most.get(&name).filter(|most| limit > **most) {
                let path = path.child("containers");
                let path = path.index(i);
                let path = path.key(&name);
                let why = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(path.child("limits"), limit.to_string(), why));
            }
        }
    }
}

fn requirements(
    path: Path<'_>,
    resources: &Value,
    name_rule: impl Fn(Path<'_>, &str, &mut Vec<FieldError>),
    errors: &mut Vec<FieldError>,
) {
    for kind in ["limits", "requests"] {
        let path = path.child(kind);
        for (name, value) in entries(resources, kind) {
            let path = path.key(name);
            name_rule(path, name, errors);
            quantity(path, name, value, errors);
            huge_pages(path, name, value, errors);
        }
    }
    let (limits, requests) = (&resources["limits"], path.child("requests"));
    for (name, request) in entries(resources, "requests") {
        let (Some(request), limit) = (amount(request), amount(&limits[name.as_str()])) else { continue };
        match limit {
            Some(limit) if !overcommits(name) && request != limit => errors.push(FieldError::invalid(
                requests,
                request.to_string(),
                format!("must be equal to {name} limit of {limit}"),
            )),
            Some(limit) if request > limit => errors.push(FieldError::invalid(
                requests,
                request.to_string(),
                format!("must be less than or equal to {name} limit of {limit}"),
            )),
            None if !overcommits(name) => errors
                .push(FieldError::required(path.child("limits"), "Limit must be set for non overcommitable resources")),
            _ => {}
        }
    }
    let any =
        |rule: fn(&str) -> bool| ["limits", "requests"].iter().any(|k| entries(resources, k).any(|(n, _)| rule(n)));
    if any(|n| n.starts_with(HUGE)) && !any(|n| matches!(n, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// Pages are whole ones.
fn huge_pages(path: Path<'_>, name: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let Some((size, q)) = name.strip_prefix(HUGE).zip(amount(value)) else { return };
    let size = size.parse::<Quantity>().map_or(0, |s| s.value());
    if size <= 0 || q.value() % size != 0 {
        let why = format!("{q} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(path, q.to_string(), why));
    }
}

/// Rules of the references to a pod's resource claims.
fn claimed(path: Path<'_>, resources: &Value, claims: &[&str], errors: &mut Vec<FieldError>) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (i, claim) in list(resources, "claims").iter().enumerate() {
        let path = path.index(i);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if !request.is_empty() {
            check(path.child("request"), request, names::label, errors);
        }
        // All of a claim includes each of its requests.
        if seen.contains(&(name, "")) || (request.is_empty() && seen.iter().any(|(n, _)| *n == name)) {
            errors.push(FieldError::duplicate(path, name));
        } else if seen.contains(&(name, request)) {
            errors.push(FieldError::duplicate(path, format!("{name}/{request}")));
        }
        seen.insert((name, request));
        if !claims.contains(&name) {
            let mut known = claims.to_vec();
            known.sort_unstable();
            let which = if known.is_empty() { " which is empty".into() } else { format!(": {}", known.join(", ")) };
            let mut missing = FieldError::not_found(path, name);
            missing.detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(missing);
        }
    }
}

/// Rules of a pod's `resourceClaims`.
pub(super) fn pod_claims(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    let sources = ["resourceClaimName", "resourceClaimTemplateName"];
    for (i, claim) in list(spec, "resourceClaims").iter().enumerate() {
        let path = path.index(i);
        match text(claim, "name") {
            "" => errors.push(FieldError::required(path.child("name"), "")),
            name if !seen.insert(name) => errors.push(FieldError::duplicate(path.child("name"), name)),
            name => check(path.child("name"), name, names::label, errors),
        }
        let why = match sources.map(|s| claim[s].is_string()) {
            [true, true] => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            [false, false] => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            errors.push(FieldError::invalid(path, claim.clone(), why));
        }
        for source in sources {
            if let Some(name) = claim[source].as_str() {
                check(path.child(source), name, names::subdomain, errors);
            }
        }
    }
}
