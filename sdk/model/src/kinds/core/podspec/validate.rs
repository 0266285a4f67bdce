//! Rules of a pod spec as a whole (`ValidatePodSpec`).

use serde_json::{Value, json};

use super::container::{self, Pod};
use super::ephemeral::MIRROR;
use super::{resources, restart, scheduling, security, volumes};
use crate::FieldError;
use crate::kinds::fields::{Path, check, list, one_of, required_one_of, text, within};
use crate::kinds::{metadata, names};

/// What a pod's end costs beside those of its siblings.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// How long the list of search paths may be, in characters.
const SEARCHES: usize = 2048;

/// Rules of a pod spec, of the pod of this name or of a template.
pub fn validate_pod_spec(path: Path<'_>, spec: &Value, pod: Option<&str>, errors: &mut Vec<FieldError>) {
    let volumes = volumes::validate(path.child("volumes"), spec, pod, errors);
    resources::pod_claims(path.child("resourceClaims"), spec, errors);
    let claims = list(spec, "resourceClaims").iter().map(|c| text(c, "name")).filter(|n| !n.is_empty()).collect();
    container::validate_all(path, &Pod { whole: pod.is_some(), spec, volumes, claims }, errors);
    resources::validate_pod(path.child("resources"), spec, errors);
    let policies = ["Always", "OnFailure", "Never"];
    required_one_of(path.child("restartPolicy"), text(spec, "restartPolicy"), &policies, errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    required_one_of(path.child("dnsPolicy"), text(spec, "dnsPolicy"), &policies, errors);
    metadata::validate_labels(path.child("nodeSelector"), &spec["nodeSelector"], errors);
    security::pod(path, spec, errors);
    scheduling::gates(path, spec, errors);
    scheduling::affinity(path.child("affinity"), &spec["affinity"], errors);
    dns_config(path.child("dnsConfig"), spec, errors);
    scheduling::spread(path.child("topologySpreadConstraints"), spec, errors);
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
        for (j, host) in list(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            let path = path.child("hostnames");
            check(path.index(j), host, names::subdomain, errors);
        }
    }
    if let Some(policy) = spec["preemptionPolicy"].as_str() {
        required_one_of(path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"], errors);
    }
    if spec["overhead"].is_object() {
        resources::validate(path.child("overhead"), &json!({"limits": spec["overhead"]}), &[], errors);
    }
    os(path, spec, errors);
}

fn os(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let (at, os) = (path.child("os"), &spec["os"]);
    match text(os, "name") {
        _ if !os.is_object() => {}
        "" => errors.push(FieldError::required(at.child("name"), "cannot be empty")),
        "linux" => {
            let context = path.child("securityContext");
            let mut refuse = |at: Path<'_>, context: &Value| {
                if context["windowsOptions"].is_object() {
                    let why = "windows options cannot be set for a linux pod";
                    errors.push(FieldError::forbidden(at.child("windowsOptions"), why));
                }
            };
            refuse(context, &spec["securityContext"]);
            for kind in super::CONTAINER_LISTS {
                for (i, c) in list(spec, kind).iter().enumerate() {
                    let path = path.child(kind);
                    let path = path.index(i);
                    refuse(path.child("securityContext"), &c["securityContext"]);
                }
            }
        }
        name => one_of(at, name, &["linux", "windows"], errors),
    }
}

/// Rules of what pods and templates may say by annotations.
pub fn validate_pod_annotations(path: Path<'_>, meta: &Value, spec: &Value, errors: &mut Vec<FieldError>) {
    let of = |name: &str| meta["annotations"][name].as_str();
    if let Some(mirrored) = of(MIRROR).filter(|_| text(spec, "nodeName").is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(path.key(MIRROR), mirrored, why));
    }
    // Neither plus signs nor leading zeros.
    let good = |cost: &str| cost.parse::<i32>().is_ok() && (cost == "0" || !cost.starts_with(['0', '+']));
    if let Some(cost) = of(DELETION_COST).filter(|cost| !good(cost)) {
        errors.push(FieldError::invalid(path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
}

/// Rules of a `PodTemplateSpec`: its metadata and its spec.
pub fn validate_template(path: Path<'_>, template: &Value, errors: &mut Vec<FieldError>) {
    let at = path.child("metadata");
    metadata::validate_labels(path.child("labels"), &template["metadata"]["labels"], errors);
    metadata::validate_annotations(path.child("annotations"), &template["metadata"]["annotations"], errors);
    validate_pod_annotations(path.child("annotations"), &template["metadata"], &template["spec"], errors);
    restart::periods(at, &template["metadata"], errors);
    let spec = path.child("spec");
    validate_pod_spec(spec, &template["spec"], None, errors);
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
    if spec["dnsPolicy"] == "None" && config.is_null() {
        return errors.push(FieldError::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
    }
    if spec["dnsPolicy"] == "None" && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return errors.push(FieldError::required(path.child("nameservers"), why));
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
    // With the spaces between them.
    if searches.iter().map(|s| s.as_str().map_or(0, str::len) + 1).sum::<usize>() > SEARCHES + 1 {
        let why = format!("must not have more than {SEARCHES} characters (including spaces) in the search list");
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
