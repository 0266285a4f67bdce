//! What decodes bytes of other nodes and of clients, for tests/fuzz alone.

use std::net::SocketAddr;

use bytes::Bytes;
use copepod_node_routes::Claim;
use http::Request;
use http::request::Parts;

use crate::protocol::hello::{Reading, Said};
use crate::tunnel::capsule::{self, Capsules};
use crate::tunnel::wire;

/// A datagram as a capsule.
pub fn capsule(datagram: &[u8]) -> Bytes {
    capsule::encode(datagram)
}

/// The datagrams in the pieces of a stream, up to one that is too long, and whether there is one.
pub fn datagrams<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let (mut capsules, mut out) = (Capsules::default(), Vec::new());
    for piece in pieces {
        capsules.feed(piece);
        loop {
            match capsules.next() {
                Ok(Some(datagram)) => out.push(datagram),
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
    }
    (out, false)
}

/// The name in a ClientHello of at most so many bytes that comes in pieces, or why there is none.
pub fn server_name<'a>(pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Result<Option<String>, &'static str> {
    let (mut received, mut reading) = (Vec::new(), Reading::default());
    for piece in pieces {
        received.extend_from_slice(piece);
        match reading.read(&received, most) {
            Said::Unclear => {}
            Said::Hello(name) => return Ok(name),
            Said::Nonsense => return Err("no hello"),
        }
    }
    Err("not whole")
}

/// Destination, source and the client's address that a received head says, which becomes one for a pod's service; nothing
/// where it is refused.
pub fn hear(request: &mut Request<()>) -> Option<(SocketAddr, Claim, Option<SocketAddr>)> {
    wire::read(request).ok().map(|heard| (heard.to, heard.claim, heard.peer))
}

/// The head of a request on its way to another node.
pub fn head(parts: &Parts, to: SocketAddr, claim: &Claim, peer: SocketAddr) -> Option<Request<()>> {
    wire::request(parts, to, claim, peer)
}
