//! GRPCRoute.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::route::{self, filter_rules, parents, total_matches};
use super::{Outline, SPEC, rule, structure};
use crate::kinds::fields::{Path, list, text};
use crate::kinds::{Column, Kind, Strategy};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    super::kind("GRPCRoute", ("grpcroutes", "grpcroute"), GrpcRoute)
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "GRPCRoute"));

struct GrpcRoute;

impl Strategy for GrpcRoute {
    fn default(&self, object: &mut Value) {
        OUTLINE.fill(object, "spec");
        OUTLINE.fill(object, "status");
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if OUTLINE.check(object, "spec", errors) {
            return;
        }
        let spec = &object["spec"];
        parents(spec, errors);
        total_matches(spec, errors);
        for (i, r) in list(spec, "rules").iter().enumerate() {
            let path = SPEC.child("rules");
            let path = path.index(i);
            filter_rules(path.child("filters"), list(r, "filters"), &FILTERS, &ONCE, errors);
            for (j, b) in list(r, "backendRefs").iter().enumerate() {
                let path = path.child("backendRefs");
                let path = path.index(j);
                route::port_of_service(path, b, errors);
                filter_rules(path.child("filters"), list(b, "filters"), &FILTERS, &ONCE, errors);
            }
            for (j, m) in list(r, "matches").iter().enumerate() {
                let path = path.child("matches");
                let path = path.index(j);
                method_match(path.child("method"), &m["method"], errors);
            }
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        OUTLINE.check(new, "status", errors);
    }

    fn columns(&self) -> Vec<Column> {
        route::columns()
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        route::cells(o, now)
    }
}

/// The fields of a filter and the type that each belongs to.
const FILTERS: [(&str, &str); 4] = [
    ("requestHeaderModifier", "RequestHeaderModifier"),
    ("responseHeaderModifier", "ResponseHeaderModifier"),
    ("requestMirror", "RequestMirror"),
    ("extensionRef", "ExtensionRef"),
];
const ONCE: [&str; 2] = ["RequestHeaderModifier", "ResponseHeaderModifier"];

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
