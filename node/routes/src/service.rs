//! One port of one Service, and the choice among its endpoints.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::{EndpointFacts, EndpointSliceFacts, ServiceFacts, ServicePortFacts};

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
    /// terminate. Traffic policy `Local` is applied.
    pub eligible: Arc<[Endpoint]>,
    /// Seconds of `ClientIP` affinity, if the Service wants it.
    pub affinity_seconds: Option<u32>,
}

impl ServicePort {
    /// The endpoints to try for one new connection, best first, each once. `seq` is a counter (round robin) or a random
    /// number. With client affinity a client keeps its endpoint for as long as that one is eligible (rendezvous hash).
    pub fn candidates(&self, client: Option<IpAddr>, seq: u64) -> impl Iterator<Item = &Endpoint> {
        let n = self.eligible.len();
        let first = match client.filter(|_| self.affinity_seconds.is_some()) {
            Some(ip) => (0..n).max_by_key(|i| weight(ip, self.eligible[*i].addr)).unwrap_or(0),
            None => usize::try_from(seq % n.max(1) as u64).unwrap_or(0),
        };
        self.eligible[first..].iter().chain(&self.eligible[..first])
    }
}

/// The endpoint for a new connection, or `None` when the connection must be refused.
pub fn pick(port: &ServicePort, seq: u64) -> Option<Endpoint> {
    port.candidates(None, seq).next().cloned()
}

/// FNV-1a over client and endpoint: stable between nodes and restarts.
fn weight(client: IpAddr, endpoint: SocketAddr) -> u64 {
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
            known.1 |= draining;
        }
    }
    let here = |e: &Endpoint| !service.internal_local || (node.is_some() && e.node.as_deref() == node);
    let endpoints: Arc<[Endpoint]> = all.values().map(|(e, _)| e.clone()).collect();
    let mut eligible: Arc<[Endpoint]> =
        all.values().filter(|(e, _)| e.ready && here(e)).map(|(e, _)| e.clone()).collect();
    if eligible.is_empty() {
        eligible = all.values().filter(|(e, draining)| *draining && here(e)).map(|(e, _)| e.clone()).collect();
    }
    if eligible.len() == endpoints.len() {
        eligible = endpoints.clone();
    }
    ServicePort {
        service: key.clone(),
        name: port.name.as_str().into(),
        port: port.port,
        protocol,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
        endpoints,
        eligible,
        affinity_seconds: service.affinity_seconds,
    }
}

/// The endpoint, and whether it still serves while it terminates.
fn endpoint(e: &EndpointFacts, port: u16) -> Option<(Endpoint, bool)> {
    // As upstream's proxy: the addresses of one endpoint are fungible, the first one is used.
    let addr = SocketAddr::new(*e.addresses.first()?, port);
    let endpoint = Endpoint { addr, ready: e.ready, node: e.node.as_deref().map(Into::into) };
    Some((endpoint, e.serving && e.terminating))
}
