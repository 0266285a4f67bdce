//! Rules of what the scheduler reads: tolerations, affinity and topology spread.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, check, list, one_of, required, text, within};
use crate::kinds::{metadata, names};

/// Rules of `tolerations`.
pub fn tolerations(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    for (i, t) in list(spec, "tolerations").iter().enumerate() {
        let path = path.index(i);
        let (key, operator, value, effect) = (text(t, "key"), text(t, "operator"), text(t, "value"), text(t, "effect"));
        if !key.is_empty() {
            check(path.child("key"), key, names::qualified, errors);
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(path.child("operator"), operator, why));
        }
        if !t["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(path.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => check(path.child("operator"), value, names::label_value, errors),
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(path.child("operator"), t.clone(), why));
            }
            "Exists" => {}
            other => one_of(path.child("operator"), other, &["Equal", "Exists"], errors),
        }
        if !effect.is_empty() {
            one_of(path.child("effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    }
}

/// Rules of `affinity`.
pub(super) fn affinity(path: Path<'_>, affinity: &Value, errors: &mut Vec<FieldError>) {
    let node = &affinity["nodeAffinity"];
    if node.is_object() {
        let path = path.child("nodeAffinity");
        let hard = &node["requiredDuringSchedulingIgnoredDuringExecution"];
        if hard.is_object() {
            node_selector(path.child("requiredDuringSchedulingIgnoredDuringExecution"), hard, errors);
        }
        let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, soft) in list(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = path.index(i);
            weight(path, soft, errors);
            node_term(path.child("preference"), &soft["preference"], errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (path, rules) = (path.child(kind), &affinity[kind]);
        for (i, term) in list(rules, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
            pod_term(path.index(i), term, errors);
        }
        for (i, soft) in list(rules, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
            let path = path.index(i);
            weight(path, soft, errors);
            pod_term(path.child("podAffinityTerm"), &soft["podAffinityTerm"], errors);
        }
    }
}

/// Rules of a `NodeSelector`.
pub fn node_selector(path: Path<'_>, selector: &Value, errors: &mut Vec<FieldError>) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(path, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(path.index(i), term, errors);
    }
}

fn weight(path: Path<'_>, soft: &Value, errors: &mut Vec<FieldError>) {
    let w = &soft["weight"];
    if !(1..=100).contains(&w.as_i64().unwrap_or(0)) {
        errors.push(FieldError::invalid(path.child("weight"), w.as_i64().unwrap_or(0), "must be in the range 1-100"));
    }
}

fn node_term(path: Path<'_>, term: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["matchExpressions", "matchFields"] {
        for (i, e) in list(term, kind).iter().enumerate() {
            let path = path.child(kind);
            let path = path.index(i);
            let values = list(e, "values");
            match text(e, "operator") {
                "In" | "NotIn" if kind == "matchExpressions" && values.is_empty() => errors.push(FieldError::required(
                    path.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                )),
                "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                    path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                    path.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                )),
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => {
                    errors.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator"))
                }
            }
            if kind == "matchExpressions" {
                check(path.child("key"), text(e, "key"), names::qualified, errors);
            } else if text(e, "key") != "metadata.name" {
                errors.push(FieldError::invalid(path.child("key"), text(e, "key"), "not a valid field selector key"));
            }
        }
    }
}

fn pod_term(path: Path<'_>, term: &Value, errors: &mut Vec<FieldError>) {
    metadata::validate_selector(path.child("labelSelector"), &term["labelSelector"], errors);
    metadata::validate_selector(path.child("namespaceSelector"), &term["namespaceSelector"], errors);
    for n in list(term, "namespaces").iter().filter_map(Value::as_str) {
        check(path.child("namespaces"), n, names::label, errors);
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(path.child("topologyKey"), "can not be empty"));
    } else {
        check(path.child("topologyKey"), key, names::qualified, errors);
    }
}

/// Rules of `topologySpreadConstraints`.
pub(super) fn spread(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, c) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.index(i);
        let skew = c["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(path.child("maxSkew"), skew, "must be greater than zero"));
        }
        let key = text(c, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(path.child("topologyKey"), "can not be empty"));
        } else {
            check(path.child("topologyKey"), key, names::qualified, errors);
        }
        let when = text(c, "whenUnsatisfiable");
        one_of(path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"], errors);
        if !seen.insert((key, when)) {
            errors.push(FieldError::duplicate(
                path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {when}}}"),
            ));
        }
        within(path.child("minDomains"), &c["minDomains"], 1, i64::from(i32::MAX), errors);
        metadata::validate_selector(path.child("labelSelector"), &c["labelSelector"], errors);
    }
}

/// Rules of `schedulingGates`, `readinessGates` and `imagePullSecrets`.
pub(super) fn gates(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, g) in list(spec, "schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates");
        let path = path.index(i);
        check(path.child("name"), text(g, "name"), names::qualified, errors);
        if !seen.insert(text(g, "name")) {
            errors.push(FieldError::duplicate(path, text(g, "name")));
        }
    }
    for (i, g) in list(spec, "readinessGates").iter().enumerate() {
        let path = path.child("readinessGates");
        let path = path.index(i);
        check(path.child("conditionType"), text(g, "conditionType"), names::qualified, errors);
    }
    for (i, s) in list(spec, "imagePullSecrets").iter().enumerate() {
        let path = path.child("imagePullSecrets");
        let path = path.index(i);
        required(path.child("name"), text(s, "name"), |_| Ok(()), errors);
    }
}
