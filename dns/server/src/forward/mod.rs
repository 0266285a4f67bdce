//! Asking other name servers for what is not the cluster's.

pub(crate) mod exchange;
mod servers;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::Cache;
use crate::resolv_conf::Followed;
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
/// How long a question waits for the host's file: a disk that has stopped must not stop what was known before.
const READING: Duration = Duration::from_millis(500);
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
    /// The file that names the servers of all names but those of stub domains, where one does.
    file: Option<(PathBuf, Mutex<Followed>)>,
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
        let servers = Servers::new(servers, stubs);
        Forwarder { servers, file: None, cache: Cache::default(), room: Room::new(total, each) }
    }

    /// Forwards all other names to the servers that a resolv.conf names, but for our own address: that would be a loop. The
    /// file is read now, and again when a question goes there later. While it is missing, or names no server, those that it
    /// named before are asked.
    pub fn following(path: &Path, own: SocketAddr, stubs: &[StubDomain]) -> Forwarder {
        let mut file = Followed::new(own);
        file.is_due(Instant::now());
        let servers = file.read(std::fs::read_to_string(path).ok().as_deref());
        let file = Some((path.to_path_buf(), Mutex::new(file)));
        Forwarder { file, ..Forwarder::new(servers.unwrap_or_default(), stubs) }
    }

    /// The servers to ask for a name.
    async fn servers_of(&self, name: &Name) -> Arc<Group> {
        if let Some(stub) = self.servers.stub(name) {
            return stub.clone();
        }
        let due = self.file.as_ref().filter(|(_, file)| lock(file).is_due(Instant::now()));
        if let Some((path, file)) = due {
            let path = path.clone();
            let reading = timeout(READING, spawn_blocking(move || std::fs::read_to_string(path).ok()));
            let text = reading.await.ok().and_then(Result::ok).flatten();
            let others = lock(file).read(text.as_deref());
            if let Some(servers) = others {
                tracing::info!(?servers, "the host has other name servers");
                self.servers.set_rest(servers);
            }
        }
        self.servers.rest()
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

fn lock(file: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
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
        let group = self.servers_of(&query.name).await;
        if group.is_empty() {
            return Err(ForwardError::NoServer);
        }
        let _place = self.room.enter(client).ok_or(ForwardError::Busy)?;
        let answer = ask_all(&group, &query).await?;
        self.cache.put(&query, &answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::resolv_conf::TRUSTED;

    #[tokio::test(start_paused = true)]
    async fn the_servers_are_those_that_the_file_names_now() {
        let path = std::env::temp_dir().join(format!("copepod-resolv-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let own = SocketAddr::from(([192, 0, 2, 9], 53));
        let stub: StubDomain = "corp.example=192.0.2.53".parse().unwrap();
        let _ = std::fs::remove_file(&path);
        let forwarder = Forwarder::following(&path, own, &[stub]);
        let asked = async |name: &str| -> Vec<String> {
            let group = forwarder.servers_of(&Name::from_ascii(name).unwrap()).await;
            group.in_order().into_iter().map(|(_, server)| server.to_string()).collect()
        };
        let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
        let nobody = forwarder.forward(query, Ipv4Addr::LOCALHOST.into()).await;
        assert!(matches!(nobody, Err(ForwardError::NoServer)), "there is no file yet");
        write("nameserver 192.0.2.9\nnameserver 192.0.2.1\n");
        assert!(asked("www.example.com.").await.is_empty(), "it was looked at just now");
        tokio::time::advance(TRUSTED).await;
        assert_eq!(asked("a.corp.example.").await, ["192.0.2.53:53"]);
        assert_eq!(asked("www.example.com.").await, ["192.0.2.1:53"]);
        // What was seen of a server stays while the file names the same ones.
        forwarder.servers.rest().note(0, false);
        let rest = forwarder.servers.rest();
        for text in ["# the same\nnameserver 192.0.2.1\n", "", "nameserver 192.0.2"] {
            write(text);
            tokio::time::advance(TRUSTED).await;
            asked("www.example.com.").await;
            assert!(Arc::ptr_eq(&rest, &forwarder.servers.rest()), "{text:?}");
        }
        write("nameserver 192.0.2.2\n");
        tokio::time::advance(TRUSTED).await;
        assert_eq!(asked("www.example.com.").await, ["192.0.2.2:53"]);
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(TRUSTED).await;
        assert_eq!(asked("www.example.com.").await, ["192.0.2.2:53"]);
    }
}
