//! Datagrams from outside, and the answers to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{FlowKey, Flows, HostAddr, HostPort, Neighbour, Protocol, Side};
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use super::{BREATH, Meaning};
use crate::connect::{Source, Target};
use crate::network::Network;
use crate::pod::PodHandle;
use crate::policy::{Flow, Who};
use crate::sync::lock;
use crate::udp::{Datagram, Mailbox};

/// The longest datagram, and more.
const BUFFER: usize = 65_536;
/// Flows to pods of this node. Beyond what there may be of a class those give way that have had no conversation.
const HERE: usize = 0;
/// Flows whose endpoint is no pod: each has a socket of the host.
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
    Host(Arc<std::net::UdpSocket>),
    /// By the node that the client has come to.
    Node(mpsc::Sender<Bytes>),
}

enum Far {
    /// It is a pod of this node.
    Here,
    /// It is no pod.
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

/// What one listener forwards with.
struct Listener {
    network: Network,
    at: HostAddr,
    meaning: Meaning,
    /// For sending: the receiver is a duplicate, since a pod answers from its own thread.
    answers: Arc<std::net::UdpSocket>,
}

/// Listens until the task is aborted, at an address that is no interface's if it is a Service's own (IP_TRANSPARENT).
pub(super) fn open(network: Network, at: SocketAddr, meaning: Meaning, own: bool) -> io::Result<JoinHandle<()>> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking(), Some(socket2::Protocol::UDP))?;
    if own {
        // Whoever may not say so hears it from the next line, unless the address is an interface's after all.
        let _ = socket.set_ip_transparent_v4(true);
    }
    socket.bind(&at.into())?;
    let socket = std::net::UdpSocket::from(socket);
    let receiving = UdpSocket::from_std(socket.try_clone()?)?;
    let at = HostAddr { addr: at, protocol: Protocol::Udp };
    let listener = Listener { network, at, meaning, answers: Arc::new(socket) };
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
        let network = &self.network;
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let key = FlowKey { client, at: self.at.addr };
        let (service, side) = match self.meaning.of(self.at) {
            Some(HostPort::Pod { to, .. }) => {
                if !self.go_on(key, data, |at| at == to) {
                    self.begin(key, to, data);
                }
                return;
            }
            Some(HostPort::Service(_)) => match network.routes().host_service(self.at) {
                Some(found) => {
                    if !network.routes().admits(&found.service, self.at, client.ip()) {
                        return;
                    }
                    (found.clone(), Side::Outside)
                }
                None => return,
            },
            Some(HostPort::Virtual(_)) => {
                match network.routes().service(self.at.addr.ip(), self.at.addr.port(), Protocol::Udp) {
                    Some(found) => (found.clone(), Side::Inside),
                    None => return,
                }
            }
            Some(HostPort::Health(_) | HostPort::Gateway(_)) | None => return,
        };
        if self.go_on(key, data, |at| service.eligible(side).iter().any(|e| e.addr == at)) {
            return;
        }
        let chosen = network.chosen(&service, side, client.ip());
        for endpoint in service.candidates(side, chosen, network.chance()) {
            if self.begin(key, endpoint.addr, data) {
                network.taken(&service, client.ip(), chosen, endpoint.addr);
                return;
            }
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
                far => self.network.lets_out(key.client, to) && far.send(data),
            };
        if !sent {
            lock(&flows.table).end(key);
        }
        sent
    }

    fn push(&self, to: SocketAddr, key: FlowKey, from: SocketAddr, data: &[u8]) -> bool {
        let Ok(Target::Pod(pod, scope)) = self.network.endpoint_target(to) else { return false };
        if !self.network.admits(key.client, &pod, to.port()) {
            return false;
        }
        let Some(mailbox) = pod.udp(scope, to) else { return false };
        mailbox.push(Datagram { from, data: Bytes::copy_from_slice(data) });
        true
    }

    /// Begins a flow to an endpoint with its first datagram; `false` if nobody is there.
    fn begin(&self, key: FlowKey, to: SocketAddr, data: &[u8]) -> bool {
        let network = &self.network;
        // A pod's own loopback is not the host's: clients there show as the node, as with node ports of Kubernetes.
        let (source, shown) = match network.in_namespace(key.client.ip()) {
            Some(pod) => (Source::Pod(pod), key.client),
            None if key.client.ip().is_loopback() => {
                (Source::Node, SocketAddr::new(network.node_ip_for(to.ip()), key.client.port()))
            }
            None => (Source::Client(key.client), key.client),
        };
        if !network.lets_out(key.client, to) {
            return false;
        }
        let far = match network.endpoint_target(to) {
            Ok(Target::Pod(pod, scope))
                if pod.udp(scope, to).is_some() && network.admits(key.client, &pod, to.port()) =>
            {
                Some(Far::Here)
            }
            Ok(Target::Outside(host)) => self.outside(key, host).ok().map(Far::Outside),
            Ok(Target::Remote(node)) => self.remote(key, node, &source, shown, to),
            _ => None,
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
            // A full send buffer loses datagrams; that is UDP.
            let _ = answers.send_to(&data, key.client);
        })?;
        Some(Far::Remote(stream))
    }

    /// Whether a flow may begin: what it would need is not made in vain.
    fn has_room(&self, class: usize) -> bool {
        lock(&self.network.0.flows.table).has_room(class, self.network.now())
    }

    fn outside(&self, key: FlowKey, host: SocketAddr) -> io::Result<Outside> {
        if !self.has_room(OUTSIDE) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // The socket, and its duplicate.
        let room = self.network.outgoing(2).map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        let any: IpAddr = if host.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(host)?;
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
                        let _ = answers.send_to(&data, key.client);
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

impl Network {
    /// If a pod's datagram answers a client outside: sends it there.
    pub(crate) fn answer_outside(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) -> bool {
        let flows = &self.0.flows;
        if !flows.any.load(Ordering::Acquire) {
            return false;
        }
        let found = {
            let mut table = lock(&flows.table);
            table.answer(from, to, self.now()).map(|(key, flow)| (key.client, flow.via.clone()))
        };
        let Some((client, via)) = found else { return false };
        // An answer that policies do not allow any more is lost.
        if self.pod(from.ip()).is_some_and(|pod| !self.admits(client, &pod, from.port())) {
            return true;
        }
        // A full send buffer loses datagrams; that is UDP.
        match &via.answers {
            Back::Host(socket) => drop(socket.send_to(data, client)),
            Back::Node(stream) => drop(stream.try_send(Bytes::copy_from_slice(data))),
        }
        true
    }

    /// Whether policies let a client's datagrams into a pod's port.
    fn admits(&self, client: SocketAddr, pod: &PodHandle, port: u16) -> bool {
        self.permits(&Flow::udp(self.who_came(client.ip()), Who::of(pod, client.ip()), port))
    }

    /// Whether policies let a client's datagrams go to an endpoint, as far as they are this node's to ask: if it is a pod in a
    /// namespace of this host.
    pub(super) fn lets_out(&self, client: SocketAddr, to: SocketAddr) -> bool {
        self.permits(&Flow::udp(self.who_came(client.ip()), Who::Address(to.ip()), to.port()))
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
