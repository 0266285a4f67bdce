//! LimitRange.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::resource_names::{amount, container_resource_name, overcommits, resource_name};
use crate::FieldError;
use crate::Time;
use crate::kinds::fields::{Fields, Path, check, child_mut, ensure, entries, items_mut, list, text};
use crate::kinds::table::{created_at, name};
use crate::kinds::{Column, Kind, NAME, Strategy, names};
use crate::quantity::Quantity;

/// The kind.
pub fn kind() -> Kind {
    Kind { short_names: &["limits"], ..Kind::new(super::V1, "LimitRange", ("limitranges", "limitrange"), LimitRange) }
}

struct LimitRange;

const LIMITS: Path<'static> = Path::root("spec.limits");

impl Strategy for LimitRange {
    /// A container's limit is at most the maximum, and its request what its limit is, or else the minimum.
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.as_object_mut().and_then(|o| child_mut(o, "spec")) else { return };
        for item in items_mut(spec, "limits").filter(|i| i.get("type").is_some_and(|t| t == "Container")) {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                inherit(item, from, to);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut seen = BTreeSet::new();
        for (i, item) in list(&object["spec"], "limits").iter().enumerate() {
            let path = LIMITS.index(i);
            let kind = text(item, "type");
            let before = errors.len();
            check(path.child("type"), kind, names::qualified, errors);
            let standard = ["Pod", "Container", "PersistentVolumeClaim"];
            if errors.len() == before && !kind.contains('/') && !standard.contains(&kind) {
                let why = "must be a standard limit type or fully qualified";
                errors.push(FieldError::invalid(path.child("type"), kind, why));
            }
            if !seen.insert(kind) {
                errors.push(FieldError::duplicate(path.child("type"), kind));
            }
            validate_item(path, kind, item, errors);
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, created_at()]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        vec![name(o), o["metadata"]["creationTimestamp"].clone()]
    }
}

/// Copies the amounts of `from` that `to` lacks.
fn inherit(item: &mut Fields, from: &str, to: &str) {
    let source = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
    if source.is_empty() {
        return;
    }
    if let Some(target) = ensure(item, to) {
        for (k, v) in source {
            target.entry(k).or_insert(v);
        }
    }
}

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn validate_item(path: Path<'_>, kind: &str, item: &Value, errors: &mut Vec<FieldError>) {
    let mut amounts = |field: &str| -> Amounts<'_> {
        let path = path.child(field);
        let mut out = BTreeMap::new();
        for (k, v) in entries(item, field) {
            match kind {
                "Pod" | "Container" => container_resource_name(path.key(k), k, errors),
                _ => drop(resource_name(path.key(k), k, errors)),
            }
            match amount(v) {
                Some(q) => drop(out.insert(k.as_str(), q)),
                None => {
                    errors.push(FieldError::invalid(path.key(k), v.clone(), crate::quantity::ParseError.to_string()))
                }
            }
        }
        out
    };
    let (max, min) = (amounts("max"), amounts("min"));
    let (mut default, mut request) = (Amounts::new(), Amounts::new());
    if kind != "Pod" {
        (default, request) = (amounts("default"), amounts("defaultRequest"));
    }
    let ratio = amounts("maxLimitRequestRatio");
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if entries(item, field).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(path.child(field), why));
            }
        }
    }
    if kind == "PersistentVolumeClaim" && !min.contains_key("storage") && !max.contains_key("storage") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(path.child("limits"), why));
    }
    let keys: BTreeSet<&str> =
        [&max, &min, &default, &request, &ratio].into_iter().flat_map(|m| m.keys().copied()).collect();
    for k in keys {
        let of = |m: &Amounts<'_>| m.get(k).copied();
        let all = (of(&min), of(&max), of(&default), of(&request), of(&ratio));
        compare(path, k, all, errors);
    }
}

type Five = (Option<Quantity>, Option<Quantity>, Option<Quantity>, Option<Quantity>, Option<Quantity>);

fn compare(path: Path<'_>, k: &str, (min, max, default, request, ratio): Five, errors: &mut Vec<FieldError>) {
    let mut say = |field: &str, value: Quantity, why: String| {
        let path = path.child(field);
        errors.push(FieldError::invalid(path.key(k), value.to_string(), why));
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        say("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let Some(r) = request {
        if let Some(min) = min.filter(|m| *m > r) {
            say("defaultRequest", r, format!("min value {min} is greater than default request value {r}"));
        }
        if let Some(max) = max.filter(|m| r > *m) {
            say("defaultRequest", r, format!("default request value {r} is greater than max value {max}"));
        }
        if let Some(d) = default.filter(|d| r > *d) {
            say("defaultRequest", r, format!("default request value {r} is greater than default limit value {d}"));
        }
    }
    if let Some(d) = default {
        if let Some(min) = min.filter(|m| *m > d) {
            say("default", min, format!("min value {min} is greater than default value {d}"));
        }
        if let Some(max) = max.filter(|m| d > *m) {
            say("default", max, format!("default value {d} is greater than max value {max}"));
        }
    }
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_units(1) {
            say("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            // Upstream's number is a float as well, and infinite without a minimum.
            let limit = max.millis() as f64 / min.millis() as f64;
            if ratio.millis() as f64 / 1000.0 > limit {
                say("maxLimitRequestRatio", ratio, format!("ratio {ratio} is greater than max/min = {limit:.6}"));
            }
        }
    }
    if let (Some(d), Some(r)) = (default, request)
        && !overcommits(k)
        && d != r
    {
        say("defaultRequest", r, format!("default value {d} must equal to defaultRequest value {r} in {k}"));
    }
}
