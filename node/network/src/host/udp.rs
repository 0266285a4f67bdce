//! Datagrams from outside, and the answers to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{FlowKey, Flows, HostAddr, HostPort, Neighbour, Protocol, ServicePort, Side};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use super::answers::Answers;
use super::{BREATH, Meaning};
use crate::connect::{Source, Target};
use crate::network::Network;
use crate::pod::PodHandle;
use crate::policy::{Flow, Who};
use crate::sync::lock;
use crate::transparent;
use crate::udp::{Datagram, Mailbox};

/// The longest datagram, and more.
const BUFFER: usize = 65_536;
/// Flows to pods of this node. Beyond what there may be of a class those give way that have had no conversation.
const HERE: usize = 0;
/// Flows whose endpoint is no pod, or one in a network namespace: each has a socket of the host.
const OUTSIDE: usize = 1;
/// Flows whose endpoint is a pod of another node: each has a stream there.
const REMOTE: usize = 2;
/// Clients at once, over all ports, by class.
const LIMITS: [usize; 3] = [16_384, 512, 4096];
/// Flows that are over are looked for at most so often.
const SWEEP: Duration = Duration::from_secs(5);

/// Who talks to pods over UDP from outside.
pub(crate) struct HostFlows {
    table: Mutex<Flows<Arc<Via>>>,
    /// Whether there may be any: pods' datagrams need not look where there are none.
    any: AtomicBool,
}

impl Default for HostFlows {
    fn default() -> HostFlows {
        HostFlows { table: Mutex::new(Flows::new(&LIMITS)), any: AtomicBool::new(false) }
    }
}

/// The ways of one flow.
pub(crate) struct Via {
    /// Where its answers leave.
    answers: Back,
    /// The way to the endpoint.
    far: Far,
}

enum Back {
    /// By this host, to the client.
    Host(Answers),
    /// By the node that the client has come to.
    Node(mpsc::Sender<Bytes>),
}

enum Far {
    /// It is a pod of this node.
    Here,
    /// It is no pod, or one in a network namespace.
    Outside(Outside),
    /// It is a pod of another node.
    Remote(mpsc::Sender<Bytes>),
}

impl Far {
    fn class(&self) -> usize {
        match self {
            Far::Here => HERE,
            Far::Outside(_) => OUTSIDE,
            Far::Remote(_) => REMOTE,
        }
    }

    /// Sends what does not stay here; `false` if that leads nowhere any more. What cannot be sent is lost, as datagrams are.
    fn send(&self, data: &[u8]) -> bool {
        match self {
            Far::Here => false,
            Far::Outside(outside) => {
                let _ = outside.socket.send(data);
                true
            }
            Far::Remote(stream) => {
                !matches!(stream.try_send(Bytes::copy_from_slice(data)), Err(TrySendError::Closed(_)))
            }
        }
    }
}

struct Outside {
    _room: OwnedSemaphorePermit,
    socket: std::net::UdpSocket,
    receiver: AbortHandle,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

/// A way by which clients' datagrams come in, and where their answers leave.
pub(crate) struct Entrance {
    network: Network,
    answers: Answers,
}

/// What one listener forwards with.
struct Listener {
    entrance: Entrance,
    at: HostAddr,
    meaning: Meaning,
}

/// Listens until the task is aborted.
pub(super) fn open(network: Network, at: SocketAddr, meaning: Meaning) -> io::Result<JoinHandle<()>> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    // Answers leave by a duplicate: a pod answers from its own thread.
    let receiving = UdpSocket::from_std(socket.try_clone()?)?;
    let entrance = Entrance::new(network, Answers::Listener(Arc::new(socket)));
    let listener = Listener { entrance, at: HostAddr { addr: at, protocol: Protocol::Udp }, meaning };
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        loop {
            match receiving.recv_from(&mut buffer).await {
                Ok((n, client)) => listener.forward(client, &buffer[..n]),
                Err(_) => sleep(BREATH).await,
            }
        }
    }))
}

impl Listener {
    fn forward(&self, client: SocketAddr, data: &[u8]) {
        let routes = self.entrance.network.routes();
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let key = FlowKey { client, at: self.at.addr };
        match self.meaning.of(self.at) {
            Some(HostPort::Pod { to, .. }) => self.entrance.to_endpoint(key, to, data),
            Some(HostPort::Service(_)) => match routes.host_service(self.at) {
                Some(found) if routes.admits(&found.service, self.at, client.ip()) => {
                    self.entrance.to_service(key, found, Side::Outside, data);
                }
                _ => {}
            },
            Some(HostPort::Health(_) | HostPort::Gateway(_)) | None => {}
        }
    }
}

impl Entrance {
    pub(crate) fn new(network: Network, answers: Answers) -> Entrance {
        Entrance { network, answers }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Forwards a datagram to one endpoint. What finds nobody there is lost.
    pub(crate) fn to_endpoint(&self, key: FlowKey, to: SocketAddr, data: &[u8]) {
        if !self.go_on(key, data, |at| at == to) {
            self.begin(key, to, data);
        }
    }

    /// Forwards a datagram to an endpoint of a Service: the one of its flow, or one that is chosen now.
    pub(crate) fn to_service(&self, key: FlowKey, service: &ServicePort, side: Side, data: &[u8]) {
        if self.go_on(key, data, |at| service.eligible(side).iter().any(|e| e.addr == at)) {
            return;
        }
        let (network, client) = (&self.network, self.told_by(key.client.ip()));
        let chosen = network.chosen(service, side, client);
        for endpoint in service.candidates(side, chosen, network.chance()) {
            if self.begin(key, endpoint.addr, data) {
                network.taken(service, client, chosen, endpoint.addr);
                return;
            }
        }
    }

    /// By what a client is told from others, as over TCP: a pod by its first address, the host's own processes by the node's.
    fn told_by(&self, client: IpAddr) -> IpAddr {
        match (self.network.in_namespace(client), &self.answers) {
            (Some(pod), _) => pod.ip(),
            (None, Answers::Anywhere(_)) => self.network.0.config.node_ip,
            (None, Answers::Listener(_)) => client,
        }
    }

    /// Sends along the client's flow, if it has one that still leads somewhere.
    fn go_on(&self, key: FlowKey, data: &[u8], is_good: impl Fn(SocketAddr) -> bool) -> bool {
        let flows = &self.network.0.flows;
        let known = {
            let mut table = lock(&flows.table);
            table.sent(key, self.network.now()).map(|flow| (flow.to, flow.shown, flow.via.clone()))
        };
        let Some((to, shown, via)) = known else { return false };
        let sent = is_good(to)
            && match &via.far {
                Far::Here => self.push(to, key, shown, data),
                far => self.lets_on(key, to) && far.send(data),
            };
        if !sent {
            lock(&flows.table).end(key);
        }
        sent
    }

    /// Who the client of a flow is.
    fn who(&self, key: FlowKey) -> Who {
        self.answers.who_came(&self.network, key.client.ip())
    }

    /// Whether an endpoint that is not in this process is still there, and policies still let the client's datagrams go to it.
    fn lets_on(&self, key: FlowKey, to: SocketAddr) -> bool {
        let (network, who) = (&self.network, self.who(key));
        network.lets_out(who.clone(), to)
            && match network.endpoint_target(to) {
                Ok(Target::Pod(pod, _)) => network.admits(who, &pod, to),
                Ok(_) => true,
                Err(_) => false,
            }
    }

    fn push(&self, to: SocketAddr, key: FlowKey, from: SocketAddr, data: &[u8]) -> bool {
        let Ok(Target::Pod(pod, scope)) = self.network.endpoint_target(to) else { return false };
        if !self.network.admits(self.who(key), &pod, to) {
            return false;
        }
        let Some(mailbox) = pod.udp(scope, to) else { return false };
        mailbox.push(Datagram { from, data: Bytes::copy_from_slice(data) });
        true
    }

    /// Begins a flow to an endpoint with its first datagram; `false` if nobody is there.
    fn begin(&self, key: FlowKey, to: SocketAddr, data: &[u8]) -> bool {
        let (network, who) = (&self.network, self.who(key));
        // A pod's own loopback is not the host's: clients there show as the node, as with node ports of Kubernetes.
        let is_node = matches!(self.answers, Answers::Anywhere(_)) || key.client.ip().is_loopback();
        let (source, shown) = match network.in_namespace(key.client.ip()) {
            Some(pod) => (Source::Pod(pod), key.client),
            None if is_node => (Source::Node, SocketAddr::new(network.node_ip_for(to.ip()), key.client.port())),
            None => (Source::Client(key.client), key.client),
        };
        if !network.lets_out(who.clone(), to) {
            return false;
        }
        let far = match network.endpoint_target(to) {
            Ok(Target::Pod(pod, _)) if !network.admits(who.clone(), &pod, to) => None,
            Ok(Target::Pod(pod, scope)) => match &pod.identity().interface {
                Some(interface) => {
                    let ip = network.shown_in_namespace(shown.ip(), to.ip());
                    let open = || transparent::datagrams_of(ip, interface, to);
                    self.outside(key, open).ok().map(Far::Outside)
                }
                None => pod.udp(scope, to).map(|_| Far::Here),
            },
            Ok(Target::Outside(host)) => self.outside(key, || connected(host)).ok().map(Far::Outside),
            Ok(Target::Remote(node)) => self.remote(key, node, &source, shown, to),
            Ok(Target::Service(_)) | Err(_) => None,
        };
        let Some(far) = far else { return false };
        let via = Arc::new(Via { answers: Back::Host(self.answers.clone()), far });
        match (network.begin_flow(key, to, shown, via.clone()), &via.far) {
            // No room: the datagram is lost.
            (None, _) => {}
            (Some(shown), Far::Here) => drop(self.push(to, key, shown, data)),
            (Some(_), far) => drop(far.send(data)),
        }
        true
    }

    /// A stream to a pod of another node; none where there is no room.
    fn remote(
        &self,
        key: FlowKey,
        node: Arc<Neighbour>,
        source: &Source,
        shown: SocketAddr,
        to: SocketAddr,
    ) -> Option<Far> {
        if !self.has_room(REMOTE) {
            return None;
        }
        let (network, answers) = (self.network.clone(), self.answers.clone());
        let stream = self.network.carry_datagrams(node, source, shown, to, move |data| {
            lock(&network.0.flows.table).answered(key, network.now());
            answers.send(&network, key, &data);
        })?;
        Some(Far::Remote(stream))
    }

    /// Whether a flow may begin: what it would need is not made in vain.
    fn has_room(&self, class: usize) -> bool {
        lock(&self.network.0.flows.table).has_room(class, self.network.now())
    }

    /// A way by a connected socket, which is opened if there is room.
    fn outside(&self, key: FlowKey, open: impl FnOnce() -> io::Result<std::net::UdpSocket>) -> io::Result<Outside> {
        if !self.has_room(OUTSIDE) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // The socket, and its duplicate.
        let room = self.network.outgoing(2).map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        let socket = open()?;
        socket.set_nonblocking(true)?;
        let receiving = UdpSocket::from_std(socket.try_clone()?)?;
        let (network, answers) = (self.network.clone(), self.answers.clone());
        let receiver = tokio::spawn(async move {
            loop {
                let answer = async {
                    receiving.readable().await?;
                    // No buffer belongs to a flow that is silent.
                    let mut buffer = vec![0; BUFFER];
                    let n = receiving.try_recv(&mut buffer)?;
                    buffer.truncate(n);
                    io::Result::Ok(buffer)
                };
                match answer.await {
                    Ok(data) => {
                        lock(&network.0.flows.table).answered(key, network.now());
                        answers.send(&network, key, &data);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // ICMP's about earlier datagrams.
                    Err(_) => sleep(BREATH).await,
                }
            }
        });
        Ok(Outside { _room: room, socket, receiver: receiver.abort_handle() })
    }
}

/// A socket for datagrams to an address of the host's network.
fn connected(host: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let any: IpAddr = if host.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(host)?;
    Ok(socket)
}

impl Network {
    /// If a pod's datagram answers a client outside: sends it there.
    pub(crate) fn answer_outside(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) -> bool {
        let flows = &self.0.flows;
        if !flows.any.load(Ordering::Acquire) {
            return false;
        }
        let found = {
            let mut table = lock(&flows.table);
            table.answer(from, to, self.now()).map(|(key, flow)| (key, flow.via.clone()))
        };
        let Some((key, via)) = found else { return false };
        let who = match &via.answers {
            Back::Host(answers) => answers.who_came(self, key.client.ip()),
            Back::Node(_) => self.who_came(key.client.ip()),
        };
        // An answer that policies do not allow any more is lost.
        if self.pod(from.ip()).is_some_and(|pod| !self.admits(who, &pod, from)) {
            return true;
        }
        // A full send buffer loses datagrams; that is UDP.
        match &via.answers {
            Back::Host(answers) => answers.send(self, key, data),
            Back::Node(stream) => drop(stream.try_send(Bytes::copy_from_slice(data))),
        }
        true
    }

    /// Whether policies let a client's datagrams into a pod's port, which is at this address.
    fn admits(&self, who: Who, pod: &PodHandle, at: SocketAddr) -> bool {
        self.permits(&Flow::udp(who, Who::of(pod, at.ip()), at.port()))
    }

    /// Whether policies let a client's datagrams go to an endpoint, as far as they are this node's to ask: if it is a pod in a
    /// namespace of this host.
    pub(super) fn lets_out(&self, who: Who, to: SocketAddr) -> bool {
        self.permits(&Flow::udp(who, Who::Address(to.ip()), to.port()))
    }

    /// Begins a flow; whom the endpoint sees, or none where there is no room.
    fn begin_flow(&self, key: FlowKey, to: SocketAddr, shown: SocketAddr, via: Arc<Via>) -> Option<SocketAddr> {
        let shown = if let Far::Here = via.far { self.shown_at(to.ip(), shown) } else { shown };
        let mut table = lock(&self.0.flows.table);
        let first = table.is_empty();
        let class = via.far.class();
        let shown = table.begin(key, class, (to, shown), via, self.now());
        self.0.flows.any.store(true, Ordering::Release);
        drop(table);
        if first {
            // Whoever sweeps has had nothing to wait for.
            self.0.host_ports_changed.notify_one();
        }
        shown
    }

    /// The flow of one stream of another node, by which `client` has come. No address of the host belongs to it, so one of
    /// those stands for it that nobody has (RFC 6666).
    pub(crate) fn stream_flow(&self, client: SocketAddr) -> FlowKey {
        let at = Ipv6Addr::from_bits((0x0100 << 112) | u128::from(self.sequence()));
        FlowKey { client, at: SocketAddr::new(at.into(), 0) }
    }

    /// Gives a pod's port a datagram of a client that has come to another node; its answers go back by `answers`.
    pub(crate) fn deliver(
        &self,
        key: FlowKey,
        mailbox: &Mailbox,
        to: SocketAddr,
        answers: &mpsc::Sender<Bytes>,
        data: Bytes,
    ) {
        let known = lock(&self.0.flows.table).sent(key, self.now()).map(|flow| flow.shown);
        let shown = known.or_else(|| {
            let via = Arc::new(Via { answers: Back::Node(answers.clone()), far: Far::Here });
            self.begin_flow(key, to, key.client, via)
        });
        if let Some(from) = shown {
            mailbox.push(Datagram { from, data });
        }
    }

    /// How many flows there are.
    #[cfg(test)]
    pub(crate) fn flow_count(&self) -> usize {
        lock(&self.0.flows.table).len()
    }

    /// A stream of another node has ended.
    pub(crate) fn end_flow(&self, key: FlowKey) {
        lock(&self.0.flows.table).end(key);
    }

    /// Ends the flows that are over. Answers when to look again.
    pub(super) fn sweep_flows(&self) -> Option<Duration> {
        let flows = &self.0.flows;
        let mut table = lock(&flows.table);
        let next = table.sweep(self.now());
        flows.any.store(!table.is_empty(), Ordering::Release);
        next.map(|next| next.saturating_sub(self.now()).max(SWEEP))
    }

    /// Ends the flows by an address that is not listened on any more.
    pub(super) fn close_flows(&self, at: HostAddr) {
        if at.protocol == Protocol::Udp {
            lock(&self.0.flows.table).close(at.addr);
        }
    }
}
