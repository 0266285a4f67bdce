//! What ties pods to nodes: taints and tolerations, node selector terms. The scheduler and the node itself go by it.

use serde_json::Value;

/// `core/v1.Taint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, empty if it has none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// `core/v1.Toleration`, without its seconds: those matter only once a pod runs.
#[derive(Clone, Debug)]
pub struct Toleration {
    key: String,
    exists: bool,
    value: String,
    effect: String,
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

impl Taint {
    /// Reads one of `spec.taints`.
    pub fn read(v: &Value) -> Taint {
        Taint { key: text(&v["key"]), value: text(&v["value"]), effect: text(&v["effect"]) }
    }
}

impl Toleration {
    /// Reads one of `spec.tolerations`.
    pub fn read(v: &Value) -> Toleration {
        let exists = v["operator"] == "Exists";
        Toleration { key: text(&v["key"]), exists, value: text(&v["value"]), effect: text(&v["effect"]) }
    }

    /// Whether it makes a pod bear the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        // An empty effect means all effects; an empty key with Exists means all taints.
        (self.effect.is_empty() || self.effect == taint.effect)
            && (if self.key.is_empty() { self.exists } else { self.key == taint.key })
            && (self.exists || self.value == taint.value)
    }
}

/// Whether a pod's `nodeSelector` and required node affinity accept a node with this name and these labels.
pub fn selects<'a>(spec: &Value, name: &'a str, label: impl Fn(&str) -> Option<&'a str> + Copy) -> bool {
    let mut pairs = spec["nodeSelector"].as_object().into_iter().flatten();
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    // Terms are alternatives; a list without terms matches nothing.
    let terms = required["nodeSelectorTerms"].as_array();
    pairs.all(|(k, v)| label(k) == Some(v.as_str().unwrap_or_default()))
        && terms.is_none_or(|terms| terms.iter().any(|t| matches(t, name, label)))
}

/// Whether a `NodeSelectorTerm` matches the labels that `label` finds, and the node's name. An empty term matches nothing.
pub fn matches<'a>(term: &Value, name: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_and_affinity_both_count() {
        let label = |k: &str| (k == "disk").then_some("ssd");
        let fits = |spec: Value| selects(&spec, "n", label);
        assert!(fits(json!({})));
        assert!(fits(json!({"nodeSelector": {"disk": "ssd"}})));
        assert!(!fits(json!({"nodeSelector": {"disk": "hdd"}})));
        let affinity = |terms: Value| {
            json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let named = |n: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]}]);
        assert!(fits(affinity(named("n"))) && !fits(affinity(named("m"))) && !fits(affinity(json!([]))));
    }
}
