//! `wasi:sockets` on the pod's network. The types of addresses and errors are wasmtime-wasi's; sockets are our own.

mod lookup;
mod stream;
mod tcp;
mod udp;

pub(crate) use tcp::TcpSocket;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets as shared;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::{SocketError, SocketResult};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::container::Shared;
use crate::counted::Permit;
use crate::host::Host;
use crate::net::NetError;

#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "copepod:host/sockets",
        imports: { default: trappable },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network": wasmtime_wasi::p2::bindings::sockets::network,
            "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::udp::Incoming,
            "wasi:sockets/udp.outgoing-datagram-stream": super::udp::Outgoing,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::lookup::Lookup,
        },
        trappable_error_type: { "wasi:sockets/network.error-code" => wasmtime_wasi::p2::SocketError },
        require_store_data_send: true,
    });
}
use bindings::wasi::sockets as own;

/// What the implementations see of the host.
pub(crate) struct View<'a> {
    table: &'a mut ResourceTable,
    container: &'a Arc<Shared>,
}

struct Sockets;
impl HasData for Sockets {
    type Data<'a> = View<'a>;
}

fn view(host: &mut Host) -> View<'_> {
    host.called();
    View { table: &mut host.table, container: &host.container }
}

impl shared::network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl shared::network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl From<NetError> for ErrorCode {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Unknown => ErrorCode::Unknown,
            NetError::AccessDenied => ErrorCode::AccessDenied,
            NetError::NotSupported => ErrorCode::NotSupported,
            NetError::InvalidArgument => ErrorCode::InvalidArgument,
            NetError::OutOfMemory => ErrorCode::OutOfMemory,
            NetError::Timeout => ErrorCode::Timeout,
            NetError::InvalidState => ErrorCode::InvalidState,
            NetError::NewSocketLimit => ErrorCode::NewSocketLimit,
            NetError::AddressNotBindable => ErrorCode::AddressNotBindable,
            NetError::AddressInUse => ErrorCode::AddressInUse,
            NetError::RemoteUnreachable => ErrorCode::RemoteUnreachable,
            NetError::ConnectionRefused => ErrorCode::ConnectionRefused,
            NetError::ConnectionReset => ErrorCode::ConnectionReset,
            NetError::ConnectionAborted => ErrorCode::ConnectionAborted,
            NetError::DatagramTooLarge => ErrorCode::DatagramTooLarge,
            NetError::NameUnresolvable => ErrorCode::NameUnresolvable,
            NetError::TemporaryResolverFailure => ErrorCode::TemporaryResolverFailure,
            NetError::PermanentResolverFailure => ErrorCode::PermanentResolverFailure,
        }
    }
}

impl View<'_> {
    /// One more socket of the pod.
    fn permit(&self) -> SocketResult<Permit> {
        self.container.sockets.take().ok_or_else(|| ErrorCode::NewSocketLimit.into())
    }
}

fn error(error: NetError) -> SocketError {
    ErrorCode::from(error).into()
}

/// Whether a guest's address fits its socket: of the same family, unicast, and no IPv4 address in IPv6's clothes.
fn fits(family: IpAddressFamily, addr: &SocketAddr) -> SocketResult<()> {
    let valid = match (family, addr.ip()) {
        (IpAddressFamily::Ipv4, IpAddr::V4(ip)) => !ip.is_multicast() && !ip.is_broadcast(),
        (IpAddressFamily::Ipv6, IpAddr::V6(ip)) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
        _ => false,
    };
    if valid { Ok(()) } else { Err(ErrorCode::InvalidArgument.into()) }
}

/// As [`fits`], for somewhere to send to.
fn fits_remote(family: IpAddressFamily, addr: &SocketAddr) -> SocketResult<()> {
    fits(family, addr)?;
    if addr.ip().is_unspecified() || addr.port() == 0 { Err(ErrorCode::InvalidArgument.into()) } else { Ok(()) }
}

/// An address as a socket can tell it to its guest. wasi-libc has room for one of the socket's own family and ends the program
/// when it gets another one: so IPv4 comes in IPv6's clothes (RFC 4291, section 2.5.5.2), and of what IPv4 has no words for the
/// port alone is told.
fn told(family: IpAddressFamily, addr: SocketAddr) -> IpSocketAddress {
    let ip: IpAddr = match (family, addr.ip()) {
        (IpAddressFamily::Ipv6, IpAddr::V4(ip)) => ip.to_ipv6_mapped().into(),
        (IpAddressFamily::Ipv4, IpAddr::V6(ip)) => ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
        _ => return addr.into(),
    };
    SocketAddr::new(ip, addr.port()).into()
}

/// A setting that must not be zero.
fn positive<T: Default + PartialEq>(value: T) -> SocketResult<T> {
    if value == T::default() { Err(ErrorCode::InvalidArgument.into()) } else { Ok(value) }
}

pub(super) fn instance_network(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    shared::instance_network::add_to_linker::<Host, WasiSockets>(linker, Host::sockets)
}

pub(super) fn network(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    shared::network::add_to_linker::<Host, WasiSockets>(linker, &Default::default(), Host::sockets)
}

pub(super) fn ip_name_lookup(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    own::ip_name_lookup::add_to_linker::<Host, Sockets>(linker, view)
}

pub(super) fn tcp_create_socket(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    own::tcp_create_socket::add_to_linker::<Host, Sockets>(linker, view)
}

pub(super) fn tcp(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    own::tcp::add_to_linker::<Host, Sockets>(linker, view)
}

pub(super) fn udp_create_socket(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    own::udp_create_socket::add_to_linker::<Host, Sockets>(linker, view)
}

pub(super) fn udp(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    own::udp::add_to_linker::<Host, Sockets>(linker, view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_must_fit_their_socket() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (v4, v6) = (IpAddressFamily::Ipv4, IpAddressFamily::Ipv6);
        assert!(fits(v4, &addr("0.0.0.0:0")).is_ok());
        assert!(fits(v4, &addr("[::1]:80")).is_err());
        assert!(fits(v6, &addr("[::ffff:10.0.0.1]:80")).is_err());
        assert!(fits(v4, &addr("224.0.0.1:80")).is_err());
        assert!(fits_remote(v4, &addr("0.0.0.0:80")).is_err());
        assert!(fits_remote(v6, &addr("[::1]:0")).is_err());
        assert!(fits_remote(v6, &addr("[::1]:1")).is_ok());
    }

    #[test]
    fn a_socket_tells_addresses_of_its_own_family_alone() {
        let (v4, v6) = (IpAddressFamily::Ipv4, IpAddressFamily::Ipv6);
        for (family, addr, want) in [
            (v4, "10.0.0.1:80", "10.0.0.1:80"),
            (v6, "[fd00::1]:80", "[fd00::1]:80"),
            (v6, "10.0.0.1:80", "[::ffff:10.0.0.1]:80"),
            (v4, "[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            (v4, "[fd00::1]:80", "0.0.0.0:80"),
        ] {
            assert_eq!(SocketAddr::from(told(family, addr.parse().unwrap())).to_string(), want, "{addr}");
        }
    }
}
