//! Datagrams from outside, and the answers to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{FlowKey, Flows, HostAddr, HostPort, Protocol, ServicePort, Side};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use super::{BREATH, Meaning};
use crate::connect::Target;
use crate::network::Network;
use crate::sync::lock;
use crate::udp::Datagram;

/// Clients at once, over all ports; beyond it those give way that have had no conversation.
const MAX_FLOWS: usize = 16_384;
/// Of them those whose endpoint is no pod of this node: each has a socket of the host.
const MAX_OUTSIDE: usize = 512;
/// The longest datagram, and more.
const BUFFER: usize = 65_536;
/// Flows that are over are looked for at most so often.
const SWEEP: Duration = Duration::from_secs(5);

/// Who talks to pods over UDP from outside.
pub(crate) struct HostFlows {
    table: Mutex<Flows<Arc<Via>>>,
    /// Whether there may be any: pods' datagrams need not look where there are none.
    any: AtomicBool,
    outside: Arc<Semaphore>,
}

impl Default for HostFlows {
    fn default() -> HostFlows {
        HostFlows {
            table: Mutex::new(Flows::new(MAX_FLOWS)),
            any: AtomicBool::new(false),
            outside: Arc::new(Semaphore::new(MAX_OUTSIDE)),
        }
    }
}

/// The ways of one flow.
pub(crate) struct Via {
    /// Where its answers leave.
    answers: Arc<std::net::UdpSocket>,
    /// The way to an endpoint that is no pod of this node.
    outside: Option<Outside>,
}

struct Outside {
    socket: std::net::UdpSocket,
    receiver: AbortHandle,
    _permit: OwnedSemaphorePermit,
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

/// Listens until the task is aborted.
pub(super) fn open(network: Network, at: SocketAddr, meaning: Meaning) -> io::Result<JoinHandle<()>> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
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
        let port: Arc<ServicePort>;
        let service = match self.meaning.of(self.at) {
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
                    port = found.clone();
                    &port
                }
                None => return,
            },
            Some(HostPort::Health(_) | HostPort::Gateway { .. }) | None => return,
        };
        if self.go_on(key, data, |at| service.eligible(Side::Outside).iter().any(|e| e.addr == at)) {
            return;
        }
        let chosen = network.chosen(service, Side::Outside, client.ip());
        for endpoint in service.candidates(Side::Outside, chosen, network.sequence()) {
            if self.begin(key, endpoint.addr, data) {
                network.taken(service, client.ip(), chosen, endpoint.addr);
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
            && match &via.outside {
                Some(outside) => {
                    // What cannot be sent is lost, as datagrams are.
                    let _ = outside.socket.send(data);
                    true
                }
                None => self.push(to, shown, data),
            };
        if !sent {
            lock(&flows.table).end(key);
        }
        sent
    }

    fn push(&self, to: SocketAddr, from: SocketAddr, data: &[u8]) -> bool {
        let Ok(Target::Pod(pod, scope)) = self.network.endpoint_target(to) else { return false };
        let Some(mailbox) = pod.udp(scope, to.port()) else { return false };
        mailbox.push(Datagram { from, data: Bytes::copy_from_slice(data) });
        true
    }

    /// Begins a flow to an endpoint with its first datagram; `false` if nobody is there.
    fn begin(&self, key: FlowKey, to: SocketAddr, data: &[u8]) -> bool {
        let network = &self.network;
        let outside = match network.endpoint_target(to) {
            Ok(Target::Pod(pod, scope)) if pod.udp(scope, to.port()).is_some() => None,
            Ok(Target::Outside(host)) => match self.outside(key, host) {
                Ok(outside) => Some(outside),
                Err(_) => return false,
            },
            _ => return false,
        };
        // A pod's own loopback is not the host's: clients there show as the node, as with node ports of Kubernetes.
        let shown = match key.client.ip().is_loopback() {
            true => SocketAddr::new(network.0.config.node_ip, key.client.port()),
            false => key.client,
        };
        let via = Arc::new(Via { answers: self.answers.clone(), outside });
        let shown = {
            let mut table = lock(&network.0.flows.table);
            let first = table.is_empty();
            let shown = table.begin(key, to, shown, via.clone(), network.now());
            network.0.flows.any.store(true, Ordering::Release);
            drop(table);
            if first {
                // Whoever sweeps has had nothing to wait for.
                network.0.host_ports_changed.notify_one();
            }
            shown
        };
        match (shown, &via.outside) {
            // No room: the datagram is lost.
            (None, _) => {}
            (Some(shown), None) => drop(self.push(to, shown, data)),
            (Some(_), Some(outside)) => drop(outside.socket.send(data)),
        }
        true
    }

    fn outside(&self, key: FlowKey, host: SocketAddr) -> io::Result<Outside> {
        let flows = &self.network.0.flows;
        let permit = flows.outside.clone().try_acquire_owned().map_err(io::Error::other)?;
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
        Ok(Outside { socket, receiver: receiver.abort_handle(), _permit: permit })
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
        // A full send buffer loses datagrams; that is UDP.
        let _ = via.answers.send_to(data, client);
        true
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
