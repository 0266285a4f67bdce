//! Connections from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_node_routes::{HostAddr, HostPort, Protocol, ServiceKey, ServicePort, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{BREATH, Meaning};
use crate::connect::{Source, Target};
use crate::error::NetError;
use crate::network::Network;
use crate::pod::Scope;
use crate::splice::splice;

/// For a health check's request to arrive and its answer to leave.
const HEALTH_CHECK: Duration = Duration::from_secs(10);
/// How long a health check's request may be.
const HEALTH_REQUEST: usize = 8 * 1024;

/// Listens until the task is aborted.
pub(super) async fn open(network: Network, at: SocketAddr, meaning: Meaning) -> io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(at).await?;
    Ok(tokio::spawn(listen(network, listener, at, meaning)))
}

async fn listen(network: Network, listener: TcpListener, at: SocketAddr, meaning: Meaning) {
    let host = HostAddr { addr: at, protocol: Protocol::Tcp };
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%at, %error, "cannot accept");
                sleep(BREATH).await;
                continue;
            }
        };
        // Taken now and not before: a port to which nobody comes keeps none from the others.
        let Ok(permit) = network.0.incoming.clone().acquire_owned().await else { return };
        // What the port means is decided anew for each connection.
        let Some(port) = meaning.of(host) else { continue };
        let network = network.clone();
        network.0.runtime.clone().spawn(async move {
            let done = match port {
                HostPort::Health(service) => match timeout(HEALTH_CHECK, health(&network, tcp, &service)).await {
                    Ok(done) => done,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                },
                HostPort::Service(_) => match network.routes().host_service(host).cloned() {
                    // As a firewall in front of it would.
                    Some(service) if !network.routes().admits(&service.service, host, peer.ip()) => Ok(()),
                    Some(service) => carry(&network, tcp, peer, To::Service(service)).await,
                    None => Ok(()),
                },
                HostPort::Pod { to, .. } => carry(&network, tcp, peer, To::Pod(to)).await,
                HostPort::Gateway(layer) => network.serve_gateway(tcp, peer, at.port(), layer).await,
            };
            if let Err(error) = done {
                tracing::debug!(%at, %peer, %error, "connection from outside");
            }
            drop(permit);
        });
    }
}

/// Where a connection goes.
enum To {
    Service(Arc<ServicePort>),
    Pod(SocketAddr),
}

async fn carry(network: &Network, tcp: TcpStream, peer: SocketAddr, to: To) -> io::Result<()> {
    let local = tcp.local_addr()?;
    let _ = tcp.set_nodelay(true);
    let source = Source::Client(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let conn = match to {
        To::Service(port) => network.connect_service(&source, Side::Outside, &port, local).await?,
        To::Pod(to) => {
            let pod = network.pod(to.ip()).ok_or(NetError::RemoteUnreachable)?;
            network.open(&source, &Target::Pod(pod, Scope::Pod), to, None).await?
        }
    };
    splice(tcp, conn.stream).await
}

/// Answers a load balancer that asks whether this node has endpoints of a Service, as kube-proxy does.
async fn health(network: &Network, mut tcp: TcpStream, service: &ServiceKey) -> io::Result<()> {
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
