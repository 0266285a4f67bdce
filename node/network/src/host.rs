//! Listeners on the host: node ports on the node's named addresses, Services' external addresses where the host has them,
//! and health check ports. They run as an ordinary user, so ports below 1024 usually stay closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use copepod_node_routes::{HostPort, ServicePort, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::connect::Source;
use crate::network::Network;

/// Connections from outside at once, over all ports; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
/// For a health check's request to arrive and its answer to leave.
const HEALTH_CHECK: Duration = Duration::from_secs(10);
/// How long a health check's request may be.
const HEALTH_REQUEST: usize = 8 * 1024;

/// The host's listeners. Dropping it closes them; connections that are open stay.
pub struct HostListeners {
    network: Network,
    addresses: Vec<IpAddr>,
    room: Arc<Semaphore>,
    open: BTreeMap<SocketAddr, (HostPort, AbortHandle)>,
    failed: BTreeSet<SocketAddr>,
}

impl HostListeners {
    /// None yet. `addresses` are those of the node that node ports listen on.
    pub fn new(network: Network, addresses: Vec<IpAddr>) -> HostListeners {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        HostListeners { network, addresses, room, open: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// Opens and closes listeners so that they are what the network's routes ask for. One that cannot be opened is tried
    /// again by the next call.
    pub async fn apply(&mut self) {
        let wanted = self.network.routes().host_ports(&self.addresses);
        self.failed.retain(|at| wanted.contains_key(at));
        self.open.retain(|at, (port, task)| {
            let keep = wanted.get(at) == Some(port);
            if !keep {
                task.abort();
            }
            keep
        });
        for (at, port) in wanted {
            if self.open.contains_key(&at) {
                continue;
            }
            match TcpListener::bind(at).await {
                Ok(listener) => {
                    self.failed.remove(&at);
                    let task =
                        tokio::spawn(listen(self.network.clone(), listener, at, port.clone(), self.room.clone()));
                    self.open.insert(at, (port, task.abort_handle()));
                }
                Err(error) => {
                    if self.failed.insert(at) {
                        tracing::warn!(%at, %error, "cannot listen for a Service");
                    }
                }
            }
        }
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.keys().copied()
    }
}

impl Drop for HostListeners {
    fn drop(&mut self) {
        self.open.values().for_each(|(_, task)| task.abort());
    }
}

async fn listen(network: Network, listener: TcpListener, at: SocketAddr, port: HostPort, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%at, %error, "cannot accept");
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (network, port) = (network.clone(), port.clone());
        network.0.runtime.clone().spawn(async move {
            let done = match port {
                HostPort::Health(service) => match timeout(HEALTH_CHECK, health(&network, tcp, &service)).await {
                    Ok(done) => done,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                },
                HostPort::Service(_) => {
                    // What the port means is decided anew for each connection.
                    let found = network.routes().host_service(at).cloned();
                    match found {
                        Some(service) => carry(&network, tcp, peer, &service).await,
                        None => Ok(()),
                    }
                }
            };
            if let Err(error) = done {
                tracing::debug!(%at, %peer, %error, "connection from outside");
            }
            drop(permit);
        });
    }
}

async fn carry(network: &Network, mut tcp: TcpStream, peer: SocketAddr, port: &Arc<ServicePort>) -> io::Result<()> {
    let local = tcp.local_addr()?;
    let _ = tcp.set_nodelay(true);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut conn = network.connect_service(&Source::Client(peer), Side::Outside, port, local).await?;
    copy_bidirectional(&mut tcp, &mut conn.stream).await.map(drop)
}

/// Answers a load balancer that asks whether this node has endpoints of a Service, as kube-proxy does.
async fn health(network: &Network, mut tcp: TcpStream, service: &copepod_node_routes::ServiceKey) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        if request.len() > HEALTH_REQUEST || tcp.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let endpoints = network.routes().local_endpoints(service);
    let status = if endpoints > 0 { "200 OK" } else { "503 Service Unavailable" };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {endpoints}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    tcp.write_all(head.as_bytes()).await?;
    if !request.starts_with(b"HEAD ") {
        tcp.write_all(body.as_bytes()).await?;
    }
    tcp.shutdown().await
}
