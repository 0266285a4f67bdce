//! Connections to other nodes: made when something goes there, shared, looked after, closed when idle.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{Claim, Neighbour, SourcePod, Whose};
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::{self, Refusal};
use super::{CONNECTION_WINDOW, CONNECTIONS, FRAME, HEAD, STREAMS, TunnelConfig, TunnelTiming, WINDOW, carry};
use crate::connect::{Conn, Source};
use crate::error::NetError;
use crate::network::Network;
use crate::pod::Scope;
use crate::stream::Stream;
use crate::sync::lock;

/// After a failure nobody tries for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long whoever tries then waits: enough for a node that is back, and no burden to who has other nodes to ask.
const RETRY: Duration = Duration::from_millis(250);
/// Why a connection is closed whose other side has gone without a word.
const SILENT: &str = "nobody answers";

/// Another node, with the connections to it.
pub(super) struct Peer {
    data: SocketAddr,
    open: Mutex<Vec<Arc<Session>>>,
    /// Held by whoever makes a connection.
    dialing: Arc<tokio::sync::Mutex<()>>,
    /// When the last attempt has failed, or the node has fallen silent; none once it was reached.
    failed: Mutex<Option<Instant>>,
}

/// One connection.
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    load: Mutex<Load>,
    made: Instant,
}

struct Load {
    streams: u32,
    /// Those of them that carry datagrams.
    datagrams: u32,
    /// When the last stream has ended.
    since: Instant,
    closed: bool,
}

/// A place on a connection, for one stream.
pub(super) struct Lease(Arc<Session>, Carries);

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// Bytes, or a request.
    Stream,
    /// Datagrams, whose streams stay for a while after the last one: they leave half of the places to others.
    Datagrams,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut load = lock(&self.0.load);
        load.streams -= 1;
        load.datagrams -= u32::from(self.1 == Carries::Datagrams);
        load.since = Instant::now();
    }
}

/// A stream whose head was sent.
pub(super) struct Begun {
    pub(super) response: ResponseFuture,
    pub(super) send: SendStream<Bytes>,
    pub(super) lease: Lease,
}

impl Session {
    fn lease(self: &Arc<Self>, what: Carries) -> Option<Lease> {
        let mut load = lock(&self.load);
        let datagrams = u32::from(what == Carries::Datagrams);
        if load.closed || load.streams >= STREAMS || load.datagrams + datagrams > STREAMS / 2 {
            return None;
        }
        load.streams += 1;
        load.datagrams += datagrams;
        Some(Lease(self.clone(), what))
    }

    fn close(&self) {
        lock(&self.load).closed = true;
    }

    fn is_closed(&self) -> bool {
        lock(&self.load).closed
    }

    /// Whether it takes no more streams for its age.
    fn is_retired(&self, timing: TunnelTiming) -> bool {
        self.made.elapsed() >= timing.retire
    }

    /// Closes it if nothing has used it for a while, or nothing will any more. Whether that was all: one that takes no more
    /// streams, since the other side wants none, is left to those that it has.
    fn rest(&self, timing: TunnelTiming) -> bool {
        let mut load = lock(&self.load);
        if load.streams > 0 {
            return false;
        }
        load.closed |= load.since.elapsed() >= timing.idle || self.is_retired(timing);
        load.closed
    }
}

impl Peer {
    fn lease(&self, timing: TunnelTiming, what: Carries) -> Option<Lease> {
        let mut open = lock(&self.open);
        // One that is retired goes on by itself until its last stream has ended.
        open.retain(|session| !session.is_closed() && !session.is_retired(timing));
        open.iter().find_map(|session| session.lease(what))
    }
}

/// What a stream says of its source, whose end of it is at `address`; none for one that has come from another node.
pub(super) fn claim(from: &Source, address: SocketAddr) -> Option<Claim> {
    let whose = match from {
        Source::Pod(pod) => {
            let id = pod.identity();
            Whose::Pod(SourcePod {
                uid: id.uid.clone(),
                namespace: id.namespace.clone(),
                name: id.name.clone(),
                service_account: id.service_account.clone(),
            })
        }
        Source::Node => Whose::Node,
        Source::Client(_) => Whose::Client,
        Source::Remote(_) => return None,
    };
    Some(Claim { whose, address })
}

impl Network {
    /// Opens a byte stream to a pod of another node.
    pub(crate) async fn open_remote(&self, from: &Source, node: &Neighbour, to: SocketAddr) -> Result<Conn, NetError> {
        let local = from.local(self, Scope::Pod, to.ip());
        let claim = claim(from, local).ok_or(NetError::AccessDenied)?;
        let head = wire::connect(to, &claim).ok_or(NetError::InvalidArgument)?;
        let opening = timeout(self.0.config.connect_timeout, self.first_word(node, &head, false));
        let (send, recv, lease) = opening.await.unwrap_or(Err(NetError::Timeout))??;
        let (mut near, far) = Stream::pair();
        if let Some(tracker) = from.tracker() {
            near = near.tracked(tracker);
        }
        self.0.runtime.spawn(async move {
            carry::carry(far, send, recv).await;
            drop(lease);
        });
        Ok(Conn { local, peer: to, stream: near })
    }

    /// Whether a port of another node's pod takes requests, so that a connection to its Service need not be one to it; an
    /// error if nobody is there.
    pub(crate) async fn takes_requests(
        &self,
        from: &Source,
        node: &Neighbour,
        to: SocketAddr,
    ) -> Result<bool, NetError> {
        if let Some(known) = self.0.tunnel.takes_requests(to) {
            return Ok(known);
        }
        let claim = claim(from, SocketAddr::new(from.ip_for(self, to.ip()), 0)).ok_or(NetError::AccessDenied)?;
        let head = wire::ask(to, &claim).ok_or(NetError::InvalidArgument)?;
        let asking = timeout(self.0.config.connect_timeout, self.first_word(node, &head, true));
        match asking.await.unwrap_or(Err(NetError::Timeout))? {
            Ok(_) => {
                self.0.tunnel.note(to, true);
                Ok(true)
            }
            Err(Refusal::StreamsOnly) => {
                self.0.tunnel.note(to, false);
                Ok(false)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Sends a head and waits for the other node's answer to it.
    pub(super) async fn first_word(
        &self,
        node: &Neighbour,
        head: &Request<()>,
        end: bool,
    ) -> Result<Result<(SendStream<Bytes>, h2::RecvStream, Lease), Refusal>, NetError> {
        let mut tries = 0;
        loop {
            let Begun { response, send, lease } = self.begin(node, head, end).await?;
            tries += 1;
            match response.await {
                Ok(response) if response.status().is_success() => return Ok(Ok((send, response.into_body(), lease))),
                Ok(response) => {
                    let refusal = wire::refusal(response.headers());
                    return Ok(Err(refusal.map_or(Refusal::Unreachable, |(refusal, _)| refusal)));
                }
                // A kept connection may break just as it is used.
                Err(e) if tries == 1 && (e.is_io() || e.is_go_away()) => lease.0.close(),
                Err(e) => {
                    tracing::debug!(node = %node.name, error = %e, "a stream to another node was not opened");
                    return Err(NetError::RemoteUnreachable);
                }
            }
        }
    }

    /// Sends a head, over a connection that is there or a new one. Nothing was sent if it fails.
    pub(super) async fn begin(&self, node: &Neighbour, head: &Request<()>, end: bool) -> Result<Begun, NetError> {
        let what = if wire::is_datagrams(head) { Carries::Datagrams } else { Carries::Stream };
        for _ in 0..2 {
            let lease = self.lease(node, what).await?;
            if let Ok(mut sender) = lease.0.sender.clone().ready().await {
                match sender.send_request(head.clone(), end) {
                    Ok((response, send)) => return Ok(Begun { response, send, lease }),
                    Err(e) if !e.is_io() && !e.is_go_away() => {
                        tracing::debug!(error = %e, "a head that cannot be sent");
                        return Err(NetError::InvalidArgument);
                    }
                    Err(_) => {}
                }
            }
            lease.0.close();
        }
        Err(NetError::RemoteUnreachable)
    }

    async fn lease(&self, node: &Neighbour, what: Carries) -> Result<Lease, NetError> {
        let config = self.0.config.tunnel.as_ref().ok_or(NetError::RemoteUnreachable)?;
        let peer = self.peer_of(node);
        if let Some(lease) = peer.lease(config.timing, what) {
            return Ok(lease);
        }
        let failed = *lock(&peer.failed);
        // While a node is not reached, one finds out whether it is again, and nobody else waits for that.
        let dialing = match peer.dialing.clone().try_lock_owned() {
            Ok(dialing) => dialing,
            Err(_) if failed.is_some() => return Err(NetError::RemoteUnreachable),
            Err(_) => peer.dialing.clone().lock_owned().await,
        };
        // Somebody else may have made one meanwhile, or tried to.
        if let Some(lease) = peer.lease(config.timing, what) {
            return Ok(lease);
        }
        let failed = *lock(&peer.failed);
        if failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(NetError::RemoteUnreachable);
        }
        if lock(&peer.open).len() >= CONNECTIONS {
            return Err(NetError::NewSocketLimit);
        }
        // Not here: guests' threads must not be those that watch the connection's socket. And not for this stream alone: an
        // attempt goes on when nobody waits for it any more.
        let dialed = self.0.runtime.spawn(establish(config.clone(), node.clone(), peer, dialing, what));
        let dialed = match failed {
            None => dialed.await,
            Some(_) => timeout(RETRY, dialed).await.map_err(|_| NetError::RemoteUnreachable)?,
        };
        dialed.unwrap_or(Err(NetError::RemoteUnreachable))
    }

    fn peer_of(&self, node: &Neighbour) -> Arc<Peer> {
        let mut peers = lock(&self.0.tunnel.peers);
        match peers.get(&node.name) {
            Some(peer) if peer.data == node.data => peer.clone(),
            _ => {
                // Nodes that are gone, or somewhere else now. What is open goes on until it ends.
                let all = self.neighbours();
                peers.retain(|name, peer| all.node(name).is_some_and(|n| n.data == peer.data));
                let peer = Arc::new(Peer {
                    data: node.data,
                    open: Mutex::default(),
                    dialing: Default::default(),
                    failed: Mutex::default(),
                });
                peers.insert(node.name.clone(), peer.clone());
                peer
            }
        }
    }

    /// When the last connection to another node was made.
    #[cfg(test)]
    pub(super) fn last_made(&self) -> Option<Instant> {
        let peers = lock(&self.0.tunnel.peers);
        peers.values().filter_map(|peer| lock(&peer.open).iter().map(|s| s.made).max()).max()
    }

    /// How many connections to other nodes are open.
    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        let peers = lock(&self.0.tunnel.peers);
        peers.values().map(|peer| lock(&peer.open).iter().filter(|s| !s.is_closed()).count()).sum()
    }
}

type Dialed = (SendRequest<Bytes>, Connection<TlsStream<TcpStream>, Bytes>);

/// Makes a connection and leaves it, or that it has failed, with the peer.
async fn establish(
    config: TunnelConfig,
    node: Neighbour,
    peer: Arc<Peer>,
    _dialing: tokio::sync::OwnedMutexGuard<()>,
    what: Carries,
) -> Result<Lease, NetError> {
    let dialed = timeout(config.timing.connect, dial(&config, &node)).await;
    match dialed.unwrap_or(Err(NetError::Timeout)) {
        Ok((sender, connection)) => {
            *lock(&peer.failed) = None;
            let load = Load { streams: 0, datagrams: 0, since: Instant::now(), closed: false };
            let session = Arc::new(Session { sender, load: Mutex::new(load), made: Instant::now() });
            let lease = session.lease(what).ok_or(NetError::NewSocketLimit)?;
            lock(&peer.open).push(session.clone());
            tokio::spawn(drive(peer, session, connection, config.timing, node.name));
            Ok(lease)
        }
        Err(error) => {
            tracing::warn!(node = %node.name, at = %node.data, %error, "another node is not reached");
            *lock(&peer.failed) = Some(Instant::now());
            // Whatever it is, the way there is what does not work: another endpoint may.
            Err(NetError::RemoteUnreachable)
        }
    }
}

async fn dial(config: &TunnelConfig, node: &Neighbour) -> Result<Dialed, NetError> {
    let tcp = TcpStream::connect(node.data).await?;
    let _ = tcp.set_nodelay(true);
    // Whoever is at that address must be that node.
    let name = ServerName::try_from(node.name.to_string()).unwrap_or_else(|_| node.data.ip().into());
    let tls = TlsConnector::from(config.client.clone()).connect(name, tcp).await?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(b"h2") {
        return Err(NetError::InvalidArgument);
    }
    let shown = session.peer_certificates().and_then(|c| c.first()).and_then(|c| (config.node_of)(c));
    if shown.as_deref() != Some(&*node.name) {
        return Err(NetError::AccessDenied);
    }
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEAD)
        // As on the other side: see there.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(STREAMS as usize)
        .enable_push(false);
    builder.handshake(tls).await.map_err(|e| {
        tracing::debug!(node = %node.name, error = %e, "no HTTP/2 with another node");
        NetError::ConnectionReset
    })
}

/// Moves a connection's frames until it ends, has nothing to do or the other side does not answer: then its streams are cut.
async fn drive(
    peer: Arc<Peer>,
    session: Arc<Session>,
    mut connection: Connection<TlsStream<TcpStream>, Bytes>,
    timing: TunnelTiming,
    node: Arc<str>,
) {
    let pings = connection.ping_pong();
    tokio::select! {
        done = &mut connection => tracing::debug!(%node, ?done, "a connection to another node has ended"),
        why = look_after(pings, timing, || session.rest(timing)) => {
            tracing::debug!(%node, why, "a connection to another node is closed");
            // Nor will a new one be answered soon, so whoever tries must not wait for it. If one that was made meanwhile is
            // better, it is used all the same.
            if why == SILENT {
                *lock(&peer.failed) = Some(Instant::now());
            }
        }
    }
    session.close();
}

/// Ends, saying why, when `rests` does or the other side does not answer.
pub(super) async fn look_after(
    pings: Option<PingPong>,
    timing: TunnelTiming,
    rests: impl Fn() -> bool,
) -> &'static str {
    // There is one for whoever asks first.
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(timing.ping).await;
        if rests() {
            return "it is idle";
        }
        match timeout(timing.patience, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return "it is broken",
            Err(_) => return SILENT,
        }
    }
}
