//! Which endpoints a Service should have, grouped by the ports they resolve to, and for whom each of them is meant
//! (KEP-4444, KEP-3015).

use std::net::IpAddr;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::support::pods::Pod;
use crate::support::ports::Port;
use crate::support::services;
use crate::support::slices::{Wanted, identity};
use crate::support::text;

/// The label of a Node with the zone that it is in.
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// Annotation of a Service, and its deprecated form, that asks for hints by another rule (KEP-2433): then
/// `trafficDistribution` does not count. That rule gives none here, which it may.
const MODES: [&str; 2] = ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// How near to its clients a Service wants to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Distribution {
    /// Anywhere.
    Even,
    /// `PreferClose`, `PreferSameZone`.
    Zone,
    /// `PreferSameNode`, and in the same zone where that is not to be had.
    Node,
}

impl Distribution {
    fn of(service: &Object, value: &Value) -> Distribution {
        let asked = |a: &str| service.meta.annotations.get(a).is_some_and(|v| matches!(&**v, "Auto" | "auto"));
        match text(&value["spec"]["trafficDistribution"]) {
            _ if MODES.into_iter().any(asked) => Distribution::Even,
            "PreferClose" | "PreferSameZone" => Distribution::Zone,
            "PreferSameNode" => Distribution::Node,
            _ => Distribution::Even,
        }
    }

    /// The hints of a ready endpoint.
    fn hints(self, endpoint: &Value) -> Option<Value> {
        let one = |field: &str| endpoint[field].as_str().map(|name| json!([{"name": name}]));
        let zones = (self != Distribution::Even).then(|| one("zone")).flatten();
        let nodes = (self == Distribution::Node).then(|| one("nodeName")).flatten();
        let given = [("forZones", zones), ("forNodes", nodes)];
        let hints: Map<String, Value> = given.into_iter().filter_map(|(k, v)| Some((k.to_string(), v?))).collect();
        (!hints.is_empty()).then(|| hints.into())
    }
}

/// Computes them for one address type.
pub(super) fn wanted(
    view: &dyn View,
    service: &Object,
    value: &Value,
    selector: &LabelSelector,
    family: &'static str,
) -> Wanted {
    let mut out = Wanted::new();
    let publish = value["spec"]["publishNotReadyAddresses"] == true;
    let distribution = Distribution::of(service, value);
    for (pod, ip) in services::pods(view, service, selector, family) {
        let mut endpoint = endpoint(view, service, &pod, ip, publish);
        if endpoint["conditions"]["ready"] == true
            && let Some(hints) = distribution.hints(&endpoint)
        {
            endpoint["hints"] = hints;
        }
        let group = out.entry(Port::of_service(value, &pod.facts)).or_default();
        group.insert(identity(&endpoint), endpoint);
    }
    out
}

fn endpoint(view: &dyn View, service: &Object, pod: &Pod, ip: IpAddr, publish: bool) -> Value {
    let (serving, terminating) = (pod.facts.ready, pod.terminating());
    let mut out = json!({
        "addresses": [ip.to_string()],
        "conditions": {
            "ready": publish || (serving && !terminating), "serving": serving, "terminating": terminating,
        },
        "targetRef": services::target_ref(pod),
    });
    if !pod.facts.node_name.is_empty() {
        out["nodeName"] = pod.facts.node_name.as_str().into();
        let node = view.get("nodes", "", &pod.facts.node_name);
        if let Some(zone) = node.and_then(|n| n.meta.labels.get(ZONE).cloned()) {
            out["zone"] = (*zone).into();
        }
    }
    if let Some(hostname) = services::hostname(service, pod) {
        out["hostname"] = hostname.into();
    }
    out
}
