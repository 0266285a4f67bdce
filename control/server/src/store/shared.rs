//! What the driver shows to everyone else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use copepod_consensus::Machine;
use copepod_state::Tables;

use super::folder::Folder;
use super::hub::Hub;

pub(super) struct Shared {
    tables: RwLock<Arc<Tables>>,
    pub(super) hub: Arc<Hub>,
    failed: OnceLock<String>,
    term: AtomicU64,
    leader: AtomicU64,
    leads: AtomicBool,
    /// Leads, alone: what is applied here is all there is.
    sovereign: AtomicBool,
    folder: Mutex<Option<Folder>>,
    pub(super) stats: Counters,
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
            failed: OnceLock::new(),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            sovereign: AtomicBool::new(false),
            folder: Mutex::new(Some(folder)),
            stats: Counters { syncs, ..Counters::default() },
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
        // The first reason is the one that counts.
        let _ = self.failed.set(reason);
    }

    pub(super) fn health(&self) -> Result<(), String> {
        self.failed.get().map_or(Ok(()), |reason| Err(reason.clone()))
    }

    pub(super) fn set_role(&self, machine: &Machine) {
        self.term.store(machine.term(), Ordering::Release);
        self.leader.store(machine.leader().unwrap_or(0), Ordering::Release);
        self.leads.store(machine.is_leader(), Ordering::Release);
        self.sovereign.store(machine.is_alone() && machine.is_settled(), Ordering::Release);
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

    /// Gives the folder back: another process may have it.
    pub(super) fn release(&self) {
        self.sovereign.store(false, Ordering::Release);
        self.leads.store(false, Ordering::Release);
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
