//! What the kinds of routes are alike in.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{AGE, Outline, Rules, SPEC, column, rule};
use crate::kinds::fields::{Path, list, text};
use crate::kinds::table::name;
use crate::kinds::{Column, NAME, age};
use crate::{FieldError, Time};

/// A kind of routes: its schema, and the rules of one of `spec.rules`.
pub(super) struct Route {
    pub(super) outline: &'static Outline,
    pub(super) rule: fn(Path<'_>, &Value, &mut Vec<FieldError>),
}

impl Rules for Route {
    fn outline(&self) -> &'static Outline {
        self.outline
    }

    fn validate(&self, spec: &Value, errors: &mut Vec<FieldError>) {
        parents(spec, errors);
        total_matches(spec, errors);
        for (i, r) in list(spec, "rules").iter().enumerate() {
            let path = SPEC.child("rules");
            (self.rule)(path.index(i), r, errors);
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, column("Hostnames", "Custom resource definition column (in JSONPath format): .spec.hostnames"), AGE]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let hosts = &o["spec"]["hostnames"];
        vec![name(o), if hosts.is_array() { hosts.to_string().into() } else { Value::Null }, age(o, now)]
    }
}

/// A kind of routes for streams, of which only a TLSRoute has hostnames.
pub(super) struct StreamRoute {
    pub(super) outline: &'static Outline,
}

impl Rules for StreamRoute {
    fn outline(&self) -> &'static Outline {
        self.outline
    }

    fn validate(&self, spec: &Value, errors: &mut Vec<FieldError>) {
        parents(spec, errors);
        // The schema's pattern leaves no other addresses.
        let address = |h: &Value| h.as_str().is_some_and(|h| h.parse::<Ipv4Addr>().is_ok());
        let names = !list(spec, "hostnames").iter().any(address);
        rule(SPEC.child("hostnames"), "array", names, "Hostnames cannot contain an IP", errors);
        for (i, r) in list(spec, "rules").iter().enumerate() {
            let path = SPEC.child("rules");
            let path = path.index(i);
            let path = path.child("backendRefs");
            for (j, b) in list(r, "backendRefs").iter().enumerate() {
                port_of_service(path.index(j), b, errors);
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), age(o, now)]
    }
}

/// Rules about the parents of a route.
fn parents(spec: &Value, errors: &mut Vec<FieldError>) {
    let all = list(spec, "parentRefs");
    let same = |a: &Value, b: &Value| {
        ["group", "kind", "name"].iter().all(|f| a[*f] == b[*f]) && text(a, "namespace") == text(b, "namespace")
    };
    let pairs = || all.iter().enumerate().flat_map(|(i, a)| all[..i].iter().map(move |b| (a, b)));
    let section = |p: &Value| text(p, "sectionName").to_string();
    let rest = "when parentRefs includes 2 or more references to the same parent";
    let both = pairs().all(|(a, b)| !same(a, b) || section(a).is_empty() == section(b).is_empty());
    rule(SPEC.child("parentRefs"), "array", both, &format!("sectionName must be specified {rest}"), errors);
    let unique = pairs().all(|(a, b)| !same(a, b) || section(a) != section(b));
    rule(SPEC.child("parentRefs"), "array", unique, &format!("sectionName must be unique {rest}"), errors);
}

/// How many matches all rules of a route may have.
fn total_matches(spec: &Value, errors: &mut Vec<FieldError>) {
    let total: usize = list(spec, "rules").iter().map(|r| list(r, "matches").len()).sum();
    let message = "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128";
    rule(SPEC.child("rules"), "array", total <= 128, message, errors);
}

/// A Service is referred to with a port.
pub(super) fn port_of_service(path: Path<'_>, backend: &Value, errors: &mut Vec<FieldError>) {
    let service = text(backend, "group").is_empty() && text(backend, "kind") == "Service";
    let message = "Must have port for Service reference";
    rule(path, "object", !service || backend.get("port").is_some(), message, errors);
}

/// Rules about a list of filters, given the field of each type and the types that may stand there once only.
pub(super) fn filter_rules(
    path: Path<'_>,
    all: &[Value],
    types: &[(&str, &str)],
    once: &[&str],
    errors: &mut Vec<FieldError>,
) {
    for ty in once {
        let count = all.iter().filter(|f| f["type"] == **ty).count();
        rule(path, "array", count <= 1, &format!("{ty} filter cannot be repeated"), errors);
    }
    for (i, f) in all.iter().enumerate() {
        let path = path.index(i);
        for (field, ty) in types {
            let (has, is) = (f.get(field).is_some(), f["type"] == **ty);
            let message = format!("filter.{field} must be nil if the filter.type is not {ty}");
            rule(path, "object", !has || is, &message, errors);
            rule(path, "object", has || !is, &format!("filter.{field} must be specified for {ty} filter.type"), errors);
        }
        let mirror = &f["requestMirror"];
        let path = path.child("requestMirror");
        let message = "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter";
        let both = mirror.get("percent").is_some() && mirror.get("fraction").is_some();
        rule(path, "object", !both, message, errors);
        if mirror.is_object() {
            port_of_service(path.child("backendRef"), &mirror["backendRef"], errors);
        }
        let part = &mirror["fraction"];
        let proper = part["numerator"].as_i64() <= part["denominator"].as_i64();
        let message = "numerator must be less than or equal to denominator";
        rule(path.child("fraction"), "object", !part.is_object() || proper, message, errors);
    }
}
