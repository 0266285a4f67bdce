//! The node's API over HTTPS, as the kubelet serves it on port 10250: TLS with optional client certificates, HTTP/1.1 with
//! upgrades and HTTP/2, with limits on everything that a client could hold open. Nothing is answered to strangers.

mod auth;
mod configz;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Body, body, certificate};
use copepod_model::UserInfo;
use copepod_node_streams::proxy;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::api::{NodeApi, segments};

pub(crate) use auth::Auth;
pub(crate) use configz::configz;

/// How long a client may take for its TLS handshake, and for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// HTTP/2 streams of one connection at once.
const STREAMS: u32 = 250;
/// Longest request head in bytes.
const HEAD: usize = 64 * 1024;
/// How long open requests may take to finish once the agent stops.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// What answers.
pub(crate) struct Front {
    /// The node's API.
    pub api: NodeApi,
    /// Who may ask it.
    pub auth: Auth,
}

impl Front {
    async fn answer(&self, request: Request<Incoming>, certificate: Option<Arc<UserInfo>>) -> Response<Body> {
        // What is authorized is what is answered: both look at the same decoded segments.
        let path = segments(request.uri().path());
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let admitted = self.auth.admit(request.method(), request.headers(), &path, certificate).await;
        match admitted {
            Ok(()) if path.first() == Some(&proxy::PREFIX) => {
                self.api.handle(request.map(|body| body.map_err(io::Error::other).boxed())).await
            }
            // No other path has a use for a body.
            Ok(()) => self.api.handle(request.map(|_| body(""))).await,
            Err(refusal) => refusal,
        }
    }
}

/// Serves until `stopped` turns true, then lets open requests finish for a moment. There are at most so many `connections` at
/// once; more wait in the kernel's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    front: Front,
    connections: usize,
    mut stopped: watch::Receiver<bool>,
) {
    let (acceptor, front) = (TlsAcceptor::from(tls), Arc::new(front));
    let room = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit,
            () = told(&mut stopped) => break,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => break,
        };
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, front) = (acceptor.clone(), front.clone());
                connections.spawn(connection(stream, acceptor, front, graceful.watcher(), permit));
            }
            Err(error) => {
                // Usually the descriptor limit: wait for connections to close instead of spinning.
                tracing::warn!(%error, "the node API's listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let _ = tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    front: Arc<Front>,
    watcher: Watcher,
    _permit: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HEAD_DEADLINE, acceptor.accept(stream)).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let user = shown.and_then(|c| certificate::user(c)).map(Arc::new);
    let service = service_fn(move |request| {
        let (front, user) = (front.clone(), user.clone());
        async move { Ok::<_, Infallible>(front.answer(request, user).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, "a connection to the node's API ended");
    }
}

/// Waits until the agent is told to stop. The guard that `wait_for` answers with must not live across an await.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|s| *s).await;
}
