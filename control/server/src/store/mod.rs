//! The store: the raft driver, the log and the objects on disk, the tables in memory, the watchers.
//!
//! A write is durable in the log before it is applied, applied before it is shown, and shown before it is acknowledged.
//! The objects on disk follow by checkpoints; a restart replays the rest of the log.

mod backend;
mod checkpoint;
mod compact;
mod disk;
mod driver;
mod error;
mod folder;
mod guard;
mod hub;
mod load;
mod log;
mod mend;
mod meta;
mod mirror;
pub mod offline;
mod overlay;
mod quota;
mod report;
mod save;
mod shared;
pub mod snapshot;
mod upgrade;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use copepod_consensus::rules::Hold;
use copepod_consensus::{ConfChangeV2, ConfState, Message, Position, Progress};
use copepod_state::{Compacted, Interest, Outcome, Tables, Txn, WindowLimits, codec};
use redb::Durability;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use driver::{Command, Driver, Install, Keep};
use error::{Fault, guarded};
use folder::Folder;
use hub::Hub;
use load::Loader;
use mirror::Applied;
use shared::Shared;
use snapshot::Meta;

pub use backend::{Backends, Files};
pub use error::{OpenError, ProposeError, ReadError};
pub use hub::{WatchError, Watcher};
pub use quota::DEFAULT_QUOTA;
pub use report::Report;
pub use shared::Role;

/// The format of what is on disk. A later release that changes it counts up.
pub const FORMAT: u32 = 1;

/// Proposals that wait may hold this many bytes together; more of them wait before they are queued.
const QUEUED_BYTES: usize = 64 << 20;
/// The unit in which these bytes are counted.
const GRAIN: usize = 1 << 10;

/// How long a request waits for a leader, or for this server to get as far as it must.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a leader waits for a majority before the outcome counts as unknown.
const OUTCOME: Duration = Duration::from_secs(10);
/// How long after an attempt that found no leader the next one comes, if nothing else is heard.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a follower that hears of another leader goes on waiting for the answer of the one that it has asked. If that
/// one lives it hears of the other too, by the next heartbeat, and then knows what became of it.
const DEPOSED: Duration = Duration::from_secs(1);
/// How long a leader that stops waits for its successor.
const HAND_OVER: Duration = Duration::from_secs(2);

/// The way to the other members. What is sent may be lost, late or doubled.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends messages, to each receiver in their order. Never waits: what does not get away now is dropped.
    fn send(&self, messages: Vec<Message>);
    /// Lets the leader `to` commit an encoded transaction: what became of it, and at which index of the log. An error that
    /// does not say [`ProposeError::Unknown`] promises that it was not applied and never will be.
    async fn propose(&self, to: u64, txn: Vec<u8>) -> Result<(Outcome, u64), ProposeError>;
}

/// When the objects on disk are brought up to date, and the log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// When the log has this many bytes.
    pub bytes: usize,
    /// When something has been waiting for it this long.
    pub interval: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        CheckpointPolicy { bytes: 16 << 20, interval: Duration::from_secs(60) }
    }
}

/// How to open a store.
pub struct StoreOptions {
    /// The folder. Created when there is none.
    pub dir: PathBuf,
    /// This server's raft member id, not 0; the folder belongs to it.
    pub member: u64,
    /// How many changes watchers can come back to.
    pub window: WindowLimits,
    /// When to checkpoint.
    pub checkpoint: CheckpointPolicy,
    /// How much of the log is kept for other members, by the bytes of the state.
    pub hold: fn(usize) -> Hold,
    /// From how many bytes on the objects' file is written anew when more than half of it is free.
    pub compact_from: u64,
    /// Where the databases keep their bytes; files in `dir` by default.
    pub backends: Arc<dyn Backends>,
    /// The way to the other members; without one the store is the only member for ever.
    pub peers: Option<Arc<dyn Peers>>,
    /// The log's commits return before they are durable. To prove that the tests see it.
    #[cfg(test)]
    pub(crate) acknowledge_before_sync: bool,
}

impl StoreOptions {
    /// A store in `dir` with the usual values.
    pub fn new(dir: impl Into<PathBuf>, member: u64) -> StoreOptions {
        let dir = dir.into();
        StoreOptions {
            backends: Arc::new(Files::new(&dir)),
            dir,
            member,
            window: WindowLimits::default(),
            checkpoint: CheckpointPolicy::default(),
            hold: Hold::of,
            peers: None,
            compact_from: compact::LEAST,
            #[cfg(test)]
            acknowledge_before_sync: false,
        }
    }

    fn durability(&self) -> Durability {
        #[cfg(test)]
        if self.acknowledge_before_sync {
            return Durability::None;
        }
        Durability::Immediate
    }
}

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Transactions proposed.
    pub proposals: u64,
    /// Commits of the log; proposals that waited together share one.
    pub commits: u64,
    /// Syncs of the log's storage.
    pub log_syncs: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Watches that are open now.
    pub watchers: u64,
}

/// An open store. Clones are the same store; it should be closed with [`Store::close`].
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    commands: Mutex<Sender<Command>>,
    room: Semaphore,
    member: u64,
    peers: Option<Arc<dyn Peers>>,
    /// The disk is looked at as long as this is there.
    _watched: Sender<()>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.snapshot().revision()).field("term", &self.term()).finish()
    }
}

impl Store {
    /// Opens the store in a folder, or makes a new one. Blocks while it loads the objects and replays the log; when it
    /// returns, a server that is the only member leads and has everything that was ever acknowledged.
    pub fn open(options: StoreOptions) -> Result<Store, OpenError> {
        let StoreOptions { dir, backends, member, .. } = &options;
        let folder = Folder::open(dir, &**backends)?;
        let (commands, inbox) = mpsc::channel();
        let loader = Loader {
            dir: dir.clone(),
            member: *member,
            backends: backends.clone(),
            durability: options.durability(),
            compact_from: options.compact_from,
            syncs: Arc::default(),
            commands: commands.clone(),
        };
        let open = loader.load()?;
        folder.ready()?;
        let hub = Arc::new(Hub::new(options.window, open.tables.revision()));
        let shared = Arc::new(Shared::new(open.tables.clone(), hub, folder, loader.syncs.clone()));
        let (member, peers) = (*member, options.peers.clone());
        let (policy, hold) = (options.checkpoint, options.hold);
        let keep = Keep { shared: shared.clone(), policy, hold, inbox, member, peers: peers.clone(), loader };
        let mut driver = Driver::new(open, keep);
        guarded(|| driver.start()).map_err(|fault: Fault| fault.at(dir, folder::LOG))?;
        let spawned = std::thread::Builder::new().name("raft".into()).spawn(move || driver.run());
        spawned.map_err(|source| OpenError::Io { what: "cannot start the raft thread".into(), source })?;
        let (watched, stop) = mpsc::channel();
        // Not all that is shared: the lock of the folder ends with that.
        let looked_at = shared.disk.clone();
        let look = move || disk::watch(disk::LOOK, &stop, || drop(looked_at.check()));
        let spawned = std::thread::Builder::new().name("disk".into()).spawn(look);
        spawned.map_err(|source| OpenError::Io { what: "cannot start the disk's watch".into(), source })?;
        let room = Semaphore::new(QUEUED_BYTES / GRAIN);
        let commands = Mutex::new(commands);
        Ok(Store { inner: Arc::new(Inner { shared, commands, room, member, peers, _watched: watched }) })
    }

    /// Proposes a transaction, to the leader wherever it is. Once it has an outcome it is durable, and [`Store::snapshot`]
    /// shows it. When the future is dropped, the transaction may be applied all the same.
    pub async fn propose(&self, txn: Txn) -> Result<Outcome, ProposeError> {
        self.inner.shared.quota.admit(&txn, &self.snapshot())?;
        let data = codec::encode(&txn);
        drop(txn);
        let grains = (data.len() / GRAIN + 1).min(QUEUED_BYTES / GRAIN) as u32;
        let _room = self.inner.room.acquire_many(grains).await.map_err(|_| ProposeError::Stopped)?;
        match &self.inner.peers {
            Some(peers) if !self.inner.shared.is_sovereign() => self.propose_among(&**peers, data).await,
            _ => self.propose_here(data).await.map(|(outcome, _)| outcome),
        }
    }

    async fn propose_among(&self, peers: &dyn Peers, data: Vec<u8>) -> Result<Outcome, ProposeError> {
        let deadline = Instant::now() + PATIENCE;
        let mut role = self.inner.shared.role();
        loop {
            let Role { leader, term, .. } = *role.borrow_and_update();
            let done = match leader {
                Some(id) if id == self.inner.member => self.propose_here(data.clone()).await.map(|(o, _)| (o, None)),
                Some(id) => {
                    let deposed = deposed(role.clone(), id, term);
                    tokio::select! {
                        biased;
                        done = peers.propose(id, data.clone()) => done.map(|(o, index)| (o, Some(index))),
                        // The next leader may have it in its log or not: to send it there would be to send it twice.
                        () = deposed => Err(ProposeError::Unknown(format!("server {id} was asked, and leads no more"))),
                    }
                }
                None => Err(ProposeError::NotLeader { leader: None }),
            };
            match done {
                Ok((outcome, index)) => {
                    if let Some(index) = index {
                        // It is durable whether this server hears of it in time or not.
                        let _ = self.read_at(index).await;
                    }
                    return Ok(outcome);
                }
                // It never will be applied, so that it may be tried again.
                Err(e @ (ProposeError::NotLeader { .. } | ProposeError::Busy)) => {
                    if Instant::now() >= deadline || self.health().is_err() {
                        return Err(e);
                    }
                    let _ = timeout_at(deadline.min(Instant::now() + AGAIN), role.changed()).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Proposes an encoded transaction of another member if this server leads: its outcome and index. How full the store is
    /// was judged by what that member had seen, which may be less than this one has.
    pub async fn propose_for_another(&self, data: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        let (quota, tables) = (&self.inner.shared.quota, self.snapshot());
        if quota.is_full(&tables)
            && let Ok(txn) = codec::decode(&data)
        {
            quota.admit(&txn, &tables)?;
        }
        drop(tables);
        self.propose_here(data).await
    }

    /// Proposes an encoded transaction if this server leads: its outcome and index.
    pub async fn propose_here(&self, data: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        self.health().map_err(ProposeError::Unhealthy)?;
        let (reply, outcome) = oneshot::channel();
        self.send(Command::Propose(data, reply)).map_err(|()| ProposeError::Stopped)?;
        let closed = |_| Err(ProposeError::Unknown("the store was closed".into()));
        if self.inner.shared.is_sovereign() {
            return outcome.await.unwrap_or_else(closed);
        }
        let late = || Err(ProposeError::Unknown(format!("no majority confirmed it within {OUTCOME:?}")));
        timeout(OUTCOME, outcome).await.map_or_else(|_| late(), |answer| answer.unwrap_or_else(closed))
    }

    /// Takes messages from other members.
    pub fn step(&self, messages: Vec<Message>) {
        // A store that is closed is a member that is silent.
        let _ = self.send(Command::Step(messages));
    }

    /// Changes who takes part, if this server leads; answers who does, once that is committed.
    pub async fn change_members(&self, change: ConfChangeV2) -> Result<ConfState, ProposeError> {
        self.health().map_err(ProposeError::Unhealthy)?;
        let (reply, done) = oneshot::channel();
        self.send(Command::Change(change, reply)).map_err(|()| ProposeError::Stopped)?;
        let late = || Err(ProposeError::Unknown(format!("no majority confirmed it within {OUTCOME:?}")));
        let closed = |_| Err(ProposeError::Unknown("the store was closed".into()));
        timeout(OUTCOME, done).await.map_or_else(|_| late(), |answer| answer.unwrap_or_else(closed))
    }

    /// Lets another member lead, the one that is furthest; returns when one does, or when none will.
    pub async fn hand_over(&self) {
        let mut role = self.inner.shared.role();
        let leads = |r: &Role| r.leads;
        let needed = leads(&role.borrow_and_update()) && role.borrow().members.voters.len() > 1;
        if needed && self.send(Command::Transfer(None)).is_ok() {
            let _ = timeout(HAND_OVER, role.wait_for(|r| !leads(r) && r.leader.is_some())).await;
        }
    }

    /// A message to a member did not get there.
    pub fn report_unreachable(&self, member: u64) {
        let _ = self.send(Command::Unreachable(member));
    }

    /// A member has got the whole state that raft told it to fetch, or has not.
    pub fn report_snapshot(&self, member: u64, arrived: bool) {
        let _ = self.send(Command::SnapshotSent(member, arrived));
    }

    /// Offers raft a whole state in the place of the one that `message`, a snapshot's, speaks of. It must be no older.
    pub fn install(&self, mut message: Message, meta: Meta, tables: Tables) {
        let applied = Applied { at: Position { index: meta.index, term: meta.term }, members: meta.members };
        *message.mut_snapshot().mut_metadata() = applied.metadata();
        let _ = self.send(Command::Install(Box::new(Install { message, applied, tables })));
    }

    /// What this server is in its group, and whenever that changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.inner.shared.role()
    }

    /// What a leader with others knows of each member.
    pub fn progress(&self) -> Vec<Progress> {
        self.inner.shared.progress()
    }

    /// Another member says that this server was taken out of the group.
    pub fn set_removed(&self) {
        self.inner.shared.set_removed();
    }

    /// This server's raft id.
    pub fn member(&self) -> u64 {
        self.inner.member
    }

    /// Whether this server leads alone, so that nobody can have acknowledged what is not applied here.
    pub fn is_sovereign(&self) -> bool {
        self.inner.shared.is_sovereign()
    }

    /// The objects as of the last applied write. Never waits for a writer.
    pub fn snapshot(&self) -> Arc<Tables> {
        self.inner.shared.snapshot()
    }

    /// A snapshot that has every write that was acknowledged, anywhere, before this call.
    pub async fn read_index(&self) -> Result<Arc<Tables>, ReadError> {
        self.health().map_err(ReadError::Unhealthy)?;
        // The only member has acknowledged nothing that is not applied here.
        if self.inner.shared.is_sovereign() {
            return Ok(self.snapshot());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut role = self.inner.shared.role();
        loop {
            role.borrow_and_update();
            let (reply, tables) = oneshot::channel();
            self.send(Command::Read(reply)).map_err(|()| ReadError::Stopped)?;
            match timeout_at(deadline, tables).await {
                Err(_) => return Err(ReadError::NotReady),
                Ok(Ok(Err(ReadError::NotReady))) if Instant::now() < deadline => {
                    let _ = timeout_at(deadline.min(Instant::now() + AGAIN), role.changed()).await;
                }
                Ok(answer) => return answer.unwrap_or(Err(ReadError::Stopped)),
            }
        }
    }

    /// A snapshot that has everything up to an index of the log.
    async fn read_at(&self, index: u64) -> Result<Arc<Tables>, ReadError> {
        let (reply, tables) = oneshot::channel();
        self.send(Command::ReadAt(index, reply)).map_err(|()| ReadError::Stopped)?;
        match timeout(PATIENCE, tables).await {
            Err(_) => Err(ReadError::NotReady),
            Ok(answer) => answer.unwrap_or(Err(ReadError::Stopped)),
        }
    }

    /// Watches from behind `from`: together with a snapshot of that revision there is no gap and no repetition.
    pub fn watch(&self, interest: Interest, from: u64) -> Result<Watcher, Compacted> {
        self.inner.shared.hub.watch(interest, from)
    }

    /// The earliest revision from which [`Store::watch`] can begin.
    pub fn oldest_watch(&self) -> u64 {
        self.inner.shared.hub.oldest()
    }

    /// The current raft term: the fence of what a leader's controllers send.
    pub fn term(&self) -> u64 {
        self.inner.shared.term()
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.inner.shared.leads()
    }

    /// The leader's member id, if one is known.
    pub fn leader(&self) -> Option<u64> {
        self.inner.shared.leader()
    }

    /// Why the store acknowledges nothing any more, if so.
    pub fn health(&self) -> Result<(), String> {
        self.inner.shared.health()
    }

    /// What it has done so far.
    pub fn stats(&self) -> StoreStats {
        let (stats, hub) = (&self.inner.shared.stats, &self.inner.shared.hub);
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        StoreStats {
            proposals: load(&stats.proposals),
            commits: load(&stats.commits),
            log_syncs: load(&stats.syncs),
            checkpoints: load(&stats.checkpoints),
            watchers: hub.watchers() as u64,
        }
    }

    /// Brings the objects on disk up to date now and cuts the log; returns when that is done, or cannot be.
    pub async fn checkpoint(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Command::Checkpoint(reply)).is_ok() {
            // A driver that ends before it is done has nothing more to say.
            let _ = done.await;
        }
    }

    /// Stops taking proposals, answers those it has, writes a checkpoint and gives the folder back.
    pub async fn close(&self) -> Result<(), String> {
        self.hand_over().await;
        self.stop(true).await
    }

    /// Like [`Store::close`] without the checkpoint: the next start replays the log, as after a crash.
    pub async fn abandon(&self) -> Result<(), String> {
        self.stop(false).await
    }

    async fn stop(&self, checkpoint: bool) -> Result<(), String> {
        let (reply, done) = oneshot::channel();
        if self.send(Command::Stop { checkpoint, reply }).is_err() {
            return Ok(());
        }
        done.await.unwrap_or(Ok(()))
    }

    fn send(&self, command: Command) -> Result<(), ()> {
        self.inner.commands.lock().unwrap_or_else(PoisonError::into_inner).send(command).map_err(|_| ())
    }
}

/// Returns when another than `leader` of `term` has led for a while, as far as this server knows.
async fn deposed(mut role: watch::Receiver<Role>, leader: u64, term: u64) {
    let other = |r: &Role| r.term > term || r.leader.is_some_and(|id| id != leader);
    let heard = role.wait_for(other).await.map(drop);
    match heard {
        Ok(()) => tokio::time::sleep(DEPOSED).await,
        // A store that is gone hears of nobody.
        Err(_) => std::future::pending().await,
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The checkpoint thread can reach the driver too, so that it would not notice that nobody else can.
        let reply = oneshot::channel().0;
        let commands = self.commands.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A closed store has no driver any more.
        let _ = commands.send(Command::Stop { checkpoint: false, reply });
    }
}

#[cfg(test)]
pub(crate) mod tests;
