//! What is read from a store's folder when it is opened, and again after its disk has failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;

use copepod_consensus::{Machine, Options};
use copepod_state::Tables;
use redb::Durability;

use super::backend::Backends;
use super::checkpoint::Checkpointer;
use super::compact::Compactor;
use super::driver::Command;
use super::error::{Fault, OpenError, guarded};
use super::folder::{LOG, MIRROR};
use super::guard::Guard;
use super::log::{LogContents, LogFile};
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

/// A folder's two databases, and what they hold.
pub(super) struct Databases {
    pub(super) log: LogFile,
    pub(super) contents: LogContents,
    pub(super) mirror: Mirror,
    pub(super) tables: Tables,
    pub(super) applied: Applied,
}

impl Databases {
    /// Opens both, makes them if there are none, and ends an installation that was cut off. `syncs` counts those of the log.
    pub(super) fn open(
        dir: &Path,
        backends: &dyn Backends,
        member: u64,
        durability: Durability,
        syncs: Arc<AtomicU64>,
    ) -> Result<Databases, OpenError> {
        let has_mirror = backends.exists(MIRROR).map_err(cannot_open(dir, MIRROR))?;
        let backend = backends.open(LOG).and_then(|b| Guard::open(b, syncs)).map_err(cannot_open(dir, LOG))?;
        let (mut log, mut contents) =
            guarded(|| LogFile::open(backend, member, durability)).map_err(|fault: Fault| fault.at(dir, LOG))?;
        if !has_mirror && contents.truncated.index > 0 {
            return Err(OpenError::Damaged { dir: dir.into(), what: format!("{MIRROR} is missing") });
        }
        let backend =
            backends.open(MIRROR).and_then(|b| Guard::open(b, Arc::default())).map_err(cannot_open(dir, MIRROR))?;
        let members = contents.truncated.conf_state.clone().unwrap_or_default();
        let (mirror, tables, applied) =
            guarded(|| Mirror::open(backend, member, &members)).map_err(|fault: Fault| fault.at(dir, MIRROR))?;
        guarded(|| log.settle_install(&mut contents, applied.at.index).map_err(Fault::from))
            .map_err(|fault: Fault| fault.at(dir, LOG))?;
        Ok(Databases { log, contents, mirror, tables, applied })
    }
}

/// Why a file of the folder cannot be opened.
pub(super) fn cannot_open(dir: &Path, name: &str) -> impl Fn(io::Error) -> OpenError {
    let what = format!("cannot open {}", dir.join(name).display());
    move |source| OpenError::Io { what: what.clone(), source }
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
        let found = Databases::open(dir, &**backends, *member, self.durability, self.syncs.clone())?;
        let persisted_commit = found.contents.hard_state.commit;
        let restored = found.contents.restored(&found.applied);
        let Databases { log, mirror, tables, applied, .. } = found;
        let raft = Options { election_ticks: ELECTION_TICKS, ..Options::new(*member) };
        let inconsistent =
            |e: copepod_consensus::Error| OpenError::Damaged { dir: dir.clone(), what: format!("{LOG}: {e}") };
        let machine = Machine::new(&raft, restored).map_err(inconsistent)?;
        let compactor = Compactor::new(backends.clone(), *member, self.compact_from);
        let started = Checkpointer::start(mirror, compactor, self.commands.clone());
        let checkpointer = started.map_err(cannot_open(dir, "checkpoint thread"))?;
        Ok(Open { machine, log, persisted_commit, tables, applied, checkpointer })
    }
}
