//! The cluster's DNS on sockets: hickory-server in front, `copepod-dns-zone` for the cluster's names, the host's name
//! servers for all others. Guests on the virtual network don't come here: they ask the zone in process.

mod answer;
mod cache;
mod forward;
mod handler;
mod resolv_conf;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_dns_zone::Zone;
use hickory_server::Server;
use hickory_server::server::RequestHandler;
use tokio::net::{TcpListener, UdpSocket};

pub use forward::{ForwardError, Forwarder, Upstream};
pub use handler::Handler;
pub use resolv_conf::name_servers;

/// Gives the zone in use: it is asked for each question, so that a new zone counts at once.
pub type ZoneSource = Arc<dyn Fn() -> Arc<Zone> + Send + Sync>;

/// How long a TCP client may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// How many responses wait for a slow TCP client.
const TCP_RESPONSES: usize = 32;

/// A running DNS server. Dropping it stops it at once.
pub struct DnsServer<H: RequestHandler = Handler> {
    server: Server<H>,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl<H: RequestHandler> DnsServer<H> {
    /// Where it answers over UDP.
    pub fn udp_addr(&self) -> SocketAddr {
        self.udp
    }

    /// Where it answers over TCP.
    pub fn tcp_addr(&self) -> SocketAddr {
        self.tcp
    }

    /// Stops taking questions and waits for the answers that are under way.
    pub async fn shutdown(mut self) {
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::debug!(%error, "DNS server");
        }
    }
}

/// Serves the cluster's zone, and forwards what is not in it. Must be called inside a tokio runtime.
pub fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    zone: ZoneSource,
    upstream: Arc<dyn Upstream>,
) -> std::io::Result<DnsServer> {
    serve_with(udp, tcp, Handler::new(zone, upstream))
}

/// Serves with another handler, such as one that answers the common questions itself and leaves the rest to
/// [`Handler`].
pub fn serve_with<H: RequestHandler>(udp: UdpSocket, tcp: TcpListener, handler: H) -> std::io::Result<DnsServer<H>> {
    let (udp_addr, tcp_addr) = (udp.local_addr()?, tcp.local_addr()?);
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
    Ok(DnsServer { server, udp: udp_addr, tcp: tcp_addr })
}

#[cfg(test)]
mod tests;
