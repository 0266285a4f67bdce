//! Sockets of addresses that need not be the host's (IP_TRANSPARENT, which takes CAP_NET_ADMIN): what the kernel is told to lead
//! to them comes in whoever it was for, and what they send seems to come from whom it should.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::pod::Interface;

/// Connections that the kernel has accepted and the listener has not.
const BACKLOG: i32 = 1024;
/// The longest datagram, and more.
const DATAGRAM: usize = 65_536;
/// What the kernel says beside a datagram, and more: an address.
const CONTROL: usize = 128;

/// A socket for an address, not bound yet.
fn socket(of: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if of.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if of.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_ip_transparent_v6(true)?;
    }
    Ok(socket)
}

/// Listens for streams. Where one was to go is its local address.
pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(at.ip(), Type::STREAM, Protocol::TCP)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket for a stream of `ip` that sends by one interface only: without it the address of a namespace that is gone would lead
/// back here.
pub(crate) fn stream_of(ip: IpAddr, interface: &Interface) -> io::Result<TcpSocket> {
    let socket = socket(ip, Type::STREAM, Protocol::TCP)?;
    socket.bind_device(Some(interface.name().as_bytes()))?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A socket for datagrams between `ip` and an address behind an interface, by that alone.
pub(crate) fn datagrams_of(ip: IpAddr, interface: &Interface, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket(ip, Type::DGRAM, Protocol::UDP)?;
    socket.bind_device(Some(interface.name().as_bytes()))?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect(&SocketAddr::new(to.ip().to_canonical(), to.port()).into())?;
    Ok(socket.into())
}

/// A socket that sends datagrams from an address. Others of this host may have the port at all addresses, if they share it.
pub(crate) fn sender(at: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket(at.ip(), Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// A datagram on its way elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passing<'a> {
    /// Who has sent it.
    pub(crate) from: SocketAddr,
    /// Where it was to go.
    pub(crate) to: SocketAddr,
    /// What it says.
    pub(crate) data: &'a [u8],
}

/// A socket to which datagrams on their way elsewhere come (IP_RECVORIGDSTADDR).
pub(crate) struct Receiver {
    socket: UdpSocket,
    data: Vec<MaybeUninit<u8>>,
    control: [MaybeUninit<u8>; CONTROL],
}

impl Receiver {
    pub(crate) fn bind(at: SocketAddr) -> io::Result<Receiver> {
        let socket = socket(at.ip(), Type::DGRAM, Protocol::UDP)?;
        ask_for_destinations(&socket, at.ip())?;
        socket.bind(&at.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let zero = MaybeUninit::new(0);
        Ok(Receiver { socket, data: vec![zero; DATAGRAM], control: [zero; CONTROL] })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next datagram; none if the kernel does not say of one where it was to go.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Passing<'_>>> {
        let Receiver { socket, data, control } = self;
        let socket: &UdpSocket = socket;
        let nobody = SockAddr::from(socket.local_addr()?);
        let received = socket.async_io(Interest::READABLE, || {
            let mut from = nobody.clone();
            let mut buffers = [MaybeUninitSlice::new(data)];
            let mut message =
                MsgHdrMut::new().with_addr(&mut from).with_buffers(&mut buffers).with_control(&mut control[..]);
            let n = SockRef::from(socket).recvmsg(&mut message, 0)?;
            let told = message.control_len();
            Ok((n, told, from.as_socket()))
        });
        let (n, told, from) = received.await?;
        let to = destination(written(&control[..told.min(CONTROL)]));
        let data = written(&data[..n.min(DATAGRAM)]);
        Ok(from.zip(to).map(|(from, to)| Passing { from, to, data }))
    }
}

/// Has the kernel say of each datagram where it was to go: no crate here has a name for the option.
#[allow(unsafe_code)]
fn ask_for_destinations(socket: &Socket, of: IpAddr) -> io::Result<()> {
    let (level, option) = match of {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVORIGDSTADDR),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR),
    };
    let yes: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while the socket is borrowed, and the value is an int, of which the kernel reads `length` bytes.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const yes).cast(), length) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The bytes of a [`Receiver`]'s buffer.
#[allow(unsafe_code)]
fn written(buffer: &[MaybeUninit<u8>]) -> &[u8] {
    let bytes: *const [u8] = std::ptr::from_ref(buffer) as *const [u8];
    // SAFETY: the buffers begin as zeroes, and what the kernel writes over them are bytes; both slices have the same layout.
    unsafe { &*bytes }
}

/// Where a datagram was to go, as the kernel says it beside the datagram (cmsg(3)): messages, each with its length in a word, its
/// level and its type, and then an address (ip(7), ipv6(7)), at the next full word.
fn destination(control: &[u8]) -> Option<SocketAddr> {
    const WORD: usize = size_of::<usize>();
    let mut rest = control;
    loop {
        let length = usize::from_ne_bytes(*rest.first_chunk()?);
        let (level, kind) = (i32::from_ne_bytes(part(rest, WORD)?), i32::from_ne_bytes(part(rest, WORD + 4)?));
        let address = rest.get(WORD + 8..length)?;
        let ip: Option<IpAddr> = match (level, kind) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) => Some(Ipv4Addr::from(part::<4>(address, 4)?).into()),
            (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => Some(Ipv6Addr::from(part::<16>(address, 8)?).into()),
            _ => None,
        };
        if let Some(ip) = ip {
            return Some(SocketAddr::new(ip, u16::from_be_bytes(part(address, 2)?)));
        }
        rest = rest.get(length.next_multiple_of(WORD)..)?;
    }
}

/// So many bytes from a place on.
fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message as the kernel writes it, with what fills its last word.
    fn message(level: i32, kind: i32, body: &[u8]) -> Vec<u8> {
        let length = size_of::<usize>() + 8 + body.len();
        let mut out = length.to_ne_bytes().to_vec();
        out.extend(level.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(body);
        out.resize(length.next_multiple_of(size_of::<usize>()), 0);
        out
    }

    #[test]
    fn destinations_are_read() {
        let v4 = [&2u16.to_ne_bytes()[..], &[0, 53, 10, 96, 0, 10], &[0; 8]].concat();
        let v4 = message(libc::SOL_IP, libc::IP_ORIGDSTADDR, &v4);
        assert_eq!(destination(&v4), Some("10.96.0.10:53".parse().unwrap()));
        let ip: Ipv6Addr = "fd00:10:244::af4:5".parse().unwrap();
        let v6 = [&10u16.to_ne_bytes()[..], &[0x14, 0xe9], &[0; 4], &ip.octets(), &[0; 4]].concat();
        let v6 = message(libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR, &v6);
        assert_eq!(destination(&v6), Some(SocketAddr::new(ip.into(), 5353)));
        // What else is said is passed over, whatever its length.
        for other in [&b""[..], b"abc", b"abcdefgh"] {
            let all = [message(libc::SOL_SOCKET, 1, other), v4.clone()].concat();
            assert_eq!(destination(&all), destination(&v4), "{other:?}");
        }
        let whole = size_of::<usize>() + 16;
        for cut in 0..whole {
            assert_eq!(destination(&v4[..cut]), None, "{cut} bytes");
        }
        assert_eq!(destination(&[0; 32]), None, "a message without a head");
        assert_eq!(destination(&[0xff; 32]), None, "one that is longer than all");
    }

    #[tokio::test]
    async fn datagrams_come_with_where_they_were_to_go() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            // Whoever may not say so, or has no IPv6, cannot try it.
            let Ok(mut receiver) = Receiver::bind(at.parse().unwrap()) else { continue };
            let own = receiver.local_addr().unwrap();
            let client = std::net::UdpSocket::bind(at).unwrap();
            client.send_to(b"ask", own).unwrap();
            let expected = Passing { from: client.local_addr().unwrap(), to: own, data: b"ask" };
            assert_eq!(receiver.receive().await.unwrap(), Some(expected));
        }
    }
}
