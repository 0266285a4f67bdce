//! The cluster's DNS on sockets: `copepod-dns-zone` for the cluster's names, other name servers for the rest. What the zone
//! has prepared is copied on the threads that receive it; everything else is read and written with hickory's types. Guests
//! on the virtual network don't come here: they ask the zone in process.

mod access;
mod answer;
mod cache;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod resolv_conf;
mod room;
mod tcp;
mod udp;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use access::Access;
pub use forward::{ForwardError, Forwarder, Found, MOST_SERVERS, ParseError, StubDomain, Upstream, server};
use handler::Handler;
pub use handler::ZoneSource;
pub use resolv_conf::name_servers;

/// Questions under way that take the long way.
const LONG: usize = 1024;
/// How long a stop waits for them; forwarded ones have their own, shorter deadline.
const LAST: Duration = Duration::from_secs(5);

/// An address that is listened on, over UDP and TCP.
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: TcpListener,
    addr: SocketAddr,
}

impl Sockets {
    /// The same port over UDP and TCP. Where any free one will do, the one that TCP got may be taken over UDP. Must be
    /// called inside a tokio runtime.
    pub async fn bind(addr: SocketAddr) -> io::Result<Sockets> {
        let mut tries = if addr.port() == 0 { 10 } else { 1 };
        loop {
            // TCP first: it takes no port that another process has, where UDP would share it with one of our kind.
            let tcp = TcpListener::bind(addr).await?;
            let addr = tcp.local_addr()?;
            tries -= 1;
            match udp::bind(addr) {
                Ok(udp) => return Ok(Sockets { udp, tcp, addr }),
                Err(e) if tries == 0 => return Err(e),
                Err(_) => {}
            }
        }
    }

    /// Where they listen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A running DNS server. Dropping it stops it at once.
pub struct DnsServer {
    threads: udp::Threads,
    connections: JoinHandle<()>,
    stop: watch::Sender<bool>,
    long: Arc<Semaphore>,
    addr: SocketAddr,
}

impl DnsServer {
    /// Where it answers, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops taking questions and waits for the answers that are under way.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.threads.stop();
        let under_way = async {
            let _ = (&mut self.connections).await;
            let _ = self.long.acquire_many(LONG as u32).await;
        };
        if tokio::time::timeout(LAST, under_way).await.is_err() {
            tracing::debug!("DNS stops with questions under way");
        }
        let mut threads = std::mem::replace(&mut self.threads, udp::Threads::none());
        let _ = tokio::task::spawn_blocking(move || threads.join()).await;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.connections.abort();
    }
}

/// Serves the cluster's zone to everyone, and forwards what is not in it for those that `access` names. Over TCP there are at most
/// so many `connections` at once. Must be called inside a tokio runtime.
pub fn serve(
    sockets: Sockets,
    zone: ZoneSource,
    upstream: Arc<dyn Upstream>,
    access: Access,
    connections: usize,
) -> io::Result<DnsServer> {
    let Sockets { udp, tcp, addr } = sockets;
    let handler = Arc::new(Handler { zone, upstream, access });
    let long = Arc::new(Semaphore::new(LONG));
    let (stop, stopped) = watch::channel(false);
    let threads = udp::Threads::start(udp, &handler, &Handle::current(), &long)?;
    let connections = tokio::spawn(tcp::serve(tcp, handler, long.clone(), connections, stopped));
    Ok(DnsServer { threads, connections, stop, long, addr })
}

#[cfg(test)]
mod tests;
