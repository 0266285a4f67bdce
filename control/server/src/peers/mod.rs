//! The way between servers: HTTP/2 over mutual TLS with the cluster's certificates, on a port of its own.
//!
//! | request | who | what |
//! |---|---|---|
//! | `POST /messages` | every member to every other | raft's messages in frames, as long as both live |
//! | `POST /propose` | follower to leader | one transaction; its outcome |
//! | `GET /snapshot` | whoever must catch up | the whole state, streamed |
//! | `POST /members` | follower to leader | a change of the membership |
//! | `GET /images/SHA256` | whoever lacks it | content of the cluster's image registry |
//!
//! Each side's certificate carries its raft id. Who was taken out of the group is answered 410, and who writes
//! the log in a version that the receiver cannot read 426: nobody votes for such a one, and it can confirm nothing.

mod link;
mod listener;
mod snapshot;
mod tls;
pub(crate) mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::body;
use copepod_consensus::{Message, MessageType};
use copepod_model::Status;
use copepod_state::{Interest, Outcome, Tables};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::images::Images;
use crate::members::{self, Member, Members};
use crate::store::snapshot::Meta;
use crate::store::{Peers, ProposeError, Store};

pub use listener::serve;
pub use snapshot::fetch;
pub use tls::{PeerTls, dns_name, user};

/// Before the SHA-256 of the registry's content.
const IMAGES: &str = "/images/";
/// How long a follower waits for its leader's answer, beyond what the leader itself waits.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Longest answer, snapshots apart.
const ANSWER: usize = 4 << 20;
/// How long another server may take to say whether it has some content.
const CONTENT_HEAD: Duration = Duration::from_secs(5);
/// How long a member may take to come for a snapshot that it was told of.
const COLLECT: Duration = Duration::from_secs(10);

/// The other servers, as one of them reaches them. Clones are the same.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    me: u64,
    tls: PeerTls,
    runtime: tokio::runtime::Handle,
    store: OnceLock<Store>,
    members: OnceLock<Members>,
    images: OnceLock<Images>,
    /// `host:port` of each.
    addresses: RwLock<BTreeMap<u64, String>>,
    links: Mutex<HashMap<u64, link::Link>>,
    /// Who was told to fetch a snapshot and has not come yet, with a number that tells one time from another.
    told: Mutex<HashMap<u64, u64>>,
    /// A snapshot is being fetched.
    fetching: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("me", &self.0.me).finish_non_exhaustive()
    }
}

impl Network {
    /// The way from server `me` to `members`, those that it knows of so far. To be called in a tokio runtime.
    pub fn new(me: u64, tls: PeerTls, members: &[Member]) -> Network {
        Network(Arc::new(Inner {
            me,
            tls,
            runtime: tokio::runtime::Handle::current(),
            store: OnceLock::new(),
            members: OnceLock::new(),
            images: OnceLock::new(),
            addresses: RwLock::new(members.iter().map(|m| (m.id, m.peer.clone())).collect()),
            links: Mutex::default(),
            told: Mutex::default(),
            fetching: tokio::sync::Semaphore::new(1),
        }))
    }

    /// Whose messages are for `store`; from here on its objects say who the others are.
    pub fn attach(&self, store: Store, members: Members) {
        self.know(&members::listed(&store.snapshot()));
        let (network, interest) = (self.clone(), Interest::all(members::RESOURCE));
        let followed = store.clone();
        // One store for one network, from the start on.
        let _ = (self.0.store.set(store), self.0.members.set(members));
        tokio::spawn(async move {
            loop {
                let view = followed.snapshot();
                network.know(&members::listed(&view));
                let Ok(mut watcher) = followed.watch(interest.clone(), view.revision()) else { continue };
                loop {
                    match watcher.next().await {
                        Ok(_) => network.know(&members::listed(&followed.snapshot())),
                        Err(crate::store::WatchError::Compacted(_)) => break,
                        Err(crate::store::WatchError::Stopped) => return,
                    }
                }
            }
        });
    }

    /// Gives the others what they lack of the registry's content.
    pub(crate) fn serve_images(&self, images: Images) {
        // There is one, from the start on.
        let _ = self.0.images.set(images);
    }

    /// The other servers that it knows of.
    pub(crate) fn others(&self) -> Vec<u64> {
        let known = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().copied().filter(|id| *id != self.0.me).collect()
    }

    /// The registry's content of a SHA-256 (in hexadecimal), if the server `from` is there and has it. It has not been looked at.
    pub(crate) async fn content(&self, from: u64, hex: &str) -> Option<Response<Incoming>> {
        let request = Request::get(format!("{IMAGES}{hex}")).body(body("")).ok()?;
        let link = self.link(from)?;
        let answer = tokio::time::timeout(CONTENT_HEAD, link.send(request)).await.ok()?.ok()?;
        (answer.status() == StatusCode::OK).then_some(answer)
    }

    /// Asks one of the members that it knows for the whole state; the first that gives one in which this server takes part.
    pub async fn fetch_any(&self) -> Result<(Meta, Tables), String> {
        let mut why = "no other server is known".to_string();
        for id in self.others() {
            let Some(link) = self.link(id) else { continue };
            match fetch(&link, id).await {
                Ok(state) => {
                    let m = &state.0.members;
                    if m.voters.iter().chain(&m.learners).any(|member| *member == self.0.me) {
                        return Ok(state);
                    }
                    why = format!("server {id} does not know yet that this server has joined");
                }
                Err(e) => why = e.to_string(),
            }
        }
        Err(why)
    }

    fn know(&self, members: &[Member]) {
        let known: BTreeMap<u64, String> = members.iter().map(|m| (m.id, m.peer.clone())).collect();
        // Before the first state has come, those that joining has named are all there is.
        if known.is_empty() {
            return;
        }
        // Both under one lock, here and where a link is made: or one could be made to where a server was before.
        let mut links = lock(&self.0.links);
        links.retain(|id, link| known.get(id).is_some_and(|at| at == link.address()));
        *self.0.addresses.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn address(&self, id: u64) -> Option<String> {
        self.0.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The link to a member, if its address is known.
    fn link(&self, id: u64) -> Option<link::Link> {
        let mut links = lock(&self.0.links);
        if let Some(link) = links.get(&id) {
            return Some(link.clone());
        }
        let address = self.address(id).filter(|a| !a.is_empty())?;
        Some(links.entry(id).or_insert_with(|| link::Link::new(id, address, self.clone())).clone())
    }

    /// Asks the leader to change the membership, or who is in it.
    pub(crate) async fn ask(&self, leader: u64, op: &members::Op) -> Result<Vec<u8>, Status> {
        let text = serde_json::to_vec(op).map_err(Status::internal)?;
        let (code, bytes) = self.request(leader, Method::POST, "/members", text.into()).await.map_err(|e| match e {
            link::Failure::Unsent(why) => Status::unavailable(why),
            link::Failure::Unknown(why) => Status::timeout(format!("the outcome is unknown: {why}")),
        })?;
        if code.is_success() { Ok(bytes.to_vec()) } else { Err(Status::from_json(code.as_u16(), &bytes)) }
    }

    /// What a server is answered that writes the log in `version`.
    #[cfg(test)]
    pub(crate) async fn asks_as(&self, version: u8, to: u64, path: &str) -> StatusCode {
        let request = Request::post(path).header(wire::LOG_VERSION, version.to_string()).body(body("")).unwrap();
        self.link(to).unwrap().send(request).await.unwrap().status()
    }

    async fn request(
        &self,
        to: u64,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<(StatusCode, Bytes), link::Failure> {
        let link = self.link(to).ok_or_else(|| link::Failure::Unsent(format!("server {to} has no address")))?;
        let request = Request::builder().method(method).uri(path).body(body(content));
        let request = request.map_err(|e| link::Failure::Unsent(e.to_string()))?;
        let unknown = |e: &dyn std::fmt::Display| link::Failure::Unknown(e.to_string());
        let answered = async {
            let answer = link.send(request).await?;
            let code = answer.status();
            let whole = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|e| unknown(&e))?;
            Ok((code, whole.to_bytes()))
        };
        let late = || Err(link::Failure::Unknown(format!("server {to} did not answer within {ANSWER_DEADLINE:?}")));
        tokio::time::timeout(ANSWER_DEADLINE, answered).await.unwrap_or_else(|_| late())
    }

    /// Remembers that a member was told to fetch a snapshot; raft waits for it until it hears how that went.
    fn tell(&self, store: &Store, member: u64) {
        let number = crate::now().0;
        lock(&self.0.told).insert(member, number);
        let (network, store) = (self.clone(), store.clone());
        self.0.runtime.spawn(async move {
            tokio::time::sleep(COLLECT).await;
            let mut told = lock(&network.0.told);
            if told.get(&member) == Some(&number) {
                told.remove(&member);
                store.report_snapshot(member, false);
            }
        });
    }

    /// A snapshot for this server is at another: it is fetched, then raft is told.
    fn collect(&self, message: Message) {
        let network = self.clone();
        self.0.runtime.spawn(async move {
            let Ok(_turn) = network.0.fetching.try_acquire() else { return };
            let Some(store) = network.0.store.get() else { return };
            let from = message.from;
            let Some(link) = network.link(from) else { return };
            match fetch(&link, from).await {
                Ok((meta, tables)) => {
                    tracing::info!(from, index = meta.index, objects = meta.objects, "got the state of another server");
                    // It is as of now, which is later than the message.
                    store.install(message, meta, tables);
                }
                Err(e) => tracing::warn!(from, "the state of another server did not come: {e}"),
            }
        });
    }

    /// Takes messages that `from` sent.
    fn receive(&self, messages: Vec<Message>) {
        let Some(store) = self.0.store.get() else { return };
        let (snapshots, rest): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|m| m.get_msg_type() == MessageType::MsgSnapshot);
        if !rest.is_empty() {
            store.step(rest);
        }
        snapshots.into_iter().for_each(|m| self.collect(m));
    }
}

#[async_trait]
impl Peers for Network {
    fn send(&self, messages: Vec<Message>) {
        let store = self.0.store.get();
        for message in messages {
            let to = message.to;
            if let Some(store) = store
                && message.get_msg_type() == MessageType::MsgSnapshot
            {
                self.tell(store, to);
            }
            let away = self.link(to).is_some_and(|link| link.post(message));
            if let Some(store) = store
                && !away
            {
                store.report_unreachable(to);
            }
        }
    }

    async fn propose(&self, to: u64, txn: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        match self.request(to, Method::POST, "/propose", txn.into()).await {
            Ok((StatusCode::OK, bytes)) => match serde_json::from_slice::<wire::Answer>(&bytes) {
                Ok(answer) => answer.result(),
                Err(e) => Err(ProposeError::Unknown(format!("the leader's answer makes no sense: {e}"))),
            },
            // Whatever it is, it comes before the transaction is looked at.
            Ok(_) | Err(link::Failure::Unsent(_)) => Err(ProposeError::NotLeader { leader: None }),
            Err(link::Failure::Unknown(why)) => Err(ProposeError::Unknown(why)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
