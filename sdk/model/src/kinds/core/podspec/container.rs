//! Rules of one container, and of a list of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::volumes::Volumes;
use super::{env, ephemeral, handler, resize, resources, restart, security, volumes};
use crate::FieldError;
use crate::kinds::fields::{PROTOCOLS, Path, any, is_true, list, port_number, required, required_one_of, text};
use crate::kinds::names;

/// What containers may refer to, and what else they depend on.
pub(super) struct Pod<'a> {
    /// Whether it is a pod itself and no template.
    pub(super) whole: bool,
    pub(super) spec: &'a Value,
    /// What may be mounted.
    pub(super) volumes: Volumes<'a>,
    /// The names of its resource claims.
    pub(super) claims: Vec<&'a str>,
}

/// Rules of `initContainers`, `containers` and `ephemeralContainers` of one pod.
pub(super) fn validate_all(path: Path<'_>, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let spec = pod.spec;
    if list(spec, "containers").is_empty() {
        errors.push(FieldError::required(path.child("containers"), ""));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut host_ports: BTreeSet<(i64, &str, &str)> = BTreeSet::new();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let path = path.child(kind);
        for (i, c) in list(spec, kind).iter().enumerate() {
            let path = path.index(i);
            validate(path, kind, c, pod, errors);
            if kind != "ephemeralContainers" {
                resize::policy(path.child("resizePolicy"), c, text(spec, "restartPolicy") == "Never", errors);
            }
            if kind == "ephemeralContainers" {
                ephemeral::validate(path, spec, c, errors);
            }
            let name = text(c, "name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
            // Init containers run one at a time, so their host ports may overlap.
            match kind {
                "containers" => host_port_conflicts(path, c, &mut host_ports, errors),
                "initContainers" => host_port_conflicts(path, c, &mut BTreeSet::new(), errors),
                _ => {}
            }
        }
    }
    if is_true(spec, "hostNetwork") {
        host_network_ports(path, pod, errors);
    }
}

fn validate(path: Path<'_>, kind: &str, c: &Value, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let spec = pod.spec;
    required(path.child("name"), text(c, "name"), names::label, errors);
    let image = text(c, "image");
    required(path.child("image"), image, any, errors);
    // A template may have tokens that who uses it replaces.
    if pod.whole && image.trim() != image {
        errors.push(FieldError::invalid(path.child("image"), image, "must not have leading or trailing whitespace"));
    }
    required_one_of(
        path.child("terminationMessagePolicy"),
        text(c, "terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
        errors,
    );
    ports(path, c, errors);
    env::validate(path, c, errors);
    volumes::used(path, c, &pod.volumes, errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    required_one_of(path.child("imagePullPolicy"), text(c, "imagePullPolicy"), &policies, errors);
    resources::validate(path.child("resources"), &c["resources"], &pod.claims, errors);
    let host_users = spec["hostUsers"] != false;
    security::container(path.child("securityContext"), &c["securityContext"], host_users, errors);
    if kind == "ephemeralContainers" {
        return; // it has nothing of what follows
    }
    restart::policy(path, c, errors);
    // An init container that restarts always is a sidecar, and may be probed like a regular container.
    let sidecar = kind == "initContainers" && c["restartPolicy"] == "Always";
    let probed = kind == "containers" || sidecar;
    if probed {
        let grace = spec["terminationGracePeriodSeconds"].as_i64();
        handler::lifecycle(path.child("lifecycle"), &c["lifecycle"], grace, errors);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if probed {
            handler::probe(path.child(name), name, &c[name], errors);
        } else if !c[name].is_null() {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(path.child(name), why));
        }
    }
    if !probed && !c["lifecycle"].is_null() {
        errors.push(FieldError::forbidden(
            path.child("lifecycle"),
            "may not be set for init containers without restartPolicy=Always",
        ));
    }
}

fn ports(path: Path<'_>, c: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, p) in list(c, "ports").iter().enumerate() {
        let path = path.child("ports");
        let path = path.index(i);
        let name = text(p, "name");
        if !name.is_empty() {
            if let Err(why) = names::port_name(name) {
                errors.push(FieldError::invalid(path.child("name"), name, why));
            } else if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        match p["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.push(FieldError::required(path.child("containerPort"), "")),
            _ => port_number(path.child("containerPort"), &p["containerPort"], errors),
        }
        match p["hostPort"].as_i64().unwrap_or(0) {
            0 => {}
            _ => port_number(path.child("hostPort"), &p["hostPort"], errors),
        }
        required_one_of(path.child("protocol"), text(p, "protocol"), &PROTOCOLS, errors);
    }
}

fn host_port_conflicts<'a>(
    path: Path<'_>,
    c: &'a Value,
    taken: &mut BTreeSet<(i64, &'a str, &'a str)>,
    errors: &mut Vec<FieldError>,
) {
    for (i, p) in list(c, "ports").iter().enumerate() {
        let port = p["hostPort"].as_i64().unwrap_or(0);
        let (ip, protocol) = (text(p, "hostIP"), text(p, "protocol"));
        if port != 0 && !taken.insert((port, ip, protocol)) {
            let path = path.child("ports");
            let path = path.index(i);
            errors.push(FieldError::duplicate(path.child("hostPort"), format!("{protocol}/{ip}/{port}")));
        }
    }
}

fn host_network_ports(path: Path<'_>, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    for (i, c) in list(pod.spec, "containers").iter().enumerate() {
        for (j, p) in list(c, "ports").iter().enumerate() {
            // In a template the host port may be left out: the pod's defaults set it.
            let host = p["hostPort"].as_i64().unwrap_or(0);
            if (pod.whole || host != 0) && p["containerPort"].as_i64().unwrap_or(0) != host {
                let path = path.child("containers");
                let path = path.index(i);
                let path = path.child("ports");
                let path = path.index(j);
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path.child("hostPort"), host, why));
            }
        }
    }
}
