//! The subsets that list a Service's pods: an address stands in as few of them as can be, by the ports that go with it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::support::pods::Pod;
use crate::support::ports::Port;
use crate::support::services;

/// The most addresses in one object.
const CAPACITY: usize = 1000;

/// One subset: its addresses are indices into the list of all.
struct Subset {
    ports: Vec<Port>,
    ready: Vec<usize>,
    not_ready: Vec<usize>,
}

/// The subsets of `service`, and whether addresses had to be left out. In the order of ports, addresses and UIDs, so that
/// equal endpoints are equal values.
pub(super) fn wanted(view: &dyn View, service: &Object, value: &Value, selector: &LabelSelector) -> (Vec<Value>, bool) {
    let spec = &value["spec"];
    let publish = spec["publishNotReadyAddresses"] == true;
    // Endpoints know one family only.
    let Some(family) = services::families(value).into_iter().next() else { return (vec![], false) };
    let mut pods: Vec<(Pod, IpAddr)> =
        services::pods(view, service, selector, family).filter(|(pod, _)| publish || !pod.terminating()).collect();
    pods.sort_by(|(a, x), (b, y)| (x, &a.object.meta.uid).cmp(&(y, &b.object.meta.uid)));
    let mut subsets: Vec<Subset> = by_ports(spec, value, &pods)
        .into_iter()
        .map(|(members, ports)| {
            let (ready, not_ready) = members.into_iter().partition(|i| publish || pods[*i].0.facts.ready);
            Subset { ports, ready, not_ready }
        })
        .collect();
    subsets.sort_by(|a, b| a.ports.cmp(&b.ports));
    let truncated = truncate(&mut subsets);
    let address = |i: &usize| address(service, &pods[*i].0, pods[*i].1);
    let one = |s: Subset| {
        let mut out = Map::new();
        for (name, list) in [("addresses", s.ready), ("notReadyAddresses", s.not_ready)] {
            if !list.is_empty() {
                out.insert(name.into(), list.iter().map(address).collect());
            }
        }
        if out.is_empty() {
            return None;
        }
        if !s.ports.is_empty() {
            out.insert("ports".into(), s.ports.iter().map(Port::in_endpoints).collect());
        }
        Some(Value::from(out))
    };
    (subsets.into_iter().filter_map(one).collect(), truncated)
}

/// Which pods offer which ports: each port with all that have it, ports of the same pods together. Pods of a headless
/// Service without ports are listed without any.
fn by_ports(spec: &Value, service: &Value, pods: &[(Pod, IpAddr)]) -> BTreeMap<Vec<usize>, Vec<Port>> {
    let mut out: BTreeMap<Vec<usize>, Vec<Port>> = BTreeMap::new();
    if spec["ports"].as_array().is_none_or(Vec::is_empty) {
        if spec["clusterIP"] == "None" && !pods.is_empty() {
            out.insert((0..pods.len()).collect(), vec![]);
        }
        return out;
    }
    let mut members: BTreeMap<Port, Vec<usize>> = BTreeMap::new();
    for (i, (pod, _)) in pods.iter().enumerate() {
        for port in Port::of_service(service, &pod.facts) {
            members.entry(port).or_default().push(i);
        }
    }
    for (port, members) in members {
        out.entry(members).or_default().push(port);
    }
    out
}

/// Leaves out what is above the capacity: addresses that are not ready first, of each subset its share. Whether it had to.
fn truncate(subsets: &mut [Subset]) -> bool {
    let ready: usize = subsets.iter().map(|s| s.ready.len()).sum();
    let not_ready: usize = subsets.iter().map(|s| s.not_ready.len()).sum();
    if ready + not_ready <= CAPACITY {
        return false;
    }
    let too_many_ready = ready > CAPACITY;
    let (room, total) = if too_many_ready { (CAPACITY, ready) } else { (CAPACITY - ready, not_ready) };
    let mut left = room;
    for s in subsets {
        if too_many_ready {
            s.not_ready.clear();
        }
        let list = if too_many_ready { &mut s.ready } else { &mut s.not_ready };
        list.truncate((list.len() * room).div_ceil(total).min(left));
        left -= list.len();
    }
    true
}

fn address(service: &Object, pod: &Pod, ip: IpAddr) -> Value {
    let mut out = json!({"ip": ip.to_string(), "targetRef": services::target_ref(pod)});
    if !pod.facts.node_name.is_empty() {
        out["nodeName"] = pod.facts.node_name.as_str().into();
    }
    if let Some(hostname) = services::hostname(service, pod) {
        out["hostname"] = hostname.into();
    }
    out
}
