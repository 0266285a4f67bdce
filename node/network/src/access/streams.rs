//! Streams that the kernel has led here: each goes on to where it was to go.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::BREATH;
use crate::connect::Source;
use crate::error::NetError;
use crate::network::Network;

/// Serves what comes to the listeners until there is no network any more.
pub(super) async fn serve(network: &Network, listeners: &[TcpListener], connections: &mut JoinSet<()>) {
    let own: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    loop {
        let (mut tcp, peer) = match accept(listeners).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the host's connections");
                sleep(BREATH).await;
                continue;
            }
        };
        // Somebody has come to the listener itself.
        if tcp.local_addr().is_ok_and(|at| own.contains(&at)) {
            continue;
        }
        let Ok(permit) = network.0.incoming.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let network = network.clone();
        connections.spawn(async move {
            if let Err(error) = carry(&network, &mut tcp, peer).await {
                tracing::debug!(%peer, %error, "connection of this host");
                // The kernel has accepted it long ago: a reset is what is left to say.
                let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            }
            drop(permit);
        });
    }
}

/// The next one of any of them.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Takes a connection to where it was to go.
async fn carry(network: &Network, tcp: &mut TcpStream, peer: SocketAddr) -> io::Result<()> {
    let to = tcp.local_addr()?;
    let _ = tcp.set_nodelay(true);
    let mut conn = match network.in_namespace(peer.ip()) {
        Some(pod) => pod.connect_tcp(to).await?,
        // A pod that has just gone, of which the table does not know yet.
        None if network.in_cluster(peer.ip()) => return Err(NetError::Detached.into()),
        // Nobody else is let in but this host's processes.
        None => network.connect(Source::Node, to).await?,
    };
    copy_bidirectional(tcp, &mut conn.stream).await.map(drop)
}
