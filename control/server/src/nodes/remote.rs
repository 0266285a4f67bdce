//! One node's API over HTTPS: kept HTTP/1.1 connections for requests, and a connection of its own for each stream.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use copepod_client::{Body, body};
use copepod_model::Status;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::plain;
use super::target::Target;
use crate::api::{AnswerWithin, NodeApi};

/// How long a node may take until a connection and its TLS stand.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take until its answer begins, if the request does not say.
const ANSWER: Duration = Duration::from_secs(30);
/// Connections to one node that are kept for further requests.
const KEPT: usize = 8;
/// How long: less than nodes wait for the next head, so that few are closed just when they are used, and little is sent to
/// a node that has died since.
const IDLE: Duration = Duration::from_secs(8);
/// Longest head of an answer in bytes.
const HEAD: usize = 64 * 1024;

/// What of an answer's head is about the connection that it came by (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// A connection that waits for its next request, and since when.
type Idle = (SendRequest<Body>, Instant);

/// A node that is reached over the network.
pub(super) struct RemoteNode {
    target: Target,
    tls: TlsConnector,
    name: ServerName<'static>,
    idle: Arc<Mutex<Vec<Idle>>>,
    streams: Arc<Semaphore>,
}

impl RemoteNode {
    /// The node at `target` whose certificate must be for `name`. `streams` bounds those to all nodes.
    pub fn new(
        target: Target,
        tls: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        streams: Arc<Semaphore>,
    ) -> RemoteNode {
        RemoteNode { target, tls: TlsConnector::from(tls), name, idle: Arc::default(), streams }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether a connection is kept.
    pub fn has_connections(&self) -> bool {
        prune(&self.idle, |idle| !idle.is_empty())
    }

    /// A new connection.
    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let at = self.target.authority();
        let open = async {
            let dialled = TcpStream::connect((self.target.host.as_str(), self.target.port)).await;
            let stream = dialled.map_err(|e| format!("dial tcp {at}: {}", dial_error(&e)))?;
            let _ = stream.set_nodelay(true);
            let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|e| tls_error(&e))?;
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|e| e.to_string())?;
            // It ends with its sender and the last answer.
            tokio::spawn(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "a connection to a node ended");
                }
            });
            Ok(sender)
        };
        tokio::time::timeout(CONNECT, open).await.unwrap_or_else(|_| Err(format!("dial tcp {at}: i/o timeout")))
    }

    /// A request that is answered and over. One with a body is sent once, since it is not kept.
    async fn plain(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut head, sent) = request.into_parts();
        let patience = head.extensions.remove::<AnswerWithin>().map_or(ANSWER, |within| within.0);
        // Nothing is upgraded here.
        head.extensions.clear();
        HOP_BY_HOP.iter().for_each(|name| drop(head.headers.remove(*name)));
        let again = (sent.is_end_stream() && head.method.is_safe()).then(|| head.clone());
        let uri = head.uri.clone();
        let failed = |why: String| self.failure(&uri, &why);
        let mut request = Request::from_parts(head, sent);
        while let Some(mut sender) = self.take() {
            // The node may have hung up just then; what it has not seen, or what changes nothing, is sent again.
            request = match in_time(patience, sender.try_send_request(request)).await {
                None => return Err(failed(LATE.into())),
                Some(Ok(answer)) => return Ok(self.answered(sender, answer)),
                Some(Err(mut e)) => match (e.take_message(), &again) {
                    (Some(back), _) => back,
                    (None, Some(head)) => Request::from_parts(head.clone(), body("")),
                    (None, None) => return Err(failed(e.into_error().to_string())),
                },
            };
        }
        let mut sender = self.connect().await.map_err(failed)?;
        match in_time(patience, sender.send_request(request)).await {
            None => Err(failed(LATE.into())),
            Some(Ok(answer)) => Ok(self.answered(sender, answer)),
            Some(Err(e)) => Err(failed(e.to_string())),
        }
    }

    /// The answer, whose connection is kept once it has been read.
    fn answered(&self, mut sender: SendRequest<Body>, answer: Response<Incoming>) -> Response<Body> {
        let idle = self.idle.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                prune(&idle, |idle| {
                    if idle.len() >= KEPT {
                        idle.remove(0);
                    }
                    idle.push((sender, Instant::now()));
                });
            }
        });
        passed_on(answer)
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        prune(&self.idle, Vec::pop).map(|(sender, _)| sender)
    }

    /// A request that the node may answer with a stream: on 101 the client's connection and the node's become one.
    async fn stream(&self, mut request: Request<Body>, client: OnUpgrade) -> Result<Response<Body>, Status> {
        let busy = |_| Status::too_many_requests("too many streams are open", 1);
        let permit = self.streams.clone().try_acquire_owned().map_err(busy)?;
        let failed = |why: String| plain(format!("error dialing backend: {why}"));
        *request.body_mut() = body("");
        let patience = request.extensions_mut().remove::<AnswerWithin>().map_or(ANSWER, |within| within.0);
        let mut sender = self.connect().await.map_err(failed)?;
        let mut answer = match in_time(patience, sender.send_request(request)).await {
            None => return Err(failed(LATE.into())),
            Some(sent) => sent.map_err(|e| failed(e.to_string()))?,
        };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(passed_on(answer));
        }
        let node = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            let _permit = permit;
            let Ok((client, node)) = tokio::try_join!(client, node) else { return };
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            // Each side is read only as fast as the other one takes it, and may end before the other one.
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
                tracing::debug!(%error, "a stream to a node broke off");
            }
        });
        Ok(answer.map(|_| body("")))
    }

    /// What upstream says when a node does not answer: the log's client passes on what Go's says, the proxy calls it 503.
    fn failure(&self, uri: &Uri, why: &str) -> Status {
        if uri.path().starts_with("/containerLogs/") {
            return plain(format!("Get \"https://{}{uri}\": {why}", self.target.authority()));
        }
        Status::unavailable(format!("error trying to reach service: {why}"))
    }
}

#[async_trait]
impl NodeApi for RemoteNode {
    async fn request(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        // A request for a pod has the host that its client has named.
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::from_str(&self.target.authority()).map_err(Status::internal)?;
            request.headers_mut().insert(header::HOST, host);
        }
        match request.extensions_mut().remove::<OnUpgrade>() {
            Some(client) if request.headers().contains_key(header::UPGRADE) => self.stream(request, client).await,
            _ => self.plain(request).await,
        }
    }
}

/// Go's words for an answer that does not begin.
const LATE: &str = "net/http: timeout awaiting response headers";

async fn in_time<T>(patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, answer).await.ok()
}

/// Drops connections that are closed or too old, then does something with the others.
fn prune<T>(idle: &Mutex<Vec<Idle>>, then: impl FnOnce(&mut Vec<Idle>) -> T) -> T {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    idle.retain(|(sender, since)| sender.is_ready() && since.elapsed() < IDLE);
    then(&mut idle)
}

/// A node's answer as the client gets it.
fn passed_on(answer: Response<Incoming>) -> Response<Body> {
    let mut answer = answer.map(|b| b.map_err(io::Error::other).boxed());
    strip(answer.headers_mut());
    answer
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What Go says of a connection that does not come about.
fn dial_error(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => e.to_string(),
    }
}

fn tls_error(e: &io::Error) -> String {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: {why}"),
        _ => format!("tls: {e}"),
    }
}
