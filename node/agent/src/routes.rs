//! Keeps the network's route table and DNS zone as the API's Services, EndpointSlices, Ingresses, Gateways and namespaces say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use copepod_client::Client;
use copepod_dns_zone::{self as dns, Zone};
use copepod_model::Object;
use copepod_model::facts::{EndpointSliceFacts, ServiceFacts};
use copepod_model::gateway;
use copepod_node_network::Network;
use copepod_node_plan::{ServicePort, ServiceRecord};
use copepod_node_routes::{self as routing, GatewayObjects, RouteTable};
use tokio::sync::{mpsc, watch};

use crate::logs::lock;
use crate::reflect::{Change, reflect};

/// What is followed, in the order of [`Kind`].
const RESOURCES: [&str; 13] = [
    "services",
    "endpointslices.discovery.k8s.io",
    "ingresses.networking.k8s.io",
    "ingressclasses.networking.k8s.io",
    "namespaces",
    "nodes",
    gateway::GATEWAY_CLASSES,
    gateway::GATEWAYS,
    gateway::HTTP_ROUTES,
    gateway::GRPC_ROUTES,
    gateway::TLS_ROUTES,
    gateway::TCP_ROUTES,
    gateway::REFERENCE_GRANTS,
];

/// The label of a Node with the zone that it is in.
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Service,
    Slice,
    Ingress,
    Class,
    Namespace,
    /// The node's own Node alone.
    Node,
    GatewayClass,
    Gateway,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    Grant,
}

/// The routes of Gateways.
const ROUTES: [Kind; 4] = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute];

const KINDS: [Kind; 13] = [
    Kind::Service,
    Kind::Slice,
    Kind::Ingress,
    Kind::Class,
    Kind::Namespace,
    Kind::Node,
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
    Kind::Grant,
];

/// The Services, for environment variables. Cheap to clone; clones see the same.
#[derive(Clone, Default)]
pub(crate) struct Services(Arc<Mutex<BTreeMap<Name, Arc<Object>>>>);

type Name = (Arc<str>, Arc<str>);

impl Services {
    /// A Service as it is now.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        lock(&self.0).get(&(namespace.into(), name.into())).cloned()
    }

    /// The Services of a namespace that have an address.
    pub fn of(&self, namespace: &str) -> Vec<ServiceRecord> {
        let all = lock(&self.0);
        let from: Name = (namespace.into(), "".into());
        let own = all.range(from..).take_while(|((ns, _), _)| &**ns == namespace);
        own.filter_map(|(_, o)| {
            let facts: Arc<ServiceFacts> = o.facts();
            let ip: IpAddr = *facts.cluster_ips.first().filter(|_| !facts.headless)?;
            let port = |p: &copepod_model::facts::ServicePortFacts| ServicePort {
                name: p.name.clone(),
                port: p.port,
                protocol: p.protocol.clone(),
            };
            Some(ServiceRecord {
                name: o.name().into(),
                ip: ip.to_string(),
                ports: facts.ports.iter().map(port).collect(),
            })
        })
        .collect()
    }
}

/// Who hears of what the API says.
pub(crate) struct Sinks {
    pub network: Network,
    pub services: Services,
    /// The Secrets whose certificates Ingresses and Gateways want.
    pub tls: watch::Sender<Vec<routing::TlsSecret>>,
    /// Turns true once everything was listed, and the network knows it.
    pub ready: watch::Sender<bool>,
}

/// Follows the API for ever.
pub(crate) async fn run(client: Client, routing: routing::Config, zone: dns::Config, sinks: Sinks) {
    let Sinks { network, services, tls, ready } = sinks;
    let (tx, mut rx) = mpsc::channel(1024);
    for (kind, resource) in KINDS.into_iter().zip(RESOURCES) {
        let own = || format!("metadata.name={}", routing.node.as_deref().unwrap_or_default());
        let selector = if kind == Kind::Node { own() } else { String::new() };
        tokio::spawn(reflect(client.clone(), resource, selector, tx.clone(), move |c| (kind, c)));
    }
    drop(tx);
    let mut state = State {
        services,
        slices: BTreeMap::new(),
        slice_of: BTreeMap::new(),
        others: BTreeMap::new(),
        table: RouteTable::new(routing),
        zone: Zone::new(zone),
        seen: BTreeSet::new(),
        revision: 0,
    };
    while let Some(first) = rx.recv().await {
        let mut dirty = Dirty::default();
        state.take(first, &mut dirty);
        // Everything that waits is one change.
        while let Ok(next) = rx.try_recv() {
            state.take(next, &mut dirty);
        }
        state.rebuild(&dirty);
        // Nothing is published before everything was listed: a table without half of the objects would refuse what exists.
        if state.seen.len() == KINDS.len() {
            network.set_routes(Arc::new(state.table.clone()));
            network.set_zone(Arc::new(state.zone.clone()));
            ready.send_if_modified(|r| !std::mem::replace(r, true));
            let wanted = state.table.tls();
            tls.send_if_modified(|old| {
                let changed = *old != wanted;
                if changed {
                    *old = wanted.to_vec();
                }
                changed
            });
        }
    }
}

/// What has to be computed anew.
#[derive(Default)]
struct Dirty {
    services: BTreeSet<Name>,
    ingresses: bool,
    gateways: bool,
    namespaces: bool,
}

impl Dirty {
    fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Ingress | Kind::Class => self.ingresses = true,
            Kind::GatewayClass | Kind::Gateway | Kind::Grant => self.gateways = true,
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute => self.gateways = true,
            Kind::Service | Kind::Slice | Kind::Namespace | Kind::Node => {}
        }
    }
}

struct State {
    services: Services,
    /// Slices by the Service they belong to.
    slices: BTreeMap<Name, BTreeMap<Arc<str>, Arc<Object>>>,
    /// The Service that a slice belongs to.
    slice_of: BTreeMap<Name, Name>,
    others: BTreeMap<Kind, BTreeMap<Name, Arc<Object>>>,
    table: RouteTable,
    zone: Zone,
    seen: BTreeSet<Kind>,
    revision: u64,
}

fn name_of(o: &Object) -> Name {
    (o.key.namespace.clone(), o.key.name.clone())
}

impl State {
    fn take(&mut self, (kind, change): (Kind, Change), dirty: &mut Dirty) {
        match change {
            Change::Reset(all) => {
                self.seen.insert(kind);
                let keep: BTreeSet<Name> = all.iter().map(|o| name_of(o)).collect();
                for gone in self.names(kind).into_iter().filter(|n| !keep.contains(n)) {
                    self.remove(kind, &gone, dirty);
                }
                all.into_iter().for_each(|o| self.put(kind, o, dirty));
            }
            Change::Put(o) => self.put(kind, o, dirty),
            Change::Gone(o) => {
                self.revision = self.revision.max(o.revision);
                self.remove(kind, &name_of(&o), dirty);
            }
        }
    }

    fn names(&self, kind: Kind) -> Vec<Name> {
        match kind {
            Kind::Service => lock(&self.services.0).keys().cloned().collect(),
            Kind::Slice => self.slice_of.keys().cloned().collect(),
            other => self.others.get(&other).into_iter().flat_map(|m| m.keys().cloned()).collect(),
        }
    }

    fn put(&mut self, kind: Kind, o: Arc<Object>, dirty: &mut Dirty) {
        self.revision = self.revision.max(o.revision);
        let name = name_of(&o);
        match kind {
            Kind::Service => {
                lock(&self.services.0).insert(name.clone(), o);
                dirty.services.insert(name);
            }
            Kind::Slice => {
                self.remove(kind, &name, dirty);
                let facts: Arc<EndpointSliceFacts> = o.facts();
                if facts.service.is_empty() {
                    return;
                }
                let service: Name = (name.0.clone(), facts.service.as_str().into());
                self.slice_of.insert(name.clone(), service.clone());
                self.slices.entry(service.clone()).or_default().insert(name.1, o);
                dirty.services.insert(service);
            }
            Kind::Node => self.set_zone(o.meta.labels.get(ZONE).map(|z| Arc::from(&**z)), dirty),
            other => {
                dirty.note(other);
                let now = o.meta.labels.clone();
                let old = self.others.entry(other).or_default().insert(name, o);
                if other == Kind::Namespace {
                    // Only their names matter, and to Gateways their labels.
                    dirty.namespaces |= old.is_none();
                    dirty.gateways |= old.is_none_or(|o| o.meta.labels != now);
                }
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &Name, dirty: &mut Dirty) {
        match kind {
            Kind::Service => {
                if lock(&self.services.0).remove(name).is_some() {
                    dirty.services.insert(name.clone());
                }
            }
            Kind::Slice => {
                let Some(service) = self.slice_of.remove(name) else { return };
                if let Some(slices) = self.slices.get_mut(&service) {
                    slices.remove(&name.1);
                    if slices.is_empty() {
                        self.slices.remove(&service);
                    }
                }
                dirty.services.insert(service);
            }
            other => {
                let gone = self.others.get_mut(&other).is_some_and(|m| m.remove(name).is_some());
                if gone {
                    dirty.note(other);
                    dirty.namespaces |= other == Kind::Namespace;
                }
            }
        }
    }

    /// Which endpoints are near depends on it: every Service counts as changed.
    fn set_zone(&mut self, zone: Option<Arc<str>>, dirty: &mut Dirty) {
        if self.table.zone() != zone.as_ref() {
            self.table = self.table.with_zone(zone);
            dirty.services.extend(lock(&self.services.0).keys().cloned());
        }
    }

    fn rebuild(&mut self, dirty: &Dirty) {
        let empty = BTreeMap::new();
        for name in &dirty.services {
            let service = lock(&self.services.0).get(name).cloned();
            let slices = self.slices.get(name).unwrap_or(&empty);
            let slices = || slices.values().map(|o| &**o);
            self.table = self.table.with_service(&name.0, &name.1, service.as_deref(), slices());
            self.zone = self.zone.with_service(&name.0, &name.1, service.as_deref(), slices());
        }
        let all = |kind: Kind| self.others.get(&kind).into_iter().flat_map(|m| m.values()).map(|o| &**o);
        if dirty.ingresses {
            self.table = self.table.with_ingresses(all(Kind::Ingress), all(Kind::Class));
        }
        if dirty.gateways {
            self.table = self.table.with_gateways(&GatewayObjects {
                classes: all(Kind::GatewayClass).collect(),
                gateways: all(Kind::Gateway).collect(),
                routes: ROUTES.into_iter().flat_map(all).collect(),
                grants: all(Kind::Grant).collect(),
                namespaces: all(Kind::Namespace).collect(),
            });
        }
        if dirty.namespaces {
            self.zone = self.zone.with_namespaces(all(Kind::Namespace));
        }
        // Serial numbers are compared modulo 2^32.
        self.zone.serial = self.revision as u32;
    }
}
