//! Rules of a pod spec as a whole (`ValidatePodSpec`).

use serde_json::Value;

use super::{container, resources, restart, scheduling, security, volumes};
use crate::FieldError;
use crate::kinds::fields::{Path, check, entries, list, one_of, text, within};
use crate::kinds::{metadata, names};

/// Rules of a pod spec.
pub fn validate_pod_spec(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    volumes::validate(path.child("volumes"), spec, errors);
    container::validate_all(path, spec, errors);
    match text(spec, "restartPolicy") {
        "" => errors.push(FieldError::required(path.child("restartPolicy"), "")),
        other => one_of(path.child("restartPolicy"), other, &["Always", "OnFailure", "Never"], errors),
    }
    match text(spec, "dnsPolicy") {
        "" => errors.push(FieldError::required(path.child("dnsPolicy"), "")),
        other => one_of(
            path.child("dnsPolicy"),
            other,
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
            errors,
        ),
    }
    metadata::validate_labels(path.child("nodeSelector"), &spec["nodeSelector"], errors);
    security::pod(path.child("securityContext"), &spec["securityContext"], errors);
    scheduling::gates(path, spec, errors);
    scheduling::affinity(path.child("affinity"), &spec["affinity"], errors);
    dns_config(path.child("dnsConfig"), spec, errors);
    scheduling::spread(path.child("topologySpreadConstraints"), spec, errors);
    resources::validate(path.child("resources"), &spec["resources"], errors);
    type Rule = fn(&str) -> Result<(), String>;
    let named: [(&str, Rule); 6] = [
        ("serviceAccountName", names::subdomain),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ];
    for (name, rule) in named {
        if let Some(value) = spec[name].as_str().filter(|v| !v.is_empty()) {
            check(path.child(name), value, rule, errors);
        }
    }
    within(path.child("activeDeadlineSeconds"), &spec["activeDeadlineSeconds"], 1, i64::from(i32::MAX), errors);
    scheduling::tolerations(path.child("tolerations"), spec, errors);
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases");
        let path = path.index(i);
        check(path.child("ip"), text(alias, "ip"), names::ip, errors);
        for h in list(alias, "hostnames").iter().filter_map(Value::as_str) {
            check(path.child("hostnames"), h, names::subdomain, errors);
        }
    }
    if let Some(policy) = spec["preemptionPolicy"].as_str() {
        one_of(path.child("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"], errors);
    }
    for (name, amount) in entries(spec, "overhead") {
        let path = path.child("overhead");
        resources::quantity(path.key(name), name, amount, errors);
    }
    if let Some(os) = spec["os"].as_object() {
        let path = path.child("os");
        match os.get("name").and_then(Value::as_str).unwrap_or_default() {
            "" => errors.push(FieldError::required(path.child("name"), "cannot be empty")),
            other => one_of(path.child("name"), other, &["linux", "windows"], errors),
        }
    }
}

/// Rules of a `PodTemplateSpec`: its metadata and its spec.
pub fn validate_template(path: Path<'_>, template: &Value, errors: &mut Vec<FieldError>) {
    let at = path.child("metadata");
    metadata::validate_labels(path.child("labels"), &template["metadata"]["labels"], errors);
    for (k, _) in entries(&template["metadata"], "annotations") {
        check(at.child("annotations"), k, |k| names::qualified(&k.to_lowercase()), errors);
    }
    restart::periods(at, &template["metadata"], errors);
    let spec = path.child("spec");
    validate_pod_spec(spec, &template["spec"], errors);
    if !list(&template["spec"], "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            spec.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

fn dns_config(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let config = &spec["dnsConfig"];
    let servers = list(config, "nameservers");
    if spec["dnsPolicy"] == "None" && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(path.child("nameservers"), why));
    }
    if servers.len() > 3 {
        let why = "must not have more than 3 nameservers";
        errors.push(FieldError::invalid(path.child("nameservers"), config["nameservers"].clone(), why));
    }
    for (i, s) in servers.iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("nameservers");
        check(path.index(i), s, names::ip, errors);
    }
    let searches = list(config, "searches");
    if searches.len() > 32 {
        let why = "must not have more than 32 search paths";
        errors.push(FieldError::invalid(path.child("searches"), config["searches"].clone(), why));
    }
    for (i, s) in searches.iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("searches");
        // A root `.` and a trailing dot are fine.
        if s != "." {
            check(path.index(i), s, |s| names::subdomain(&s.strip_suffix('.').unwrap_or(s).replace('_', "-")), errors);
        }
    }
    for (i, o) in list(config, "options").iter().enumerate() {
        let path = path.child("options");
        if text(o, "name").is_empty() {
            errors.push(FieldError::required(path.index(i), "must not be empty"));
        }
    }
}
