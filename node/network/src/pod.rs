//! A pod as the network sees it: its address, its ports, and what it has open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use copepod_node_routes::{PodPort, SourcePod};
use http::{Request, Response};
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::connect::{Conn, Source};
use crate::error::{HttpError, NetError};
use crate::http::pool::Pool;
use crate::http::{HttpOptions, HttpService};
use crate::listener::{Backlog, Listener, Waiting};
use crate::network::{Network, WeakNetwork};
use crate::resolve::{AT_ONCE, Dns};
use crate::sync::lock;
use crate::tracker::Tracker;
use crate::udp::{Mailbox, UdpSocket};

/// Linux's default range of ephemeral ports.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Who a pod is. It travels with its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Service account.
    pub service_account: Arc<str>,
    /// Address.
    pub ip: IpAddr,
    /// The one of the other family, if it has one.
    pub second_ip: Option<IpAddr>,
    /// Host name; it resolves to the pod's own address.
    pub hostname: String,
    /// How it resolves names.
    pub dns: Dns,
    /// Names that are known without asking DNS, with their addresses.
    pub hosts: Vec<(IpAddr, Vec<Arc<str>>)>,
    /// Ports of the host that lead to it: `hostPort`.
    pub host_ports: Vec<PodPort>,
    /// The way to it, if it lives in a network namespace of its own and not in this process. Needs a [`crate::HostAccess`].
    pub interface: Option<Interface>,
}

/// The host's end of the veth pair of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(Arc<str>);

impl Interface {
    /// `None` for what is no name of an interface, or one of unusual characters.
    pub fn new(name: &str) -> Option<Interface> {
        let usual = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // IFNAMSIZ is 16 with the NUL.
        ((1..16).contains(&name.len()) && name.bytes().all(usual)).then(|| Interface(name.into()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Identity {
    /// Its addresses, the first one first.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.ip).chain(self.second_ip)
    }
}

/// Where inside a pod a port is bound: on its addresses, or on its own loopback. Each family has ports of its own: a guest's socket
/// of IPv4 cannot even be told of a peer of IPv6 (wasi-libc gives up). A service, and what listens at `[::]`, has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Pod,
    Loopback,
}

/// What answers on a TCP port.
#[derive(Clone)]
pub(crate) enum Bound {
    Listener(Arc<Backlog>),
    Http(Arc<dyn HttpService>),
    /// Whoever it is in the pod's own network namespace, if anybody.
    Namespace(Interface),
}

#[derive(Default)]
struct Ports {
    closed: bool,
    tcp: HashMap<(Scope, SocketAddr), Bound>,
    udp: HashMap<(Scope, SocketAddr), Arc<Mailbox>>,
    last: u16,
}

/// A pod on the network: what its guest may do with sockets and names.
pub struct PodHandle {
    identity: Identity,
    source: Arc<SourcePod>,
    network: WeakNetwork,
    ports: Mutex<Ports>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) pool: Pool,
    /// How many of its lookups outside the cluster may be under way at once.
    pub(crate) lookups: Arc<Semaphore>,
}

impl PodHandle {
    pub(crate) fn new(identity: Identity, network: WeakNetwork) -> PodHandle {
        let source = Arc::new(SourcePod {
            uid: identity.uid.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            service_account: identity.service_account.clone(),
        });
        PodHandle {
            identity,
            source,
            network,
            ports: Mutex::default(),
            tracker: Arc::default(),
            pool: Pool::default(),
            lookups: Arc::new(Semaphore::new(AT_ONCE.1)),
        }
    }

    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.identity.ip
    }

    /// Its address of the same family as `other`, or the one that it has.
    pub(crate) fn ip_for(&self, other: IpAddr) -> IpAddr {
        let v4 = other.to_canonical().is_ipv4();
        self.identity.ips().find(|ip| ip.is_ipv4() == v4).unwrap_or(self.identity.ip)
    }

    /// Who the pod is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who it is as the source of streams.
    pub(crate) fn source(&self) -> &Arc<SourcePod> {
        &self.source
    }

    pub(crate) fn network(&self) -> Result<Network, NetError> {
        self.network.upgrade().ok_or(NetError::Detached)
    }

    /// Listens on an address of the pod: its own, a loopback one or the unspecified one. Port 0 takes a free one.
    pub fn listen_tcp(self: &Arc<Self>, addr: SocketAddr) -> Result<Listener, NetError> {
        let backlog = Arc::new(Backlog::default());
        let port = self.bind_tcp(addr, Bound::Listener(backlog.clone()))?;
        if let Some(network) = self.network.upgrade() {
            self.identity.ips().for_each(|ip| network.renewed(SocketAddr::new(ip, port)));
            network.tell();
        }
        Ok(Listener { pod: self.clone(), addr: SocketAddr::new(addr.ip(), port), backlog })
    }

    /// Connects to a pod, a Service, the pod itself or the world outside.
    pub async fn connect_tcp(self: &Arc<Self>, to: SocketAddr) -> Result<Conn, NetError> {
        let network = self.network()?;
        network.acquainted(self).await;
        network.connect(Source::Pod(self.clone()), to).await
    }

    /// Binds a UDP socket; port 0 takes a free one.
    pub fn bind_udp(self: &Arc<Self>, addr: SocketAddr) -> Result<UdpSocket, NetError> {
        let mailbox = Arc::new(Mailbox::default());
        let of_family = |(scope, port)| (scope, any(SocketAddr::new(addr.ip(), port)));
        let port = self.bind(
            addr,
            |ports, at| match ports.udp.entry(of_family(at)) {
                Entry::Occupied(_) => false,
                Entry::Vacant(free) => {
                    free.insert(mailbox.clone());
                    true
                }
            },
            |ports, at| drop(ports.udp.remove(&of_family(at))),
        )?;
        Ok(UdpSocket::new(self.clone(), SocketAddr::new(addr.ip(), port), mailbox))
    }

    /// The addresses of a name, as the pod's resolver finds them.
    pub async fn resolve(self: &Arc<Self>, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let name = name.trim();
        if name.eq_ignore_ascii_case(&self.identity.hostname) && !name.is_empty() {
            return Ok(self.identity.ips().collect());
        }
        let bare = name.strip_suffix('.').unwrap_or(name);
        let known = |names: &[Arc<str>]| names.iter().any(|n| n.eq_ignore_ascii_case(bare));
        let hosts = self.identity.hosts.iter().filter(|(_, names)| known(names));
        let hosts: Vec<IpAddr> = hosts.map(|(ip, _)| *ip).collect();
        if !hosts.is_empty() {
            return Ok(hosts);
        }
        self.network()?.resolve_for(self, name).await
    }

    /// Sends an HTTP request to the authority of its URI, resolved as the pod resolves names.
    pub async fn send_http(
        self: &Arc<Self>,
        request: Request<Body>,
        options: HttpOptions,
    ) -> Result<Response<Body>, HttpError> {
        let network = self.network().map_err(HttpError::Connect)?;
        network.acquainted(self).await;
        network.send_http(&Source::Pod(self.clone()), request, options).await
    }

    pub(crate) fn bind_tcp(&self, addr: SocketAddr, bound: Bound) -> Result<u16, NetError> {
        let both = matches!(bound, Bound::Http(_)) || addr.ip() == Ipv6Addr::UNSPECIFIED;
        let own = any(addr).ip();
        let families: Vec<IpAddr> = BOTH.into_iter().filter(|ip| both || *ip == own).collect();
        let places = |(scope, port): (Scope, u16)| families.iter().map(move |ip| (scope, SocketAddr::new(*ip, port)));
        self.bind(
            addr,
            |ports, at| {
                let free = !places(at).any(|place| ports.tcp.contains_key(&place));
                if free {
                    ports.tcp.extend(places(at).map(|place| (place, bound.clone())));
                }
                free
            },
            |ports, at| places(at).for_each(|place| drop(ports.tcp.remove(&place))),
        )
    }

    /// Binds in every scope that `addr` means, in all or in none.
    fn bind(
        &self,
        addr: SocketAddr,
        mut put: impl FnMut(&mut Ports, (Scope, u16)) -> bool,
        undo: impl Fn(&mut Ports, (Scope, u16)),
    ) -> Result<u16, NetError> {
        let scopes = self.scopes(addr.ip().to_canonical())?;
        let mut ports = lock(&self.ports);
        if ports.closed {
            return Err(NetError::Detached);
        }
        let mut all = |ports: &mut Ports, port| match scopes.iter().position(|s| !put(ports, (*s, port))) {
            None => true,
            Some(failed) => {
                scopes[..failed].iter().for_each(|s| undo(ports, (*s, port)));
                false
            }
        };
        if addr.port() != 0 {
            return if all(&mut ports, addr.port()) { Ok(addr.port()) } else { Err(NetError::AddressInUse) };
        }
        for _ in EPHEMERAL {
            let port = ports.next();
            if all(&mut ports, port) {
                return Ok(port);
            }
        }
        Err(NetError::NewSocketLimit)
    }

    fn scopes(&self, ip: IpAddr) -> Result<&'static [Scope], NetError> {
        match ip {
            ip if ip.is_unspecified() => Ok(&[Scope::Pod, Scope::Loopback]),
            ip if ip.is_loopback() => Ok(&[Scope::Loopback]),
            ip if self.identity.ips().any(|own| own == ip) => Ok(&[Scope::Pod]),
            _ => Err(NetError::AddressNotBindable),
        }
    }

    pub(crate) fn tcp(&self, scope: Scope, at: SocketAddr) -> Option<Bound> {
        if let (Scope::Pod, Some(interface)) = (scope, &self.identity.interface) {
            return Some(Bound::Namespace(interface.clone()));
        }
        lock(&self.ports).tcp.get(&(scope, any(at))).cloned()
    }

    pub(crate) fn udp(&self, scope: Scope, at: SocketAddr) -> Option<Arc<Mailbox>> {
        lock(&self.ports).udp.get(&(scope, any(at))).cloned()
    }

    pub(crate) fn unbind_backlog(&self, backlog: &Arc<Backlog>) {
        let mine = |b: &Bound| matches!(b, Bound::Listener(l) if Arc::ptr_eq(l, backlog));
        lock(&self.ports).tcp.retain(|_, b| !mine(b));
    }

    pub(crate) fn unbind_http(&self, service: &Arc<dyn HttpService>) {
        let mine = |b: &Bound| matches!(b, Bound::Http(s) if Arc::ptr_eq(s, service));
        lock(&self.ports).tcp.retain(|_, b| !mine(b));
    }

    pub(crate) fn unbind_udp(&self, mailbox: &Arc<Mailbox>) {
        lock(&self.ports).udp.retain(|_, m| !Arc::ptr_eq(m, mailbox));
    }

    /// The local address of a new connection in `scope` to an address.
    pub(crate) fn ephemeral(&self, scope: Scope, to: IpAddr) -> SocketAddr {
        let ip = match scope {
            Scope::Pod => self.ip_for(to),
            Scope::Loopback => loopback(to),
        };
        SocketAddr::new(ip, lock(&self.ports).next())
    }

    /// Nobody listens on a port any more. Sends away who waits to be accepted: to other endpoints, or with a reset.
    pub(crate) fn turn_away(&self, port: u16, waiting: impl IntoIterator<Item = Waiting>) {
        let network = self.network.upgrade();
        if let Some(network) = &network {
            self.identity.ips().for_each(|ip| network.left(SocketAddr::new(ip, port)));
        }
        for Waiting { conn, route } in waiting {
            match (&network, route) {
                (Some(network), Some(route)) => network.reroute(conn, route),
                _ => conn.stream.reset(),
            }
        }
    }

    /// Takes the pod off the network: nothing of it is reachable, and what it has open is cut.
    pub(crate) fn close(&self) {
        let (tcp, udp) = {
            let mut ports = lock(&self.ports);
            ports.closed = true;
            (std::mem::take(&mut ports.tcp), std::mem::take(&mut ports.udp))
        };
        for ((_, at), bound) in tcp {
            if let Bound::Listener(backlog) = bound {
                self.turn_away(at.port(), backlog.close());
            }
        }
        udp.into_values().for_each(|mailbox| mailbox.close());
        self.tracker.cut_all();
        self.pool.clear();
    }
}

/// The unspecified addresses.
const BOTH: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// A port by its family: at the unspecified address.
fn any(at: SocketAddr) -> SocketAddr {
    let v4 = at.ip().to_canonical().is_ipv4();
    SocketAddr::new(BOTH[usize::from(!v4)], at.port())
}

/// The loopback address of the same family as `other`.
pub(crate) fn loopback(other: IpAddr) -> IpAddr {
    if other.to_canonical().is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

impl Ports {
    /// The next ephemeral port, free or not: connections are told apart by both ends.
    fn next(&mut self) -> u16 {
        self.last = if EPHEMERAL.contains(&self.last) && self.last < *EPHEMERAL.end() {
            self.last + 1
        } else {
            *EPHEMERAL.start()
        };
        self.last
    }
}

impl std::fmt::Debug for PodHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity { namespace, name, ip, .. } = &self.identity;
        write!(f, "Pod({namespace}/{name} {ip})")
    }
}
