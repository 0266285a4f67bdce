//! `autoscaling/v1` HorizontalPodAutoscaler, which knows CPU use alone: whatever else `v2` says stands in annotations.

use serde_json::{Map, Value, json};

use super::metrics;
use crate::kinds::fields::{Fields, ensure, fill_absent, spec_mut};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Defaults of this version; that of the metrics is a part of the conversion, which sees them all.
pub(super) fn default(object: &mut Value) {
    if let Some(spec) = spec_mut(object) {
        fill_absent(spec, "minReplicas", || 1.into());
    }
}

/// Makes `v2` of `v1`.
pub(super) fn to_storage(object: &mut Value) {
    let notes = take_notes(object);
    let parsed = |name: &str| notes.get(name).and_then(Value::as_str).and_then(|t| serde_json::from_str(t).ok());
    let all = |name: &str| parsed(name).and_then(|v: Value| v.as_array().cloned()).unwrap_or_default();
    if let Some(spec) = spec_mut(object) {
        let mut metrics: Vec<Value> = all(METRICS).iter().map(|m| turned(m, &spec_to_v2)).collect();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|p| !p.is_null()) {
            metrics.push(metrics::cpu(percent));
        }
        if metrics.is_empty() {
            metrics.push(metrics::cpu(metrics::DEFAULT_UTILIZATION.into()));
        }
        spec.insert("metrics".into(), metrics.into());
        if let Some(behavior) = parsed(BEHAVIOR).filter(Value::is_object) {
            spec.insert("behavior".into(), recased(&behavior, lower));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage").filter(|p| !p.is_null());
        let mut current: Vec<Value> = all(CURRENT_METRICS).iter().map(|m| turned(m, &status_to_v2)).collect();
        if let (true, Some(percent)) = (current.is_empty(), percent) {
            current.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": percent}}}));
        }
        for (name, values) in [("currentMetrics", current), ("conditions", all(CONDITIONS))] {
            if !values.is_empty() {
                status.insert(name.into(), values.into());
            }
        }
    }
}

/// Makes `v1` of `v2`.
pub(super) fn from_storage(object: &mut Value) {
    take_notes(object);
    let mut notes: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let all = spec.remove("metrics").unwrap_or_default();
        let all = all.as_array().map_or(&[][..], Vec::as_slice);
        let percent = |m: &Value| m["resource"]["target"]["averageUtilization"].clone();
        // The first metric of CPU use tells the percentage; one of an absolute value before it hides it.
        if let Some(cpu) = all.iter().find(|m| metrics::is_cpu(m)).map(percent).filter(|p| !p.is_null()) {
            spec.insert("targetCPUUtilizationPercentage".into(), cpu);
        }
        let others = all.iter().filter(|m| !metrics::is_cpu(m) || percent(m).is_null());
        notes.push((METRICS, others.map(|m| turned(m, &spec_to_v1)).collect()));
        if let Some(behavior) = spec.remove("behavior").filter(Value::is_object) {
            notes.push((BEHAVIOR, recased(&behavior, upper)));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let all = status.remove("currentMetrics").unwrap_or_default();
        let all = all.as_array().map_or(&[][..], Vec::as_slice);
        let mut used =
            all.iter().filter(|m| metrics::is_cpu(m)).map(|m| &m["resource"]["current"]["averageUtilization"]);
        if let Some(percent) = used.rfind(|p| !p.is_null()) {
            status.insert("currentCPUUtilizationPercentage".into(), percent.clone());
        }
        notes.push((CURRENT_METRICS, all.iter().map(|m| turned(m, &status_to_v1)).collect()));
        notes.push((CONDITIONS, status.remove("conditions").unwrap_or_default()));
    }
    notes.retain(|(_, v)| v.as_array().map_or(v.is_object(), |a| !a.is_empty()));
    if notes.is_empty() {
        return;
    }
    let meta = object.as_object_mut().and_then(|o| ensure(o, "metadata"));
    if let Some(annotations) = meta.and_then(|m| ensure(m, "annotations")) {
        annotations.extend(notes.into_iter().map(|(name, v)| (name.to_string(), v.to_string().into())));
    }
}

/// Takes the annotations of the conversion away and returns them.
fn take_notes(object: &mut Value) -> Map<String, Value> {
    let mut out = Map::new();
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return out };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else { return out };
    for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        out.extend(annotations.remove(name).map(|v| (name.to_string(), v)));
    }
    if annotations.is_empty() && !out.is_empty() {
        meta.remove("annotations");
    }
    out
}

/// A metric with its source, or its state, made the other version's.
fn turned(metric: &Value, turn: &dyn Fn(&str, &Value) -> Value) -> Value {
    let mut out = json!({"type": metric["type"]});
    for kind in ["object", "pods", "resource", "containerResource", "external"] {
        if metric[kind].is_object() {
            out[kind] = turn(kind, &metric[kind]);
        }
    }
    out
}

/// A new object of those of the values that there are.
fn made<const N: usize>(fields: [(&str, &Value); N]) -> Value {
    Value::Object(fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_string(), v.clone())).collect())
}

/// The amount, `0` where `v1` must have one and there is none.
fn or_zero(v: &Value) -> Value {
    if v.is_null() { "0".into() } else { v.clone() }
}

fn spec_to_v1(kind: &str, s: &Value) -> Value {
    let (target, metric) = (&s["target"], &s["metric"]);
    match kind {
        "object" => made([
            ("target", &s["describedObject"]),
            ("metricName", &metric["name"]),
            ("targetValue", &or_zero(&target["value"])),
            ("selector", &metric["selector"]),
            ("averageValue", &target["averageValue"]),
        ]),
        "pods" => made([
            ("metricName", &metric["name"]),
            ("targetAverageValue", &or_zero(&target["averageValue"])),
            ("selector", &metric["selector"]),
        ]),
        "external" => made([
            ("metricName", &metric["name"]),
            ("metricSelector", &metric["selector"]),
            ("targetValue", &target["value"]),
            ("targetAverageValue", &target["averageValue"]),
        ]),
        _ => made([
            ("name", &s["name"]),
            ("container", &s["container"]),
            ("targetAverageUtilization", &target["averageUtilization"]),
            ("targetAverageValue", &target["averageValue"]),
        ]),
    }
}

fn spec_to_v2(kind: &str, s: &Value) -> Value {
    let identifier = |selector: &str| made([("name", &s["metricName"]), ("selector", &s[selector])]);
    let target = |kind: &str, value: &Value, average: &Value| {
        let mut out = made([("value", value), ("averageValue", average)]);
        out["type"] = kind.into();
        out
    };
    match kind {
        "object" => {
            let average = &s["averageValue"];
            // The value that v1 must have is none where there is an average.
            let none = !average.is_null() && s["targetValue"] == "0";
            let value = if none { &Value::Null } else { &s["targetValue"] };
            let kind = if average.is_null() { "Value" } else { "AverageValue" };
            json!({"describedObject": s["target"], "metric": identifier("selector"), "target": target(kind, value, average)})
        }
        "pods" => {
            let target = target("AverageValue", &Value::Null, &s["targetAverageValue"]);
            json!({"metric": identifier("selector"), "target": target})
        }
        "external" => {
            let value = &s["targetValue"];
            let kind = if value.is_null() { "AverageValue" } else { "Value" };
            json!({"metric": identifier("metricSelector"), "target": target(kind, value, &s["targetAverageValue"])})
        }
        _ => {
            let percent = &s["targetAverageUtilization"];
            let kind = if percent.is_null() { "AverageValue" } else { "Utilization" };
            let mut wanted = target(kind, &Value::Null, &s["targetAverageValue"]);
            if !percent.is_null() {
                wanted["averageUtilization"] = percent.clone();
            }
            let mut out = made([("name", &s["name"]), ("container", &s["container"])]);
            out["target"] = wanted;
            out
        }
    }
}

fn status_to_v1(kind: &str, s: &Value) -> Value {
    let (current, metric) = (&s["current"], &s["metric"]);
    match kind {
        "object" => made([
            ("target", &s["describedObject"]),
            ("metricName", &metric["name"]),
            ("currentValue", &or_zero(&current["value"])),
            ("selector", &metric["selector"]),
            ("averageValue", &current["averageValue"]),
        ]),
        "pods" => made([
            ("metricName", &metric["name"]),
            ("currentAverageValue", &or_zero(&current["averageValue"])),
            ("selector", &metric["selector"]),
        ]),
        "external" => made([
            ("metricName", &metric["name"]),
            ("metricSelector", &metric["selector"]),
            ("currentValue", &or_zero(&current["value"])),
            ("currentAverageValue", &current["averageValue"]),
        ]),
        _ => made([
            ("name", &s["name"]),
            ("container", &s["container"]),
            ("currentAverageUtilization", &current["averageUtilization"]),
            ("currentAverageValue", &or_zero(&current["averageValue"])),
        ]),
    }
}

fn status_to_v2(kind: &str, s: &Value) -> Value {
    let identifier = |selector: &str| made([("name", &s["metricName"]), ("selector", &s[selector])]);
    let current = |value: &str, average: &str| made([("value", &s[value]), ("averageValue", &s[average])]);
    match kind {
        "object" => json!({"describedObject": s["target"], "metric": identifier("selector"),
            "current": current("currentValue", "averageValue")}),
        "pods" => json!({"metric": identifier("selector"), "current": current("", "currentAverageValue")}),
        "external" => json!({"metric": identifier("metricSelector"),
            "current": current("currentValue", "currentAverageValue")}),
        _ => {
            let mut out = made([("name", &s["name"]), ("container", &s["container"])]);
            out["current"] = made([
                ("averageUtilization", &s["currentAverageUtilization"]),
                ("averageValue", &s["currentAverageValue"]),
            ]);
            out
        }
    }
}

/// The same with the first letter of every name turned: upstream writes the behaviour as its internal type has it.
fn recased(v: &Value, turn: fn(char) -> char) -> Value {
    match v {
        Value::Object(m) => {
            let name = |k: &String| {
                let mut chars = k.chars();
                chars.next().map(turn).into_iter().chain(chars).collect::<String>()
            };
            let fields: Fields =
                m.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (name(k), recased(v, turn))).collect();
            fields.into()
        }
        Value::Array(a) => a.iter().map(|v| recased(v, turn)).collect(),
        other => other.clone(),
    }
}

fn upper(c: char) -> char {
    c.to_ascii_uppercase()
}

fn lower(c: char) -> char {
    c.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::fields::text;

    fn v2(metrics: Value, status: Value) -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "minReplicas": 1, "metrics": metrics,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}, "status": status})
    }

    #[test]
    fn cpu_use_has_fields_and_the_rest_annotations() {
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "hits"},
            "target": {"type": "AverageValue", "averageValue": "10"}}});
        let current = json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 40, "averageValue": "20m"}}});
        let mut hpa = v2(
            json!([metrics::cpu(55.into()), pods]),
            json!({"currentReplicas": 1,
            "desiredReplicas": 1, "currentMetrics": [current], "conditions": [{"type": "AbleToScale", "status": "True"}]}),
        );
        from_storage(&mut hpa);
        assert_eq!(
            hpa["spec"],
            json!({"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 55,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}})
        );
        assert_eq!(
            hpa["status"],
            json!({"currentReplicas": 1, "desiredReplicas": 1, "currentCPUUtilizationPercentage": 40})
        );
        let notes = &hpa["metadata"]["annotations"];
        let note = |name: &str| serde_json::from_str::<Value>(text(notes, name)).unwrap();
        assert_eq!(
            note(METRICS),
            json!([{"type": "Pods", "pods": {"metricName": "hits", "targetAverageValue": "10"}}])
        );
        assert_eq!(
            note(CURRENT_METRICS),
            json!([{"type": "Resource", "resource": {"name": "cpu",
            "currentAverageUtilization": 40, "currentAverageValue": "20m"}}])
        );
        assert_eq!(note(CONDITIONS), json!([{"type": "AbleToScale", "status": "True"}]));
        assert!(notes.get(BEHAVIOR).is_none());
    }

    #[test]
    fn there_and_back_is_the_same() {
        let every = json!([
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                "target": {"type": "AverageValue", "averageValue": "3"}}},
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                "metric": {"name": "m"}, "target": {"type": "Value", "value": "3"}}},
            {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "9"}}},
            {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
                "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}},
        ]);
        let mut hpa = v2(
            every,
            json!({"currentReplicas": 0, "desiredReplicas": 0,
            "currentMetrics": [{"type": "External", "external": {"metric": {"name": "q"},
                "current": {"value": "4", "averageValue": "2"}}}]}),
        );
        hpa["metadata"]["annotations"] = json!({"kept": "yes"});
        hpa["spec"]["behavior"] = json!({"scaleDown": {"selectPolicy": "Max", "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}});
        let before = hpa.clone();
        from_storage(&mut hpa);
        let note = text(&hpa["metadata"]["annotations"], BEHAVIOR).to_string();
        assert!(note.contains("\"ScaleDown\":{") && note.contains("\"StabilizationWindowSeconds\":60"), "{note}");
        assert!(hpa["spec"].get("targetCPUUtilizationPercentage").is_none());
        to_storage(&mut hpa);
        assert_eq!(hpa, before);
    }

    #[test]
    fn without_metrics_cpu_use_is_aimed_for() {
        let mut hpa = json!({"spec": {"maxReplicas": 2}});
        to_storage(&mut hpa);
        assert_eq!(hpa["spec"]["metrics"], json!([metrics::cpu(80.into())]));
        // What is no JSON is dropped, as upstream.
        let mut hpa = json!({"metadata": {"annotations": {METRICS: "nonsense", CONDITIONS: "{}"}},
            "spec": {"targetCPUUtilizationPercentage": 30}, "status": {"currentCPUUtilizationPercentage": 12}});
        to_storage(&mut hpa);
        assert_eq!(
            hpa,
            json!({"metadata": {}, "spec": {"metrics": [metrics::cpu(30.into())]},
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": 12}}}]}})
        );
    }
}
