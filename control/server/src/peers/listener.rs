//! Where the other servers come in.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use copepod_client::{Body, body};
use copepod_model::Status;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::{IMAGES, Network, snapshot, tls, wire};
use crate::listener::stopped;
use crate::store::Role;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections at once: a few for each of a handful of servers.
const CONNECTIONS: usize = 256;
/// Requests of one server at once.
const STREAMS: u32 = 4096;
/// Longest transaction or change of the membership, in bytes.
const CONTENT: usize = 64 << 20;

/// Serves the other servers until `shutdown` turns true.
pub async fn serve(listener: TcpListener, network: Network, mut shutdown: watch::Receiver<bool>) {
    let acceptor = TlsAcceptor::from(network.0.tls.server.clone());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => match permit {
                Ok(permit) => permit,
                Err(_) => return,
            },
            () = stopped(&mut shutdown) => return,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("the peers' listener cannot accept: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopped(&mut shutdown) => return,
        };
        let (acceptor, network, mut shutdown) = (acceptor.clone(), network.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
            let Some(peer) = certificate.and_then(|c| tls::peer_id(c)) else { return };
            let service = service_fn(move |request| {
                let network = network.clone();
                async move { Ok::<_, Infallible>(network.answer(peer, request).await) }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => if let Err(e) = ended {
                    tracing::debug!("the connection from server {peer} ended: {e}");
                },
                () = stopped(&mut shutdown) => {}
            }
        });
    }
}

impl Network {
    async fn answer(&self, peer: u64, request: Request<Incoming>) -> Response<Body> {
        let Some(store) = self.0.store.get() else { return empty(503) };
        let stranger = |role: &Role| {
            let m = &role.members;
            let mut known = [&m.voters, &m.learners, &m.voters_outgoing, &m.learners_next].into_iter().flatten();
            role.leads && !known.any(|id| *id == peer)
        };
        // Who leads knows who was taken out; others may only be behind, and so may who led until a moment ago: a majority
        // says whether it leads.
        if stranger(&store.role().borrow()) {
            let certain = store.read_index().await.is_ok() && stranger(&store.role().borrow());
            return empty(if certain { 410 } else { 503 });
        }
        let path = request.uri().path();
        // What it would have in the log if it led, or has for the leader, must be readable here.
        if let Err(version) = wire::reads_version(request.headers())
            && matches!(path, "/messages" | "/propose")
        {
            tracing::debug!("server {peer} writes the log in version {version}, which this release cannot read");
            return empty(426);
        }
        match (request.method(), path) {
            (&Method::POST, "/messages") => self.messages(peer, request.into_body()).await,
            (&Method::POST, "/propose") => match whole(request.into_body()).await {
                Ok(txn) => {
                    let answer = wire::Answer::of(store.propose_for_another(txn).await);
                    Response::new(body(answer.to_bytes()))
                }
                Err(code) => empty(code),
            },
            (&Method::POST, "/members") => self.change(request.into_body()).await,
            (&Method::GET, "/snapshot") => {
                super::lock(&self.0.told).remove(&peer);
                snapshot::answer(store, peer).await
            }
            (&Method::GET, path) if path.starts_with(IMAGES) => match self.0.images.get() {
                Some(images) => {
                    let hex = path[IMAGES.len()..].to_string();
                    images.give(&hex).await
                }
                None => empty(503),
            },
            _ => empty(404),
        }
    }

    /// Takes a peer's messages until it stops, or says something that it must not.
    async fn messages(&self, peer: u64, mut stream: Incoming) -> Response<Body> {
        let mut buffer = BytesMut::new();
        while let Some(frame) = stream.frame().await {
            let Ok(frame) = frame else { return empty(400) };
            let Some(data) = frame.data_ref() else { continue };
            buffer.extend_from_slice(data);
            let mut messages = Vec::new();
            loop {
                match wire::decode(&mut buffer) {
                    Ok(Some(m)) if m.from == peer && m.to == self.0.me => messages.push(m),
                    Ok(Some(m)) => {
                        tracing::warn!("server {peer} sent a message from {} to {}", m.from, m.to);
                        return empty(403);
                    }
                    Ok(None) => break,
                    Err(e) => {
                        tracing::warn!("server {peer} sent {e}");
                        return empty(400);
                    }
                }
            }
            self.receive(messages);
        }
        empty(200)
    }

    async fn change(&self, stream: Incoming) -> Response<Body> {
        let status = |s: Status| {
            let mut answer = Response::new(body(s.to_json().to_string()));
            *answer.status_mut() =
                http::StatusCode::from_u16(s.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
            answer
        };
        let Some(members) = self.0.members.get() else { return empty(503) };
        let bytes = match whole(stream).await {
            Ok(bytes) => bytes,
            Err(code) => return empty(code),
        };
        match serde_json::from_slice(&bytes) {
            Ok(op) => members.here(&op).await.map_or_else(status, |answer| Response::new(body(answer))),
            Err(e) => status(Status::bad_request(e.to_string())),
        }
    }
}

async fn whole(stream: Incoming) -> Result<Vec<u8>, u16> {
    Limited::new(stream, CONTENT).collect().await.map(|b| b.to_bytes().to_vec()).map_err(|_| 413)
}

fn empty(code: u16) -> Response<Body> {
    let mut answer = Response::new(body(""));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

#[cfg(test)]
mod tests;
