//! HorizontalPodAutoscaler at both of its versions.

use super::*;

const HPA: &str = "horizontalpodautoscalers.autoscaling";

fn hpa(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = samples()[HPA].clone();
    change(&mut object["spec"]);
    object
}

#[test]
fn the_defaults_are_upstreams() {
    let d = defaulted(HPA, hpa(|s| s["behavior"] = json!({"scaleDown":{"stabilizationWindowSeconds":60}})));
    let spec = &d["spec"];
    assert_eq!(spec["minReplicas"], 1);
    assert_eq!(
        spec["metrics"],
        json!([{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}])
    );
    assert_eq!(
        spec["behavior"],
        json!({"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[
                {"type":"Pods","value":4,"periodSeconds":15},{"type":"Percent","value":100,"periodSeconds":15}]},
            "scaleDown":{"stabilizationWindowSeconds":60,"selectPolicy":"Max",
                "policies":[{"type":"Percent","value":100,"periodSeconds":15}]}})
    );
    assert!(defaulted(HPA, hpa(|_| {}))["spec"].get("behavior").is_none());
}

#[test]
fn rules() {
    let metric = |metric: Value| move |s: &mut Value| s["metrics"] = json!([metric]);
    let target = |target: Value| metric(json!({"type":"Resource","resource":{"name":"cpu","target":target}}));
    let behavior = |rules: Value| move |s: &mut Value| s["behavior"] = json!({ "scaleUp": rules });
    type Change = Box<dyn FnOnce(&mut Value)>;
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(|s| s["minReplicas"] = 0.into()),
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
        ),
        (
            Box::new(|s| s["minReplicas"] = 5.into()),
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
        ),
        (Box::new(|s| s["scaleTargetRef"] = json!({"name":"web"})), "spec.scaleTargetRef.kind: Required value"),
        (
            Box::new(|s| s["scaleTargetRef"]["name"] = "a/b".into()),
            "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
        ),
        (
            Box::new(metric(json!({"type":"Pods"}))),
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ),
        (
            Box::new(target(json!({"type":"Utilization"}))),
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a",
        ),
        (
            Box::new(target(json!({"type":"Utilization","averageUtilization":0}))),
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
        (
            Box::new(target(json!({"type":"Odd","averageUtilization":1}))),
            "spec.metrics[0].resource.target.type: Invalid value: \"Odd\": must be either Utilization, Value, or AverageValue",
        ),
        (
            Box::new(target(json!({"type":"AverageValue","averageValue":"-1"}))),
            "spec.metrics[0].resource.target.averageValue: Invalid value: \"-1\": must be positive",
        ),
        (
            Box::new(target(json!({"type":"AverageValue","averageValue":"1","averageUtilization":1}))),
            "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target",
        ),
        (
            Box::new(metric(json!({"type":"Pods","pods":{"metric":{"name":""},
                "target":{"type":"AverageValue","averageValue":"1"}}}))),
            "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
        ),
        (
            Box::new(metric(json!({"type":"ContainerResource","containerResource":{"name":"cpu",
                "target":{"type":"Utilization","averageUtilization":1}}}))),
            "spec.metrics[0].containerResource.container: Required value: must specify a container",
        ),
        (
            Box::new(metric(json!({"type":"ContainerResource","containerResource":{"name":"storage","container":"c",
                "target":{"type":"Utilization","averageUtilization":1}}}))),
            "spec.metrics[0].containerResource.name: Invalid value: \"storage\": must be a standard resource for containers",
        ),
        (
            Box::new(behavior(json!({"stabilizationWindowSeconds":3601}))),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        ),
        (
            Box::new(behavior(json!({"policies":[]}))),
            "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
        ),
        (
            Box::new(behavior(json!({"policies":[{"type":"Pods","value":0,"periodSeconds":15}]}))),
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
        ),
        (
            Box::new(behavior(json!({"policies":[{"type":"Pods","value":1,"periodSeconds":1801}]}))),
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
        (
            Box::new(behavior(json!({"policies":[{"type":"Some","value":1,"periodSeconds":1}]}))),
            "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Some\": supported values: \"Percent\", \"Pods\"",
        ),
        (
            Box::new(behavior(json!({"selectPolicy":"Best"}))),
            "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Best\": supported values: \"Disabled\", \"Max\", \"Min\"",
        ),
    ];
    for (change, want) in cases {
        let got = errors(HPA, hpa(change));
        assert!(got.len() == 1 && got[0].starts_with(want), "want {want}\ngot  {got:#?}");
    }
    let two = json!({"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}},
        "resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":1}}});
    assert_eq!(
        errors(HPA, hpa(metric(two.clone()))),
        ["spec.metrics[0].resource: Forbidden: must populate the given metric source only"]
    );
    let mut odd = two;
    odd["type"] = "Odd".into();
    let all = errors(HPA, hpa(metric(odd)));
    assert_eq!(
        all[1..],
        ["pods", "resource"]
            .map(|f| format!("spec.metrics[0].{f}: Forbidden: must populate the given metric source only"))
    );
    assert_eq!(
        errors(HPA, hpa(|s| s["maxReplicas"] = Value::Null)),
        [
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ]
    );
}

#[test]
fn both_versions_show_the_same_rows() {
    let meta = json!({"name":"x","creationTimestamp":"2026-01-01T00:58:00Z"});
    let pods =
        json!({"type":"Pods","pods":{"metric":{"name":"hits"},"target":{"type":"AverageValue","averageValue":"10"}}});
    let cpu =
        json!({"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}});
    let used =
        json!({"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":20,"averageValue":"5m"}}});
    let mut object = json!({"metadata":meta,"spec":{"scaleTargetRef":{"kind":"Deployment","name":"web"},"minReplicas":2,
        "maxReplicas":5,"metrics":[pods, cpu]},"status":{"currentReplicas":3,"desiredReplicas":3,"currentMetrics":[used]}});
    let want = ["x", "Deployment/web", "<unknown>/10, cpu: <unknown>/50%", "2", "5", "3", "2m"];
    assert_eq!(row(HPA, object.clone()), want);
    let kinds = Kinds::builtin();
    let v1 = kinds.served("autoscaling", "horizontalpodautoscalers", "v1").unwrap();
    let stored = kinds.resource("autoscaling", "horizontalpodautoscalers").unwrap();
    assert_eq!((stored.version, v1.version, v1.api_version().as_str()), ("v2", "v1", "autoscaling/v1"));
    let mut old = object.clone();
    stored.from_storage(stored.other_version("autoscaling", "v1").unwrap(), &mut old);
    assert_eq!(old["apiVersion"], "autoscaling/v1");
    let cells = v1.strategy.cells(&old, Time::parse("2026-01-01T01:00:00Z").unwrap());
    let cells: Vec<String> = cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), Into::into)).collect();
    assert_eq!(cells, want);
    object["spec"]["metrics"] = json!([cpu, pods, pods, {"type":"Odd"}]);
    assert_eq!(row(HPA, object)[2], "cpu: 20%/50%, <unknown>/10 + 2 more...");
    assert!(kinds.served("autoscaling", "horizontalpodautoscalers", "v2beta2").is_none());
    assert_eq!(kinds.gvk("autoscaling/v1", "HorizontalPodAutoscaler").unwrap().version, "v1");
    assert_eq!(kinds.every_version().filter(|k| k.kind == "HorizontalPodAutoscaler").count(), 2);
}
