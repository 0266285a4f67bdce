//! The receiving side: streams and requests of other nodes for the pods of this one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use copepod_node_routes::{Claim, Verdict, Whose};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::request::{Inflow, Outflow};
use super::session::look_after;
use super::wire::{self, Heard, Refusal};
use super::{CONNECTION_WINDOW, CONNECTIONS, FRAME, HEAD, STREAMS, TunnelConfig, WINDOW, carry, datagrams};
use crate::connect::{Source, Target};
use crate::http::{ConnInfo, HttpService, ServiceError};
use crate::network::Network;
use crate::pod::{Bound, PodHandle, Scope};
use crate::sync::lock;

/// Connections at once that have not said whose they are; more wait in the kernel's queue.
const STRANGERS: usize = 256;
/// Connections of one node at once: some are old ones that take no more streams.
const PER_NODE: usize = 4 * CONNECTIONS;
/// For the TLS handshake and HTTP/2's preface.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams that were given up before they were looked at; hurried clients of a trusted node.
const HURRIED: usize = STREAMS as usize;

impl Network {
    /// Takes streams of other nodes until `stop` ends, then lets open ones go on for `drain`. Does nothing where the
    /// network has no tunnel.
    pub async fn serve_tunnel(&self, listener: TcpListener, stop: impl Future<Output = ()>, drain: Duration) {
        let Some(config) = self.0.config.tunnel.clone() else { return };
        let room = Arc::new(Semaphore::new(STRANGERS));
        let places = Arc::new(Places::default());
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit,
                () = &mut stop => break,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((tcp, at)) => {
                    let (network, config, stopped) = (self.clone(), config.clone(), stopped.clone());
                    let places = places.clone();
                    let serve = async move {
                        let begun = Instant::now();
                        let Some((tls, sender)) = identified(tcp, at, &config).await else { return };
                        let Some(_place) = places.enter(&sender) else {
                            return tracing::warn!(%sender, "another node has too many connections");
                        };
                        drop(permit);
                        network.connection(tls, sender, begun, config, stopped).await;
                    };
                    connections.spawn_on(serve, &self.0.runtime);
                }
                Err(error) => {
                    tracing::warn!(%error, "the listener for other nodes cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        stopping.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(drain, all).await;
    }

    async fn connection(
        &self,
        tls: TlsStream<TcpStream>,
        sender: Arc<str>,
        begun: Instant,
        config: TunnelConfig,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEAD)
            .max_concurrent_streams(STREAMS)
            // Streams that are given up are ordinary, and whoever connects is a node of the cluster: h2's limit over the
            // life of a connection would cut all the others.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(STREAMS as usize)
            .max_pending_accept_reset_streams(HURRIED);
        let Ok(Ok(mut connection)) = timeout(HANDSHAKE, builder.handshake::<_, Bytes>(tls)).await else { return };
        let mut alive = std::pin::pin!(look_after(connection.ping_pong(), config.timing, || false));
        // The other side is to be the first. One that is not will come again with the certificate of the time.
        let mut old = std::pin::pin!(sleep_until(begun + config.timing.retire + config.timing.patience));
        let mut told = false;
        loop {
            tokio::select! {
                next = connection.accept() => match next {
                    Some(Ok((request, respond))) => {
                        let (network, sender) = (self.clone(), sender.clone());
                        self.0.runtime.spawn(async move { network.answer(&sender, request, respond).await });
                    }
                    Some(Err(error)) => return tracing::debug!(%sender, %error, "a connection of another node broke"),
                    None => return,
                },
                // Dropping the connection cuts its streams.
                why = &mut alive => return tracing::debug!(%sender, why, "a connection of another node is closed"),
                _ = stopped.wait_for(|s| *s), if !told => {
                    told = true;
                    connection.graceful_shutdown();
                }
                () = &mut old, if !told => {
                    told = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }

    /// One stream.
    async fn answer(&self, sender: &str, mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let admitted = self.admitted(sender, &mut request).await;
        let (heard, pod) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return refuse(&mut respond, refusal, None),
        };
        let (source, target) = (Source::Remote(Arc::new(heard.claim.clone())), Target::Pod(pod.clone(), Scope::Pod));
        // Of datagrams each one is asked about.
        if !heard.capsules && self.permit(&source, &target, heard.to).is_err() {
            return refuse(&mut respond, Refusal::Denied, None);
        }
        match *request.method() {
            Method::CONNECT if heard.capsules => {
                datagrams::receive(self, heard, pod, request.into_body(), respond).await;
            }
            Method::CONNECT => self.stream(heard, pod, request.into_body(), respond).await,
            _ => match self.watch(&source, &target, heard.to) {
                Ok(None) => exchange(heard, &pod, request, respond).await,
                Ok(Some(permit)) => drop(permit.hold(exchange(heard, &pod, request, respond)).await),
                Err(_) => refuse(&mut respond, Refusal::Denied, None),
            },
        }
    }

    async fn admitted(
        &self,
        sender: &str,
        request: &mut Request<RecvStream>,
    ) -> Result<(Heard, Arc<PodHandle>), Refusal> {
        let heard = wire::read(request)?;
        self.is_true(sender, &heard.claim).await?;
        // A node may speak for clients outside, not for others' pods.
        let foreign = |ip: IpAddr| self.in_cluster(ip) && !self.neighbours().node(sender).is_some_and(|n| n.has(ip));
        if let Some(peer) = heard.peer
            && foreign(peer.ip().to_canonical())
        {
            tracing::warn!(node = sender, %peer, "a request of another node is refused: its client would be a pod elsewhere");
            return Err(Refusal::Denied);
        }
        let pod = self.pod(heard.to.ip()).ok_or(Refusal::Unreachable)?;
        Ok((heard, pod))
    }

    /// Checks what `sender` says of a source. What is not known yet is waited for a moment: a pod may be faster than news of
    /// it.
    async fn is_true(&self, sender: &str, claim: &Claim) -> Result<(), Refusal> {
        let until = Instant::now() + self.0.config.hold;
        loop {
            let news = self.0.neighbours_changed.notified();
            let verdict = self.neighbours().judge(sender, claim, |ip| self.in_cluster(ip));
            let why = match verdict {
                Verdict::True => return Ok(()),
                Verdict::Unknown if timeout_at(until, news).await.is_ok() => continue,
                Verdict::Unknown => "nothing is known of the source",
                Verdict::False(why) => why,
            };
            tracing::warn!(node = sender, %claim, why, "a stream of another node is refused");
            return Err(Refusal::Denied);
        }
    }

    async fn stream(&self, heard: Heard, pod: Arc<PodHandle>, recv: RecvStream, mut respond: SendResponse<Bytes>) {
        let Heard { to, claim, .. } = heard;
        let source = Source::Remote(Arc::new(claim));
        let conn = match self.open(&source, &Target::Pod(pod, Scope::Pod), to, None).await {
            Ok(conn) => conn,
            Err(error) => return refuse(&mut respond, error.into(), None),
        };
        match respond.send_response(Response::new(()), false) {
            Ok(send) => carry::carry(conn.stream, send, recv).await,
            Err(_) => conn.stream.reset(),
        }
    }
}

/// Connections of each node.
#[derive(Default)]
struct Places(Mutex<HashMap<Arc<str>, usize>>);

/// A node's place for one connection.
struct Place(Arc<Places>, Arc<str>);

impl Places {
    fn enter(self: &Arc<Self>, node: &Arc<str>) -> Option<Place> {
        let mut places = lock(&self.0);
        let taken = places.entry(node.clone()).or_default();
        if *taken >= PER_NODE {
            return None;
        }
        *taken += 1;
        Some(Place(self.clone(), node.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.0.0);
        if let Entry::Occupied(mut taken) = places.entry(self.1.clone()) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// TLS with whoever has connected, and the node whose certificate it has shown.
async fn identified(tcp: TcpStream, at: SocketAddr, config: &TunnelConfig) -> Option<(TlsStream<TcpStream>, Arc<str>)> {
    let _ = tcp.set_nodelay(true);
    let accepted = timeout(HANDSHAKE, TlsAcceptor::from(config.server.clone()).accept(tcp)).await;
    let tls = accepted.ok()?.inspect_err(|error| tracing::debug!(%at, %error, "no TLS with another node")).ok()?;
    let shown = tls.get_ref().1.peer_certificates().and_then(|c| c.first());
    let sender = shown.and_then(|c| (config.node_of)(c));
    if sender.is_none() {
        tracing::warn!(%at, "a connection for pods' streams with a certificate that is no node's");
    }
    Some((tls, sender?.into()))
}

/// A request, handed to the pod as one from this node would be.
async fn exchange(heard: Heard, pod: &PodHandle, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Heard { to, claim, peer, asks, .. } = heard;
    let service: Arc<dyn HttpService> = match pod.tcp(Scope::Pod, to) {
        Some(Bound::Http(service)) => service,
        Some(Bound::Listener(_) | Bound::Namespace(_)) => return refuse(&mut respond, Refusal::StreamsOnly, None),
        None => return refuse(&mut respond, Refusal::Refused, None),
    };
    if asks {
        return drop(respond.send_response(Response::new(()), true));
    }
    // A pod speaks for itself alone, a proxy for its clients.
    let peer = match claim.whose {
        Whose::Pod(_) => claim.address,
        Whose::Node | Whose::Client => peer.unwrap_or(claim.address),
    };
    let head = request.method() == Method::HEAD;
    let mut request = request.map(Inflow::body);
    request.extensions_mut().insert(ConnInfo { local: to, peer });
    let answered = tokio::select! {
        answered = service.handle(request) => answered,
        // The client has gone: so does its request.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let response = match answered {
        Ok(response) => response,
        Err(ServiceError::Stopped(_)) => return refuse(&mut respond, Refusal::Refused, None),
        Err(ServiceError::Failed(error)) => {
            return refuse(&mut respond, Refusal::Failed, Some(&error.to_string()));
        }
    };
    let (parts, body) = response.into_parts();
    // HTTP/2 would wait for another head, and take the body for a fault of the whole connection.
    if parts.status.is_informational() {
        return refuse(&mut respond, Refusal::Failed, Some("an informational status is no answer"));
    }
    let bare = head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let end = bare || body.is_end_stream();
    match respond.send_response(wire::answer(parts), end) {
        Ok(send) if !end => drop(Outflow::new(body, send).run().await),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "an answer that cannot be sent");
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }
}

pub(super) fn refuse(respond: &mut SendResponse<Bytes>, refusal: Refusal, message: Option<&str>) {
    // Whoever has asked may be gone.
    drop(respond.send_response(wire::refused(refusal, message), true));
}
