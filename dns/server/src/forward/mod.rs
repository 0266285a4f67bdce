//! Asking other name servers for what is not the cluster's.

mod exchange;
mod servers;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout_at};

use crate::cache::Cache;
use crate::resolv_conf::name_servers;
use crate::room::Room;
use exchange::ask;
use servers::{Group, Servers};
pub use servers::{MOST_SERVERS, ParseError, StubDomain, server};

/// How long one server may take where others may be asked; clients themselves give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// What the whole question may take.
const DEADLINE: Duration = Duration::from_millis(4500);
/// Questions under way at once, each with a socket, and those of one client.
const AT_ONCE: (usize, usize) = (512, 128);

/// A question could not be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is nobody to ask.
    #[error("no upstream name server")]
    NoServer,
    /// Nobody answered.
    #[error("upstream name servers do not answer")]
    Unreachable,
    /// Too many questions are under way, of this client or of all.
    #[error("too many questions at once")]
    Busy,
}

/// Answers questions about names that are not the cluster's.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// The answer of a recursive server, for a client.
    async fn forward(&self, query: Query, client: IpAddr) -> Result<Message, ForwardError>;
}

/// Forwards to name servers, in order, and keeps their answers for a little while.
pub struct Forwarder {
    servers: Servers,
    cache: Cache,
    room: Arc<Room>,
}

/// The addresses of a name, as a resolver finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These, at least one.
    Addresses(Vec<IpAddr>),
    /// It has none, or does not exist.
    Nothing,
    /// Nobody could say.
    Failed,
}

impl Forwarder {
    /// Forwards names of a stub domain to its servers, and all others to `servers`.
    pub fn new(servers: Vec<SocketAddr>, stubs: &[StubDomain]) -> Forwarder {
        let (total, each) = AT_ONCE;
        Forwarder { servers: Servers::new(servers, stubs), cache: Cache::default(), room: Room::new(total, each) }
    }

    /// The servers that a resolv.conf names, but for our own address: that would be a loop. Without the file there are
    /// none.
    pub fn resolv_conf(path: &Path, own: SocketAddr) -> Vec<SocketAddr> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        name_servers(&text).into_iter().filter(|s| *s != own).collect()
    }

    /// The addresses of an absolute name, IPv4 first.
    pub async fn addresses(&self, name: &str, client: IpAddr) -> Found {
        let Ok(mut name) = Name::from_ascii(name) else { return Found::Nothing };
        name.set_fqdn(true);
        let of = |rtype| self.forward(Query::query(name.clone(), rtype), client);
        let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
        let (mut ips, mut failures) = (Vec::new(), 0);
        for answer in [v4, v6] {
            match answer {
                Ok(message) if !failed(&message) => {
                    ips.extend(message.answers.iter().filter_map(|r| r.data.ip_addr()));
                }
                _ => failures += 1,
            }
        }
        match (ips.is_empty(), failures) {
            (false, _) => Found::Addresses(ips),
            (true, 0) => Found::Nothing,
            (true, _) => Found::Failed,
        }
    }

    /// Whether a name is in a stub domain.
    pub fn is_stub(&self, name: &str) -> bool {
        Name::from_ascii(name).is_ok_and(|mut name| {
            name.set_fqdn(true);
            self.servers.stub(&name).is_some()
        })
    }
}

/// Asks one server after the other, each for a part of the time that is left.
async fn ask_all(group: &Group, query: &Query) -> Result<Message, ForwardError> {
    let end = Instant::now() + DEADLINE;
    let mut refused = None;
    for _ in 0..ROUNDS {
        let servers = group.in_order();
        for (n, (place, server)) in servers.iter().enumerate() {
            let now = Instant::now();
            if now >= end {
                return refused.ok_or(ForwardError::Unreachable);
            }
            let share = (end - now) / u32::try_from(servers.len() - n).unwrap_or(u32::MAX);
            let answer = timeout_at(now + share.min(PATIENCE), ask(*server, query)).await;
            group.note(*place, matches!(answer, Ok(Ok(_))));
            match answer {
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

fn failed(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

#[async_trait]
impl Upstream for Forwarder {
    async fn forward(&self, query: Query, client: IpAddr) -> Result<Message, ForwardError> {
        if let Some(kept) = self.cache.get(&query) {
            return Ok(kept);
        }
        let group = self.servers.of(&query.name);
        if group.is_empty() {
            return Err(ForwardError::NoServer);
        }
        let _place = self.room.enter(client).ok_or(ForwardError::Busy)?;
        let answer = ask_all(group, &query).await?;
        self.cache.put(&query, &answer);
        Ok(answer)
    }
}
