//! What a pod's network must offer to its guests. The virtual pod network implements it; this crate only asks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use tokio::io::{AsyncRead, AsyncWrite};

/// An HTTP body on its way into or out of a guest.
pub type Body = BoxBody<Bytes, io::Error>;

/// The network as one pod sees it: its own address, its own 127.0.0.1, and the names and addresses of the cluster.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// The pod's address.
    fn ip(&self) -> IpAddr;

    /// Starts to accept connections. An unspecified address means the pod's address and its loopback, port 0 a free
    /// port. The address is taken until the listener is dropped.
    fn listen_tcp(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, NetError>;

    /// Ends listening for good: listeners accept nothing more, though they do not fail, who waits at them is sent away, and
    /// there are no new ones. What was accepted stays.
    fn stop_listening(&self);

    /// Opens a connection to a pod, a Service, the pod itself (loopback) or something outside.
    async fn connect_tcp(&self, to: SocketAddr) -> Result<NetConn, NetError>;

    /// Binds a UDP socket; unspecified address and port 0 as for TCP.
    fn bind_udp(&self, addr: SocketAddr) -> Result<Box<dyn NetUdp>, NetError>;

    /// Looks up a host name, with the pod's search list. Addresses in order of preference, never empty.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError>;

    /// Sends a request to the authority of its URI and answers as soon as the head of the response is there. `tls` is
    /// true for `https`.
    async fn send_http(
        &self,
        request: http::Request<Body>,
        timeouts: HttpTimeouts,
        tls: bool,
    ) -> Result<http::Response<Body>, HttpError>;
}

/// A stream of bytes both ways.
pub trait NetStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> NetStream for T {}

/// An open connection.
pub struct NetConn {
    /// The pod's end.
    pub local: SocketAddr,
    /// The other end, as the pod should see it.
    pub peer: SocketAddr,
    /// The bytes.
    pub stream: Box<dyn NetStream>,
}

/// A listening socket.
pub trait NetListener: Send {
    /// The address that it listens on, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;
    /// Takes the next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<NetConn, NetError>>;
}

/// A bound UDP socket.
pub trait NetUdp: Send {
    /// The address that it is bound to, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;
    /// Takes the next datagram and where it came from.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, SocketAddr), NetError>>;
    /// Sends a datagram. UDP may lose it, so this never waits.
    fn send(&mut self, data: &[u8], to: SocketAddr) -> Result<(), NetError>;
}

/// How long each part of an outgoing request may take; `None` is the network's own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// Until the connection is open.
    pub connect: Option<Duration>,
    /// From then until the head of the response.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the body.
    pub between_bytes: Option<Duration>,
}

/// Why a socket operation failed: the error codes of `wasi:sockets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says so itself
pub enum NetError {
    #[error("unknown error")]
    Unknown,
    #[error("access denied")]
    AccessDenied,
    #[error("not supported")]
    NotSupported,
    #[error("invalid argument")]
    InvalidArgument,
    #[error("out of memory")]
    OutOfMemory,
    #[error("timed out")]
    Timeout,
    #[error("invalid state")]
    InvalidState,
    #[error("no more sockets")]
    NewSocketLimit,
    #[error("address not bindable")]
    AddressNotBindable,
    #[error("address in use")]
    AddressInUse,
    #[error("remote unreachable")]
    RemoteUnreachable,
    #[error("connection refused")]
    ConnectionRefused,
    #[error("connection reset")]
    ConnectionReset,
    #[error("connection aborted")]
    ConnectionAborted,
    #[error("datagram too large")]
    DatagramTooLarge,
    #[error("name unresolvable")]
    NameUnresolvable,
    #[error("temporary resolver failure")]
    TemporaryResolverFailure,
    #[error("permanent resolver failure")]
    PermanentResolverFailure,
}

/// Why an outgoing request failed, in the words of `wasi:http`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says so itself
pub enum HttpError {
    #[error("the name cannot be resolved")]
    NameUnresolvable,
    #[error("the name lookup took too long")]
    NameTimeout,
    #[error("destination unavailable")]
    DestinationUnavailable,
    #[error("destination prohibited")]
    DestinationProhibited,
    #[error("destination unroutable")]
    DestinationUnroutable,
    #[error("connection refused")]
    ConnectionRefused,
    #[error("connection terminated")]
    ConnectionTerminated,
    #[error("the connection took too long")]
    ConnectionTimeout,
    #[error("the response took too long")]
    ReadTimeout,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the certificate is not trusted")]
    Certificate,
    #[error("request denied")]
    RequestDenied,
    #[error("invalid URI")]
    InvalidUri,
    #[error("request loop")]
    Loop,
    #[error("HTTP protocol error")]
    Protocol,
    #[error("{0}")]
    Other(String),
}
