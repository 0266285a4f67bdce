//! `wasi:sockets/tcp`.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, SocketResult, subscribe};

use super::own::tcp::{self as wit, ShutdownType};
use super::own::tcp_create_socket;
use super::stream::{Connection, Reader, Writer};
use super::{View, fits, fits_remote, positive, told};
use crate::container::{InFlight, Shared};
use crate::counted::Permit;
use crate::net::{NetConn, NetError, NetListener};

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// A socket.
pub struct TcpSocket {
    family: IpAddressFamily,
    state: State,
    options: Options,
    _permit: Permit,
}

enum State {
    Unbound,
    /// The address is taken as soon as the socket is bound, which is what makes a free port known.
    BindStarted(Box<dyn NetListener>),
    Bound(Box<dyn NetListener>),
    ListenStarted(Listener),
    Listening(Listener),
    Connecting(JoinHandle<Option<Result<NetConn, NetError>>>),
    Connected(Result<NetConn, NetError>),
    Open {
        local: SocketAddr,
        peer: SocketAddr,
        connection: Arc<Connection>,
    },
    Closed,
}

struct Listener {
    listener: Box<dyn NetListener>,
    container: Arc<Shared>,
    /// Taken while waiting for readiness. It counts as accepted: the guest is told of it.
    next: Option<(Result<NetConn, NetError>, InFlight)>,
}

impl Listener {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() {
            // Counted before it is taken: whoever stops the container must not find it at neither place.
            let in_flight = InFlight::new(&self.container);
            self.next = Some((std::task::ready!(self.listener.poll_accept(cx)), in_flight));
        }
        Poll::Ready(())
    }
}

/// What a guest can set and read back. Inside the virtual network there are no packets to apply it to.
#[derive(Clone, Copy)]
struct Options {
    keep_alive: bool,
    keep_alive_idle: u64,
    keep_alive_interval: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

/// What a connection holds for each direction.
const BUFFER: u64 = 64 << 10;

/// Linux' defaults.
const DEFAULTS: Options = Options {
    keep_alive: false,
    keep_alive_idle: 7_200_000_000_000,
    keep_alive_interval: 75_000_000_000,
    keep_alive_count: 9,
    hop_limit: 64,
    receive_buffer: 65_536,
    send_buffer: 65_536,
};

impl TcpSocket {
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Connecting(task) = &mut self.state {
            let result = std::task::ready!(Pin::new(task).poll(cx));
            // No answer: the container is being killed.
            self.state = State::Connected(result.ok().flatten().unwrap_or(Err(NetError::ConnectionAborted)));
        }
        Poll::Ready(())
    }

    /// Bytes that may wait in an open connection, both ways.
    pub(crate) fn buffered(&self) -> u64 {
        if matches!(self.state, State::Open { .. } | State::Connected(Ok(_))) { 2 * BUFFER } else { 0 }
    }

    fn in_progress(&self) -> bool {
        matches!(
            self.state,
            State::BindStarted(_) | State::ListenStarted(_) | State::Connecting(_) | State::Connected(_)
        )
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        if let State::Connecting(task) = &self.state {
            task.abort();
        }
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        poll_fn(|cx| match &mut self.state {
            State::Connecting(_) => self.poll_connected(cx),
            State::Listening(listener) => listener.poll_next(cx),
            _ => Poll::Ready(()),
        })
        .await;
    }
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let _permit = self.permit()?;
        Ok(self.table.push(TcpSocket { family, state: State::Unbound, options: DEFAULTS, _permit })?)
    }
}

impl View<'_> {
    fn streams(&mut self, socket: &Resource<TcpSocket>, connection: &Arc<Connection>) -> SocketResult<Streams> {
        let input: DynInputStream = Box::new(Reader(connection.clone()));
        let output: DynOutputStream = Box::new(Writer(connection.clone()));
        Ok((self.table.push_child(input, socket)?, self.table.push_child(output, socket)?))
    }

    /// The socket, for an operation that may only begin when no other is under way.
    fn idle(&mut self, this: &Resource<TcpSocket>) -> SocketResult<&mut TcpSocket> {
        let socket = self.table.get_mut(this)?;
        if socket.in_progress() { Err(ErrorCode::ConcurrencyConflict.into()) } else { Ok(socket) }
    }
}

impl wit::Host for View<'_> {}

impl wit::HostTcpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        addr: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let net = self.container.net.clone();
        let socket = self.idle(&this)?;
        let State::Unbound = socket.state else { return Err(ErrorCode::InvalidState.into()) };
        let addr = SocketAddr::from(addr);
        fits(socket.family, &addr)?;
        socket.state = State::BindStarted(net.listen_tcp(addr).map_err(super::error)?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::BindStarted(listener) => {
                socket.state = State::Bound(listener);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        addr: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let container = self.container.clone();
        let socket = self.idle(&this)?;
        if !matches!(socket.state, State::Unbound | State::Bound(_)) {
            return Err(ErrorCode::InvalidState.into());
        }
        let addr = SocketAddr::from(addr);
        fits_remote(socket.family, &addr)?;
        // A connection always comes from a port of the network's choice; one that was bound is given back.
        let net = container.net.clone();
        socket.state = State::Connecting(container.spawn(async move { net.connect_tcp(addr).await }));
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> SocketResult<Streams> {
        let container = self.container.clone();
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::Connecting(_) | State::Connected(_)) {
            return Err(ErrorCode::NotInProgress.into());
        }
        if socket.poll_connected(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let State::Connected(result) = std::mem::replace(&mut socket.state, State::Closed) else {
            return Err(ErrorCode::InvalidState.into());
        };
        let NetConn { local, peer, stream } = result.map_err(super::error)?;
        let connection = Connection::new(stream, &container, None);
        socket.state = State::Open { local, peer, connection: connection.clone() };
        self.streams(&this, &connection)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let container = self.container.clone();
        let socket = self.idle(&this)?;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::Bound(listener) => {
                socket.state = State::ListenStarted(Listener { listener, container, next: None });
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::ListenStarted(listener) => {
                socket.state = State::Listening(listener);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let container = self.container.clone();
        let socket = self.table.get_mut(&this)?;
        let (family, options) = (socket.family, socket.options);
        let State::Listening(listener) = &mut socket.state else { return Err(ErrorCode::InvalidState.into()) };
        if listener.poll_next(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let Some((next, in_flight)) = listener.next.take() else { return Err(ErrorCode::WouldBlock.into()) };
        let NetConn { local, peer, stream } = next.map_err(super::error)?;
        // Whoever connects to a pod that is full is refused, as by a full backlog; an error here would end most servers.
        let Some(_permit) = container.sockets.take() else { return Err(ErrorCode::WouldBlock.into()) };
        let connection = Connection::new(stream, &container, Some(in_flight));
        let state = State::Open { local, peer, connection: connection.clone() };
        let accepted = self.table.push(TcpSocket { family, state, options, _permit })?;
        let (input, output) = self.streams(&accepted, &connection)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let local = match &socket.state {
            State::Bound(listener) => listener.local_addr(),
            State::ListenStarted(listener) | State::Listening(listener) => listener.listener.local_addr(),
            State::Connected(Ok(conn)) => conn.local,
            State::Open { local, .. } => *local,
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        Ok(told(socket.family, local))
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match &socket.state {
            State::Open { peer, .. } => Ok(told(socket.family, *peer)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening(_)))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        positive(value)?;
        // A hint: how many wait is the network's business.
        match self.table.get(&this)?.state {
            State::Open { .. } | State::Connecting(_) | State::Connected(_) => Err(ErrorCode::InvalidState.into()),
            _ => Ok(()),
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.table.get(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.keep_alive_idle)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.keep_alive_idle = positive(value)?;
        Ok(())
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.keep_alive_interval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.keep_alive_interval = positive(value)?;
        Ok(())
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.table.get(&this)?.options.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.keep_alive_count = positive(value)?;
        Ok(())
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.options.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.hop_limit = positive(value)?;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.receive_buffer = positive(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.send_buffer = positive(value)?;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let State::Open { connection, .. } = &self.table.get(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            connection.shutdown_input();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            connection.shutdown_output();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
