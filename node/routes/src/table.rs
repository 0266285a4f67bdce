//! The whole table, immutable and cheap to copy: a change of one Service makes a new table that shares all the rest.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::facts::{EndpointSliceFacts, ServiceFacts};
use imbl::OrdMap;

use crate::http::{Backend, BackendPort, External, HttpTable, TlsSecret};
use crate::service::{H2C, Protocol, ServiceKey, ServicePort, ports};

/// What the table must know besides the objects.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, for traffic policy `Local`.
    pub node: Option<Arc<str>>,
    /// The IngressClass that is ours even without an object of that name.
    pub ingress_class: Arc<str>,
    /// `spec.controller` of the IngressClasses that are ours.
    pub ingress_controller: Arc<str>,
}

impl Default for Config {
    fn default() -> Self {
        Config { node: None, ingress_class: "copepod".into(), ingress_controller: "copepod.dev/ingress".into() }
    }
}

/// Everything that decides where a connection or a request goes.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    config: Arc<Config>,
    vips: OrdMap<(IpAddr, u16, Protocol), Arc<ServicePort>>,
    node_ports: OrdMap<(u16, Protocol), Arc<ServicePort>>,
    services: OrdMap<ServiceKey, Arc<Entry>>,
    http: Arc<HttpTable>,
}

#[derive(Debug)]
struct Entry {
    facts: Arc<ServiceFacts>,
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
        table.remove(&ServiceKey { namespace: namespace.into(), name: name.into() });
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
        let http = Arc::new(HttpTable::build(ingresses, classes, &self.config));
        RouteTable { http, ..self.clone() }
    }

    fn put<O: Borrow<Object>>(&mut self, service: &Object, slices: &[O]) {
        let facts: Arc<ServiceFacts> = service.facts();
        let key = ServiceKey { namespace: service.key.namespace.clone(), name: service.key.name.clone() };
        let ports = ports(&key, &facts, slices, self.config.node.as_deref());
        for port in &ports {
            for ip in facts.cluster_ips.iter().chain(&facts.external_ips) {
                // A Service's own address is never taken over by another one's external address.
                let at = (*ip, port.port, port.protocol);
                if facts.cluster_ips.contains(ip) || !self.vips.contains_key(&at) {
                    self.vips.insert(at, port.clone());
                }
            }
            if let Some(node_port) = node_port(&facts, port) {
                self.node_ports.insert((node_port, port.protocol), port.clone());
            }
        }
        self.services.insert(key, Arc::new(Entry { facts, ports }));
    }

    fn remove(&mut self, key: &ServiceKey) {
        let Some(old) = self.services.remove(key) else { return };
        for port in &old.ports {
            for ip in old.facts.cluster_ips.iter().chain(&old.facts.external_ips) {
                let at = (*ip, port.port, port.protocol);
                if self.vips.get(&at).is_some_and(|p| p.service == *key) {
                    self.vips.remove(&at);
                }
            }
            if let Some(node_port) = node_port(&old.facts, port) {
                self.node_ports.remove(&(node_port, port.protocol));
            }
        }
    }

    /// The Service port that a virtual address leads to.
    pub fn service(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        self.vips.get(&(ip, port, protocol))
    }

    /// Whether `ip` is some Service's address: ports that it does not have are refused, not sent out of the cluster.
    pub fn is_vip(&self, ip: IpAddr) -> bool {
        self.vips.range((ip, 0, Protocol::Tcp)..).next().is_some_and(|((at, ..), _)| *at == ip)
    }

    /// The Service port of a node port.
    pub fn node_port(&self, port: u16, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        self.node_ports.get(&(port, protocol))
    }

    /// Every Service with its facts and ports.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&ServiceKey, &ServiceFacts, &[Arc<ServicePort>])> {
        self.services.iter().map(|(key, e)| (key, &*e.facts, e.ports.as_slice()))
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
        self.service_ports(&port.service).iter().find(same)
    }

    /// The Ingress backend for a request: the best rule that matches host and path, or the default backend. `host` may
    /// carry a port and any case. Best is: exact host before wildcard before any host, then `Exact` path before the
    /// longest `Prefix`.
    pub fn match_http(&self, host: &str, path: &str) -> Option<&Backend> {
        self.http.find(host, path)
    }

    /// The Service port that an Ingress backend names, if it exists.
    pub fn backend(&self, backend: &Backend) -> Option<&Arc<ServicePort>> {
        self.service_ports(&backend.service).iter().find(|p| {
            p.protocol == Protocol::Tcp
                && match &backend.port {
                    BackendPort::Number(n) => p.port == *n,
                    BackendPort::Name(name) => *p.name == **name,
                }
        })
    }

    /// The name outside the Service network that an Ingress backend leads to, if its Service is of type ExternalName, and the
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

    /// The Secrets with certificates for Ingress hosts.
    pub fn tls(&self) -> &[TlsSecret] {
        &self.http.tls
    }
}

fn node_port(facts: &ServiceFacts, port: &ServicePort) -> Option<u16> {
    let same = |p: &&copepod_model::facts::ServicePortFacts| {
        p.port == port.port && Protocol::parse(&p.protocol) == Some(port.protocol)
    };
    facts.ports.iter().find(same).map(|p| p.node_port).filter(|n| *n != 0)
}

#[cfg(test)]
mod tests;
