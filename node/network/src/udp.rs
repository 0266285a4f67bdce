//! UDP: mailboxes inside, and a host socket for those who talk to the world outside.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{Claim, Protocol, Side};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::AbortHandle;

use crate::connect::{Source, Target};
use crate::error::NetError;
use crate::network::Network;
use crate::pod::{PodHandle, Scope, loopback};
use crate::policy::{Flow, Who};
use crate::sync::lock;

/// What UDP over IPv4 can carry.
const MAX_DATAGRAM: usize = 65_507;
/// How many bytes wait for a reader before datagrams are lost, as in a kernel's receive buffer.
const MAX_WAITING: usize = 256 * 1024;
/// How many Services, or peers outside, one socket remembers.
const MAX_FLOWS: usize = 1024;

/// How long two addresses are in conversation after a datagram: Linux' time of a UDP conversation.
const TALK: Duration = Duration::from_secs(120);

/// A received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it; a Service's address if the sender was asked by it.
    pub from: SocketAddr,
    /// What it says.
    pub data: Bytes,
}

/// A conversation with an address. Policies are asked about whoever has begun it; answers are part of it.
#[derive(Clone, Copy)]
struct Talk {
    /// Whether the other side has begun.
    theirs: bool,
    last: Duration,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    /// Kept while there are policies.
    talks: Mutex<HashMap<SocketAddr, Talk>>,
    notify: Notify,
    /// Apart from `notify`, whose single wake-up belongs to a reader.
    closing: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Datagram>,
    bytes: usize,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn push(&self, datagram: Datagram) {
        let mut state = lock(&self.state);
        if state.closed || state.bytes + datagram.data.len() > MAX_WAITING {
            return;
        }
        // An empty datagram takes room as well.
        state.bytes += datagram.data.len() + 64;
        state.waiting.push_back(datagram);
        drop(state);
        self.notify.notify_one();
    }

    fn pop(&self) -> Result<Option<Datagram>, NetError> {
        let mut state = lock(&self.state);
        match state.waiting.pop_front() {
            Some(datagram) => {
                state.bytes -= datagram.data.len() + 64;
                Ok(Some(datagram))
            }
            None if state.closed => Err(NetError::Detached),
            None => Ok(None),
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.notify.notify_waiters();
        self.closing.notify_waiters();
    }

    /// Whether the conversation with an address was begun there, if there is one.
    fn theirs(&self, other: SocketAddr, now: Duration) -> Option<bool> {
        let talk = lock(&self.talks).get(&other).copied();
        talk.filter(|t| now < t.last + TALK).map(|t| t.theirs)
    }

    /// Goes on with a conversation, or begins one.
    fn talk(&self, other: SocketAddr, theirs: bool, now: Duration) {
        let mut talks = lock(&self.talks);
        if talks.len() >= MAX_FLOWS && !talks.contains_key(&other) {
            talks.retain(|_, t| now < t.last + TALK);
            if talks.len() >= MAX_FLOWS {
                talks.clear();
            }
        }
        talks.insert(other, Talk { theirs, last: now });
    }

    /// Whether a datagram of somebody at another node may enter `pod`, whose port this is.
    pub(crate) fn may_receive(&self, pod: &PodHandle, port: u16, claim: &Arc<Claim>) -> bool {
        let Ok(network) = pod.network() else { return false };
        if network.policies().is_empty() {
            return true;
        }
        let (other, now) = (claim.address, network.now());
        let theirs = self.theirs(other, now).unwrap_or(true);
        let (own, them) = (Who::of(pod, other.ip()), Who::claimed(claim));
        let flow = if theirs { Flow::udp(them, own, port) } else { Flow::udp(own, them, other.port()) };
        let may = network.permits(&flow);
        if may {
            self.talk(other, theirs, now);
        }
        may
    }

    fn has_news(&self) -> bool {
        let state = lock(&self.state);
        state.closed || !state.waiting.is_empty()
    }
}

/// A bound UDP socket. Dropping it frees its port.
pub struct UdpSocket {
    pod: Arc<PodHandle>,
    local: SocketAddr,
    mailbox: Arc<Mailbox>,
    flows: Mutex<Flows>,
}

/// What a socket remembers about whom it has sent to.
#[derive(Default)]
struct Flows {
    /// Service address → endpoint: one conversation stays with one endpoint.
    endpoints: HashMap<SocketAddr, SocketAddr>,
    /// Endpoint → Service address: answers seem to come from whom was asked.
    services: HashMap<SocketAddr, SocketAddr>,
    v4: Option<Outside>,
    v6: Option<Outside>,
}

/// A host socket, opened by the first datagram that leaves the cluster.
struct Outside {
    _room: OwnedSemaphorePermit,
    /// For sending; the receiver has a duplicate (tokio's would not send before its first turn of the event loop).
    socket: std::net::UdpSocket,
    /// Only those who were sent something may answer; with the address that the pod has sent to.
    peers: Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>,
    receiver: AbortHandle,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl UdpSocket {
    pub(crate) fn new(pod: Arc<PodHandle>, local: SocketAddr, mailbox: Arc<Mailbox>) -> UdpSocket {
        UdpSocket { pod, local, mailbox, flows: Mutex::default() }
    }

    /// The bound address; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends a datagram. As with any UDP, success does not mean that it arrives.
    pub fn send_to(&self, data: impl Into<Bytes>, to: SocketAddr) -> Result<(), NetError> {
        let data = data.into();
        if data.len() > MAX_DATAGRAM {
            return Err(NetError::DatagramTooLarge);
        }
        let network = self.pod.network()?;
        if lock(&self.mailbox.state).closed {
            return Err(NetError::Detached);
        }
        // A client may have come to either address.
        let mut own = self.pod.identity().ips().map(|ip| SocketAddr::new(ip, self.local.port()));
        if own.any(|from| network.answer_outside(from, to, &data)) {
            return Ok(());
        }
        let source = Source::Pod(self.pod.clone());
        let mut at = to;
        let mut target = network.target(&source, to, Protocol::Udp)?;
        if let Target::Service(port) = &target {
            let flows = &mut *lock(&self.flows);
            let may = |at: &SocketAddr| self.may_reach(&network, *at);
            let known =
                flows.endpoints.get(&to).filter(|e| port.eligible.iter().any(|x| x.addr == **e)).copied().filter(may);
            let chosen = known.or_else(|| {
                let own = network.chosen(port, Side::Inside, self.pod.ip());
                port.candidates(Side::Inside, own, network.chance()).map(|e| e.addr).find(may)
            });
            at = chosen.ok_or(NetError::ConnectionRefused)?;
            if flows.endpoints.len() >= MAX_FLOWS {
                flows.endpoints.clear();
                flows.services.clear();
            }
            flows.endpoints.insert(to, at);
            flows.services.insert(at, to);
            target = network.endpoint_target(at)?;
        }
        self.may_send(&network, &target, at)?;
        match target {
            Target::Pod(pod, scope) => {
                let mailbox = pod.udp(scope, at).ok_or(NetError::ConnectionRefused)?;
                mailbox.push(Datagram { from: self.seen_from(scope, at), data });
                Ok(())
            }
            Target::Outside(host) => self.send_outside(&network.0.runtime, &data, at, host),
            Target::Remote(node) => network.send_remote_datagram(&self.pod, self.local.port(), &node, at, data),
            Target::Service(_) => Err(NetError::RemoteUnreachable),
        }
    }

    /// What policies are asked about a datagram to a target at an address, and whether it belongs to a conversation that
    /// was begun there. `None` within a pod.
    fn question(&self, target: &Target, at: SocketAddr, now: Duration) -> Option<(Flow, bool)> {
        let them = match target {
            Target::Pod(_, Scope::Loopback) => return None,
            Target::Pod(pod, Scope::Pod) => Who::of(pod, at.ip()),
            _ => Who::Address(at.ip()),
        };
        let own = Who::of(&self.pod, at.ip());
        let theirs = self.mailbox.theirs(at, now).unwrap_or(false);
        Some((if theirs { Flow::udp(them, own, self.local.port()) } else { Flow::udp(own, them, at.port()) }, theirs))
    }

    /// Whether policies let datagrams go to an endpoint.
    fn may_reach(&self, network: &Network, at: SocketAddr) -> bool {
        let may =
            |target: Target| self.question(&target, at, network.now()).is_none_or(|(flow, _)| network.permits(&flow));
        // What cannot be reached is told by whoever tries.
        network.policies().is_empty() || network.endpoint_target(at).map_or(true, may)
    }

    /// Asks policies about a datagram, and notes the conversation.
    fn may_send(&self, network: &Network, target: &Target, at: SocketAddr) -> Result<(), NetError> {
        if network.policies().is_empty() {
            return Ok(());
        }
        let now = network.now();
        let Some((flow, theirs)) = self.question(target, at, now) else { return Ok(()) };
        if !network.permits(&flow) {
            return Err(NetError::Forbidden);
        }
        self.mailbox.talk(at, theirs, now);
        if let Target::Pod(pod, scope) = target
            && let Some(mailbox) = pod.udp(*scope, at)
        {
            mailbox.talk(self.seen_from(Scope::Pod, at), !theirs, now);
        }
        Ok(())
    }

    /// Whom an address sees.
    fn seen_from(&self, scope: Scope, at: SocketAddr) -> SocketAddr {
        let ip = match scope {
            Scope::Loopback => loopback(at.ip()),
            Scope::Pod => self.pod.ip_for(at.ip()),
        };
        SocketAddr::new(ip, self.local.port())
    }

    /// Sends to an address of the host's network, which the pod calls `at`.
    fn send_outside(
        &self,
        runtime: &tokio::runtime::Handle,
        data: &[u8],
        at: SocketAddr,
        to: SocketAddr,
    ) -> Result<(), NetError> {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let mut flows = lock(&self.flows);
        let slot = if to.is_ipv4() { &mut flows.v4 } else { &mut flows.v6 };
        let outside = match slot {
            Some(open) => open,
            None => slot.insert(Outside::open(runtime, to.is_ipv4(), &self.pod, self.mailbox.clone())?),
        };
        let mut peers = lock(&outside.peers);
        if peers.len() >= MAX_FLOWS {
            peers.clear();
        }
        peers.insert(to, at);
        drop(peers);
        match outside.socket.send_to(data, to) {
            // A full send buffer loses datagrams; that is UDP.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(()),
        }
    }

    /// The next datagram. Fails only when the pod has left the network.
    pub async fn recv_from(&self) -> Result<Datagram, NetError> {
        loop {
            if let Some(datagram) = self.try_recv_from()? {
                return Ok(datagram);
            }
            self.ready().await;
        }
    }

    /// The next datagram, if one waits.
    pub fn try_recv_from(&self) -> Result<Option<Datagram>, NetError> {
        let Some(mut datagram) = self.mailbox.pop()? else { return Ok(None) };
        if let Some(service) = lock(&self.flows).services.get(&datagram.from) {
            datagram.from = *service;
        }
        Ok(Some(datagram))
    }

    /// Waits until [`UdpSocket::try_recv_from`] has something to say.
    pub async fn ready(&self) {
        loop {
            let mut notified = std::pin::pin!(self.mailbox.notify.notified());
            notified.as_mut().enable();
            if self.mailbox.has_news() {
                return;
            }
            notified.await;
        }
    }
}

impl Outside {
    fn open(
        runtime: &tokio::runtime::Handle,
        v4: bool,
        pod: &Arc<PodHandle>,
        mailbox: Arc<Mailbox>,
    ) -> Result<Outside, NetError> {
        // The socket, and its duplicate.
        let room = pod.network()?.outgoing(2)?;
        let any: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        let _entered = runtime.enter();
        let receiving = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let peers: Arc<Mutex<HashMap<SocketAddr, SocketAddr>>> = Arc::default();
        let (asked, pod) = (peers.clone(), Arc::downgrade(pod));
        let may_answer = move |peer: &SocketAddr| {
            let Some(at) = lock(&asked).get(peer).copied() else { return false };
            let Some(pod) = pod.upgrade() else { return false };
            let flow = Flow::udp(Who::of(&pod, at.ip()), Who::Address(at.ip()), at.port());
            pod.network().is_ok_and(|network| network.permits(&flow))
        };
        let receiver = runtime.spawn(async move {
            let mut buf = vec![0u8; 65_536];
            loop {
                tokio::select! {
                    received = receiving.recv_from(&mut buf) => match received {
                        Ok((n, peer)) if may_answer(&peer) => {
                            mailbox.push(Datagram { from: peer, data: Bytes::copy_from_slice(&buf[..n]) });
                        }
                        // Errors are ICMP's about earlier datagrams.
                        _ => {}
                    },
                    () = mailbox.closed() => return,
                }
            }
        });
        Ok(Outside { _room: room, socket, peers, receiver: receiver.abort_handle() })
    }
}

impl Mailbox {
    async fn closed(&self) {
        loop {
            let mut notified = std::pin::pin!(self.closing.notified());
            notified.as_mut().enable();
            if lock(&self.state).closed {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.pod.unbind_udp(&self.mailbox);
        self.mailbox.close();
    }
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UdpSocket({})", self.local)
    }
}

#[cfg(test)]
mod tests {
    use crate::network::tests::{attach, network};

    #[tokio::test]
    async fn only_those_who_were_asked_may_answer_from_outside() {
        let net = network();
        let socket = attach(&net, 1).bind_udp("0.0.0.0:0".parse().unwrap()).unwrap();
        let host = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = host.local_addr().unwrap();
        socket.send_outside(&net.0.runtime, b"ask", to, to).unwrap();
        let mut buf = [0; 16];
        let (n, from) = host.recv_from(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], b"ask");
        stranger.send_to(b"forged", from).await.unwrap();
        host.send_to(b"answer", from).await.unwrap();
        let got = socket.recv_from().await.unwrap();
        assert_eq!((&got.data[..], got.from), (&b"answer"[..], host.local_addr().unwrap()));
    }
}
