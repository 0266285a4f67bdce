//! The protocols that a connection from outside may speak, told apart by its first bytes.

pub(crate) mod hello;
mod http1;
mod http2;
mod idle;
pub(crate) mod prefixed;
pub(crate) mod te;
pub(crate) mod upgrade;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

use crate::body::Body;
use crate::http::BoxError;
use prefixed::Prefixed;

/// What answers the requests of one connection.
pub(crate) trait Handle: Send + Sync + 'static {
    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// What a client may ask of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// For a request's head to arrive, and for the next request to begin.
    pub(crate) header_timeout: Duration,
    /// Header fields in one request.
    pub(crate) max_headers: usize,
    /// Bytes of one request's head.
    pub(crate) max_header_bytes: usize,
    /// Requests at once on one HTTP/2 connection.
    pub(crate) max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_timeout: Duration::from_secs(60),
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            max_streams: 256,
        }
    }
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// More bytes are needed.
    Unclear,
}

/// Streams that connections run over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// The protocols, in the order in which they are asked whether a connection is theirs.
#[derive(Clone, Copy)]
enum Protocol {
    Http2,
    Http1,
}

/// Says whether a connection that begins with these bytes is of its protocol.
type Matcher = fn(&[u8]) -> Match;

const PROTOCOLS: &[(Protocol, Matcher)] = &[(Protocol::Http2, http2::matches), (Protocol::Http1, http1::matches)];

/// Serves a connection until it ends; after `shutdown` it only finishes what it has begun.
pub(crate) async fn serve<I: Io, H: Handle>(
    mut io: I,
    handle: Arc<H>,
    limits: &Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BoxError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let first = tokio::select! {
        found = timeout(limits.header_timeout, sniff(&mut io)) => found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = &mut shutdown => return Ok(()),
    };
    let Some((protocol, prefix)) = first else { return Ok(()) };
    let io = Prefixed::new(io, prefix);
    match protocol {
        Protocol::Http1 => http1::serve(io, handle, limits, shutdown).await,
        Protocol::Http2 => http2::serve(io, handle, limits, shutdown).await,
    }
}

/// The protocol of a connection and the bytes read to find it; `None` if the client left before it said anything.
async fn sniff<I: Io>(io: &mut I) -> io::Result<Option<(Protocol, BytesMut)>> {
    let mut prefix = BytesMut::with_capacity(1024);
    loop {
        if io.read_buf(&mut prefix).await? == 0 {
            return Ok(None);
        }
        for (protocol, matches) in PROTOCOLS {
            match matches(&prefix) {
                Match::Yes => return Ok(Some((*protocol, prefix))),
                Match::No => {}
                Match::Unclear => break,
            }
        }
    }
}
