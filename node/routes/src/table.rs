//! The whole table, immutable and cheap to copy: a change of one Service makes a new table that shares all the rest.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::facts::{EndpointSliceFacts, INGRESS_CLASS, INGRESS_CONTROLLER, ServiceFacts, ServicePortFacts};
use copepod_model::gateway::Layer;
use copepod_model::{Object, Time};
use imbl::OrdMap;

use crate::gateway::GatewayObjects;
use crate::host::HostAddr;
use crate::http::{Backend, BackendPort, External, HttpTable, TlsSecret};
use crate::rule::{Asked, Door, Found, Greeting, HttpRule};
use crate::service::{H2C, Place, Protocol, ServiceKey, ServicePort, ports};

/// What the table must know besides the objects.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, for traffic policy `Local`.
    pub node: Option<Arc<str>>,
    /// This node's zone (label `topology.kubernetes.io/zone`), for endpoints' hints.
    pub zone: Option<Arc<str>>,
    /// The IngressClass that is ours even without an object of that name.
    pub ingress_class: Arc<str>,
    /// `spec.controller` of the IngressClasses that are ours.
    pub ingress_controller: Arc<str>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node: None,
            zone: None,
            ingress_class: INGRESS_CLASS.into(),
            ingress_controller: INGRESS_CONTROLLER.into(),
        }
    }
}

impl Config {
    fn place(&self) -> Place<'_> {
        Place { node: self.node.as_deref(), zone: self.zone.as_deref() }
    }
}

type At = (IpAddr, u16, Protocol);

/// A Service's claim to an address that is not its own.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// When the Service was made: the oldest one comes first.
    since: Option<Time>,
    pub(crate) port: Arc<ServicePort>,
    /// Whether it is a load balancer's: then the address is a node's as well.
    pub(crate) balancer: bool,
}

impl Claim {
    fn rank(&self) -> (Option<Time>, &ServiceKey) {
        (self.since, &self.port.service)
    }
}

/// Everything that decides where a connection or a request goes.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    config: Arc<Config>,
    vips: OrdMap<At, Arc<ServicePort>>,
    /// Who claims an external address: the first one has it, unless it is another one's own.
    external: OrdMap<At, Vec<Claim>>,
    node_ports: OrdMap<(u16, Protocol), Arc<ServicePort>>,
    services: OrdMap<ServiceKey, Arc<Entry>>,
    /// The health check ports of those that have one.
    health: OrdMap<ServiceKey, u16>,
    /// Another one whenever it changes for which addresses of the host somebody has to listen.
    host: Arc<()>,
    http: Arc<HttpTable>,
}

#[derive(Debug)]
struct Entry {
    facts: Arc<ServiceFacts>,
    since: Option<Time>,
    ports: Vec<Arc<ServicePort>>,
}

impl RouteTable {
    /// An empty table.
    pub fn new(config: Config) -> RouteTable {
        RouteTable { config: Arc::new(config), ..RouteTable::default() }
    }

    /// The table of these objects. Objects keep their decoded facts, so a rebuild costs no parsing.
    pub fn build<O: Borrow<Object>>(
        services: impl IntoIterator<Item = O>,
        slices: impl IntoIterator<Item = O>,
        ingresses: impl IntoIterator<Item = O>,
        classes: impl IntoIterator<Item = O>,
        config: Config,
    ) -> RouteTable {
        let mut of: BTreeMap<(Box<str>, Box<str>), Vec<O>> = BTreeMap::new();
        for slice in slices {
            let o = slice.borrow();
            let facts: Arc<EndpointSliceFacts> = o.facts();
            if !facts.service.is_empty() {
                of.entry((o.namespace().into(), facts.service.as_str().into())).or_default().push(slice);
            }
        }
        let mut table = RouteTable::new(config);
        for service in services {
            let o = service.borrow();
            let slices = of.remove(&(o.namespace().into(), o.name().into())).unwrap_or_default();
            table.put(o, &slices);
        }
        table.with_ingresses(ingresses, classes)
    }

    /// The table of everything in `view`.
    pub fn from_view(view: &dyn View, config: Config) -> RouteTable {
        RouteTable::build(
            view.list("services", None),
            view.list("endpointslices.discovery.k8s.io", None),
            view.list("ingresses.networking.k8s.io", None),
            view.list("ingressclasses.networking.k8s.io", None),
            config,
        )
    }

    /// The table after a change of one Service or of its slices; `service` is `None` when it is gone. `slices` are all
    /// slices of its namespace or only its own: others are passed over.
    pub fn with_service<O: Borrow<Object>>(
        &self,
        namespace: &str,
        name: &str,
        service: Option<&Object>,
        slices: impl IntoIterator<Item = O>,
    ) -> RouteTable {
        let mut table = self.clone();
        let key = ServiceKey { namespace: namespace.into(), name: name.into() };
        let before = table.services.get(&key).cloned();
        table.remove(&key);
        let after: Option<Arc<ServiceFacts>> = service.map(Object::facts);
        let before = before.as_deref().map(|e| host_part(&e.facts, e.since));
        if before != after.as_deref().map(|facts| host_part(facts, service.and_then(|s| s.meta.created()))) {
            table.host = Arc::default();
        }
        if let Some(service) = service {
            let own = |o: &O| {
                let o: &Object = o.borrow();
                o.namespace() == namespace && o.facts::<EndpointSliceFacts>().service == name
            };
            table.put(service, &slices.into_iter().filter(own).collect::<Vec<_>>());
        }
        table
    }

    /// The table after a change of Ingresses or IngressClasses, given all of them.
    pub fn with_ingresses<O: Borrow<Object>>(
        &self,
        ingresses: impl IntoIterator<Item = O>,
        classes: impl IntoIterator<Item = O>,
    ) -> RouteTable {
        let http = Arc::new(self.http.with_ingresses(ingresses, classes, &self.config));
        RouteTable { http, ..self.clone() }
    }

    /// The same table for a node in this zone. Services count as they were put: those that exist have to be put again.
    pub fn with_zone(&self, zone: Option<Arc<str>>) -> RouteTable {
        RouteTable { config: Arc::new(Config { zone, ..(*self.config).clone() }), ..self.clone() }
    }

    /// The zone that the node is in.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.config.zone.as_ref()
    }

    /// The table after a change of Gateways, of their classes, of routes, of grants, or of namespaces' labels, given all of them.
    pub fn with_gateways<O: Borrow<Object>>(&self, objects: &GatewayObjects<O>) -> RouteTable {
        RouteTable { http: Arc::new(self.http.with_gateways(objects)), ..self.clone() }
    }

    fn put<O: Borrow<Object>>(&mut self, service: &Object, slices: &[O]) {
        let facts: Arc<ServiceFacts> = service.facts();
        let key = ServiceKey { namespace: service.key.namespace.clone(), name: service.key.name.clone() };
        let ports = ports(&key, &facts, slices, self.config.place());
        for port in &ports {
            for ip in facts.cluster_ips.iter().filter(|ip| port.serves(**ip)) {
                self.vips.insert((*ip, port.port, port.protocol), port.clone());
            }
            for ip in facts.external_ips.iter().filter(|ip| port.serves(**ip)) {
                let balancer = facts.balancer_ips.contains(ip);
                let claim = Claim { since: service.meta.created(), port: port.clone(), balancer };
                let all = self.external.entry((*ip, port.port, port.protocol)).or_default();
                let place = all.partition_point(|c| c.rank() <= claim.rank());
                all.insert(place, claim);
            }
            // Which family's it is, the address says by which somebody comes.
            let is_first = port.family.is_none() || port.family == facts.families.first().copied();
            if let Some(node_port) = node_port(&facts, port).filter(|_| is_first) {
                self.node_ports.insert((node_port, port.protocol), port.clone());
            }
        }
        if facts.health_check_port != 0 {
            self.health.insert(key.clone(), facts.health_check_port);
        }
        self.services.insert(key, Arc::new(Entry { facts, since: service.meta.created(), ports }));
    }

    fn remove(&mut self, key: &ServiceKey) {
        let Some(old) = self.services.remove(key) else { return };
        self.health.remove(key);
        for port in &old.ports {
            for ip in &old.facts.cluster_ips {
                let at = (*ip, port.port, port.protocol);
                if self.vips.get(&at).is_some_and(|p| p.service == *key) {
                    self.vips.remove(&at);
                }
            }
            for ip in &old.facts.external_ips {
                let at = (*ip, port.port, port.protocol);
                let left: Vec<Claim> =
                    self.external.remove(&at).into_iter().flatten().filter(|c| c.port.service != *key).collect();
                if !left.is_empty() {
                    self.external.insert(at, left);
                }
            }
            if let Some(node_port) = node_port(&old.facts, port) {
                self.node_ports.remove(&(node_port, port.protocol));
            }
        }
    }

    /// The Service port that a virtual address leads to.
    pub fn service(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        let at = (ip, port, protocol);
        self.vips.get(&at).or_else(|| self.external.get(&at)?.first().map(|c| &c.port))
    }

    /// Whether `ip` is some Service's address: ports that it does not have are refused, not sent out of the cluster. A load
    /// balancer's is not, since it is a node's.
    pub fn is_vip(&self, ip: IpAddr) -> bool {
        let from = (ip, 0, Protocol::Tcp);
        let mut claims = self.external.range(from..).take_while(|((at, ..), _)| *at == ip);
        self.vips.range(from..).next().is_some_and(|((at, ..), _)| *at == ip)
            || claims.any(|(_, all)| all.iter().any(|c| !c.balancer))
    }

    /// Every external address with those who claim it, the first one first.
    pub(crate) fn external_claims(&self) -> impl Iterator<Item = (&At, &[Claim])> {
        self.external.iter().map(|(at, all)| (at, all.as_slice()))
    }

    /// Whether a client outside the cluster may come to a Service by an address of the host: a load balancer's may be for some
    /// only, a node port is for everyone.
    pub fn admits(&self, service: &ServiceKey, at: HostAddr, client: IpAddr) -> bool {
        let HostAddr { addr, protocol } = at;
        let entry = self.services.get(service).filter(|e| e.facts.balancer_ips.contains(&addr.ip()));
        let Some(entry) = entry.filter(|_| self.node_port(addr.port(), protocol).is_none()) else { return true };
        let ranges = &entry.facts.source_ranges;
        ranges.is_empty() || ranges.iter().any(|(network, bits)| within(client, *network, *bits))
    }

    /// The Service port of a node port.
    pub fn node_port(&self, port: u16, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        self.node_ports.get(&(port, protocol))
    }

    /// Whether a host listens for the same with both: then one has come of the other by changes that do not matter for it.
    pub fn same_host_ports(&self, other: &RouteTable) -> bool {
        Arc::ptr_eq(&self.host, &other.host) && self.gateway_ports().eq(other.gateway_ports())
    }

    /// Every health check port.
    pub(crate) fn health_ports(&self) -> impl Iterator<Item = (&ServiceKey, u16)> {
        self.health.iter().map(|(key, port)| (key, *port))
    }

    /// Every node port.
    pub(crate) fn node_ports(&self) -> impl Iterator<Item = (u16, Protocol, &Arc<ServicePort>)> {
        self.node_ports.iter().map(|((number, protocol), port)| (*number, *protocol, port))
    }

    /// The ports of a Service by its name.
    pub fn service_ports(&self, key: &ServiceKey) -> &[Arc<ServicePort>] {
        self.services.get(key).map_or(&[], |e| &e.ports)
    }

    /// The same Service port as `port` in this table, if it still exists.
    pub fn again(&self, port: &ServicePort) -> Option<&Arc<ServicePort>> {
        let same = |p: &&Arc<ServicePort>| p.port == port.port && p.protocol == port.protocol;
        let mut all = self.service_ports(&port.service).iter().filter(same);
        // The Service may have got or lost a family.
        all.clone().find(|p| p.family == port.family).or_else(|| all.next())
    }

    /// The same Service port as `port` for what comes by an address of this family.
    pub(crate) fn in_family<'a>(&'a self, port: &'a Arc<ServicePort>, ip: IpAddr) -> &'a Arc<ServicePort> {
        let same = |p: &&Arc<ServicePort>| p.port == port.port && p.protocol == port.protocol && p.serves(ip);
        self.service_ports(&port.service).iter().find(same).unwrap_or(port)
    }

    /// The rule for a request: the best one that matches, or the default backend of an Ingress. Best is: exact host before
    /// wildcard before any host, then `Exact` path before regular expressions before the longest `Prefix`, then (Gateway API)
    /// a method, more headers, more parameters of the query, the older route.
    pub fn match_http(&self, asked: &Asked<'_>) -> Option<Found> {
        self.http.find(asked)
    }

    /// Whether what becomes of connections over TLS depends on the names that they are for.
    pub fn asks_names(&self, door: Door) -> bool {
        self.http.asks_names(door)
    }

    /// What becomes of a connection over TLS, by the name in its hello (RFC 6066, section 3): that of the closest listener alone,
    /// and there the closest hostname of a route before the older route.
    pub fn match_tls(&self, door: Door, name: Option<&str>) -> Greeting {
        self.http.greet(door, name.unwrap_or_default())
    }

    /// The rule for what comes to a port at which a Gateway takes bytes: the oldest route's.
    pub fn match_tcp(&self, port: u16) -> Option<&Arc<HttpRule>> {
        self.http.stream(port)
    }

    /// The ports of Gateways' listeners, and what is spoken there.
    pub(crate) fn gateway_ports(&self) -> impl Iterator<Item = (u16, Layer)> {
        self.http.ports()
    }

    /// The Service port that a backend names, if it exists: that of its first family, or of the one that has endpoints.
    pub fn backend(&self, backend: &Backend) -> Option<&Arc<ServicePort>> {
        let mut all = self.service_ports(&backend.service).iter().filter(|p| {
            p.protocol == Protocol::Tcp
                && match &backend.port {
                    BackendPort::Number(n) => p.port == *n,
                    BackendPort::Name(name) => *p.name == **name,
                }
        });
        all.clone().find(|p| !p.endpoints.is_empty()).or_else(|| all.next())
    }

    /// The name outside the Service network that a backend leads to, if its Service is of type ExternalName, and the
    /// port there. A Service that lists no ports has all of them.
    pub fn external(&self, backend: &Backend) -> Option<External> {
        let facts = &self.services.get(&backend.service)?.facts;
        let name = facts.external_name.as_deref().filter(|n| !n.is_empty())?;
        let port = match (self.backend(backend), &backend.port) {
            (Some(port), _) => port.port,
            (None, BackendPort::Number(number)) if facts.ports.is_empty() => *number,
            (None, _) => return None,
        };
        let h2c = self.backend(backend).is_some_and(|p| p.app_protocol.as_deref() == Some(H2C));
        Some(External { name: name.into(), port, h2c })
    }

    /// The Secrets with certificates for the hosts of Ingresses and of Gateways' listeners.
    pub fn tls(&self) -> &[TlsSecret] {
        &self.http.tls
    }
}

/// Whether `ip` is in `network`/`bits`.
pub(crate) fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, length: u32| {
        let shift = length.saturating_sub(u32::from(bits));
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (ip.to_canonical(), network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// What of a Service decides for which addresses of the host somebody has to listen.
fn host_part(facts: &ServiceFacts, since: Option<Time>) -> impl PartialEq + '_ {
    // Numbers of ports, and who is older, matter only where addresses are shared.
    let outside = !facts.external_ips.is_empty();
    let since = since.filter(|_| outside);
    let ports: Vec<_> =
        facts.ports.iter().map(|p| (p.node_port, &p.protocol, if outside { p.port } else { 0 })).collect();
    (&facts.external_ips, &facts.balancer_ips, facts.health_check_port, since, ports)
}

fn node_port(facts: &ServiceFacts, port: &ServicePort) -> Option<u16> {
    let same = |p: &&ServicePortFacts| p.port == port.port && Protocol::parse(&p.protocol) == Some(port.protocol);
    facts.ports.iter().find(same).map(|p| p.node_port).filter(|n| *n != 0)
}

#[cfg(test)]
mod tests;
