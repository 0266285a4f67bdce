//! What the columns of several kinds share.

use serde_json::Value;

use super::fields::{list, text};
use super::{AGE, Column, NAME};
use crate::selector::LabelSelector;

/// A column that is always shown.
pub(super) const fn col(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", priority: 0, description }
}

/// A column of `-o wide`.
pub(super) const fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", priority: 1, description }
}

/// Name, the given columns, age, and the wide ones.
pub(super) fn columns(shown: &[Column], wide: &[Column]) -> Vec<Column> {
    let mut out = vec![NAME];
    out.extend_from_slice(shown);
    out.push(AGE);
    out.extend_from_slice(wide);
    out
}

/// The object's name.
pub(super) fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// The text, or `<none>`.
pub(super) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// A number, zero when absent.
pub(super) fn number(v: &Value) -> Value {
    v.as_i64().unwrap_or(0).into()
}

/// Labels, or a selector that is a map, as `a=b,c=d`.
pub(super) fn labels(map: &Value) -> Value {
    let pairs = map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    or_none(&pairs.collect::<Vec<_>>().join(","))
}

/// A `metav1.LabelSelector`.
pub(super) fn selector(selector: &Value) -> Value {
    match LabelSelector::from_json(selector) {
        Ok(s) if selector.is_object() => or_none(&s.to_string()),
        Ok(_) => "<none>".into(),
        Err(_) => "<error>".into(),
    }
}

/// Up to three items and how many more there are.
pub(super) fn three(items: &[String]) -> String {
    let shown = items.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(",");
    if items.len() > 3 { format!("{shown} + {} more...", items.len() - 3) } else { shown }
}

/// The addresses of `status.loadBalancer`, sorted.
pub(super) fn load_balancer(object: &Value) -> String {
    let ingress = list(&object["status"]["loadBalancer"], "ingress");
    let mut all: Vec<&str> =
        ingress.iter().map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") }).collect();
    all.retain(|a| !a.is_empty());
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// The second column of kinds that upstream has no printer for.
pub(super) const fn created_at() -> Column {
    let description = "CreationTimestamp is a timestamp representing the server time when this object was created.";
    Column { name: "Created At", kind: "date", format: "", priority: 0, description }
}
