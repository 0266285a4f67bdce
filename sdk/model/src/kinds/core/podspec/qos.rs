//! The quality of service class of a pod.

use serde_json::Value;

use crate::kinds::fields::list;
use crate::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of the containers (or of the pod itself, if it says).
pub fn qos_class(spec: &Value) -> &'static str {
    if spec["resources"].as_object().is_some_and(|r| !r.is_empty()) {
        return of([&spec["resources"]].into_iter());
    }
    of(["initContainers", "containers"].iter().flat_map(|l| list(spec, l)).map(|c| &c["resources"]))
}

fn of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for r in all {
        for what in ["cpu", "memory"] {
            let amount = |kind: &str| -> Option<Quantity> {
                r[kind][what].as_str()?.parse().ok().filter(|q| *q > Quantity::default())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|q| Some(q) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full = json!({"cpu":"1","memory":"1Gi"});
        for (containers, want) in [
            (json!([{}]), "BestEffort"),
            (json!([{"resources":{"limits":full,"requests":{"cpu":"1000m","memory":"1024Mi"}}}]), "Guaranteed"),
            (json!([{"resources":{"limits":full}}]), "Guaranteed"),
            (json!([{"resources":{"limits":full}},{}]), "Burstable"),
            (json!([{"resources":{"limits":full,"requests":{"cpu":"500m"}}}]), "Burstable"),
            (json!([{"resources":{"requests":{"cpu":"0"}}}]), "BestEffort"),
        ] {
            assert_eq!(qos_class(&json!({ "containers": containers })), want, "{containers}");
        }
    }
}
