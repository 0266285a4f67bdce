//! The virtual pod network as guests see it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use copepod_node_network::{self as network, Conn, HttpOptions, Listener, PodHandle, UdpSocket};
use copepod_runtime_wasm::{Body, HttpError, HttpTimeouts, NetConn, NetError, NetListener, NetUdp, PodNetwork};

use crate::logs::lock;

/// A pod's own view of the network.
pub(super) struct Net {
    pod: Arc<PodHandle>,
    listeners: Mutex<Listeners>,
}

/// What one container listens on.
#[derive(Default)]
struct Listeners {
    open: Vec<Weak<Listener>>,
    stopped: bool,
}

impl Net {
    /// For one container.
    pub fn new(pod: Arc<PodHandle>) -> Net {
        Net { pod, listeners: Mutex::default() }
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

#[async_trait]
impl PodNetwork for Net {
    fn ip(&self) -> IpAddr {
        self.pod.ip()
    }

    fn listen_tcp(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, NetError> {
        let mut listeners = lock(&self.listeners);
        if listeners.stopped {
            return Err(NetError::ConnectionAborted);
        }
        let listener = Arc::new(self.pod.listen_tcp(addr).map_err(error)?);
        listeners.open.retain(|l| l.strong_count() > 0);
        listeners.open.push(Arc::downgrade(&listener));
        Ok(Box::new(TcpListener { listener, wait: None }))
    }

    fn stop_listening(&self) {
        let open = {
            let mut listeners = lock(&self.listeners);
            listeners.stopped = true;
            std::mem::take(&mut listeners.open)
        };
        open.iter().filter_map(Weak::upgrade).for_each(|listener| listener.stop());
    }

    async fn connect_tcp(&self, to: SocketAddr) -> Result<NetConn, NetError> {
        self.pod.connect_tcp(to).await.map(conn).map_err(error)
    }

    fn bind_udp(&self, addr: SocketAddr) -> Result<Box<dyn NetUdp>, NetError> {
        let socket = self.pod.bind_udp(addr).map_err(error)?;
        Ok(Box::new(Udp { socket: Arc::new(socket), wait: None }))
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        self.pod.resolve(name).await.map_err(error)
    }

    async fn send_http(
        &self,
        request: http::Request<Body>,
        timeouts: HttpTimeouts,
        tls: bool,
    ) -> Result<http::Response<Body>, HttpError> {
        let usual = HttpOptions::default();
        let options = HttpOptions {
            connect_timeout: timeouts.connect.unwrap_or(usual.connect_timeout),
            first_byte_timeout: timeouts.first_byte.unwrap_or(usual.first_byte_timeout),
            between_bytes_timeout: timeouts.between_bytes.unwrap_or(usual.between_bytes_timeout),
            tls,
            ..usual
        };
        self.pod.send_http(request, options).await.map_err(http_error)
    }
}

fn conn(c: Conn) -> NetConn {
    NetConn { local: c.local, peer: c.peer, stream: Box::new(c.stream) }
}

/// A listener, and the wait for its next connection.
struct TcpListener {
    listener: Arc<Listener>,
    wait: Option<Wait>,
}

impl NetListener for TcpListener {
    fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<NetConn, NetError>> {
        loop {
            if let Some(accepted) = self.listener.try_accept().map_err(error)? {
                self.wait = None;
                return Poll::Ready(Ok(conn(accepted)));
            }
            let listener = &self.listener;
            let wait = self.wait.get_or_insert_with(|| {
                let listener = listener.clone();
                Box::pin(async move { listener.ready().await })
            });
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
    }
}

/// A UDP socket, and the wait for its next datagram.
struct Udp {
    socket: Arc<UdpSocket>,
    wait: Option<Wait>,
}

impl NetUdp for Udp {
    fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, SocketAddr), NetError>> {
        loop {
            if let Some(datagram) = self.socket.try_recv_from().map_err(error)? {
                self.wait = None;
                return Poll::Ready(Ok((datagram.data, datagram.from)));
            }
            let socket = &self.socket;
            let wait = self.wait.get_or_insert_with(|| {
                let socket = socket.clone();
                Box::pin(async move { socket.ready().await })
            });
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
    }

    fn send(&mut self, data: &[u8], to: SocketAddr) -> Result<(), NetError> {
        self.socket.send_to(Bytes::copy_from_slice(data), to).map_err(error)
    }
}

fn error(e: network::NetError) -> NetError {
    use network::NetError as E;
    match e {
        E::ConnectionRefused | E::Forbidden => NetError::ConnectionRefused,
        E::ConnectionReset => NetError::ConnectionReset,
        E::RemoteUnreachable => NetError::RemoteUnreachable,
        E::Timeout => NetError::Timeout,
        E::AddressInUse => NetError::AddressInUse,
        E::AddressNotBindable => NetError::AddressNotBindable,
        E::Detached => NetError::ConnectionAborted,
        E::DatagramTooLarge => NetError::DatagramTooLarge,
        E::AccessDenied => NetError::AccessDenied,
        E::InvalidArgument => NetError::InvalidArgument,
        E::NewSocketLimit => NetError::NewSocketLimit,
        E::NameUnresolvable => NetError::NameUnresolvable,
        E::TemporaryResolverFailure => NetError::TemporaryResolverFailure,
        E::Other(io::ErrorKind::OutOfMemory) => NetError::OutOfMemory,
        E::Other(_) => NetError::Unknown,
    }
}

fn http_error(e: network::HttpError) -> HttpError {
    use network::{HttpError as E, NetError as N};
    match e {
        E::Dns(_, N::Timeout) => HttpError::NameTimeout,
        E::Dns(..) => HttpError::NameUnresolvable,
        E::Connect(N::ConnectionRefused | N::Forbidden) => HttpError::ConnectionRefused,
        E::Connect(N::Timeout) => HttpError::ConnectionTimeout,
        E::Connect(N::AccessDenied) => HttpError::DestinationProhibited,
        E::Connect(N::RemoteUnreachable) => HttpError::DestinationUnroutable,
        E::Connect(N::ConnectionReset | N::Detached) => HttpError::ConnectionTerminated,
        E::Connect(_) => HttpError::DestinationUnavailable,
        E::ResponseTimeout => HttpError::ReadTimeout,
        E::InvalidRequest(_) => HttpError::InvalidUri,
        E::Protocol(_) => HttpError::Protocol,
        E::RequestBody(kind) => HttpError::Other(format!("the request's body failed: {kind}")),
        E::Tls(why) => HttpError::Tls(why),
        E::Service(why) => HttpError::Other(why),
    }
}
