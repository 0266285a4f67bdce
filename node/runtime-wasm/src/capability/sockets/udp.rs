//! `wasi:sockets/udp`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult, subscribe};

use super::own::udp as wit;
use super::own::udp_create_socket;
use super::{View, fits, fits_remote, positive, told};
use crate::counted::Permit;
use crate::net::{NetError, NetUdp};

/// Datagrams that go through one call.
const BATCH: usize = 16;

type Bound = Arc<Mutex<Box<dyn NetUdp>>>;

/// A socket.
pub struct UdpSocket {
    family: IpAddressFamily,
    state: State,
    remote: Option<SocketAddr>,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
    _permit: Permit,
}

enum State {
    Unbound,
    BindStarted(Bound),
    Bound(Bound),
}

/// Datagrams that come.
pub struct Incoming {
    socket: Bound,
    family: IpAddressFamily,
    from: Option<SocketAddr>,
    /// Taken while waiting for readiness.
    next: Option<Result<(Bytes, SocketAddr), NetError>>,
}

/// Datagrams that go.
pub struct Outgoing {
    socket: Bound,
    family: IpAddressFamily,
    to: Option<SocketAddr>,
    permitted: usize,
}

impl Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.next.is_none() {
            let received = self.socket.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx);
            match std::task::ready!(received) {
                // Connected to one peer: what others send is dropped.
                Ok((_, from)) if self.from.is_some_and(|wanted| wanted != from) => {}
                received => self.next = Some(received),
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self) -> Option<Result<(Bytes, SocketAddr), NetError>> {
        let _ = self.poll_next(&mut Context::from_waker(Waker::noop()));
        self.next.take()
    }
}

#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_next(cx)).await;
    }
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {}
}

impl udp_create_socket::Host for View<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let _permit = self.permit()?;
        Ok(self.table.push(UdpSocket {
            family,
            state: State::Unbound,
            remote: None,
            hop_limit: 64,
            receive_buffer: 65_536,
            send_buffer: 65_536,
            _permit,
        })?)
    }
}

impl wit::Host for View<'_> {}

impl wit::HostUdpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Network>,
        addr: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let net = self.container.net.clone();
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::Unbound => {}
            State::BindStarted(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Bound(_) => return Err(ErrorCode::InvalidState.into()),
        }
        let addr = SocketAddr::from(addr);
        fits(socket.family, &addr)?;
        let bound = net.bind_udp(addr).map_err(super::error)?;
        socket.state = State::BindStarted(Arc::new(Mutex::new(bound)));
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        let State::BindStarted(bound) = &socket.state else { return Err(ErrorCode::NotInProgress.into()) };
        socket.state = State::Bound(bound.clone());
        Ok(())
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<Incoming>, Resource<Outgoing>)> {
        if self.table.iter_children(&this)?.any(|child| child.is::<Incoming>() || child.is::<Outgoing>()) {
            return Err(SocketError::trap(wasmtime::Error::msg("the socket's former streams are still there")));
        }
        let socket = self.table.get_mut(&this)?;
        let State::Bound(bound) = &socket.state else { return Err(ErrorCode::InvalidState.into()) };
        let remote = remote.map(SocketAddr::from);
        if let Some(remote) = &remote {
            fits_remote(socket.family, remote)?;
        }
        socket.remote = remote;
        let incoming = Incoming { socket: bound.clone(), family: socket.family, from: remote, next: None };
        let outgoing = Outgoing { socket: bound.clone(), family: socket.family, to: remote, permitted: 0 };
        Ok((self.table.push_child(incoming, &this)?, self.table.push_child(outgoing, &this)?))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.table.get(&this)?.state {
            State::Bound(bound) => Ok(bound.lock().unwrap_or_else(PoisonError::into_inner).local_addr().into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        self.table.get(&this)?.remote.map(Into::into).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.hop_limit)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        self.table.get_mut(&this)?.hop_limit = positive(value)?;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.receive_buffer = positive(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.send_buffer = positive(value)?;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::HostIncomingDatagramStream for View<'_> {
    fn receive(&mut self, this: Resource<Incoming>, max: u64) -> SocketResult<Vec<wit::IncomingDatagram>> {
        let incoming = self.table.get_mut(&this)?;
        let mut received = Vec::new();
        while received.len() < usize::try_from(max).unwrap_or(BATCH).min(BATCH) {
            match incoming.take() {
                None => break,
                Some(Ok((data, from))) => {
                    let remote_address = told(incoming.family, from);
                    received.push(wit::IncomingDatagram { data: data.into(), remote_address });
                }
                // What came before the error is not lost; the error is told by the next call.
                Some(Err(error)) if !received.is_empty() => {
                    incoming.next = Some(Err(error));
                    break;
                }
                Some(Err(error)) => return Err(super::error(error)),
            }
        }
        Ok(received)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Outgoing {
    fn send(&mut self, datagram: &wit::OutgoingDatagram) -> SocketResult<()> {
        let to = match (datagram.remote_address.map(SocketAddr::from), self.to) {
            (Some(to), None) => to,
            (None, Some(connected)) => connected,
            (Some(to), Some(connected)) if to == connected => to,
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        fits_remote(self.family, &to)?;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.send(&datagram.data, to).map_err(super::error)
    }
}

impl wit::HostOutgoingDatagramStream for View<'_> {
    fn check_send(&mut self, this: Resource<Outgoing>) -> SocketResult<u64> {
        self.table.get_mut(&this)?.permitted = BATCH;
        Ok(BATCH as u64)
    }

    fn send(&mut self, this: Resource<Outgoing>, datagrams: Vec<wit::OutgoingDatagram>) -> SocketResult<u64> {
        let outgoing = self.table.get_mut(&this)?;
        if datagrams.len() > std::mem::take(&mut outgoing.permitted) {
            return Err(SocketError::trap(wasmtime::Error::msg("more datagrams were sent than permitted")));
        }
        for (sent, datagram) in datagrams.iter().enumerate() {
            match outgoing.send(datagram) {
                Ok(()) => {}
                Err(_) if sent > 0 => return Ok(sent as u64),
                Err(error) => return Err(error),
            }
        }
        Ok(datagrams.len() as u64)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
