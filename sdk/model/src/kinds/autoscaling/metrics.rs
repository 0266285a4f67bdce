//! The metrics of a HorizontalPodAutoscaler: their rules, and how they are shown.

use serde_json::{Value, json};

use super::horizontal_pod_autoscaler::reference;
use crate::FieldError;
use crate::kinds::core::resource_names::container_resource_name;
use crate::kinds::fields::{Path, check, text};
use crate::kinds::names;
use crate::quantity::Quantity;

/// Percent of the requested CPU that is aimed for where nothing is said.
pub(super) const DEFAULT_UTILIZATION: i64 = 80;

/// (type, the field that goes with it), in the order in which they are judged.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const MISSING: &str = "must populate information for the given metric source";

/// The metric of CPU use in percent.
pub(super) fn cpu(utilization: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

/// Whether that is what a metric is.
pub(super) fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// Rules of one metric.
pub(super) fn validate(path: Path<'_>, metric: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(path.child("type"), "must specify a metric source type"));
    }
    if !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(path.child("type"), kind, &TYPES));
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, f)| *f).filter(|f| !metric[*f].is_null()).collect();
    if let Some(first) = present.first() {
        source(path.child(first), first, &metric[*first], errors);
    }
    let expected = SOURCES.iter().find(|(t, _)| *t == kind).map(|(_, f)| *f);
    if let Some(field) = expected.filter(|f| !present.contains(f)) {
        errors.push(FieldError::required(path.child(field), MISSING));
    }
    if present.len() != 1 {
        for other in present.iter().filter(|f| Some(**f) != expected) {
            errors.push(FieldError::forbidden(path.child(other), "must populate the given metric source only"));
        }
    }
}

fn source(path: Path<'_>, kind: &str, source: &Value, errors: &mut Vec<FieldError>) {
    if kind == "object" {
        reference(path.child("describedObject"), &source["describedObject"], errors);
    }
    if matches!(kind, "object" | "external" | "pods") {
        let at = path.child("metric");
        match text(&source["metric"], "name") {
            "" => errors.push(FieldError::required(at.child("name"), "must specify a metric name")),
            name => check(at.child("name"), name, names::path_segment, errors),
        }
    } else {
        match text(source, "name") {
            "" => errors.push(FieldError::required(path.child("name"), "must specify a resource name")),
            name if kind == "containerResource" => container_resource_name(path.child("name"), name, errors),
            _ => {}
        }
    }
    if kind == "containerResource" {
        match text(source, "container") {
            "" => errors.push(FieldError::required(path.child("container"), "must specify a container")),
            name => check(path.child("container"), name, names::label, errors),
        }
    }
    let (at, target) = (path.child("target"), &source["target"]);
    validate_target(at, target, errors);
    let has = |name: &str| !target[name].is_null();
    let (value, average, utilization) = (has("value"), has("averageValue"), has("averageUtilization"));
    let required = |name, why| FieldError::required(at.child(name), why);
    match kind {
        "object" if !value && !average => {
            errors.push(required("averageValue", "must set either a target value or averageValue"));
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.push(required("averageValue", why));
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(at.child("value"), why));
        }
        "pods" if !average => {
            errors.push(required("averageValue", "must specify a positive target averageValue"));
        }
        "resource" | "containerResource" if !utilization && !average => {
            let why = "must set either a target raw value or a target utilization";
            errors.push(required("averageUtilization", why));
        }
        "resource" | "containerResource" if utilization && average => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(at.child("averageValue"), why));
        }
        _ => {}
    }
}

fn validate_target(path: Path<'_>, target: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(path.child("type"), "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(path.child("type"), kind, why));
    }
    for name in ["value", "averageValue"] {
        let amount = target[name].as_str().and_then(|q| q.parse::<Quantity>().ok());
        if amount.is_some_and(|q| q <= Quantity::default()) {
            errors.push(FieldError::invalid(path.child(name), target[name].clone(), "must be positive"));
        }
    }
    if target["averageUtilization"].as_i64().is_some_and(|n| n < 1) {
        let value = target["averageUtilization"].clone();
        errors.push(FieldError::invalid(path.child("averageUtilization"), value, "must be greater than 0"));
    }
}

/// The column `Targets`: `now/wanted` of up to two metrics.
pub(super) fn shown(specs: &[Value], now: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".into();
    }
    let one = |(i, spec): (usize, &Value)| one(spec, now.get(i).unwrap_or(&Value::Null));
    let all: Vec<String> = specs.iter().enumerate().take(2).map(one).collect();
    match specs.len() {
        n if n > 2 => format!("{} + {} more...", all.join(", "), n - 2),
        _ => all.join(", "),
    }
}

fn one(spec: &Value, now: &Value) -> String {
    let Some((kind, field)) = SOURCES.iter().find(|(t, _)| spec["type"] == *t) else {
        return "<unknown type>".into();
    };
    let (source, current) = (&spec[*field], &now[*field]["current"]);
    let amount = |of: &Value, name: &str, unknown: &str| match &of[name] {
        Value::String(s) => s.clone(),
        Value::Number(n) if name == "averageUtilization" => format!("{n}%"),
        Value::Number(n) => n.to_string(),
        _ => unknown.into(),
    };
    let target = &source["target"];
    let pair =
        |name: &str, unset: &str| format!("{}/{}", amount(current, name, "<unknown>"), amount(target, name, unset));
    match *kind {
        "Pods" => pair("averageValue", "<nil>"),
        "Object" | "External" if target["averageValue"].is_null() => pair("value", "<nil>"),
        "Object" | "External" => format!("{} (avg)", pair("averageValue", "<nil>")),
        _ if target["averageValue"].is_null() => {
            format!("{}: {}", text(source, "name"), pair("averageUtilization", "<auto>"))
        }
        _ => format!("{}: {}", text(source, "name"), pair("averageValue", "<nil>")),
    }
}
