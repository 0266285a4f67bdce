//! The link to one other server: one connection, made again when it breaks, and a stream of raft's messages on it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use copepod_client::Body;
use copepod_consensus::Message;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{Network, tls, wire};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(1500);
/// A peer that is silent for so long is asked whether it lives, and given up if it does not answer for as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Messages that wait for a peer. More are dropped: raft sends again what matters.
const QUEUE: usize = 512;
/// Bytes of messages that are put into one frame.
const TOGETHER: usize = 256 << 10;
/// How long after a failure the next attempt comes, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was not sent.
    #[error("{0}")]
    Unsent(String),
    /// It may have got there.
    #[error("{0}")]
    Unknown(String),
}

/// The link to one server. Clones are the same; with the last one the connection ends.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    connector: Connector,
    queue: mpsc::Sender<Message>,
    task: tokio::task::AbortHandle,
}

/// How to get there, and the connection while there is one.
#[derive(Clone)]
struct Connector {
    id: u64,
    address: Arc<str>,
    network: Network,
    connection: Arc<Mutex<Option<SendRequest<Body>>>>,
}

impl Link {
    /// The link to server `id` at `address`; it connects when there is something to say.
    pub(super) fn new(id: u64, address: String, network: Network) -> Link {
        // The raft thread is none of the runtime's.
        let runtime = network.0.runtime.clone();
        let (queue, messages) = mpsc::channel(QUEUE);
        let connector = Connector { id, address: address.into(), network, connection: Arc::default() };
        let task = runtime.spawn(speak(connector.clone(), messages)).abort_handle();
        Link(Arc::new(Inner { connector, queue, task }))
    }

    pub(super) fn address(&self) -> &str {
        &self.0.connector.address
    }

    /// Hands over a message; `false` if too many wait.
    pub(super) fn post(&self, message: Message) -> bool {
        self.0.queue.try_send(message).is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        self.0.connector.send(request).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connector {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let mut sender = self.sender().await.map_err(Failure::Unsent)?;
        *request.uri_mut() = format!("https://{}{}", tls::dns_name(self.id), request.uri())
            .parse()
            .map_err(|e: http::uri::InvalidUri| Failure::Unsent(e.to_string()))?;
        wire::say_version(request.headers_mut());
        match sender.try_send_request(request).await {
            Ok(answer) => Ok(answer),
            Err(mut e) => {
                // With the request given back it is certain that no byte of it has left.
                let back = e.take_message().is_some();
                let why = e.error().to_string();
                Err(if back { Failure::Unsent(why) } else { Failure::Unknown(why) })
            }
        }
    }

    /// The connection, or a new one.
    async fn sender(&self) -> Result<SendRequest<Body>, String> {
        let mut slot = self.connection.lock().await;
        if let Some(sender) = slot.as_ref().filter(|s| !s.is_closed()) {
            return Ok(sender.clone());
        }
        let made = timeout(CONNECT, self.connect()).await;
        let late = || Err(format!("no connection to server {} at {} within {CONNECT:?}", self.id, self.address));
        let sender = made.unwrap_or_else(|_| late())?;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let fail = |e: &dyn std::fmt::Display| format!("server {} at {}: {e}", self.id, self.address);
        let stream = TcpStream::connect(&*self.address).await.map_err(|e| fail(&e))?;
        let _ = stream.set_nodelay(true);
        let name: ServerName<'static> = tls::server_name(self.id)?;
        let tls = TlsConnector::from(self.network.0.tls.client.clone());
        let stream = tls.connect(name, stream).await.map_err(|e| fail(&e))?;
        // The name alone could be an agent's.
        let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        if certificate.and_then(|c| tls::peer_id(c)) != Some(self.id) {
            return Err(fail(&"the certificate is not that server's"));
        }
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| fail(&e))?;
        let id = self.id;
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("the connection to server {id} ended: {e}");
            }
        });
        Ok(sender)
    }
}

/// Sends the messages that are handed over, for ever.
async fn speak(connector: Connector, mut messages: mpsc::Receiver<Message>) {
    let mut wait = RETRY.0;
    let mut refused = false;
    while let Some(first) = messages.recv().await {
        let (frames, body) = mpsc::channel::<Bytes>(4);
        let body = stream::unfold(body, |mut body| async move {
            let bytes = body.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), body))
        });
        let body = StreamBody::new(sync_wrapper::SyncStream::new(Box::pin(body))).map_err(|never| match never {});
        let Ok(request) = Request::post("/messages").body(body.boxed()) else { return };
        let answer = connector.send(request);
        tokio::pin!(answer);
        let pump = async {
            let mut next = Some(first);
            while let Some(message) = next {
                let mut together = BytesMut::new();
                wire::encode(&message, &mut together);
                while together.len() < TOGETHER
                    && let Ok(message) = messages.try_recv()
                {
                    wire::encode(&message, &mut together);
                }
                if frames.send(together.freeze()).await.is_err() {
                    return false;
                }
                next = messages.recv().await;
            }
            true
        };
        // The answer comes only when something is wrong.
        let ended = tokio::select! {
            over = pump => {
                if over {
                    return;
                }
                answer.await
            }
            answer = &mut answer => answer,
        };
        let network = &connector.network;
        let before = std::mem::take(&mut refused);
        match ended {
            Ok(answer) if answer.status() == StatusCode::UPGRADE_REQUIRED => {
                refused = true;
                if !before {
                    tracing::error!(
                        "server {} cannot read what this release writes to the log and takes nothing from it: upgrade that \
                         server, or start the release before this one here",
                        connector.id
                    );
                }
            }
            Ok(answer) if answer.status() == StatusCode::GONE => {
                tracing::warn!("server {} says that this server is no member any more", connector.id);
                if let Some(store) = network.0.store.get() {
                    store.set_removed();
                }
            }
            Ok(answer) => tracing::debug!("server {} answered {}", connector.id, answer.status()),
            Err(e) => tracing::debug!("messages to server {} break off: {e}", connector.id),
        }
        if let Some(store) = network.0.store.get() {
            store.report_unreachable(connector.id);
        }
        // What has waited meanwhile is old.
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
        if !refused && connector.connection.lock().await.as_ref().is_some_and(|s| !s.is_closed()) {
            wait = RETRY.0;
        }
        while messages.try_recv().is_ok() {}
    }
}
