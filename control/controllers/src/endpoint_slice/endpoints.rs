//! Which endpoints a Service should have, grouped by the ports they resolve to.

use std::net::IpAddr;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::selector::LabelSelector;
use serde_json::{Value, json};

use crate::support::pods::Pod;
use crate::support::ports::Port;
use crate::support::services;
use crate::support::slices::{Wanted, identity};

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
    for (pod, ip) in services::pods(view, service, selector, family) {
        let endpoint = endpoint(view, service, &pod, ip, publish);
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
        if let Some(zone) = node.and_then(|n| n.meta.labels.get("topology.kubernetes.io/zone").cloned()) {
            out["zone"] = (*zone).into();
        }
    }
    if let Some(hostname) = services::hostname(service, pod) {
        out["hostname"] = hostname.into();
    }
    out
}
