//! The way in: an HTTP server on a named address of the host, whose requests go where the Ingresses say.

mod certificates;
mod headers;
mod proxy;
mod respond;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use certificates::{Certificate, Certificates, certificate};

use crate::network::Network;
use crate::protocol::{self, Limits};
use proxy::Front;

/// The limits of the ingress.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// For a request's head to arrive, and for the next request on a kept connection.
    pub header_timeout: Duration,
    /// Header fields in a request.
    pub max_headers: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Between pieces of a request's body, and between pieces of a response's.
    pub body_timeout: Duration,
    /// To connect to an endpoint.
    pub connect_timeout: Duration,
    /// For a response to begin.
    pub response_timeout: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long requests may go on after shutdown.
    pub drain: Duration,
    /// Serve over TLS with this, or in clear text.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for IngressConfig {
    fn default() -> Self {
        IngressConfig {
            header_timeout: Duration::from_secs(60),
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            max_body_bytes: 1 << 30,
            body_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            max_connections: 8192,
            drain: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// The ingress of a node.
pub struct Ingress;

impl Ingress {
    /// Serves `listener`, bound to a named address, until `shutdown` ends and what was begun is finished or has had its
    /// time. HTTP/1 and HTTP/2, in clear text or over TLS.
    pub async fn serve(
        listener: TcpListener,
        network: Network,
        config: IngressConfig,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let port = listener.local_addr()?.port();
        let limits = Arc::new(Limits {
            header_timeout: config.header_timeout,
            max_headers: config.max_headers,
            max_header_bytes: config.max_header_bytes,
            ..Limits::default()
        });
        let room = Arc::new(Semaphore::new(config.max_connections));
        let acceptor = config.tls.clone().map(tokio_rustls::TlsAcceptor::from);
        let config = Arc::new(config);
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let next = async {
                let permit = room.clone().acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                next = next => next,
                () = &mut shutdown => break,
            };
            while connections.try_join_next().is_some() {}
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the client left already: neither is cured by trying at once.
                    tracing::warn!(%error, "ingress cannot accept");
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let _ = tcp.set_nodelay(true);
            let front = Arc::new(Front::new(network.clone(), config.clone(), peer, port));
            let (limits, tls, mut stopped) = (limits.clone(), acceptor.clone(), stopped.clone());
            connections.spawn(async move {
                let shutdown = async { drop(stopped.wait_for(|s| *s).await) };
                let served = match tls {
                    None => protocol::serve(tcp, front, &limits, shutdown).await,
                    Some(tls) => match timeout(limits.header_timeout, tls.accept(tcp)).await {
                        Ok(Ok(stream)) => protocol::serve(stream, front, &limits, shutdown).await,
                        Ok(Err(error)) => Err(error.into()),
                        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                    },
                };
                if let Err(error) = served {
                    tracing::debug!(%error, %peer, "ingress connection");
                }
                drop(permit);
            });
        }
        drop(listener);
        stop.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(config.drain, drained).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
