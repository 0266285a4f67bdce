//! What is read from a store's folder when it is opened, and again after its disk has failed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;

use copepod_consensus::{Machine, Options, Position, Restored};
use copepod_state::Tables;
use redb::Durability;

use super::backend::{Backends, Counted};
use super::checkpoint::Checkpointer;
use super::compact::Compactor;
use super::driver::Command;
use super::error::{Fault, OpenError, guarded};
use super::folder::{LOG, MIRROR};
use super::log::LogFile;
use super::mirror::{Applied, Mirror};

/// Ticks without a leader after which an election begins, at least; at most twice as many.
const ELECTION_TICKS: usize = 8;

/// Opens the files of a folder that this process has locked.
pub(super) struct Loader {
    pub(super) dir: PathBuf,
    pub(super) member: u64,
    pub(super) backends: Arc<dyn Backends>,
    pub(super) durability: Durability,
    pub(super) compact_from: u64,
    /// Counts the syncs of the log.
    pub(super) syncs: Arc<AtomicU64>,
    /// To the driver.
    pub(super) commands: Sender<Command>,
}

/// Open files and what they hold.
pub(super) struct Open {
    pub(super) machine: Machine,
    pub(super) log: LogFile,
    pub(super) persisted_commit: u64,
    pub(super) tables: Tables,
    pub(super) applied: Applied,
    pub(super) checkpointer: Checkpointer,
}

impl Loader {
    /// Opens both databases, makes them if there are none, and checks that they fit together.
    pub(super) fn load(&self) -> Result<Open, OpenError> {
        let Loader { dir, member, backends, .. } = self;
        let io = |what: &str| {
            let what = format!("cannot open {}", dir.join(what).display());
            move |source| OpenError::Io { what, source }
        };
        let has_mirror = backends.exists(MIRROR).map_err(io(MIRROR))?;
        let backend = Counted::new(backends.open(LOG).map_err(io(LOG))?, self.syncs.clone());
        let (mut log, mut contents) =
            guarded(|| LogFile::open(backend, *member, self.durability)).map_err(|fault: Fault| fault.at(dir, LOG))?;
        if !has_mirror && contents.truncated.index > 0 {
            return Err(OpenError::Damaged { dir: dir.clone(), what: format!("{MIRROR} is missing") });
        }
        let backend = Counted::new(backends.open(MIRROR).map_err(io(MIRROR))?, Arc::default());
        let members = contents.truncated.conf_state.clone().unwrap_or_default();
        let (mirror, tables, applied) =
            guarded(|| Mirror::open(backend, *member, &members)).map_err(|fault: Fault| fault.at(dir, MIRROR))?;
        guarded(|| log.settle_install(&mut contents, applied.at.index).map_err(Fault::from))
            .map_err(|fault: Fault| fault.at(dir, LOG))?;
        let persisted_commit = contents.hard_state.commit;
        let restored = Restored {
            hard_state: contents.hard_state,
            conf_state: applied.members.clone(),
            truncated: Position { index: contents.truncated.index, term: contents.truncated.term },
            entries: contents.entries,
            applied: applied.at.index,
        };
        let raft = Options { election_ticks: ELECTION_TICKS, ..Options::new(*member) };
        let inconsistent =
            |e: copepod_consensus::Error| OpenError::Damaged { dir: dir.clone(), what: format!("{LOG}: {e}") };
        let machine = Machine::new(&raft, restored).map_err(inconsistent)?;
        let compactor = Compactor::new(backends.clone(), *member, self.compact_from);
        let started = Checkpointer::start(mirror, compactor, self.commands.clone());
        let checkpointer = started.map_err(io("checkpoint thread"))?;
        Ok(Open { machine, log, persisted_commit, tables, applied, checkpointer })
    }
}
