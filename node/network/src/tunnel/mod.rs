//! The way between nodes: HTTP/2 over TLS with both nodes' certificates. A byte stream is a CONNECT (RFC 9113, section 8.5)
//! to the pod's address; datagrams are capsules (RFC 9297) on one that says so; a request to a `wasi:http` pod is that
//! request. All say whose they are, and the receiving node checks it against what the API says. Who is where and what is true is decided by [`copepod_node_routes::Neighbours`].

pub(crate) mod capsule;
mod carry;
mod datagrams;
mod request;
mod serve;
mod session;
pub(crate) mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::time::Instant;

use crate::sync::lock;
pub(crate) use request::Undelivered;
use session::Peer;

/// What one stream may have on the way that its reader has not taken: enough for a gigabit over a millisecond. A request
/// that has sent more than this was begun to be read, and is not sent elsewhere any more.
const WINDOW: u32 = 128 * 1024;
/// Streams of one connection at once; for more there is another connection.
const STREAMS: u32 = 1024;
/// Connections from one node to another at once.
const CONNECTIONS: usize = 8;
/// No stream waits for the reader of another one.
const CONNECTION_WINDOW: u32 = WINDOW * STREAMS;
/// Longest frame.
const FRAME: u32 = 64 * 1024;
/// Longest head of a request or response.
const HEAD: u32 = 64 * 1024;
/// Addresses of which it is remembered whether they take requests.
const REMEMBERED: usize = 4096;
/// For how long.
const REMEMBER: Duration = Duration::from_secs(60);

/// How the nodes' connections are made.
#[derive(Clone)]
pub struct TunnelConfig {
    /// For connections to other nodes, each taken for what its certificate is for: its node's name. Shows this node's.
    pub client: Arc<ClientConfig>,
    /// For those of other nodes, who must show a certificate.
    pub server: Arc<ServerConfig>,
    /// The node whose client certificate it is.
    pub node_of: fn(&CertificateDer<'_>) -> Option<String>,
    /// How it is noticed that nobody is there or nothing to do.
    pub timing: TunnelTiming,
}

/// When connections between nodes are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelTiming {
    /// How often the other side is asked whether it is there.
    pub ping: Duration,
    /// How long it has to answer.
    pub patience: Duration,
    /// A connection without streams is closed after so long.
    pub idle: Duration,
    /// After so long a connection takes no more streams, so that new ones are made with the certificates of the time.
    pub retire: Duration,
    /// For TCP and TLS.
    pub connect: Duration,
}

impl Default for TunnelTiming {
    fn default() -> Self {
        let s = Duration::from_secs;
        TunnelTiming { ping: s(3), patience: s(5), idle: s(120), retire: s(3600), connect: s(5) }
    }
}

/// The connections of a node to others.
#[derive(Default)]
pub(crate) struct Tunnel {
    peers: Mutex<HashMap<Arc<str>, Arc<Peer>>>,
    /// Whether addresses take requests, and since when that is known.
    requests: Mutex<HashMap<SocketAddr, (bool, Instant)>>,
    flows: Mutex<datagrams::Flows>,
}

impl Tunnel {
    fn note(&self, at: SocketAddr, requests: bool) {
        let mut known = lock(&self.requests);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(at, (requests, Instant::now()));
    }

    /// Whether `at` takes requests, if it has lately said so.
    fn takes_requests(&self, at: SocketAddr) -> Option<bool> {
        lock(&self.requests).get(&at).filter(|(_, since)| since.elapsed() < REMEMBER).map(|(requests, _)| *requests)
    }

    /// Whether `at` has lately said that it takes no requests.
    pub(crate) fn is_streams_only(&self, at: SocketAddr) -> bool {
        self.takes_requests(at) == Some(false)
    }

    /// A pod has gone: nobody sends for it any more.
    pub(crate) fn end_flows(&self, uid: &str) {
        lock(&self.flows).end(uid);
    }
}

#[cfg(test)]
mod tests;
