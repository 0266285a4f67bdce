//! HorizontalPodAutoscaler.

use serde_json::{Value, json};

use super::{V2, metrics, v1};
use crate::kinds::fields::{Fields, Path, child_mut, fill_absent, list, nonnegative, one_of, required, spec_mut, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, Version, age, names};
use crate::quantity::Quantity;
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["hpa"],
        categories: &["all"],
        status: true,
        ..Kind::new(
            V2,
            "HorizontalPodAutoscaler",
            ("horizontalpodautoscalers", "horizontalpodautoscaler"),
            HorizontalPodAutoscaler,
        )
    }
}

const SPEC: Path<'static> = Path::root("spec");
const VERSIONS: &[Version] = &[Version::new("v1", v1::default, v1::to_storage, v1::from_storage)];
/// Longest stabilisation window and period of a policy, in seconds.
const WINDOW: i64 = 3600;
const PERIOD: i64 = 1800;

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "minReplicas", || 1.into());
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("metrics".into(), json!([metrics::cpu(metrics::DEFAULT_UTILIZATION.into())]));
        }
        if let Some(behavior) = child_mut(spec, "behavior") {
            let policy = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
            rules(behavior, "scaleUp", Some(0), &[policy("Pods", 4), policy("Percent", 100)]);
            rules(behavior, "scaleDown", None, &[policy("Percent", 100)]);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        // An unset number is zero, as in Go.
        let max = spec["maxReplicas"].as_i64().unwrap_or(0);
        let min = spec["minReplicas"].as_i64();
        if let Some(min) = min.filter(|m| *m < 1) {
            errors.push(FieldError::invalid(SPEC.child("minReplicas"), min, "must be greater than or equal to 1"));
        }
        let at = SPEC.child("maxReplicas");
        if max < 1 {
            errors.push(FieldError::invalid(at, max, "must be greater than 0"));
        }
        if min.is_some_and(|min| max < min) {
            errors.push(FieldError::invalid(at, max, "must be greater than or equal to `minReplicas`"));
        }
        reference(SPEC.child("scaleTargetRef"), &spec["scaleTargetRef"], errors);
        for (i, metric) in list(spec, "metrics").iter().enumerate() {
            let path = SPEC.child("metrics");
            metrics::validate(path.index(i), metric, errors);
        }
        let path = SPEC.child("behavior");
        for direction in ["scaleUp", "scaleDown"] {
            scaling(path.child(direction), &spec["behavior"][direction], errors);
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        for count in ["currentReplicas", "desiredReplicas"] {
            nonnegative(Path::root("status").child(count), &new["status"][count], errors);
        }
    }

    fn versions(&self) -> &'static [Version] {
        VERSIONS
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Reference", "string", "What is scaled."),
                col("Targets", "string", "The metrics: what each is now and what it should be."),
                col("MinPods", "string", "The smallest number of replicas."),
                col("MaxPods", "string", "The greatest number of replicas."),
                col("Replicas", "string", "How many replicas there are."),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let target = &spec["scaleTargetRef"];
        let count = |v: &Value| v.as_i64().unwrap_or(0);
        vec![
            name(o),
            format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
            metrics::shown(list(spec, "metrics"), list(status, "currentMetrics")).into(),
            spec["minReplicas"].as_i64().map_or_else(|| "<unset>".into(), |n| n.to_string().into()),
            count(&spec["maxReplicas"]).into(),
            count(&status["currentReplicas"]).into(),
            age(o, now),
        ]
    }
}

/// Fills in the rules of one direction.
fn rules(behavior: &mut Fields, direction: &str, window: Option<i64>, policies: &[Value]) {
    fill_absent(behavior, direction, || json!({}));
    let Some(rules) = child_mut(behavior, direction) else { return };
    if let Some(window) = window {
        fill_absent(rules, "stabilizationWindowSeconds", || window.into());
    }
    fill_absent(rules, "selectPolicy", || "Max".into());
    fill_absent(rules, "policies", || policies.into());
}

/// Rules of a `CrossVersionObjectReference`.
pub(super) fn reference(path: Path<'_>, reference: &Value, errors: &mut Vec<FieldError>) {
    for name in ["kind", "name"] {
        required(path.child(name), text(reference, name), names::path_segment, errors);
    }
}

fn scaling(path: Path<'_>, rules: &Value, errors: &mut Vec<FieldError>) {
    if !rules.is_object() {
        return;
    }
    let mut say = |path: Path<'_>, value: i64, why: String| errors.push(FieldError::invalid(path, value, why));
    let at = path.child("stabilizationWindowSeconds");
    match rules["stabilizationWindowSeconds"].as_i64() {
        Some(n) if n < 0 => say(at, n, "must be greater than or equal to zero".into()),
        Some(n) if n > WINDOW => say(at, n, format!("must be less than or equal to {WINDOW}")),
        _ => {}
    }
    let policies = path.child("policies");
    for (i, policy) in list(rules, "policies").iter().enumerate() {
        let path = policies.index(i);
        let (value, period) = (&policy["value"], &policy["periodSeconds"]);
        let (value, period) = (value.as_i64().unwrap_or(0), period.as_i64().unwrap_or(0));
        if value <= 0 {
            say(path.child("value"), value, "must be greater than zero".into());
        }
        if period <= 0 {
            say(path.child("periodSeconds"), period, "must be greater than zero".into());
        }
        if period > PERIOD {
            say(path.child("periodSeconds"), period, format!("must be less than or equal to {PERIOD}"));
        }
    }
    for (i, policy) in list(rules, "policies").iter().enumerate() {
        let path = policies.index(i);
        one_of(path.child("type"), text(policy, "type"), &["Percent", "Pods"], errors);
    }
    if list(rules, "policies").is_empty() {
        errors.push(FieldError::required(policies, "must specify at least one Policy"));
    }
    if let Some(select) = rules["selectPolicy"].as_str() {
        one_of(path.child("selectPolicy"), select, &["Disabled", "Max", "Min"], errors);
    }
    let tolerance = rules["tolerance"].as_str().and_then(|t| t.parse::<Quantity>().ok());
    if tolerance.is_some_and(|t| t.is_negative()) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("tolerance"), rules["tolerance"].clone(), why));
    }
}
