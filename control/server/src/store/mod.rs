//! The store: the raft driver, the log and the objects on disk, the tables in memory, the watchers.
//!
//! A write is durable in the log before it is applied, applied before it is shown, and shown before it is acknowledged.
//! The objects on disk follow by checkpoints; a restart replays the rest of the log.

mod backend;
mod checkpoint;
mod driver;
mod error;
mod folder;
mod hub;
mod log;
mod meta;
mod mirror;
mod shared;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copepod_consensus::{Machine, Options, Restored};
use copepod_state::{Compacted, Interest, Outcome, Tables, Txn, WindowLimits, codec};
use redb::Durability;
use tokio::sync::{Semaphore, oneshot};

use backend::Counted;
use checkpoint::Checkpointer;
use driver::{Command, Driver, Parts};
use error::{Fault, guarded};
use folder::{Folder, LOG, MIRROR};
use hub::Hub;
use log::LogFile;
use mirror::Mirror;
use shared::Shared;

pub use backend::{Backends, Files};
pub use error::{OpenError, ProposeError, ReadError};
pub use hub::{WatchError, Watcher};

/// The format of what is on disk. A later release that changes it counts up.
pub const FORMAT: u32 = 1;

/// Proposals that wait may hold this many bytes together; more of them wait before they are queued.
const QUEUED_BYTES: usize = 64 << 20;
/// The unit in which these bytes are counted.
const GRAIN: usize = 1 << 10;

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
        CheckpointPolicy { bytes: 8 << 20, interval: Duration::from_secs(60) }
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
    /// Where the databases keep their bytes; files in `dir` by default.
    pub backends: Arc<dyn Backends>,
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
        let io = |what: &str| {
            let what = format!("cannot open {}", dir.join(what).display());
            move |source| OpenError::Io { what, source }
        };
        let syncs = Arc::new(AtomicU64::new(0));
        let has_mirror = backends.exists(MIRROR).map_err(io(MIRROR))?;
        let backend = Counted::new(backends.open(LOG).map_err(io(LOG))?, syncs.clone());
        let (log, contents) = guarded(|| LogFile::open(backend, *member, options.durability()))
            .map_err(|fault: Fault| fault.at(dir, LOG))?;
        if !has_mirror && contents.truncated.index > 0 {
            return Err(OpenError::Damaged { dir: dir.clone(), what: format!("{MIRROR} is missing") });
        }
        let backend = Counted::new(backends.open(MIRROR).map_err(io(MIRROR))?, Arc::default());
        let members = contents.truncated.conf_state.clone().unwrap_or_default();
        let (mirror, tables, applied) =
            guarded(|| Mirror::open(backend, *member, &members)).map_err(|fault: Fault| fault.at(dir, MIRROR))?;
        folder.ready()?;

        let persisted_commit = contents.hard_state.commit;
        let restored = Restored {
            hard_state: contents.hard_state,
            conf_state: applied.members.clone(),
            truncated: copepod_consensus::Position { index: contents.truncated.index, term: contents.truncated.term },
            entries: contents.entries,
            applied: applied.at.index,
        };
        let damaged = |what: String| OpenError::Damaged { dir: dir.clone(), what };
        let machine = Machine::new(&Options::new(*member), restored).map_err(|e| damaged(format!("{LOG}: {e}")))?;
        let hub = Arc::new(Hub::new(options.window, tables.revision()));
        let shared = Arc::new(Shared::new(tables.clone(), hub, folder, syncs));
        let (commands, inbox) = mpsc::channel();
        let checkpointer = Checkpointer::start(mirror, commands.clone()).map_err(io("checkpoint thread"))?;
        let policy = options.checkpoint;
        let parts = Parts { machine, log, persisted_commit, tables, applied, shared, checkpointer, policy, inbox };
        let shared = parts.shared.clone();
        let mut driver = Driver::new(parts);
        guarded(|| driver.start()).map_err(damaged)?;
        std::thread::Builder::new().name("raft".into()).spawn(move || driver.run()).map_err(io("raft thread"))?;
        let room = Semaphore::new(QUEUED_BYTES / GRAIN);
        Ok(Store { inner: Arc::new(Inner { shared, commands: Mutex::new(commands), room }) })
    }

    /// Proposes a transaction. Once it has an outcome it is durable, and [`Store::snapshot`] shows it. When the future is
    /// dropped, the transaction may be applied all the same.
    pub async fn propose(&self, txn: Txn) -> Result<Outcome, ProposeError> {
        let data = codec::encode(&txn);
        drop(txn);
        let grains = (data.len() / GRAIN + 1).min(QUEUED_BYTES / GRAIN) as u32;
        let _room = self.inner.room.acquire_many(grains).await.map_err(|_| ProposeError::Stopped)?;
        self.health().map_err(ProposeError::Unhealthy)?;
        let (reply, outcome) = oneshot::channel();
        self.send(Command::Propose(data, reply)).map_err(|()| ProposeError::Stopped)?;
        outcome.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the store was closed".into())))
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
        let (reply, tables) = oneshot::channel();
        self.send(Command::Read(reply)).map_err(|()| ReadError::Stopped)?;
        tables.await.unwrap_or(Err(ReadError::Stopped))
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
mod tests;
