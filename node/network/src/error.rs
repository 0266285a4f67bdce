//! What can go wrong, in the words of wasi:sockets and wasi:http.

use std::io;
use std::net::SocketAddr;

/// A socket operation failed; the variants are wasi:sockets' error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Nobody listens there, or a Service has no ready endpoint.
    #[error("connection refused")]
    ConnectionRefused,
    /// The peer, or the pod's end, cut the connection.
    #[error("connection reset")]
    ConnectionReset,
    /// No such pod, or no way there.
    #[error("remote unreachable")]
    RemoteUnreachable,
    /// Nobody answered in time.
    #[error("timed out")]
    Timeout,
    /// The port is taken.
    #[error("address in use")]
    AddressInUse,
    /// Not an address of this pod.
    #[error("address not bindable")]
    AddressNotBindable,
    /// The pod is gone.
    #[error("the pod has left the network")]
    Detached,
    /// A datagram longer than 65,507 bytes.
    #[error("datagram too large")]
    DatagramTooLarge,
    /// The network does not allow it.
    #[error("access denied")]
    AccessDenied,
    /// No NetworkPolicy allows it. To a pod it is as if nobody listened.
    #[error("connection refused by NetworkPolicy")]
    Forbidden,
    /// An argument makes no sense, such as port 0 as a destination.
    #[error("invalid argument")]
    InvalidArgument,
    /// No more ports or sockets.
    #[error("no more sockets")]
    NewSocketLimit,
    /// There is no such name, or it has no address.
    #[error("name unresolvable")]
    NameUnresolvable,
    /// The upstream resolver does not answer; later it may.
    #[error("temporary resolver failure")]
    TemporaryResolverFailure,
    /// Anything else that the host reports.
    #[error("network error: {0}")]
    Other(io::ErrorKind),
}

impl From<io::Error> for NetError {
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as K;
        match e.kind() {
            K::ConnectionRefused => NetError::ConnectionRefused,
            K::ConnectionReset | K::BrokenPipe | K::ConnectionAborted => NetError::ConnectionReset,
            K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => NetError::RemoteUnreachable,
            K::TimedOut => NetError::Timeout,
            K::AddrInUse => NetError::AddressInUse,
            K::AddrNotAvailable => NetError::AddressNotBindable,
            K::PermissionDenied => NetError::AccessDenied,
            K::InvalidInput => NetError::InvalidArgument,
            other => NetError::Other(other),
        }
    }
}

impl From<NetError> for io::Error {
    fn from(e: NetError) -> Self {
        use io::ErrorKind as K;
        let kind = match e {
            NetError::ConnectionRefused | NetError::Forbidden => K::ConnectionRefused,
            NetError::ConnectionReset | NetError::Detached => K::ConnectionReset,
            NetError::RemoteUnreachable => K::HostUnreachable,
            NetError::Timeout => K::TimedOut,
            NetError::AddressInUse => K::AddrInUse,
            NetError::AddressNotBindable => K::AddrNotAvailable,
            NetError::AccessDenied => K::PermissionDenied,
            NetError::InvalidArgument | NetError::DatagramTooLarge => K::InvalidInput,
            NetError::NameUnresolvable => K::NotFound,
            NetError::TemporaryResolverFailure | NetError::NewSocketLimit => K::Other,
            NetError::Other(kind) => kind,
        };
        io::Error::new(kind, e)
    }
}

/// An HTTP request got no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The authority could not be resolved.
    #[error("cannot resolve {0}: {1}")]
    Dns(String, NetError),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(NetError),
    /// The response did not begin in time.
    #[error("no response in time")]
    ResponseTimeout,
    /// The request has no usable authority, scheme or method.
    #[error("invalid request: {0}")]
    InvalidRequest(&'static str),
    /// The request's own body failed: it was too long, or its sender too slow.
    #[error("request body: {0}")]
    RequestBody(io::ErrorKind),
    /// The peer closed the connection, or broke the protocol.
    #[error("HTTP protocol error: {0}")]
    Protocol(String),
    /// The TLS handshake failed.
    #[error("TLS error: {0}")]
    Tls(String),
    /// The service that was called failed.
    #[error("{0}")]
    Service(String),
}

impl HttpError {
    /// What Go's client says of a request to `to`, which is what clients of kube-apiserver's proxy see.
    pub fn in_go(&self, to: SocketAddr) -> String {
        let dialled = |why: &str| format!("dial tcp {to}: {why}");
        match self {
            HttpError::Connect(NetError::ConnectionRefused | NetError::Forbidden) => {
                dialled("connect: connection refused")
            }
            HttpError::Connect(NetError::ConnectionReset) => dialled("connect: connection reset by peer"),
            HttpError::Connect(NetError::RemoteUnreachable | NetError::Detached) => {
                dialled("connect: no route to host")
            }
            HttpError::Connect(NetError::Timeout) => dialled("i/o timeout"),
            HttpError::Connect(other) => dialled(&other.to_string()),
            HttpError::ResponseTimeout => "net/http: timeout awaiting response headers".into(),
            HttpError::Tls(why) => format!("tls: {why}"),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_proxy_see_gos_words() {
        let to = SocketAddr::from(([10, 244, 0, 7], 80));
        for (error, want) in [
            (HttpError::Connect(NetError::ConnectionRefused), "dial tcp 10.244.0.7:80: connect: connection refused"),
            (HttpError::Connect(NetError::RemoteUnreachable), "dial tcp 10.244.0.7:80: connect: no route to host"),
            (HttpError::Connect(NetError::Timeout), "dial tcp 10.244.0.7:80: i/o timeout"),
            (HttpError::ResponseTimeout, "net/http: timeout awaiting response headers"),
            (HttpError::Service("wasm trap: unreachable".into()), "wasm trap: unreachable"),
        ] {
            assert_eq!(error.in_go(to), want);
        }
    }
}
