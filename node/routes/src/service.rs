//! One port of one Service, and the choice among its endpoints.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::{EndpointFacts, EndpointSliceFacts, ServiceFacts, ServicePortFacts};

/// `appProtocol` of an endpoint that speaks HTTP/2 in clear text with prior knowledge.
pub const H2C: &str = "kubernetes.io/h2c";

/// Transport protocols that Services are proxied for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// From Kubernetes' text; SCTP is not carried by the virtual network.
    pub fn parse(text: &str) -> Option<Protocol> {
        match text {
            "TCP" | "" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            _ => None,
        }
    }
}

/// A Service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// Something that a Service's port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and resolved target port.
    pub addr: SocketAddr,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether its pod is going away for good.
    pub terminating: bool,
    /// The node it is on, if known.
    pub node: Option<Arc<str>>,
}

/// One port of a Service with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The Service.
    pub service: ServiceKey,
    /// Port name, empty if unnamed.
    pub name: Arc<str>,
    /// Port number of the virtual address.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// `appProtocol`, such as `kubernetes.io/h2c`.
    pub app_protocol: Option<Arc<str>>,
    /// Every endpoint, in address order.
    pub endpoints: Arc<[Endpoint]>,
    /// Those that new connections may go to: the ready ones, or, when there is none, those that still serve while they
    /// terminate. The internal traffic policy is applied.
    pub eligible: Arc<[Endpoint]>,
    /// The same for connections from outside the cluster: the external traffic policy is applied instead.
    pub external: Arc<[Endpoint]>,
    /// Seconds of `ClientIP` affinity, if the Service wants it.
    pub affinity_seconds: Option<u32>,
}

/// Which traffic policy of a Service counts: that for connections from inside the cluster, or that for those from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Pods, and the ingress.
    Inside,
    /// Node ports, external addresses.
    Outside,
}

impl ServicePort {
    /// Those that new connections of `side` may go to.
    pub fn eligible(&self, side: Side) -> &[Endpoint] {
        match side {
            Side::Inside => &self.eligible,
            Side::Outside => &self.external,
        }
    }

    /// The endpoints to try for one new connection, best first, each once. `first` is the one that the client's affinity
    /// points at (see [`crate::Affinity`]); without one `seq`, a counter (round robin) or a random number, chooses.
    pub fn candidates(&self, side: Side, first: Option<SocketAddr>, seq: u64) -> impl Iterator<Item = &Endpoint> {
        let list = self.eligible(side);
        let found = first.and_then(|addr| list.iter().position(|e| e.addr == addr));
        let at = found.unwrap_or_else(|| usize::try_from(seq % list.len().max(1) as u64).unwrap_or(0));
        list[at..].iter().chain(&list[..at])
    }

    /// Whether it is worth waiting when nobody answers: some endpoint is meant to stay, so it starts, restarts or is about
    /// to become ready. Where there is none, or all are going away, only a new pod could help.
    pub fn may_recover(&self) -> bool {
        self.endpoints.iter().any(|e| !e.terminating)
    }
}

/// FNV-1a over client and endpoint: stable between nodes and restarts.
pub(crate) fn weight(client: IpAddr, endpoint: SocketAddr) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for b in bytes {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for ip in [client, endpoint.ip()] {
        match ip {
            IpAddr::V4(v4) => eat(&v4.octets()),
            IpAddr::V6(v6) => eat(&v6.octets()),
        }
    }
    eat(&endpoint.port().to_be_bytes());
    // FNV's high bits mix poorly for short inputs.
    hash ^ (hash >> 32)
}

/// The ports of `service` with the endpoints that its slices give them.
pub(crate) fn ports<O: Borrow<Object>>(
    key: &ServiceKey,
    service: &ServiceFacts,
    slices: &[O],
    node: Option<&str>,
) -> Vec<Arc<ServicePort>> {
    let slices: Vec<Arc<EndpointSliceFacts>> = slices.iter().map(|o| o.borrow().facts()).collect();
    let wanted = |p: &ServicePortFacts| Protocol::parse(&p.protocol);
    service
        .ports
        .iter()
        .filter_map(|p| Some((p, wanted(p)?)))
        .map(|(p, protocol)| Arc::new(one(key, service, p, protocol, &slices, node)))
        .collect()
}

fn one(
    key: &ServiceKey,
    service: &ServiceFacts,
    port: &ServicePortFacts,
    protocol: Protocol,
    slices: &[Arc<EndpointSliceFacts>],
    node: Option<&str>,
) -> ServicePort {
    let mut all: BTreeMap<SocketAddr, (Endpoint, bool)> = BTreeMap::new();
    for slice in slices {
        let same = |(name, proto, _): &&(String, String, u16)| *name == port.name && *proto == port.protocol;
        let Some((_, _, number)) = slice.ports.iter().find(same) else { continue };
        for e in &slice.endpoints {
            let Some((endpoint, draining)) = endpoint(e, *number) else { continue };
            // An endpoint may stand in two slices while it moves between them.
            let known = all.entry(endpoint.addr).or_insert_with(|| (endpoint.clone(), draining));
            known.0.ready |= endpoint.ready;
            known.0.terminating &= endpoint.terminating;
            known.1 |= draining;
        }
    }
    let endpoints: Arc<[Endpoint]> = all.values().map(|(e, _)| e.clone()).collect();
    let eligible = |local: bool| {
        let here = |e: &Endpoint| !local || (node.is_some() && e.node.as_deref() == node);
        let mut list: Arc<[Endpoint]> =
            all.values().filter(|(e, _)| e.ready && here(e)).map(|(e, _)| e.clone()).collect();
        if list.is_empty() {
            list = all.values().filter(|(e, draining)| *draining && here(e)).map(|(e, _)| e.clone()).collect();
        }
        if list.len() == endpoints.len() { endpoints.clone() } else { list }
    };
    let inside = eligible(service.internal_local);
    let external = if service.external_local == service.internal_local {
        inside.clone()
    } else {
        eligible(service.external_local)
    };
    ServicePort {
        service: key.clone(),
        name: port.name.as_str().into(),
        port: port.port,
        protocol,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
        endpoints,
        eligible: inside,
        external,
        affinity_seconds: service.affinity_seconds,
    }
}

/// The endpoint, and whether it still serves while it terminates.
fn endpoint(e: &EndpointFacts, port: u16) -> Option<(Endpoint, bool)> {
    // As upstream's proxy: the addresses of one endpoint are fungible, the first one is used.
    let addr = SocketAddr::new(*e.addresses.first()?, port);
    let endpoint =
        Endpoint { addr, ready: e.ready, terminating: e.terminating, node: e.node.as_deref().map(Into::into) };
    Some((endpoint, e.serving && e.terminating))
}
