//! What the driver shows to everyone else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use copepod_consensus::{ConfState, Machine, Progress};
use copepod_state::Tables;
use tokio::sync::watch;

use super::disk::Disk;
use super::folder::Folder;
use super::hub::Hub;
use super::quota::Quota;

pub(super) struct Shared {
    tables: RwLock<Arc<Tables>>,
    pub(super) hub: Arc<Hub>,
    failed: RwLock<Option<String>>,
    term: AtomicU64,
    leader: AtomicU64,
    leads: AtomicBool,
    /// Leads, alone: what is applied here is all there is.
    sovereign: AtomicBool,
    role: watch::Sender<Role>,
    progress: Mutex<Vec<Progress>>,
    folder: Mutex<Option<Folder>>,
    pub(super) stats: Counters,
    pub(super) disk: Arc<Disk>,
    pub(super) quota: Quota,
}

/// What a server is in its group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    /// The current term.
    pub term: u64,
    /// The leader's member id, if one is known.
    pub leader: Option<u64>,
    /// Whether this server leads and knows all that was acknowledged before.
    pub leads: bool,
    /// Whether this server was taken out of the group.
    pub removed: bool,
    /// Who takes part.
    pub members: ConfState,
}

/// What the driver counts.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) proposals: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) syncs: Arc<AtomicU64>,
}

impl Shared {
    pub(super) fn new(tables: Tables, hub: Arc<Hub>, folder: Folder, syncs: Arc<AtomicU64>) -> Shared {
        Shared {
            tables: RwLock::new(Arc::new(tables)),
            hub,
            failed: RwLock::default(),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            sovereign: AtomicBool::new(false),
            role: watch::Sender::new(Role::default()),
            progress: Mutex::default(),
            folder: Mutex::new(Some(folder)),
            stats: Counters { syncs, ..Counters::default() },
            disk: Arc::default(),
            quota: Quota::default(),
        }
    }

    pub(super) fn snapshot(&self) -> Arc<Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, tables: Arc<Tables>) {
        // The old tables are dropped after the lock is given back.
        let _old = std::mem::replace(&mut *self.tables.write().unwrap_or_else(PoisonError::into_inner), tables);
    }

    pub(super) fn fail(&self, reason: String) {
        self.sovereign.store(false, Ordering::Release);
        self.leads.store(false, Ordering::Release);
        self.role.send_modify(|r| (r.leads, r.leader) = (false, None));
        *self.failed.write().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The disk has given back what it must.
    pub(super) fn mend(&self) {
        *self.failed.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn health(&self) -> Result<(), String> {
        self.failed.read().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    pub(super) fn set_role(&self, machine: &Machine) {
        self.term.store(machine.term(), Ordering::Release);
        self.leader.store(machine.leader().unwrap_or(0), Ordering::Release);
        self.leads.store(machine.is_leader(), Ordering::Release);
        self.sovereign.store(machine.is_alone() && machine.is_settled(), Ordering::Release);
        self.role.send_if_modified(|role| {
            let (term, leader, leads) = (machine.term(), machine.leader(), machine.is_settled());
            let removed = role.removed || (!role.members.voters.is_empty() && !machine.is_member());
            let same = (role.term, role.leader, role.leads, role.removed) == (term, leader, leads, removed);
            if same && role.members == *machine.members() {
                return false;
            }
            *role = Role { term, leader, leads, removed, members: machine.members().clone() };
            true
        });
    }

    /// What this server is, and whenever that changes.
    pub(super) fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Somebody else says that this server is no member any more.
    pub(super) fn set_removed(&self) {
        self.role.send_if_modified(|role| !std::mem::replace(&mut role.removed, true));
    }

    pub(super) fn set_progress(&self, progress: Vec<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(super) fn progress(&self) -> Vec<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    pub(super) fn leader(&self) -> Option<u64> {
        Some(self.leader.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    pub(super) fn is_sovereign(&self) -> bool {
        self.sovereign.load(Ordering::Acquire)
    }

    /// The folder, as long as this process has it.
    pub(super) fn dir(&self) -> Option<PathBuf> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|f| f.dir.clone())
    }

    /// Gives the folder back: another process may have it.
    pub(super) fn release(&self) {
        self.sovereign.store(false, Ordering::Release);
        self.leads.store(false, Ordering::Release);
        self.role.send_modify(|r| (r.leads, r.leader) = (false, None));
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
