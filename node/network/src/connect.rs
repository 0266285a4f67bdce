//! Opening a connection: what an address means to whoever asks, and the way there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_node_routes::{Claim, Neighbour, Protocol, ServicePort, Side};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::NetError;
use crate::hold::Patience;
use crate::http::{Balanced, ConnInfo, server};
use crate::listener::Waiting;
use crate::network::Network;
use crate::pod::{Bound, PodHandle, Scope};
use crate::policy::{Flow, flow};
use crate::stream::Stream;
use crate::tracker::Tracker;

/// How many endpoints outside the pod network one connection tries.
const ATTEMPTS: usize = 4;

/// Who opens a connection.
#[derive(Clone, Debug)]
pub enum Source {
    /// A pod.
    Pod(Arc<PodHandle>),
    /// The node itself: probes, ingress, port-forward.
    Node,
    /// A client outside the cluster, at this address, who came by an address of the node.
    Client(SocketAddr),
    /// Who has come from another node, which was found to say the truth.
    Remote(Arc<Claim>),
}

/// An open connection.
#[derive(Debug)]
pub struct Conn {
    /// This end's address.
    pub local: SocketAddr,
    /// The other end's address, as this end knows it: a Service's, if it connected to one.
    pub peer: SocketAddr,
    /// The bytes.
    pub stream: Stream,
}

/// How a connection has come to an endpoint: by which port of a Service, and from whom.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) from: Source,
    pub(crate) side: Side,
    pub(crate) port: Arc<ServicePort>,
}

/// What an address leads to.
pub(crate) enum Target {
    Pod(Arc<PodHandle>, Scope),
    Service(Arc<ServicePort>),
    /// A pod of another node.
    Remote(Arc<Neighbour>),
    /// An address of the host's network.
    Outside(SocketAddr),
}

impl Target {
    /// Whether a stream to an address of it leaves this process.
    fn leaves(&self, to: SocketAddr) -> bool {
        match self {
            Target::Pod(pod, scope) => matches!(pod.tcp(*scope, to), Some(Bound::Namespace(_))),
            Target::Remote(_) | Target::Outside(_) => true,
            Target::Service(_) => false,
        }
    }
}

impl Source {
    /// Its first address, by which it is told from other clients.
    pub(crate) fn ip(&self, network: &Network) -> IpAddr {
        match self {
            Source::Pod(pod) => pod.ip(),
            Source::Node => network.0.config.node_ip,
            Source::Client(client) => client.ip(),
            Source::Remote(claim) => claim.address.ip(),
        }
    }

    /// The address that it shows at the address `to`.
    pub(crate) fn ip_for(&self, network: &Network, to: IpAddr) -> IpAddr {
        match self {
            Source::Pod(pod) => pod.ip_for(to),
            Source::Node => network.node_ip_for(to),
            Source::Client(_) | Source::Remote(_) => self.ip(network),
        }
    }

    /// The local address of a new connection to the address `to`.
    pub(crate) fn local(&self, network: &Network, scope: Scope, to: IpAddr) -> SocketAddr {
        match self {
            Source::Pod(pod) => pod.ephemeral(scope, to),
            Source::Node => {
                let port = 32_768 + u16::try_from(network.sequence() % 28_000).unwrap_or(0);
                SocketAddr::new(network.node_ip_for(to), port)
            }
            Source::Client(client) => *client,
            Source::Remote(claim) => claim.address,
        }
    }

    pub(crate) fn tracker(&self) -> Option<&Arc<Tracker>> {
        match self {
            Source::Pod(pod) => Some(&pod.tracker),
            Source::Node | Source::Client(_) | Source::Remote(_) => None,
        }
    }
}

impl Network {
    /// Opens a connection. A Service's address leads to one of its ready endpoints, another one if the first refuses.
    pub async fn connect(&self, from: Source, to: SocketAddr) -> Result<Conn, NetError> {
        match self.target(&from, to, Protocol::Tcp)? {
            Target::Service(port) => self.connect_service(&from, Side::Inside, &port, to).await,
            direct => self.open(&from, &direct, to, None).await,
        }
    }

    /// Opens a connection to an endpoint of a Service; the peer's address is shown as `shown`.
    pub(crate) async fn connect_service(
        &self,
        from: &Source,
        side: Side,
        port: &Arc<ServicePort>,
        shown: SocketAddr,
    ) -> Result<Conn, NetError> {
        let (mut patience, mut again) = (Patience::default(), None);
        loop {
            let port = again.as_ref().unwrap_or(port);
            let news = self.news();
            match self.connect_once(from, side, port, shown).await {
                Ok(conn) => {
                    // An endpoint may be of the other family than the address that was asked for.
                    let local = SocketAddr::new(from.ip_for(self, shown.ip()), conn.local.port());
                    return Ok(Conn { local, peer: shown, ..conn });
                }
                Err(e) => again = Some(self.another_chance(port, e, news, &mut patience).await.ok_or(e)?),
            }
        }
    }

    /// Tries each endpoint once.
    async fn connect_once(
        &self,
        from: &Source,
        side: Side,
        port: &Arc<ServicePort>,
        shown: SocketAddr,
    ) -> Result<Conn, NetError> {
        let client = from.ip(self);
        let chosen = self.chosen(port, side, client);
        let (mut last, mut outside) = (NetError::ConnectionRefused, 0);
        // Its requests count, each where it goes.
        let balanced = |at| {
            self.taken(port, client, chosen, at);
            Ok(self.open_balanced(from, side, port, shown))
        };
        let choice = self.choice(port, side, chosen);
        for endpoint in port.in_order(side, &choice) {
            let opened = match self.endpoint_target(endpoint.addr) {
                Ok(Target::Pod(pod, scope)) => match pod.tcp(scope, endpoint.addr) {
                    Some(Bound::Http(_)) => match self.permit(from, &Target::Pod(pod, scope), endpoint.addr) {
                        Ok(()) => return balanced(endpoint.addr),
                        Err(e) => Err(e),
                    },
                    Some(Bound::Namespace(_)) => self.open(from, &Target::Pod(pod, scope), endpoint.addr, None).await,
                    Some(bound) => {
                        let route = Route { from: from.clone(), side, port: port.clone() };
                        self.open_bound(from, &pod, bound, scope, endpoint.addr, Some(route))
                    }
                    None => Err(NetError::ConnectionRefused),
                },
                Ok(target @ Target::Remote(_)) => match self.asks_there(from, &target, endpoint.addr).await {
                    Ok(true) => return balanced(endpoint.addr),
                    Ok(false) => self.open(from, &target, endpoint.addr, None).await,
                    Err(e) => Err(e),
                },
                Ok(target) => {
                    outside += 1;
                    if outside > ATTEMPTS {
                        break;
                    }
                    self.open(from, &target, endpoint.addr, None).await
                }
                Err(e) => Err(e),
            };
            match opened {
                Ok(conn) => {
                    self.taken(port, client, chosen, endpoint.addr);
                    self.fared_well(port, side, endpoint.addr);
                    let stream = conn.stream.counted(self.begun(port, side, endpoint.addr));
                    return Ok(Conn { stream, ..conn });
                }
                Err(e) => {
                    self.fared_ill(from, port, side, endpoint.addr, &e);
                    last = e;
                }
            }
        }
        Err(last)
    }

    /// A connection to a Service of `wasi:http` pods: requests find their endpoints one by one.
    fn open_balanced(&self, from: &Source, side: Side, port: &Arc<ServicePort>, shown: SocketAddr) -> Conn {
        let local = from.local(self, Scope::Pod, shown.ip());
        let (mut near, far) = Stream::pair();
        if let Some(tracker) = from.tracker() {
            let flow = Flow::Service { from: from.clone(), side, port: port.clone() };
            near = near.watched(tracker, Some(flow));
        }
        let service = Balanced { network: self.clone(), from: from.clone(), side, port: port.clone() };
        let info = ConnInfo { local: shown, peer: local };
        self.0.runtime.spawn(server::serve(far, Arc::new(service), info));
        Conn { local, peer: shown, stream: near }
    }

    /// How `other` shows at the address `ip`: as it is, or, where it is of the other IP family, as the node with the same port. A
    /// socket of one family has no words for an address of the other one, and could not answer it.
    pub(crate) fn shown_at(&self, ip: IpAddr, other: SocketAddr) -> SocketAddr {
        let same = other.ip().to_canonical().is_ipv4() == ip.to_canonical().is_ipv4();
        if same { other } else { SocketAddr::new(self.node_ip_for(ip), other.port()) }
    }

    /// What `to` means to `from`.
    pub(crate) fn target(&self, from: &Source, to: SocketAddr, protocol: Protocol) -> Result<Target, NetError> {
        let ip = to.ip().to_canonical();
        if to.port() == 0 {
            return Err(NetError::InvalidArgument);
        }
        // As Linux does, the unspecified address as a destination is the loopback one. Loopback is the pod's own, never
        // the host's.
        if ip.is_loopback() || ip.is_unspecified() {
            return match from {
                Source::Pod(pod) => Ok(Target::Pod(pod.clone(), Scope::Loopback)),
                Source::Node | Source::Client(_) | Source::Remote(_) => Err(NetError::ConnectionRefused),
            };
        }
        if let Some(pod) = self.pod(ip) {
            return Ok(Target::Pod(pod, Scope::Pod));
        }
        let routes = self.routes();
        if let Some(port) = routes.service(ip, to.port(), protocol) {
            return Ok(Target::Service(port.clone()));
        }
        if routes.is_vip(ip) {
            return Err(NetError::ConnectionRefused);
        }
        self.outside(to)
    }

    /// What an endpoint's address means.
    pub(crate) fn endpoint_target(&self, to: SocketAddr) -> Result<Target, NetError> {
        let ip = to.ip().to_canonical();
        // Validation refuses such endpoints; the host's loopback must stay out of reach even so.
        if ip.is_loopback() || ip.is_unspecified() || to.port() == 0 {
            return Err(NetError::ConnectionRefused);
        }
        match self.pod(ip) {
            Some(pod) => Ok(Target::Pod(pod, Scope::Pod)),
            None => self.outside(to),
        }
    }

    fn outside(&self, to: SocketAddr) -> Result<Target, NetError> {
        let ip = to.ip().to_canonical();
        if let Some(host) = self.host_alias(SocketAddr::new(ip, to.port())) {
            return Ok(Target::Outside(host));
        }
        if self.0.config.tunnel.is_some()
            && let Some(node) = self.neighbours().of(ip)
        {
            return Ok(Target::Remote(node.clone()));
        }
        if self.in_cluster(ip) || ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
            return Err(NetError::RemoteUnreachable);
        }
        if !self.0.config.egress {
            return Err(NetError::AccessDenied);
        }
        Ok(Target::Outside(to))
    }

    /// Opens a connection to an address; `route` says by which Service, if by one.
    pub(crate) async fn open(
        &self,
        from: &Source,
        target: &Target,
        to: SocketAddr,
        route: Option<Route>,
    ) -> Result<Conn, NetError> {
        match target {
            Target::Pod(pod, scope) => match pod.tcp(*scope, to).ok_or(NetError::ConnectionRefused)? {
                Bound::Namespace(interface) => self.open_namespace(from, pod, &interface, to).await,
                bound => self.open_bound(from, pod, bound, *scope, to, route),
            },
            Target::Remote(node) => {
                self.permit_soon(from, target, to).await?;
                let conn = self.open_remote(from, node, to).await.map_err(|e| self.forbidden(e))?;
                self.watched(from, target, conn, to)
            }
            Target::Outside(host) => {
                self.permit(from, target, to)?;
                let conn = self.open_outside(from, *host, to).await?;
                self.watched(from, target, conn, to)
            }
            Target::Service(_) => Err(NetError::RemoteUnreachable),
        }
    }

    /// A connection that has left this node, cut when policies do not allow it any more.
    fn watched(&self, from: &Source, target: &Target, conn: Conn, to: SocketAddr) -> Result<Conn, NetError> {
        let Some(tracker) = from.tracker() else { return Ok(conn) };
        let stream = conn.stream.watched(tracker, flow(from, target, to));
        // They may have changed while it was opened.
        self.permit(from, target, to).map(|()| Conn { stream, ..conn })
    }

    /// Whether a port of another node's pod takes requests, if it may be asked.
    async fn asks_there(&self, from: &Source, target: &Target, to: SocketAddr) -> Result<bool, NetError> {
        let Target::Remote(node) = target else { return Ok(false) };
        self.permit_soon(from, target, to).await?;
        self.takes_requests(from, node, to).await.map_err(|e| self.forbidden(e))
    }

    fn open_bound(
        &self,
        from: &Source,
        pod: &Arc<PodHandle>,
        bound: Bound,
        scope: Scope,
        to: SocketAddr,
        route: Option<Route>,
    ) -> Result<Conn, NetError> {
        let local = from.local(self, scope, to.ip());
        let (mut near, far) = Stream::pair();
        if let Some(tracker) = from.tracker() {
            near = near.tracked(tracker);
        }
        // The far end alone is watched, for both: it may be handed on to another pod.
        let target = Target::Pod(pod.clone(), scope);
        // Who serves requests has no socket, and its clients' addresses as they are.
        let peer = if let Bound::Listener(_) = bound { self.shown_at(to.ip(), local) } else { local };
        let conn = Conn { local: to, peer, stream: far.watched(&pod.tracker, flow(from, &target, to)) };
        self.permit(from, &target, to)?;
        self.hand_over(bound, Waiting { conn, route }).map_err(|_| NetError::ConnectionRefused)?;
        Ok(Conn { local, peer: to, stream: near })
    }

    /// Gives a connection to whoever answers; it comes back if they do not any more.
    fn hand_over(&self, bound: Bound, waiting: Waiting) -> Result<(), Box<Waiting>> {
        match bound {
            Bound::Listener(backlog) => backlog.push(waiting),
            Bound::Http(service) => {
                let Conn { local, peer, stream } = waiting.conn;
                self.0.runtime.spawn(server::serve(stream, service, ConnInfo { local, peer }));
                Ok(())
            }
            Bound::Namespace(_) => Err(Box::new(waiting)),
        }
    }

    /// Finds another endpoint for a connection that was never accepted: nobody has read any of its bytes. While there is
    /// none it waits as a new connection would, and is reset in the end.
    pub(crate) fn reroute(&self, conn: Conn, route: Route) {
        // At once: the pod that it has waited for may be about to cut all that it has.
        let mut conn = Conn { stream: conn.stream.untracked(), ..conn };
        let (network, Route { from, side, mut port }) = (self.clone(), route);
        self.0.runtime.spawn(async move {
            let mut patience = Patience::default();
            loop {
                let news = network.news();
                let now = network.routes().again(&port).cloned();
                port = now.unwrap_or(port);
                let Some(left) = network.hand_on(conn, &from, side, &port).await else { return };
                let again = network.another_chance(&port, NetError::ConnectionRefused, news, &mut patience).await;
                match again {
                    Some(again) => (conn, port) = (left, again),
                    None => return left.stream.reset(),
                }
            }
        });
    }

    /// Offers a connection to each endpoint once. It comes back if none has it.
    async fn hand_on(&self, mut conn: Conn, from: &Source, side: Side, port: &Arc<ServicePort>) -> Option<Conn> {
        let client = from.ip(self);
        let chosen = self.chosen(port, side, client);
        let choice = self.choice(port, side, chosen);
        for endpoint in port.in_order(side, &choice) {
            match self.endpoint_target(endpoint.addr) {
                Ok(target) if target.leaves(endpoint.addr) => {
                    let Ok(mut there) = self.open(from, &target, endpoint.addr, None).await else { continue };
                    self.taken(port, client, chosen, endpoint.addr);
                    let mut here = conn.stream;
                    self.0.runtime.spawn(async move { copy_bidirectional(&mut here, &mut there.stream).await });
                    return None;
                }
                Ok(target) => {
                    let flow = flow(from, &target, endpoint.addr);
                    let Target::Pod(pod, scope) = &target else { continue };
                    let Some(bound) = pod.tcp(*scope, endpoint.addr) else { continue };
                    if self.permit(from, &target, endpoint.addr).is_err() {
                        continue;
                    }
                    let route = Some(Route { from: from.clone(), side, port: port.clone() });
                    let stream = conn.stream.watched(&pod.tracker, flow);
                    // Policies may have changed before its pod knew of it.
                    if self.permit(from, &target, endpoint.addr).is_err() {
                        conn = Conn { stream: stream.untracked(), ..conn };
                        continue;
                    }
                    match self.hand_over(bound, Waiting { conn: Conn { local: endpoint.addr, stream, ..conn }, route })
                    {
                        Ok(()) => {
                            self.taken(port, client, chosen, endpoint.addr);
                            return None;
                        }
                        Err(back) => {
                            let Waiting { conn: back, .. } = *back;
                            conn = Conn { stream: back.stream.untracked(), ..back };
                        }
                    }
                }
                Err(_) => {}
            }
        }
        Some(conn)
    }

    async fn open_outside(&self, from: &Source, host: SocketAddr, to: SocketAddr) -> Result<Conn, NetError> {
        let room = self.outgoing(1)?;
        let connecting = timeout(self.0.config.connect_timeout, TcpStream::connect(host));
        let tcp = connecting.await.map_err(|_| NetError::Timeout)??;
        let _ = tcp.set_nodelay(true);
        let local = tcp.local_addr()?;
        let mut stream = Stream::host(tcp, room);
        if let Some(tracker) = from.tracker() {
            stream = stream.tracked(tracker);
        }
        // The node's own address is nothing that a pod should build on.
        Ok(Conn { local: SocketAddr::new(from.ip_for(self, to.ip()), local.port()), peer: to, stream })
    }
}
