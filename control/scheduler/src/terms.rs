//! Taints and tolerations; node selector terms.

use serde_json::Value;

/// `core/v1.Taint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// `core/v1.Toleration`, without its seconds: those matter only once a pod runs.
#[derive(Clone, Debug)]
pub(crate) struct Toleration {
    key: String,
    exists: bool,
    value: String,
    effect: String,
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

impl Taint {
    pub(crate) fn read(v: &Value) -> Taint {
        Taint { key: text(&v["key"]), value: text(&v["value"]), effect: text(&v["effect"]) }
    }
}

impl Toleration {
    pub(crate) fn read(v: &Value) -> Toleration {
        let exists = v["operator"] == "Exists";
        Toleration { key: text(&v["key"]), exists, value: text(&v["value"]), effect: text(&v["effect"]) }
    }

    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        // An empty effect means all effects; an empty key with Exists means all taints.
        (self.effect.is_empty() || self.effect == taint.effect)
            && (if self.key.is_empty() { self.exists } else { self.key == taint.key })
            && (self.exists || self.value == taint.value)
    }
}

/// Whether a `NodeSelectorTerm` matches the labels that `label` finds, and the node's name. An empty term matches nothing.
pub(crate) fn matches<'a>(term: &Value, name: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let list = |f: &str| term[f].as_array().cloned().unwrap_or_default();
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |f: &str| (f == "metadata.name").then_some(name);
    expressions.iter().all(|e| requirement(e, label(e["key"].as_str().unwrap_or_default())))
        && fields.iter().all(|e| requirement(e, field(e["key"].as_str().unwrap_or_default())))
}

fn requirement(e: &Value, have: Option<&str>) -> bool {
    let values = || e["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = |s: &str| s.parse::<i64>().ok();
    let compare = |want: fn(&i64, &i64) -> bool| match (have.and_then(number), values().next().and_then(number)) {
        (Some(have), Some(bound)) => want(&have, &bound),
        _ => false,
    };
    match e["operator"].as_str() {
        Some("In") => have.is_some_and(|h| values().any(|v| v == h)),
        Some("NotIn") => have.is_none_or(|h| values().all(|v| v != h)),
        Some("Exists") => have.is_some(),
        Some("DoesNotExist") => have.is_none(),
        Some("Gt") => compare(i64::gt),
        Some("Lt") => compare(i64::lt),
        _ => false,
    }
}
