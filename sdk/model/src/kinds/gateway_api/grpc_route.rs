//! GRPCRoute.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::route::{Route, filter_rules, port_of_service};
use super::{Outline, rule, structure};
use crate::FieldError;
use crate::kinds::Kind;
use crate::kinds::fields::{Path, list, text};

/// The kind.
pub fn kind() -> Kind {
    super::kind("GRPCRoute", ("grpcroutes", "grpcroute"), Route { outline: &OUTLINE, rule: grpc_rule })
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "GRPCRoute"));

/// The fields of a filter and the type that each belongs to.
const FILTERS: [(&str, &str); 4] = [
    ("requestHeaderModifier", "RequestHeaderModifier"),
    ("responseHeaderModifier", "ResponseHeaderModifier"),
    ("requestMirror", "RequestMirror"),
    ("extensionRef", "ExtensionRef"),
];
const ONCE: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];

fn grpc_rule(path: Path<'_>, r: &Value, errors: &mut Vec<FieldError>) {
    filter_rules(path.child("filters"), list(r, "filters"), &FILTERS, &ONCE, errors);
    for (j, b) in list(r, "backendRefs").iter().enumerate() {
        let path = path.child("backendRefs");
        let path = path.index(j);
        port_of_service(path, b, errors);
        filter_rules(path.child("filters"), list(b, "filters"), &FILTERS, &ONCE, errors);
    }
    for (j, m) in list(r, "matches").iter().enumerate() {
        let path = path.child("matches");
        let path = path.index(j);
        method_match(path.child("method"), &m["method"], errors);
    }
}

const SERVICE: &str = r"^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$";
const METHOD: &str = "^[A-Za-z_][A-Za-z_0-9]*$";

fn method_match(path: Path<'_>, of: &Value, errors: &mut Vec<FieldError>) {
    static SERVICES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(SERVICE).ok());
    static METHODS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(METHOD).ok());
    if !of.is_object() {
        return;
    }
    let (service, method) = (of["service"].as_str(), of["method"].as_str());
    let message = "One or both of 'service' or 'method' must be specified";
    rule(path, "object", service.is_some() || method.is_some(), message, errors);
    if text(of, "type") != "Exact" {
        return;
    }
    for (name, value, pattern, allowed) in
        [("service", service, &SERVICES, SERVICE), ("method", method, &METHODS, METHOD)]
    {
        let fits = value.is_none_or(|v| pattern.as_ref().is_none_or(|p| p.is_match(v)));
        let message = format!("{name} must only contain valid characters (matching {allowed})");
        rule(path, "object", fits, &message, errors);
    }
}
