//! The same decisions, read from the objects each time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::{Event, NAMESPACES, PODS};
use crate::service::Protocol;

#[derive(Default)]
pub(super) struct World {
    namespaces: BTreeMap<usize, Value>,
    pub(super) pods: BTreeMap<usize, Value>,
    pub(super) policies: BTreeMap<(usize, usize), Value>,
}

fn set<K: Ord>(map: &mut BTreeMap<K, Value>, key: K, value: &Option<Value>) {
    match value {
        Some(value) => drop(map.insert(key, value.clone())),
        None => drop(map.remove(&key)),
    }
}

fn items(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().cloned().unwrap_or_default();
    pairs.iter().all(|(k, v)| labels[k] == *v)
        && items(&selector["matchExpressions"]).iter().all(|e| {
            let value = &labels[e["key"].as_str().unwrap()];
            let listed = items(&e["values"]).contains(value);
            match e["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !value.is_null(),
                _ => value.is_null(),
            }
        })
}

fn covers(cidr: &Value, ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let (network, bits) = cidr.as_str().unwrap().split_once('/').unwrap();
    let network: std::net::Ipv4Addr = network.parse().unwrap();
    let size = 1u64 << (32 - bits.parse::<u32>().unwrap());
    u64::from(network.to_bits()) / size == u64::from(ip.to_bits()) / size
}

impl World {
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Namespace(n, labels) => set(&mut self.namespaces, *n, labels),
            Event::Pod(n, labels) => set(&mut self.pods, *n, labels),
            Event::Policy(ns, n, spec) => set(&mut self.policies, (*ns, *n), spec),
        }
    }

    /// Whether something may enter the pod `own` from somebody at an address, or leave it to them.
    pub(super) fn may(&self, enters: bool, own: usize, other: Option<usize>, ip: IpAddr, at: (Protocol, u16)) -> bool {
        if other == Some(own) {
            return true;
        }
        let (kind, rules, peers) = if enters { ("Ingress", "ingress", "from") } else { ("Egress", "egress", "to") };
        let space = |pod: usize| NAMESPACES.iter().position(|ns| *ns == PODS[pod].0).unwrap();
        // The one whose ports are named.
        let server = if enters { Some(own) } else { other };
        let (mut isolated, mut allowed) = (false, false);
        for ((ns, _), spec) in &self.policies {
            let types = items(&spec["policyTypes"]);
            let is_for = match types.is_empty() {
                true => enters || !items(&spec["egress"]).is_empty(),
                false => types.iter().any(|t| t == kind),
            };
            if *ns != space(own) || !is_for || !selects(&spec["podSelector"], &self.pods[&own]) {
                continue;
            }
            isolated = true;
            for rule in items(&spec[rules]) {
                let (ports, who) = (items(&rule["ports"]), items(&rule[peers]));
                let port = |p: &Value| {
                    let protocol = match p["protocol"].as_str().unwrap_or("TCP") {
                        "TCP" => at.0 == Protocol::Tcp,
                        "UDP" => at.0 == Protocol::Udp,
                        _ => false,
                    };
                    let number = match &p["port"] {
                        Value::Null => true,
                        Value::String(name) => server.is_some_and(|s| match name.as_str() {
                            "http" => at == (Protocol::Tcp, 8000 + u16::from(PODS[s].2)),
                            "dns" => at == (Protocol::Udp, 53),
                            _ => false,
                        }),
                        first => {
                            let first = first.as_u64().unwrap();
                            (first..=p["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(at.1))
                        }
                    };
                    protocol && number
                };
                let peer = |p: &Value| {
                    if p["ipBlock"].is_object() {
                        let except = items(&p["ipBlock"]["except"]);
                        return covers(&p["ipBlock"]["cidr"], ip) && !except.iter().any(|e| covers(e, ip));
                    }
                    let Some(other) = other else { return false };
                    let in_namespace = match &p["namespaceSelector"] {
                        Value::Null => space(other) == *ns,
                        selector => selects(selector, self.namespaces.get(&space(other)).unwrap_or(&Value::Null)),
                    };
                    let pods = &p["podSelector"];
                    in_namespace && (pods.is_null() || selects(pods, &self.pods[&other]))
                };
                allowed |= (ports.is_empty() || ports.iter().any(port)) && (who.is_empty() || who.iter().any(peer));
            }
        }
        !isolated || allowed
    }
}
