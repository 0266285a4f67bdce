//! Ingress.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::kinds::fields::{Path, check, list, port_number, required, text};
use crate::kinds::table::{self, col, columns, name, or_none};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["ing"],
        status: true,
        generation: true,
        ..Kind::new(super::V1, "Ingress", ("ingresses", "ingress"), Ingress)
    }
}

const SPEC: Path<'static> = Path::root("spec");
/// What was there before `ingressClassName`.
const CLASS: &str = "kubernetes.io/ingress.class";

struct Ingress;

impl Strategy for Ingress {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let rules = list(spec, "rules");
        if rules.is_empty() && !spec["defaultBackend"].is_object() {
            let why = "either `defaultBackend` or `rules` must be specified";
            errors.push(FieldError::invalid(SPEC, json!([]), why));
        }
        if spec["defaultBackend"].is_object() {
            backend(SPEC.child("defaultBackend"), &spec["defaultBackend"], errors);
        }
        for (i, r) in rules.iter().enumerate() {
            let path = SPEC.child("rules");
            rule(path.index(i), r, errors);
        }
        for (i, tls) in list(spec, "tls").iter().enumerate() {
            let path = SPEC.child("tls");
            let path = path.index(i);
            for (j, host) in list(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
                let path = path.child("hosts");
                check(path.index(j), host, host_rule, errors);
            }
            let secret = text(tls, "secretName");
            if !secret.is_empty() {
                check(path.child("secretName"), secret, names::subdomain, errors);
            }
        }
        if let Some(class) = spec["ingressClassName"].as_str() {
            check(SPEC.child("ingressClassName"), class, names::subdomain, errors);
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (class, annotations) = (object["spec"]["ingressClassName"].as_str(), &object["metadata"]["annotations"]);
        if let Some(given) = annotations[CLASS].as_str().filter(|given| class.is_some_and(|c| c != *given)) {
            let why = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(Path::root("annotations").child(CLASS), given, why));
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::root("status.loadBalancer.ingress");
        for (i, point) in list(&new["status"]["loadBalancer"], "ingress").iter().enumerate() {
            metadata::validate_ingress_point(path.index(i), point, errors);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if object.is_object() {
            object["status"] = json!({"loadBalancer": {}});
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "Class",
                    "string",
                    "The name of the IngressClass resource that should be used for additional configuration",
                ),
                col("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule"),
                col("Address", "string", "Address is a list containing ingress points for the load-balancer"),
                col("Ports", "string", "Ports of TLS configurations that open"),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        vec![
            name(o),
            or_none(text(spec, "ingressClassName")),
            hosts(spec).into(),
            table::load_balancer(o).into(),
            if list(spec, "tls").is_empty() { "80" } else { "80, 443" }.into(),
            age(o, now),
        ]
    }
}

/// Up to three hosts; upstream counts the rest by rules.
fn hosts(spec: &Value) -> String {
    let rules = list(spec, "rules");
    let all: Vec<&str> = rules.iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).collect();
    match all.len() {
        0 => "*".into(),
        n if n > 3 || (n == 3 && rules.iter().rposition(|r| !text(r, "host").is_empty()) < Some(rules.len() - 1)) => {
            format!("{} + {} more...", all[..3].join(","), rules.len() - 3)
        }
        _ => all.join(","),
    }
}

fn host_rule(host: &str) -> Result<(), String> {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::subdomain(host) }
}

fn rule(path: Path<'_>, rule: &Value, errors: &mut Vec<FieldError>) {
    let host = text(rule, "host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            errors.push(FieldError::invalid(path.child("host"), host, "must be a DNS name, not an IP address"));
        }
        check(path.child("host"), host, host_rule, errors);
    }
    if !rule["http"].is_object() {
        return;
    }
    let path = path.child("http");
    let paths = list(&rule["http"], "paths");
    if paths.is_empty() {
        errors.push(FieldError::required(path.child("paths"), ""));
    }
    for (i, p) in paths.iter().enumerate() {
        let path = path.child("paths");
        let path = path.index(i);
        if p["pathType"].is_null() {
            errors.push(FieldError::required(path.child("pathType"), "pathType must be specified"));
            continue;
        }
        http_path(path, p, errors);
        backend(path.child("backend"), &p["backend"], errors);
    }
}

fn http_path(path: Path<'_>, p: &Value, errors: &mut Vec<FieldError>) {
    let (at, value) = (path.child("path"), text(p, "path"));
    match text(p, "pathType") {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errors.push(FieldError::invalid(at, value, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(bad) {
                    errors.push(FieldError::invalid(at, value, format!("must not contain '{bad}'")));
                }
            }
            for bad in ["/..", "/."] {
                if value.ends_with(bad) {
                    errors.push(FieldError::invalid(at, value, format!("cannot end with '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.push(FieldError::invalid(at, value, "must be an absolute path"));
            }
        }
        other => {
            let types = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(path.child("pathType"), other, &types));
        }
    }
}

fn backend(path: Path<'_>, backend: &Value, errors: &mut Vec<FieldError>) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (false, true) => {
            super::reference(path.child("resource"), resource, errors);
        }
        (false, false) => errors.push(FieldError::invalid(path, "", "resource or service backend is required")),
        (true, false) => {
            let (at, port) = (path.child("service"), &service["port"]);
            required(at.child("name"), text(service, "name"), names::label_1035, errors);
            let at = at.child("port");
            match (text(port, "name"), port["number"].as_i64().unwrap_or(0)) {
                ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
                ("", _) => port_number(at.child("number"), &port["number"], errors),
                (name, 0) => check(at.child("name"), name, names::port_name, errors),
                _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
            }
        }
    }
}
