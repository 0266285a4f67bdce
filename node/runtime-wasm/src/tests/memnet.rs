//! A pod network in memory: what one pod needs to be tested, and no more than a real one would give it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::DuplexStream;
use tokio::sync::Notify;

use crate::{Body, HttpError, HttpTimeouts, NetConn, NetError, NetListener, NetUdp, PodNetwork};

pub(super) const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 5));
/// Where connections come from that a test opens.
pub(super) const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9)), 40_000);

/// Answers a datagram.
type UdpService = Box<dyn Fn(&[u8], SocketAddr) -> Vec<u8> + Send>;

#[derive(Clone, Default)]
pub(super) struct MemNet(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    listeners: HashMap<SocketAddr, Queue>,
    names: HashMap<String, Vec<IpAddr>>,
    udp: HashMap<SocketAddr, UdpService>,
    next_port: u16,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<NetConn>,
    waker: Option<Waker>,
}

impl MemNet {
    pub(super) fn name(&self, name: &str, ip: IpAddr) {
        self.0.state.lock().unwrap().names.insert(name.to_owned(), vec![ip]);
    }

    pub(super) fn udp_service(&self, at: SocketAddr, answer: impl Fn(&[u8], SocketAddr) -> Vec<u8> + Send + 'static) {
        self.0.state.lock().unwrap().udp.insert(at, Box::new(answer));
    }

    /// Listens as another pod would.
    pub(super) fn listen(&self, at: SocketAddr) -> Listener {
        self.0.state.lock().unwrap().listeners.insert(at, Queue::default());
        self.0.changed.notify_waiters();
        Listener { net: self.clone(), at }
    }

    /// Connects as another pod would, as soon as the port is open.
    pub(super) async fn connect(&self, to: SocketAddr) -> DuplexStream {
        loop {
            let changed = self.0.changed.notified();
            if let Ok(stream) = self.open(CLIENT, to) {
                return stream;
            }
            changed.await;
        }
    }

    pub(super) fn is_listening(&self, at: SocketAddr) -> bool {
        self.0.state.lock().unwrap().listeners.contains_key(&at)
    }

    /// Waits until nobody listens there any more.
    pub(super) async fn closed(&self, at: SocketAddr) {
        loop {
            let changed = self.0.changed.notified();
            if !self.is_listening(at) {
                return;
            }
            changed.await;
        }
    }

    fn open(&self, from: SocketAddr, to: SocketAddr) -> Result<DuplexStream, NetError> {
        let mut state = self.0.state.lock().unwrap();
        let queue = state.listeners.get_mut(&to).ok_or(NetError::ConnectionRefused)?;
        let (mine, theirs) = tokio::io::duplex(16 * 1024);
        queue.waiting.push_back(NetConn { local: to, peer: from, stream: Box::new(theirs) });
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        Ok(mine)
    }

    fn free(&self, mut addr: SocketAddr) -> SocketAddr {
        let mut state = self.0.state.lock().unwrap();
        if addr.ip().is_unspecified() {
            addr.set_ip(POD);
        }
        if addr.port() == 0 {
            state.next_port += 1;
            addr.set_port(32_768 + state.next_port);
        }
        addr
    }
}

pub(super) struct Listener {
    net: MemNet,
    at: SocketAddr,
}

impl Listener {
    pub(super) async fn accept(&mut self) -> NetConn {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await.unwrap()
    }
}

impl NetListener for Listener {
    fn local_addr(&self) -> SocketAddr {
        self.at
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<NetConn, NetError>> {
        let mut state = self.net.0.state.lock().unwrap();
        // Nothing comes to one that was stopped.
        let Some(queue) = state.listeners.get_mut(&self.at) else { return Poll::Pending };
        match queue.waiting.pop_front() {
            Some(conn) => Poll::Ready(Ok(conn)),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.net.0.state.lock().unwrap().listeners.remove(&self.at);
        self.net.0.changed.notify_waiters();
    }
}

struct Udp {
    net: MemNet,
    at: SocketAddr,
    received: VecDeque<(Bytes, SocketAddr)>,
}

impl NetUdp for Udp {
    fn local_addr(&self) -> SocketAddr {
        self.at
    }

    fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Result<(Bytes, SocketAddr), NetError>> {
        // Services answer at once, so that nothing ever arrives later.
        self.received.pop_front().map_or(Poll::Pending, |datagram| Poll::Ready(Ok(datagram)))
    }

    fn send(&mut self, data: &[u8], to: SocketAddr) -> Result<(), NetError> {
        let state = self.net.0.state.lock().unwrap();
        let service = state.udp.get(&to).ok_or(NetError::RemoteUnreachable)?;
        self.received.push_back((service(data, self.at).into(), to));
        Ok(())
    }
}

#[async_trait]
impl PodNetwork for MemNet {
    fn ip(&self) -> IpAddr {
        POD
    }

    fn listen_tcp(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, NetError> {
        let addr = self.free(addr);
        if addr.ip() != POD {
            return Err(NetError::AddressNotBindable);
        }
        if self.is_listening(addr) {
            return Err(NetError::AddressInUse);
        }
        Ok(Box::new(self.listen(addr)))
    }

    fn stop_listening(&self) {
        self.0.state.lock().unwrap().listeners.clear();
        self.0.changed.notify_waiters();
    }

    async fn connect_tcp(&self, to: SocketAddr) -> Result<NetConn, NetError> {
        let local = self.free(SocketAddr::new(POD, 0));
        let stream = self.open(local, to)?;
        Ok(NetConn { local, peer: to, stream: Box::new(stream) })
    }

    fn bind_udp(&self, addr: SocketAddr) -> Result<Box<dyn NetUdp>, NetError> {
        Ok(Box::new(Udp { net: self.clone(), at: self.free(addr), received: VecDeque::new() }))
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        // Answers later, as a resolver does.
        tokio::task::yield_now().await;
        self.0.state.lock().unwrap().names.get(name).cloned().ok_or(NetError::NameUnresolvable)
    }

    /// Every host is there and tells what it was asked, except `nowhere`.
    async fn send_http(
        &self,
        request: http::Request<Body>,
        _: HttpTimeouts,
        tls: bool,
    ) -> Result<http::Response<Body>, HttpError> {
        if request.uri().host() == Some("nowhere") {
            return Err(HttpError::ConnectionRefused);
        }
        let text = format!("{} {} tls={tls}", request.method(), request.uri());
        Ok(http::Response::new(Full::from(text).map_err(|never| match never {}).boxed()))
    }
}
