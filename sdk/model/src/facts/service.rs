//! Facts of Services and EndpointSlices: what the proxy and the DNS zone both read.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::Facts;
use crate::Object;

/// The label that ties an EndpointSlice to its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Facts of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    /// `spec.clusterIPs` (or `clusterIP`), parsed; empty for headless and ExternalName Services.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilies`: of several the first one comes first.
    pub families: Vec<&'static str>,
    /// `spec.clusterIP` is `None`.
    pub headless: bool,
    /// `spec.externalName` of a Service of that type.
    pub external_name: Option<String>,
    /// `spec.externalIPs` and `status.loadBalancer.ingress[].ip`: addresses that lead to the Service as well.
    pub external_ips: Vec<IpAddr>,
    /// The latter of them alone, those of `ipMode: Proxy` left out.
    pub balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges` as (address, prefix length): who may come by those; empty is everyone.
    pub source_ranges: Vec<(IpAddr, u8)>,
    /// `spec.ports`.
    pub ports: Vec<ServicePortFacts>,
    /// Seconds of `ClientIP` session affinity, if it is on.
    pub affinity_seconds: Option<u32>,
    /// `spec.internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// `spec.externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// `spec.healthCheckNodePort`, 0 without one.
    pub health_check_port: u16,
}

/// One of a Service's ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServicePortFacts {
    /// Name, empty when there is only one.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port of the virtual address.
    pub port: u16,
    /// Allocated node port, 0 without one.
    pub node_port: u16,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// Facts of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSliceFacts {
    /// The Service it belongs to, empty if none.
    pub service: String,
    /// `ports` that have a number: (name, protocol, port).
    pub ports: Vec<(String, String, u16)>,
    /// Endpoints with at least one IP address.
    pub endpoints: Vec<EndpointFacts>,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointFacts {
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Condition `ready`; absent means true.
    pub ready: bool,
    /// Condition `serving`; absent means as ready.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `nodeName`.
    pub node: Option<String>,
    /// `targetRef.uid`: which pod it is, where it is one.
    pub target: Option<Arc<str>>,
    /// `hints.forZones`: the zones whose clients should come here (KEP-4444); empty is no hint.
    pub for_zones: Vec<String>,
    /// `hints.forNodes`: the same of nodes (KEP-3015).
    pub for_nodes: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Service {
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ip_families: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    external_name: Option<String>,
    ports: Option<Vec<Port>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    health_check_node_port: Option<u16>,
    load_balancer_source_ranges: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
    node_port: Option<u16>,
    app_protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<LoadBalancerIngress>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LoadBalancerIngress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// What Kubernetes assumes when affinity is on and no timeout is given: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.into_iter().filter_map(|s| s.parse().ok()).collect()
}

/// `192.0.2.0/24` as (address, prefix length).
fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.trim().split_once('/')?;
    let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}

impl Facts for ServiceFacts {
    fn of(object: &Object) -> Self {
        let service: Service = object.typed().unwrap_or_default();
        let spec = service.spec.unwrap_or_default();
        let kind = spec.kind.as_deref().unwrap_or("ClusterIP");
        let external_name = (kind == "ExternalName").then(|| spec.external_name.unwrap_or_default());
        let headless = external_name.is_none() && spec.cluster_ip.as_deref() == Some("None");
        let cluster_ips = match (&external_name, &spec.cluster_ips) {
            (Some(_), _) => Vec::new(),
            (None, Some(ips)) if !ips.is_empty() => addresses(ips),
            _ => addresses(&spec.cluster_ip),
        };
        let balancer = service.status.and_then(|s| s.load_balancer).and_then(|l| l.ingress).unwrap_or_default();
        let mut external_ips = addresses(spec.external_ips.iter().flatten());
        // What a proxy stands for must come by that (KEP-1860).
        let direct = balancer.iter().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let balancer_ips = addresses(direct.filter_map(|i| i.ip.as_ref()));
        external_ips.extend(&balancer_ips);
        let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let client_ip = spec.session_affinity_config.and_then(|c| c.client_ip);
            client_ip.and_then(|c| c.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS)
        });
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let mut ports: Vec<_> = spec.ports.unwrap_or_default().into_iter().filter_map(port).collect();
        // Other types may name node ports, which are not allocated to them and may be somebody else's.
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            ports.iter_mut().for_each(|p| p.node_port = 0);
        }
        ServiceFacts {
            cluster_ips,
            families: spec.ip_families.iter().flatten().filter_map(|f| FAMILIES.into_iter().find(|k| f == k)).collect(),
            headless,
            external_name,
            external_ips,
            balancer_ips,
            source_ranges: spec.load_balancer_source_ranges.iter().flatten().filter_map(|r| range(r)).collect(),
            ports,
            affinity_seconds,
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_port: spec.health_check_node_port.unwrap_or(0),
        }
    }
}

fn port(p: Port) -> Option<ServicePortFacts> {
    Some(ServicePortFacts {
        name: p.name.unwrap_or_default(),
        protocol: p.protocol.unwrap_or_else(|| "TCP".into()),
        port: p.port?,
        node_port: p.node_port.unwrap_or(0),
        app_protocol: p.app_protocol,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Slice {
    ports: Option<Vec<Port>>,
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<TargetRef>,
    hints: Option<Hints>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TargetRef {
    uid: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    for_zones: Option<Vec<Hint>>,
    for_nodes: Option<Vec<Hint>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Hint {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Facts for EndpointSliceFacts {
    fn of(object: &Object) -> Self {
        let slice: Slice = object.typed().unwrap_or_default();
        EndpointSliceFacts {
            service: object.meta.labels.get(SERVICE_NAME_LABEL).map(ToString::to_string).unwrap_or_default(),
            ports: slice
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(port)
                .map(|p| (p.name, p.protocol, p.port))
                .collect(),
            endpoints: slice.endpoints.unwrap_or_default().into_iter().filter_map(endpoint).collect(),
        }
    }
}

fn endpoint(e: Endpoint) -> Option<EndpointFacts> {
    let addresses = addresses(e.addresses.iter().flatten());
    let conditions = e.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = e.hints.unwrap_or_default();
    let names = |of: Option<Vec<Hint>>| of.into_iter().flatten().map(|h| h.name).collect();
    (!addresses.is_empty()).then(|| EndpointFacts {
        addresses,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        hostname: e.hostname.filter(|h| !h.is_empty()),
        node: e.node_name,
        target: e.target_ref.and_then(|t| t.uid).filter(|uid| !uid.is_empty()).map(Into::into),
        for_zones: names(hints.for_zones),
        for_nodes: names(hints.for_nodes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::object::{encode, with_revision};
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        Object::decode(Key::new("x", "d", "a"), 1, with_revision(&encode(&value), 1))
    }

    #[test]
    fn services_by_type() {
        let vip = ServiceFacts::of(&object(json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv6", "IPX", "IPv4"], "sessionAffinity": "ClientIP",
            "ports": [{"port": 80, "name": "http", "appProtocol": "kubernetes.io/h2c"}, {"name": "lacks its port"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "x"},
                {"ip": "192.0.2.2", "ipMode": "Proxy"}]}}})));
        assert_eq!(vip.cluster_ips, ["10.96.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!(vip.families, ["IPv6", "IPv4"]);
        assert_eq!(vip.external_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(vip.balancer_ips, vip.external_ips);
        let narrow = json!({"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24", " fd00::/8 ", "10.0.0.0/33", "x"]}});
        let narrow = ServiceFacts::of(&object(narrow)).source_ranges;
        assert_eq!(narrow, [("192.0.2.0".parse().unwrap(), 24), ("fd00::".parse().unwrap(), 8)]);
        assert_eq!(vip.affinity_seconds, Some(10_800));
        let affinity = |kind: &str| {
            let config = json!({"clientIP": {"timeoutSeconds": 30}});
            let spec = json!({"sessionAffinity": kind, "sessionAffinityConfig": config});
            ServiceFacts::of(&object(json!({ "spec": spec }))).affinity_seconds
        };
        assert_eq!((affinity("ClientIP"), affinity("None")), (Some(30), None));
        assert_eq!(vip.ports.len(), 1);
        assert_eq!((vip.ports[0].port, vip.ports[0].protocol.as_str()), (80, "TCP"));
        let headless = ServiceFacts::of(&object(json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})));
        assert!(headless.headless && headless.cluster_ips.is_empty());
        let external = json!({"spec": {"type": "ExternalName", "externalName": "a.b", "ports": [{"port": 80, "nodePort": 30005}]}});
        let external = ServiceFacts::of(&object(external));
        assert_eq!((external.external_name.as_deref(), external.ports[0].node_port), (Some("a.b"), 0));
        assert_eq!(ServiceFacts::of(&object(json!({"spec": 7}))), ServiceFacts::default());
    }

    #[test]
    fn conditions_have_kubernetes_defaults() {
        let slice = EndpointSliceFacts::of(&object(json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}},
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}, {"name": "all"}],
            "endpoints": [{"addresses": ["10.244.0.5"]},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["not an ip"]}]})));
        assert_eq!(slice.service, "web");
        assert_eq!(slice.ports, [(String::new(), "TCP".to_string(), 8080)]);
        let seen: Vec<_> = slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
        assert_eq!(seen, [(true, true, false), (false, true, true)]);
        let hinted = json!({"endpoints": [{"addresses": ["10.244.0.5"],
            "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": null}}]});
        let hinted = EndpointSliceFacts::of(&object(hinted)).endpoints;
        assert_eq!((hinted[0].for_zones.join(" "), hinted[0].for_nodes.len()), ("a b".into(), 0));
        let targets = json!([{"kind": "Pod", "name": "p", "uid": "u"}, {"kind": "Pod"}, null]);
        let endpoint = |target: &Value| json!({"addresses": ["10.244.0.5"], "targetRef": target});
        let endpoints: Vec<Value> = targets.as_array().unwrap().iter().map(endpoint).collect();
        let targeted = EndpointSliceFacts::of(&object(json!({ "endpoints": endpoints }))).endpoints;
        let targets: Vec<_> = targeted.iter().map(|e| e.target.as_deref()).collect();
        assert_eq!(targets, [Some("u"), None, None]);
    }
}
