//! Rules of what the scheduler reads: tolerations, affinity and topology spread.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, check, list, one_of, text};
use crate::kinds::{metadata, names};

const NO_OPERATOR: &str = "not a valid selector operator";

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
                errors.push(FieldError::invalid(path.child("operator"), value, why));
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
            // Upstream lets values pass here that are no labels'.
            node_term(path.child("preference"), &soft["preference"], false, errors);
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
        node_term(path.index(i), term, true, errors);
    }
}

fn weight(path: Path<'_>, soft: &Value, errors: &mut Vec<FieldError>) {
    let w = &soft["weight"];
    if !(1..=100).contains(&w.as_i64().unwrap_or(0)) {
        errors.push(FieldError::invalid(path.child("weight"), w.as_i64().unwrap_or(0), "must be in the range 1-100"));
    }
}

fn node_term(path: Path<'_>, term: &Value, labels: bool, errors: &mut Vec<FieldError>) {
    for (i, e) in list(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions");
        let path = path.index(i);
        let (values, at) = (list(e, "values"), path.child("values"));
        match text(e, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(at, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(at, why));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(at, why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(path.child("operator"), other, NO_OPERATOR)),
        }
        check(path.child("key"), text(e, "key"), names::qualified, errors);
        for (j, value) in values.iter().enumerate().filter(|_| labels) {
            check(at.index(j), value.as_str().unwrap_or_default(), names::label_value, errors);
        }
    }
    for (i, e) in list(term, "matchFields").iter().enumerate() {
        let path = path.child("matchFields");
        let path = path.index(i);
        let (values, at) = (list(e, "values"), path.child("values"));
        match text(e, "operator") {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(at, why));
            }
            "In" | "NotIn" => {}
            other => errors.push(FieldError::invalid(path.child("operator"), other, NO_OPERATOR)),
        }
        if text(e, "key") != "metadata.name" {
            errors.push(FieldError::invalid(path.child("key"), text(e, "key"), "not a valid field selector key"));
            continue;
        }
        for (j, value) in values.iter().enumerate() {
            check(at.index(j), value.as_str().unwrap_or_default(), names::subdomain, errors);
        }
    }
}

fn pod_term(path: Path<'_>, term: &Value, errors: &mut Vec<FieldError>) {
    let selector = &term["labelSelector"];
    metadata::validate_selector(path.child("labelSelector"), selector, errors);
    metadata::validate_selector(path.child("namespaceSelector"), &term["namespaceSelector"], errors);
    for n in list(term, "namespaces").iter().filter_map(Value::as_str) {
        check(path.child("namespaces"), n, names::label, errors);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(path.child(field), list(term, field), selector, errors);
    }
    let (at, mismatched) = (path.child("matchLabelKeys"), list(term, "mismatchLabelKeys"));
    for (i, key) in list(term, "matchLabelKeys").iter().enumerate().filter(|(_, key)| mismatched.contains(key)) {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(at.index(i), key.clone(), why));
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(path.child("topologyKey"), "can not be empty"));
    }
    check(path.child("topologyKey"), key, names::qualified, errors);
}

/// Rules of the names of labels whose values are those of the pod itself.
fn label_keys(path: Path<'_>, keys: &[Value], selector: &Value, errors: &mut Vec<FieldError>) {
    if keys.is_empty() {
        return;
    }
    if !selector.is_object() {
        let why = "must not be specified when labelSelector is not set";
        return errors.push(FieldError::forbidden(path, why));
    }
    for (i, key) in keys.iter().enumerate() {
        check(path.index(i), key.as_str().unwrap_or_default(), names::qualified, errors);
    }
}

/// Rules of `topologySpreadConstraints`.
pub(super) fn spread(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let all = list(spec, "topologySpreadConstraints");
    for (i, c) in all.iter().enumerate() {
        let path = path.index(i);
        let skew = c["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(path.child("maxSkew"), skew, "must be greater than zero"));
        }
        let key = text(c, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(path.child("topologyKey"), "can not be empty"));
        }
        let when = text(c, "whenUnsatisfiable");
        one_of(path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"], errors);
        // The first one is told of the second.
        if all[i + 1..].iter().any(|o| text(o, "topologyKey") == key && text(o, "whenUnsatisfiable") == when) {
            let what = format!("{{{key}, {when}}}");
            errors.push(FieldError::duplicate(path.child("{topologyKey, whenUnsatisfiable}"), what));
        }
        if let Some(domains) = c["minDomains"].as_i64() {
            let at = path.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(at, domains, "must be greater than zero"));
            }
            if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.push(FieldError::invalid(at, domains, why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(given) = c[policy].as_str() {
                one_of(path.child(policy), given, &["Honor", "Ignore"], errors);
            }
        }
        let (keys, selector, at) = (list(c, "matchLabelKeys"), &c["labelSelector"], path.child("matchLabelKeys"));
        label_keys(at, keys, selector, errors);
        let in_selector = |key: &Value| {
            let labels = selector["matchLabels"].as_object();
            labels.is_some_and(|l| key.as_str().is_some_and(|k| l.contains_key(k)))
                || list(selector, "matchExpressions").iter().any(|e| e["key"] == *key)
        };
        for (i, key) in keys.iter().enumerate().filter(|(_, key)| in_selector(key)) {
            errors.push(FieldError::invalid(
                at.index(i),
                key.clone(),
                "exists in both matchLabelKeys and labelSelector",
            ));
        }
        metadata::validate_selector(path.child("labelSelector"), selector, errors);
    }
}

/// Rules of `schedulingGates` and `readinessGates`.
pub(super) fn gates(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, g) in list(spec, "schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates");
        let path = path.index(i);
        check(path, text(g, "name"), names::qualified, errors);
        if !seen.insert(text(g, "name")) {
            errors.push(FieldError::duplicate(path, text(g, "name")));
        }
    }
    for (i, g) in list(spec, "readinessGates").iter().enumerate() {
        let path = path.child("readinessGates");
        let path = path.index(i);
        check(path.child("conditionType"), text(g, "conditionType"), names::qualified, errors);
    }
}
