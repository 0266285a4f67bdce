//! The way in: an HTTP server on a named address of the host, whose requests go where Ingresses and the routes of Gateways say,
//! and streams, which go where TLSRoutes and TCPRoutes say.

mod access;
mod certificates;
mod headers;
mod mirror;
mod proxy;
mod respond;
mod streams;
mod treat;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use copepod_model::gateway::Layer;
use copepod_node_routes::Door;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use access::{AccessLog, AccessLogTo};
pub use certificates::{Certificate, Certificates, certificate};

use crate::http::BoxError;
use crate::network::Network;
use crate::protocol::prefixed::Prefixed;
use crate::protocol::{self, Limits};
use crate::sync::{read, write};
use proxy::Front;
use streams::Streams;

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
    /// How long requests may go on after shutdown.
    pub drain: Duration,
    /// Where each request has a line, if anywhere.
    pub access_log: Option<AccessLog>,
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
            drain: Duration::from_secs(10),
            access_log: None,
            tls: None,
        }
    }
}

/// Clients that may wait to be accepted, where the kernel allows so many: see the API's.
const BACKLOG: i32 = 4096;

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
        let at = listener.local_addr()?;
        SockRef::from(&listener).listen(BACKLOG)?;
        let room = network.0.incoming.clone();
        let config = Arc::new(config);
        let door = Door::ingress(at.port(), config.tls.is_some());
        let (stop, stopped) = watch::channel(false);
        let _entered = network.enter(at, config.clone(), stopped.clone());
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let next = async {
                let accepted = listener.accept().await;
                // Taken now and not before: a listener to which nobody comes keeps none from the others.
                (accepted, room.clone().acquire_owned().await)
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
            let (network, config, mut stopped) = (network.clone(), config.clone(), stopped.clone());
            connections.spawn(async move {
                let shutdown = async { drop(stopped.wait_for(|s| *s).await) };
                let served = connection(network, tcp, peer, door, config, shutdown).await;
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

/// Serves one connection.
async fn connection(
    network: Network,
    tcp: TcpStream,
    peer: SocketAddr,
    door: Door,
    config: Arc<IngressConfig>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BoxError> {
    let _ = tcp.set_nodelay(true);
    let limits = Limits {
        header_timeout: config.header_timeout,
        max_headers: config.max_headers,
        max_header_bytes: config.max_header_bytes,
        ..Limits::default()
    };
    let Some(tls) = config.tls.clone() else {
        return protocol::serve(tcp, Arc::new(Front::new(network, config, peer, door)), &limits, shutdown).await;
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let tcp = if network.routes().asks_names(door) {
        let streams = Streams { network: &network, config: &config, peer };
        match streams.by_name(tcp, &tls, door, shutdown.as_mut()).await? {
            Some(tcp) => tcp,
            None => return Ok(()),
        }
    } else {
        Prefixed::new(tcp, BytesMut::new())
    };
    let front = Arc::new(Front::new(network, config, peer, door));
    match timeout(limits.header_timeout, tokio_rustls::TlsAcceptor::from(tls).accept(tcp)).await {
        Ok(stream) => protocol::serve(stream?, front, &limits, shutdown).await,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// The ingress' own listeners. Ports that Gateways open besides are served with the settings of the first one that speaks TLS, or
/// does not, as they do, and end with it; those that take bytes with the settings of any.
#[derive(Default)]
pub(crate) struct Doors(Vec<Entered>);

#[derive(Clone)]
struct Entered {
    at: SocketAddr,
    config: Arc<IngressConfig>,
    stopped: watch::Receiver<bool>,
}

impl Entered {
    /// Whether a port of a Gateway may be served with its settings.
    fn serves(&self, layer: Layer) -> bool {
        match layer {
            Layer::Http => self.config.tls.is_none(),
            Layer::Tls => self.config.tls.is_some(),
            Layer::Tcp => true,
        }
    }
}

/// Takes a listener out of the [`Doors`].
struct Leaving<'n>(&'n Network, SocketAddr);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        write(&self.0.0.doors).0.retain(|d| d.at != self.1);
        self.0.0.host_ports_changed.notify_one();
    }
}

impl Network {
    /// Notes a listener of the ingress until the guard is dropped.
    fn enter(&self, at: SocketAddr, config: Arc<IngressConfig>, stopped: watch::Receiver<bool>) -> Leaving<'_> {
        write(&self.0.doors).0.push(Entered { at, config, stopped });
        self.0.host_ports_changed.notify_one();
        Leaving(self, at)
    }

    /// Whether a port of a Gateway is to be opened: there is an ingress to serve it, which does not listen there itself.
    pub(crate) fn opens(&self, at: SocketAddr, layer: Layer) -> bool {
        let doors = read(&self.0.doors);
        let taken = |own: SocketAddr| own.port() == at.port() && (own.ip() == at.ip() || own.ip().is_unspecified());
        doors.0.iter().any(|d| d.serves(layer)) && !doors.0.iter().any(|d| taken(d.at))
    }

    /// Serves a connection to a port of a Gateway.
    pub(crate) async fn serve_gateway(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        port: u16,
        layer: Layer,
    ) -> io::Result<()> {
        let entered = read(&self.0.doors).0.iter().find(|d| d.serves(layer)).cloned();
        let Some(Entered { config, mut stopped, .. }) = entered else { return Ok(()) };
        let shutdown = async { drop(stopped.wait_for(|s| *s).await) };
        if layer == Layer::Tcp {
            return Streams { network: self, config: &config, peer }.bytes(tcp, port, shutdown).await;
        }
        let door = Door::gateway(port, layer == Layer::Tls);
        connection(self.clone(), tcp, peer, door, config, shutdown).await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
