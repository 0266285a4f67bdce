//! The network of one node: who is on it, and the tables by which it decides.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Duration;

use copepod_dns_zone::Zone;
use copepod_model::networks;
use copepod_node_routes::{
    Affinity, HostPort, HostPorts, Neighbours, PodPorts, Policies, RouteTable, ServicePort, Side, mix,
};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::NetError;
use crate::host::HostFlows;
use crate::http::names::Names;
use crate::http::pool::Pool;
use crate::http::tls::Tls;
use crate::http::{HttpService, ServeGuard};
use crate::ingress::Doors;
use crate::load::Load;
use crate::pod::{Bound, Identity, PodHandle};
use crate::resolve::{AT_ONCE, HostResolver, Upstream};
use crate::sync::{lock, read, write};
use crate::tunnel::{Tunnel, TunnelConfig};

/// Copies of requests that are on their way at once; requests beyond that have no copy.
const MAX_MIRRORED: usize = 256;

/// How the network is set up.
#[derive(Clone)]
pub struct NetworkConfig {
    /// Pod and Service networks (address, prefix length): what is not found in them is never sought outside.
    pub cluster: Vec<(IpAddr, u8)>,
    /// The address that probes and the ingress come from.
    pub node_ip: IpAddr,
    /// Whether pods may connect to the world outside.
    pub egress: bool,
    /// How long a connection to the world outside may take.
    pub connect_timeout: Duration,
    /// How long a connection or request waits for an endpoint of a Service that has some, none of which answers.
    pub hold: Duration,
    /// Resolves what the cluster's zone does not know.
    pub upstream: Arc<dyn Upstream>,
    /// For https to the world outside; without one, the host's root certificates and `roots` are trusted.
    pub tls: Option<Arc<ClientConfig>>,
    /// Root certificates besides the host's: the cluster's CA, so that pods can speak to the API by wasi:http, which has
    /// no way to bring a certificate along.
    pub roots: Vec<CertificateDer<'static>>,
    /// The way to pods of other nodes; without one there is none.
    pub tunnel: Option<TunnelConfig>,
    /// Connections from outside at once, at the ingress and at the host's other ports together; further ones wait.
    pub incoming: usize,
    /// Sockets of this host to the world outside at once; whoever wants more is refused.
    pub outgoing: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            cluster: vec![
                (networks::PODS.0.into(), networks::PODS.1),
                (networks::SERVICES.0.into(), networks::SERVICES.1),
                (networks::PODS_V6.0.into(), networks::PODS_V6.1),
                (networks::SERVICES_V6.0.into(), networks::SERVICES_V6.1),
            ],
            node_ip: networks::PODS.0.into(),
            egress: true,
            connect_timeout: Duration::from_secs(30),
            hold: Duration::from_secs(1),
            upstream: Arc::new(HostResolver),
            tls: None,
            roots: Vec::new(),
            tunnel: None,
            incoming: 8192,
            outgoing: 65_536,
        }
    }
}

/// The virtual network of a node. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub struct Network(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) config: NetworkConfig,
    /// The node's address of the other family, once it is known to have one.
    second_ip: OnceLock<IpAddr>,
    pub(crate) runtime: Handle,
    pub(crate) tls: Tls,
    /// Connections of the node itself: probes, ingress.
    pub(crate) pool: Pool,
    pods: RwLock<Pods>,
    routes: RwLock<Arc<RouteTable>>,
    zone: RwLock<Arc<Zone>>,
    neighbours: RwLock<Arc<Neighbours>>,
    /// Nodes or their pods have changed: who has come from there may be known now.
    pub(crate) neighbours_changed: Notify,
    pub(crate) policies: RwLock<Arc<Policies>>,
    /// Policies, or what is known of pods and namespaces, have changed.
    pub(crate) policies_changed: Notify,
    pub(crate) tunnel: Tunnel,
    aliases: RwLock<HashMap<SocketAddr, SocketAddr>>,
    sequence: AtomicU64,
    turns: AtomicU64,
    /// For random numbers: it begins anywhere.
    chances: AtomicU64,
    /// Routes or listening ports have changed: see [`crate::hold`].
    pub(crate) changed: Notify,
    pub(crate) waiting: AtomicUsize,
    affinity: Mutex<Affinity>,
    pub(crate) load: Load,
    /// What the host's listeners are for may have changed. They alone wait for it.
    pub(crate) host_ports_changed: Notify,
    /// Pods in network namespaces of their own have come or gone. [`crate::HostAccess`] alone waits for it.
    pub(crate) namespaces_changed: Notify,
    pub(crate) flows: HostFlows,
    /// The ingress' own listeners.
    pub(crate) doors: RwLock<Doors>,
    /// How many copies of requests may be on their way at once.
    pub(crate) mirrors: Arc<Semaphore>,
    /// Names that the ingress has asked for.
    pub(crate) names: Names,
    /// How many lookups of pods outside the cluster may be under way at once.
    pub(crate) lookups: Arc<Semaphore>,
    /// Room for connections from outside.
    pub(crate) incoming: Arc<Semaphore>,
    /// Room for sockets to the world outside.
    outgoing: Arc<Semaphore>,
    began: Instant,
}

#[derive(Default)]
struct Pods {
    /// A pod with two addresses is here twice.
    by_ip: HashMap<IpAddr, Arc<PodHandle>>,
    by_uid: HashMap<Arc<str>, Arc<PodHandle>>,
    /// Those that have host ports, in the order of their attaching.
    exposed: Vec<PodPorts>,
}

#[derive(Clone)]
pub(crate) struct WeakNetwork(Weak<Shared>);

impl WeakNetwork {
    pub(crate) fn upgrade(&self) -> Option<Network> {
        self.0.upgrade().map(Network)
    }
}

impl Network {
    /// An empty network. Must be called inside a tokio runtime, which will carry its tasks.
    pub fn new(config: NetworkConfig) -> Network {
        let room = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Network(Arc::new(Shared {
            incoming: room(config.incoming),
            outgoing: room(config.outgoing),
            tls: Tls::new(config.tls.clone(), config.roots.clone()),
            config,
            second_ip: OnceLock::new(),
            runtime: Handle::current(),
            pool: Pool::default(),
            pods: RwLock::default(),
            routes: RwLock::default(),
            zone: RwLock::default(),
            neighbours: RwLock::default(),
            neighbours_changed: Notify::new(),
            policies: RwLock::default(),
            policies_changed: Notify::new(),
            tunnel: Tunnel::default(),
            aliases: RwLock::default(),
            sequence: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            chances: AtomicU64::new(RandomState::new().hash_one(0)),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            affinity: Mutex::default(),
            load: Load::default(),
            host_ports_changed: Notify::new(),
            namespaces_changed: Notify::new(),
            flows: HostFlows::default(),
            doors: RwLock::default(),
            mirrors: Arc::new(Semaphore::new(MAX_MIRRORED)),
            names: Names::default(),
            lookups: Arc::new(Semaphore::new(AT_ONCE.0)),
            began: Instant::now(),
        }))
    }

    /// Says which address the node has in the other family: that of its probes and its ingress to such addresses.
    pub fn set_second_ip(&self, ip: IpAddr) {
        // There is one for good.
        let _ = self.0.second_ip.set(ip);
    }

    /// The node's address of the same family as `other`, or the one that it has.
    pub(crate) fn node_ip_for(&self, other: IpAddr) -> IpAddr {
        let (first, second) = (self.0.config.node_ip, self.0.second_ip.get().copied());
        second.filter(|ip| ip.is_ipv4() == other.to_canonical().is_ipv4()).unwrap_or(first)
    }

    /// Room for a socket to the world outside that takes so many descriptors, if there is some.
    pub(crate) fn outgoing(&self, descriptors: u32) -> Result<OwnedSemaphorePermit, NetError> {
        self.0.outgoing.clone().try_acquire_many_owned(descriptors).map_err(|_| NetError::NewSocketLimit)
    }

    /// Puts a pod on the network. Attaching the same pod again gives the same handle; whoever else has one of its addresses is
    /// taken off.
    pub fn attach(&self, identity: Identity) -> Arc<PodHandle> {
        let mut pods = write(&self.0.pods);
        if let Some(same) = pods.by_uid.get(&identity.uid).filter(|p| *p.identity() == identity) {
            return same.clone();
        }
        let there = identity.ips().filter_map(|ip| Some(pods.by_ip.get(&ip)?.identity().uid.clone()));
        let replaced: Vec<Arc<str>> = there.chain([identity.uid.clone()]).collect();
        let old: Vec<_> = replaced.iter().filter_map(|uid| pods.remove(uid)).collect();
        let pod = Arc::new(PodHandle::new(identity.clone(), WeakNetwork(Arc::downgrade(&self.0))));
        if !identity.host_ports.is_empty() {
            let Identity { uid, ip, host_ports, .. } = &identity;
            pods.exposed.push(PodPorts { uid: uid.clone(), ip: *ip, ports: host_ports.clone() });
            self.0.host_ports_changed.notify_one();
        }
        if identity.interface.is_some() {
            self.0.namespaces_changed.notify_one();
        }
        pods.by_ip.extend(identity.ips().map(|ip| (ip, pod.clone())));
        pods.by_uid.insert(identity.uid, pod.clone());
        drop(pods);
        old.into_iter().for_each(|p| self.close(&p));
        pod
    }

    /// Takes a pod off the network: its listeners and streams are cut.
    pub fn detach(&self, uid: &str) {
        let gone = write(&self.0.pods).remove(uid);
        if let Some(pod) = gone {
            self.close(&pod);
        }
    }

    fn close(&self, pod: &PodHandle) {
        pod.close();
        self.0.tunnel.end_flows(&pod.identity().uid);
        if !pod.identity().host_ports.is_empty() {
            self.0.host_ports_changed.notify_one();
        }
        if pod.identity().interface.is_some() {
            self.0.namespaces_changed.notify_one();
        }
    }

    /// Nobody listens at a pod's address any more: nothing keeps connections to it.
    pub(crate) fn left(&self, addr: SocketAddr) {
        self.pods().iter().map(|pod| &pod.pool).chain([&self.0.pool]).for_each(|pool| pool.leave(addr));
    }

    /// What a host with these addresses listens on.
    pub(crate) fn host_ports(&self, addresses: &[IpAddr]) -> HostPorts {
        let exposed = read(&self.0.pods).exposed.clone();
        let routes = self.routes();
        let mut ports = routes.host_ports(addresses, &exposed);
        ports.listen.retain(|at, port| match port {
            HostPort::Gateway(layer) => self.opens(at.addr, *layer),
            _ => true,
        });
        ports
    }

    /// Every pod.
    pub(crate) fn pods(&self) -> Vec<Arc<PodHandle>> {
        read(&self.0.pods).by_uid.values().cloned().collect()
    }

    /// The pod with this address.
    pub fn pod(&self, ip: IpAddr) -> Option<Arc<PodHandle>> {
        read(&self.0.pods).by_ip.get(&ip).cloned()
    }

    /// Replaces the route table, at once for all new connections.
    pub fn set_routes(&self, routes: Arc<RouteTable>) {
        let old = std::mem::replace(&mut *write(&self.0.routes), routes.clone());
        self.tell();
        if !old.same_host_ports(&routes) {
            self.0.host_ports_changed.notify_one();
        }
    }

    /// The route table in use.
    pub fn routes(&self) -> Arc<RouteTable> {
        read(&self.0.routes).clone()
    }

    /// Replaces what is known of other nodes and their pods. `moved` says whether nodes have changed, so that what could not
    /// be reached may be now.
    pub fn set_neighbours(&self, neighbours: Arc<Neighbours>, moved: bool) {
        let old = std::mem::replace(&mut *write(&self.0.neighbours), neighbours);
        drop(old);
        self.0.neighbours_changed.notify_waiters();
        if moved {
            self.tell();
        }
    }

    /// What is known of other nodes and their pods.
    pub fn neighbours(&self) -> Arc<Neighbours> {
        read(&self.0.neighbours).clone()
    }

    /// Replaces the DNS zone.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        let old = std::mem::replace(&mut *write(&self.0.zone), zone);
        drop(old);
    }

    /// The DNS zone in use.
    pub fn zone(&self) -> Arc<Zone> {
        read(&self.0.zone).clone()
    }

    /// The resolver of names outside the cluster.
    pub fn upstream(&self) -> Arc<dyn Upstream> {
        self.0.config.upstream.clone()
    }

    /// Serves HTTP on a pod's port, by function call: until the guard is dropped, requests from inside reach `service`
    /// with no byte stream in between. Plain TCP clients get an HTTP/1 and h2c server in front of it.
    pub fn serve_http(&self, ip: IpAddr, port: u16, service: Arc<dyn HttpService>) -> Result<ServeGuard, NetError> {
        let pod = self.pod(ip).ok_or(NetError::AddressNotBindable)?;
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let port = pod.bind_tcp(any, Bound::Http(service.clone()))?;
        pod.identity().ips().for_each(|ip| self.renewed(SocketAddr::new(ip, port)));
        self.tell();
        Ok(ServeGuard { pod, port, service })
    }

    /// Makes one address of the host, a loopback one for instance, reachable in the network as `at` (TCP, and UDP with
    /// answers that show the host's address): the API server as the endpoint of `kubernetes`, say. `at` must be no pod's
    /// or Service's address.
    pub fn expose_host(&self, at: SocketAddr, host: SocketAddr) {
        write(&self.0.aliases).insert(at, host);
    }

    pub(crate) fn host_alias(&self, at: SocketAddr) -> Option<SocketAddr> {
        read(&self.0.aliases).get(&at).copied()
    }

    /// A number that no other call gets.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The same for the choice among a rule's backends, which spreads the numbers of one counter evenly.
    pub(crate) fn turn(&self) -> u64 {
        self.0.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// A random number, for the choice among endpoints. Those of a counter would let clients that come by turns fall into
    /// step, each with an endpoint of its own.
    pub(crate) fn chance(&self) -> u64 {
        mix(self.0.chances.fetch_add(1, Ordering::Relaxed))
    }

    /// The time since this network began.
    pub(crate) fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// The endpoint that `client`'s affinity to a Service points at, if the Service wants any.
    pub(crate) fn chosen(&self, port: &ServicePort, side: Side, client: IpAddr) -> Option<SocketAddr> {
        port.affinity_seconds?;
        lock(&self.0.affinity).choose(port, side, client, self.now())
    }

    /// Notes which endpoint took a connection of `client` instead of the `chosen` one.
    pub(crate) fn taken(&self, port: &ServicePort, client: IpAddr, chosen: Option<SocketAddr>, by: SocketAddr) {
        if chosen.is_some_and(|c| c != by) {
            lock(&self.0.affinity).moved(port, client, by, self.now());
        }
    }

    /// Whether an address is in the cluster's own networks.
    pub(crate) fn in_cluster(&self, ip: IpAddr) -> bool {
        self.0.config.cluster.iter().any(|(network, bits)| match (network, ip) {
            (IpAddr::V4(n), IpAddr::V4(i)) => prefix_v4(*n, *bits) == prefix_v4(i, *bits),
            (IpAddr::V6(n), IpAddr::V6(i)) => {
                let shift = 128u32.saturating_sub(u32::from(*bits));
                n.to_bits().checked_shr(shift) == i.to_bits().checked_shr(shift)
            }
            _ => false,
        })
    }
}

fn prefix_v4(ip: Ipv4Addr, bits: u8) -> Option<u32> {
    ip.to_bits().checked_shr(32u32.saturating_sub(u32::from(bits)))
}

impl Pods {
    fn remove(&mut self, uid: &str) -> Option<Arc<PodHandle>> {
        let pod = self.by_uid.remove(uid)?;
        self.exposed.retain(|p| *p.uid != *uid);
        pod.identity().ips().for_each(|ip| drop(self.by_ip.remove(&ip)));
        Some(pod)
    }
}

#[cfg(test)]
pub(crate) mod tests;
