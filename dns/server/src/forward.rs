//! Asking the host's name servers: UDP first, TCP when the answer does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::resolv_conf::name_servers;

/// How long one server may take; clients themselves give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// What the whole question may take.
const DEADLINE: Duration = Duration::from_millis(4500);
/// Questions under way at once, each with a socket.
const AT_ONCE: usize = 256;
/// The UDP size that we offer to servers.
const MAX_UDP: u16 = 1232;

/// A question could not be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The host has no name server.
    #[error("no upstream name server")]
    NoServer,
    /// Nobody answered.
    #[error("upstream name servers do not answer")]
    Unreachable,
    /// Too many questions are under way.
    #[error("too many questions at once")]
    Busy,
}

/// Answers questions about names that are not the cluster's.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// The answer of a recursive server.
    async fn forward(&self, query: Query) -> Result<Message, ForwardError>;
}

/// Forwards to name servers, in order, and keeps their answers for a little while.
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    cache: Cache,
    room: Semaphore,
}

impl Forwarder {
    /// Forwards to these servers.
    pub fn new(servers: Vec<SocketAddr>) -> Forwarder {
        Forwarder { servers, cache: Cache::default(), room: Semaphore::new(AT_ONCE) }
    }

    /// Forwards to the servers that a resolv.conf names, but for our own address: that would be a loop. Without the
    /// file there are none, and every question fails.
    pub fn from_resolv_conf(path: &Path, own: SocketAddr) -> Forwarder {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Forwarder::new(name_servers(&text).into_iter().filter(|s| *s != own).collect())
    }

    async fn ask_all(&self, query: &Query) -> Result<Message, ForwardError> {
        let mut refused = None;
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match timeout(PATIENCE, ask(*server, query)).await {
                    // A server that fails or refuses may have a neighbour that does not.
                    Ok(Ok(answer)) if failed(&answer) => refused = Some(answer),
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => tracing::debug!(%server, %error, "upstream name server"),
                    Err(_) => tracing::debug!(%server, "upstream name server is silent"),
                }
            }
            if refused.is_some() {
                break;
            }
        }
        refused.ok_or(ForwardError::Unreachable)
    }
}

fn failed(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

#[async_trait]
impl Upstream for Forwarder {
    async fn forward(&self, query: Query) -> Result<Message, ForwardError> {
        if self.servers.is_empty() {
            return Err(ForwardError::NoServer);
        }
        if let Some(kept) = self.cache.get(&query) {
            return Ok(kept);
        }
        let _permit = self.room.try_acquire().map_err(|_| ForwardError::Busy)?;
        let answer = timeout(DEADLINE, self.ask_all(&query)).await.map_err(|_| ForwardError::Unreachable)??;
        self.cache.put(&query, &answer);
        Ok(answer)
    }
}

async fn ask(server: SocketAddr, query: &Query) -> io::Result<Message> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(server, &message, &bytes).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    over_tcp(server, &message, &bytes).await
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

fn parse(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    fits.then_some(answer)
}
