//! The API's HTTPS listener: TLS with optional client certificates, HTTP/1.1 and HTTP/2, with limits on everything that a
//! client could hold open.

use std::sync::Arc;
use std::time::Duration;

use copepod_model::UserInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::api::{Api, Peer};

/// How long a client may take for its TLS handshake, and for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// HTTP/2 streams of one connection at once: kube-apiserver's default.
const STREAMS: u32 = 250;
/// Clients that may wait to be accepted, where the kernel allows so many (its own default is 4096, Rust's 128): whoever comes
/// when there is no room begins anew after a second.
const BACKLOG: i32 = 4096;
/// Longest request head in bytes.
const HEAD: usize = 64 * 1024;

/// Serves until `shutdown` turns true, then lets open requests finish for a moment. There are at most so many `connections` at
/// once; more wait in the kernel's queue.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    api: Arc<Api>,
    connections: usize,
    mut shutdown: watch::Receiver<bool>,
) {
    if let Err(error) = SockRef::from(&listener).listen(BACKLOG) {
        tracing::warn!(%error, "the API's listener has a short queue");
    }
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => match permit {
                Ok(permit) => permit,
                Err(_) => return,
            },
            () = stopped(&mut shutdown) => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Usually the descriptor limit: wait for connections to close instead of spinning.
                    tracing::warn!("the API's listener cannot accept: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopped(&mut shutdown) => break,
        };
        let (acceptor, api) = (acceptor.clone(), api.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = tokio::time::timeout(HEAD_DEADLINE, acceptor.accept(stream)).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
            let user: Option<Arc<UserInfo>> = certificate.and_then(|c| crate::auth::certificate::user(c)).map(Arc::new);
            let peer = stream.get_ref().0.peer_addr().ok().map(Peer);
            let spoke = Arc::new(Notify::new());
            let heard = spoke.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                heard.notify_one();
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                let (api, user) = (api.clone(), user.clone());
                async move { Ok::<_, std::convert::Infallible>(api.http(request, user).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEAD as u32)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20))
                .adaptive_window(true);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
            let mut connection = std::pin::pin!(watcher.watch(connection));
            // Hyper's own deadline begins only when it knows which HTTP it is.
            let first = tokio::time::timeout(HEAD_DEADLINE, spoke.notified());
            let ended = tokio::select! {
                ended = &mut connection => ended,
                first = first => match first {
                    Ok(()) => connection.await,
                    Err(_) => return,
                },
            };
            if let Err(e) = ended {
                tracing::debug!("a connection to the API ended: {e}");
            }
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
}

/// Waits until the server is told to stop. The guard that `wait_for` answers with must not live across an await.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
