//! One question to one server: UDP first, TCP when the answer does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use copepod_dns_zone::LARGEST_UDP;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// The server's answer. It waits for as long as it is let.
pub(super) async fn ask(server: SocketAddr, query: &Query) -> io::Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let plain = message.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_UDP);
    message.set_edns(edns);
    let answer = both(server, &message).await?;
    // A server that does not know EDNS (RFC 6891, 6.2.2).
    match answer.metadata.response_code {
        ResponseCode::FormErr | ResponseCode::NotImp if answer.edns.is_none() => both(server, &plain).await,
        _ => Ok(answer),
    }
}

async fn both(server: SocketAddr, message: &Message) -> io::Result<Message> {
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(server, message, &bytes).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    over_tcp(server, message, &bytes).await
}

/// A socket of its own for each question: its port is half of what a forger would have to guess.
async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buf = vec![0u8; 4096];
    loop {
        let n = socket.recv(&mut buf).await?;
        // Whatever is not the answer to this question is somebody else's business.
        if let Some(answer) = parse(&buf[..n], question) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut tcp = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    tcp.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let mut buf = vec![0u8; tcp.read_u16().await?.into()];
    tcp.read_exact(&mut buf).await?;
    parse(&buf, question).ok_or_else(|| io::Error::other("not an answer to the question"))
}

/// The answer to a question, if a message is one.
pub(crate) fn parse(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = crate::wire::read(bytes)?;
    let refused = answer.metadata.response_code == ResponseCode::FormErr && answer.queries.is_empty();
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && (answer.queries == question.queries || refused);
    fits.then_some(answer)
}
