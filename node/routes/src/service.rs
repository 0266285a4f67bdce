//! One port of one Service, and the choice among its endpoints.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::{EndpointFacts, EndpointSliceFacts, ServiceFacts, ServicePortFacts};
use copepod_model::networks::family;

use crate::balance::Choice;

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
    /// The UID of what it stands for, if known: another pod may get its address later.
    pub target: Option<Arc<str>>,
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
    /// The family of its endpoints, where the Service has two and so such a port for each; without one they may be of any.
    pub family: Option<&'static str>,
    /// `appProtocol`, such as `kubernetes.io/h2c`.
    pub app_protocol: Option<Arc<str>>,
    /// Every endpoint, in address order.
    pub endpoints: Arc<[Endpoint]>,
    /// Those that new connections may go to: the ready ones, or, when there is none, those that still serve while they
    /// terminate. The internal traffic policy is applied, and hints by node and zone are.
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
    /// Whether it is for what comes by an address of this family.
    pub fn serves(&self, ip: IpAddr) -> bool {
        self.family.is_none_or(|own| own == family(ip.to_canonical()))
    }

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

    /// The same as the node's experience has it: from the [`Choice`] on, and those that are out last.
    pub fn in_order<'a>(&'a self, side: Side, choice: &'a Choice) -> impl Iterator<Item = &'a Endpoint> {
        let list = self.eligible(side);
        let at = choice.at.min(list.len());
        let all = move || list[at..].iter().chain(&list[..at]);
        let is_out = |e: &&Endpoint| choice.out.contains(&e.addr);
        all().filter(move |e| !is_out(e)).chain(all().filter(is_out))
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

/// The ports of `service` with the endpoints that its slices give them; if it has two families each port once for either, that
/// of the first family first, as kube-proxy has a proxier for either.
pub(crate) fn ports<O: Borrow<Object>>(
    key: &ServiceKey,
    service: &ServiceFacts,
    slices: &[O],
    at: Place<'_>,
) -> Vec<Arc<ServicePort>> {
    let slices: Vec<Arc<EndpointSliceFacts>> = slices.iter().map(|o| o.borrow().facts()).collect();
    let wanted = |p: &ServicePortFacts| Protocol::parse(&p.protocol);
    let families: Vec<Option<&'static str>> = match &service.families[..] {
        two @ [_, _, ..] => two.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    let ports = service.ports.iter().filter_map(|p| Some((p, wanted(p)?)));
    ports
        .flat_map(|(p, protocol)| families.iter().map(move |of| (p, protocol, *of)))
        .map(|(p, protocol, of)| Arc::new(one(key, service, p, (protocol, of), &slices, at)))
        .collect()
}

fn one(
    key: &ServiceKey,
    service: &ServiceFacts,
    port: &ServicePortFacts,
    (protocol, of): (Protocol, Option<&'static str>),
    slices: &[Arc<EndpointSliceFacts>],
    at: Place<'_>,
) -> ServicePort {
    let mut all: BTreeMap<SocketAddr, Seen> = BTreeMap::new();
    for slice in slices {
        let same = |(name, proto, _): &&(String, String, u16)| *name == port.name && *proto == port.protocol;
        let Some((_, _, number)) = slice.ports.iter().find(same) else { continue };
        for e in &slice.endpoints {
            let Some(new) = seen(e, *number, at) else { continue };
            if of.is_some_and(|of| of != family(new.endpoint.addr.ip())) {
                continue;
            }
            // An endpoint may stand in two slices while it moves between them.
            match all.entry(new.endpoint.addr) {
                Entry::Vacant(free) => {
                    free.insert(new);
                }
                Entry::Occupied(mut known) => known.get_mut().join(new),
            }
        }
    }
    let endpoints: Arc<[Endpoint]> = all.values().map(|s| s.endpoint.clone()).collect();
    let near = near(all.values().filter(|s| s.endpoint.ready).map(|s| s.hints));
    let some = |wanted: &dyn Fn(&Seen) -> bool| -> Arc<[Endpoint]> {
        all.values().filter(|s| wanted(s)).map(|s| s.endpoint.clone()).collect()
    };
    let eligible = |local: bool| {
        let here = |s: &Seen| !local || (at.node.is_some() && s.endpoint.node.as_deref() == at.node);
        // Hints are for traffic that may go anywhere.
        let meant = |s: &Seen| local || near(s.hints);
        let mut list = some(&|s| s.endpoint.ready && here(s) && meant(s));
        if list.is_empty() {
            list = some(&|s| s.draining && here(s));
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
        family: of,
        app_protocol: port.app_protocol.as_deref().map(Into::into),
        endpoints,
        eligible: inside,
        external,
        affinity_seconds: service.affinity_seconds,
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place<'a> {
    /// Its name.
    pub(crate) node: Option<&'a str>,
    /// Its zone.
    pub(crate) zone: Option<&'a str>,
}

/// For whom an endpoint is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Nobody has said.
    Missing,
    /// Others.
    Others,
    /// This node, or those in its zone.
    Us,
}

/// An endpoint with what decides whether it is chosen.
struct Seen {
    endpoint: Endpoint,
    /// It still serves while it terminates.
    draining: bool,
    /// By node, by zone.
    hints: [Hint; 2],
}

impl Seen {
    fn join(&mut self, other: Seen) {
        // Where one pod has followed another at the address, it is the one that is ready.
        if other.endpoint.ready {
            self.endpoint.target = other.endpoint.target;
        }
        self.endpoint.ready |= other.endpoint.ready;
        self.endpoint.terminating &= other.endpoint.terminating;
        self.draining |= other.draining;
    }
}

/// By which hints endpoints are chosen, given those of all ready ones, and whether one is: by node, if each has such a hint and
/// one is for this node; or else by zone, in the same way; or else all are (upstream's `topologyModeFromHints`).
fn near(ready: impl Iterator<Item = [Hint; 2]> + Clone) -> impl Fn([Hint; 2]) -> bool {
    let usable = |way: usize| {
        let mut of = ready.clone().map(|hints| hints[way]);
        of.clone().all(|h| h != Hint::Missing) && of.any(|h| h == Hint::Us)
    };
    let way = [0, 1].into_iter().find(|way| usable(*way));
    move |hints| way.is_none_or(|way| hints[way] == Hint::Us)
}

fn seen(e: &EndpointFacts, port: u16, at: Place<'_>) -> Option<Seen> {
    // As upstream's proxy: the addresses of one endpoint are fungible, the first one is used.
    let addr = SocketAddr::new(*e.addresses.first()?, port);
    let node = e.node.as_deref().map(Into::into);
    let endpoint = Endpoint { addr, ready: e.ready, terminating: e.terminating, node, target: e.target.clone() };
    let hint = |names: &[String], own: Option<&str>| match names {
        [] => Hint::Missing,
        names if own.is_some_and(|own| names.iter().any(|n| n == own)) => Hint::Us,
        _ => Hint::Others,
    };
    let hints = [hint(&e.for_nodes, at.node), hint(&e.for_zones, at.zone)];
    Some(Seen { endpoint, draining: e.serving && e.terminating, hints })
}
