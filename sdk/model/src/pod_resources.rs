//! What a whole pod requests and is limited to (`k8s.io/component-helpers/resource`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a map such as `requests`; what is no quantity is left out.
pub fn amounts(map: &Value) -> Amounts {
    let all = map.as_object().into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.parse().ok()?))).collect()
}

/// Adds one to the other.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (k, q) in more {
        let sum = to.get(k).map_or(*q, |have| *have + *q);
        to.insert(k.clone(), sum);
    }
}

/// The `requests` or `limits` of what a pod spec runs at the same time at most: its containers and sidecars in the end, or
/// an init container and the sidecars before it.
pub fn of_containers(spec: &Value, which: &str) -> Amounts {
    let containers = |list: &str| spec[list].as_array().into_iter().flatten();
    let mut all = Amounts::new();
    for c in containers("containers") {
        add(&mut all, &amounts(&c["resources"][which]));
    }
    let (mut sidecars, mut before) = (Amounts::new(), Amounts::new());
    for c in containers("initContainers") {
        let own = amounts(&c["resources"][which]);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if c["restartPolicy"] == "Always" {
            add(&mut all, &own);
            sidecars.clone_from(&now);
        }
        greatest(&mut before, now);
    }
    greatest(&mut all, before);
    all
}

fn greatest(to: &mut Amounts, other: Amounts) {
    for (k, q) in other {
        let most = to.get(&k).map_or(q, |have| (*have).max(q));
        to.insert(k, most);
    }
}

/// What a pod requests, with its own requests in place of its containers' and with its overhead.
pub fn requests(spec: &Value) -> Amounts {
    let mut all = whole(spec, "requests");
    add(&mut all, &amounts(&spec["overhead"]));
    all
}

/// What a pod is limited to, likewise; overhead adds to what is limited.
pub fn limits(spec: &Value) -> Amounts {
    let mut all = whole(spec, "limits");
    let mut overhead = amounts(&spec["overhead"]);
    overhead.retain(|k, _| all.get(k).is_some_and(|q| *q != Quantity::default()));
    add(&mut all, &overhead);
    all
}

fn whole(spec: &Value, which: &str) -> Amounts {
    let mut all = of_containers(spec, which);
    let own = amounts(&spec["resources"][which]);
    all.extend(own.into_iter().filter(|(k, _)| matches!(k.as_str(), "cpu" | "memory") || k.starts_with("hugepages-")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_needs_what_runs_at_once() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = c("100m");
        sidecar["restartPolicy"] = "Always".into();
        for (spec, want) in [
            (json!({"containers": [c("100m"), c("200m")]}), "300m"),
            (json!({"containers": [c("100m")], "initContainers": [c("500m")]}), "500m"),
            (json!({"containers": [c("100m")], "initContainers": [sidecar]}), "200m"),
            (json!({"containers": [c("100m")], "initContainers": [sidecar, c("500m")]}), "600m"),
            (json!({"containers": [c("100m")], "resources": {"requests": {"cpu": "1"}}}), "1"),
            (json!({"containers": [c("100m")], "overhead": {"cpu": "50m"}}), "150m"),
        ] {
            assert_eq!(requests(&spec)["cpu"].to_string(), want, "{spec}");
        }
    }

    #[test]
    fn overhead_limits_nothing_by_itself() {
        let spec =
            json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}], "overhead": {"cpu": "1", "memory": "1Gi"}});
        let shown: Vec<String> = limits(&spec).iter().map(|(k, q)| format!("{k}={q}")).collect();
        assert_eq!(shown, ["cpu=2"]);
    }
}
