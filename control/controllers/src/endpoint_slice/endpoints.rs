//! Which endpoints a Service should have, grouped by the ports they resolve to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::facts::PodFacts;
use copepod_model::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::support::pods::Pod;
use crate::support::text;

/// Endpoints by pod UID, by the text of their port list, with the list.
pub(super) type Wanted = BTreeMap<String, (Value, BTreeMap<String, Value>)>;

/// Computes them for one address type.
pub(super) fn wanted(
    view: &dyn View,
    service: &Object,
    value: &Value,
    selector: &LabelSelector,
    family: &str,
) -> Wanted {
    let mut out = Wanted::new();
    let publish = value["spec"]["publishNotReadyAddresses"] == true;
    for object in view.list("pods", Some(service.namespace())) {
        if !selector.matches(&object.meta.labels) {
            continue;
        }
        let pod = Pod::of(object);
        let Some(ip) = pod.facts.ip.filter(|ip| family == if ip.is_ipv4() { "IPv4" } else { "IPv6" }) else { continue };
        if pod.finished() {
            continue;
        }
        let ports = ports(value, &pod.facts);
        let endpoint = endpoint(view, service, &pod, ip, publish);
        let group = out.entry(ports.to_string()).or_insert_with(|| (ports, BTreeMap::new()));
        group.1.insert(pod.object.meta.uid.to_string(), endpoint);
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
        "targetRef": {
            "kind": "Pod", "namespace": service.namespace(), "name": pod.object.name(), "uid": &*pod.object.meta.uid,
        },
    });
    if !pod.facts.node_name.is_empty() {
        out["nodeName"] = pod.facts.node_name.as_str().into();
        let node = view.get("nodes", "", &pod.facts.node_name);
        if let Some(zone) = node.and_then(|n| n.meta.labels.get("topology.kubernetes.io/zone").cloned()) {
            out["zone"] = (*zone).into();
        }
    }
    if !pod.facts.hostname.is_empty() && pod.facts.subdomain == service.name() {
        out["hostname"] = pod.facts.hostname.as_str().into();
    }
    out
}

/// The Service's ports as this pod has them; a named target that the pod lacks is left out.
fn ports(service: &Value, pod: &PodFacts) -> Value {
    let one = |p: &Value| {
        let protocol = p["protocol"].as_str().unwrap_or("TCP");
        let number = match &p["targetPort"] {
            Value::String(name) => pod.ports.iter().find(|(n, _, proto)| n == name && proto == protocol)?.1,
            Value::Number(n) if n.as_u64() != Some(0) => u16::try_from(n.as_u64()?).ok()?,
            _ => u16::try_from(p["port"].as_u64()?).ok()?,
        };
        Some(port(text(&p["name"]), number.into(), protocol, p["appProtocol"].as_str()))
    };
    service["spec"]["ports"].as_array().into_iter().flatten().filter_map(one).collect()
}

/// One port. Always made here, so that equal ports have equal text whatever order a map keeps.
fn port(name: &str, number: Value, protocol: &str, app: Option<&str>) -> Value {
    let mut out = Map::new();
    if let Some(app) = app {
        out.insert("appProtocol".into(), app.into());
    }
    out.insert("name".into(), name.into());
    out.insert("port".into(), number);
    out.insert("protocol".into(), protocol.into());
    out.into()
}

/// The ports of a stored slice in the same form, whatever the server defaulted.
pub(super) fn ports_of(slice: &Value) -> Value {
    let one = |p: &Value| {
        let protocol = p["protocol"].as_str().unwrap_or("TCP");
        port(text(&p["name"]), p["port"].clone(), protocol, p["appProtocol"].as_str())
    };
    slice["ports"].as_array().into_iter().flatten().map(one).collect()
}
