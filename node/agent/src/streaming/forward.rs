//! Port-forward: a client's streams to a port of a pod, through the virtual network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use copepod_node_network::{Network, Source};
use copepod_node_streams::spdy::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::spdy::{self, Write};
use super::websocket::Stream;

/// Connections of one session at once.
const CONNECTIONS: usize = 256;

/// The pod.
#[derive(Clone)]
pub(super) struct Target {
    pub network: Network,
    /// For messages.
    pub pod: String,
    pub ip: IpAddr,
}

/// Connects to a port and moves bytes both ways: in from `fed`, whose end is the client's half-close, out to `said`, which
/// answers whether the client still listens. An error is for the client.
pub(super) async fn pipe<F: Future<Output = bool>>(
    target: &Target,
    port: u16,
    mut fed: mpsc::Receiver<Bytes>,
    said: impl Fn(Bytes) -> F,
) -> Result<(), String> {
    let why = |e: &dyn std::fmt::Display| format!("error forwarding port {port} to pod {}: {e}", target.pod);
    let conn = target.network.connect(Source::Node, SocketAddr::new(target.ip, port)).await;
    let (mut read, mut write) = tokio::io::split(conn.map_err(|e| why(&e))?.stream);
    let inward = async {
        while let Some(bytes) = fed.recv().await {
            write.write_all(&bytes).await.map_err(|e| why(&e))?;
            write.flush().await.map_err(|e| why(&e))?;
        }
        let _ = write.shutdown().await;
        Ok::<(), String>(())
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        loop {
            match read.read_buf(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(_) if said(buffer.split().freeze()).await => buffer.reserve(32 * 1024),
                Ok(_) => return Ok(()),
                Err(e) => return Err(why(&e)),
            }
        }
    };
    // The pod's end is the end; the client's half-close is not.
    let (mut inward, mut outward) = (std::pin::pin!(inward), std::pin::pin!(outward));
    tokio::select! {
        done = &mut outward => done,
        done = &mut inward => {
            done?;
            outward.await
        }
    }
}

/// Serves a session whose client opens a pair of streams, `data` and `error`, for each connection.
pub(super) async fn spdy<S: Stream>(io: S, target: Target) {
    let (mut reader, writes, writer) = spdy::open(io);
    let reading = async move {
        // By request id: the error stream, and its port.
        let mut waiting: HashMap<String, (u32, u16)> = HashMap::new();
        let mut feeds: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
        let mut connections = JoinSet::new();
        while let Some(frame) = reader.next().await {
            while connections.try_join_next().is_some() {}
            match frame {
                Frame::SynStream { id, headers, .. } => {
                    let header = |name: &str| headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
                    let port = header("port").and_then(|p| p.parse::<u16>().ok()).filter(|p| *p > 0);
                    let request = header("requestid").unwrap_or_default().to_string();
                    feeds.retain(|_, feed| !feed.is_closed());
                    let full = waiting.len() >= CONNECTIONS || connections.len() >= CONNECTIONS;
                    let (Some(port), false) = (port, full || feeds.contains_key(&id)) else {
                        let _ = writes.send(Write::Refuse(id)).await;
                        continue;
                    };
                    match header("streamtype") {
                        Some("error") => {
                            waiting.insert(request, (id, port));
                        }
                        Some("data") => {
                            let Some((error, _)) = waiting.remove(&request).filter(|(_, p)| *p == port) else {
                                let _ = writes.send(Write::Refuse(id)).await;
                                continue;
                            };
                            let (feed, fed) = mpsc::channel(8);
                            feeds.insert(id, feed);
                            connections.spawn(connection(target.clone(), port, (id, error), fed, writes.clone()));
                        }
                        _ => {
                            let _ = writes.send(Write::Refuse(id)).await;
                            continue;
                        }
                    }
                    let _ = writes.send(Write::Accept(id)).await;
                }
                Frame::Data { id, fin, data } => {
                    if let Some(feed) = feeds.get(&id)
                        && !data.is_empty()
                    {
                        // Whoever does not read holds up its whole session, as upstream.
                        let _ = feed.send(data).await;
                    }
                    if fin {
                        feeds.remove(&id);
                    }
                }
                Frame::Reset { id } => drop(feeds.remove(&id)),
                Frame::Ping { id } => drop(writes.send(Write::Pong(id)).await),
                _ => {}
            }
        }
    };
    tokio::join!(
        async {
            reading.await;
        },
        writer
    );
}

async fn connection(
    target: Target,
    port: u16,
    (data, error): (u32, u32),
    fed: mpsc::Receiver<Bytes>,
    writes: mpsc::Sender<Write>,
) {
    let said = |bytes| {
        let writes = writes.clone();
        async move { writes.send(Write::Data(data, false, bytes)).await.is_ok() }
    };
    let ended = pipe(&target, port, fed, said).await;
    let why = ended.err().unwrap_or_default();
    let _ = writes.send(Write::Data(error, true, why.into())).await;
    let _ = writes.send(Write::Data(data, true, Bytes::new())).await;
}
