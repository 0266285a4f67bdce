//! When the objects are brought to what the log has made of them, and how far the log is cut behind that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use copepod_consensus::{Progress, SnapshotMetadata, rules};
use copepod_model::Key;
use tokio::sync::oneshot;

use super::{Command, Driver, answer, decline};
use crate::store::checkpoint::Job;
use crate::store::mirror::Applied;
use crate::store::{ProposeError, ReadError};

#[derive(Default)]
pub(super) struct CheckpointState {
    /// Keys changed since the last job.
    pub(super) dirty: BTreeSet<Key>,
    /// When something was applied that no job covers, and how many bytes of the log that is.
    pub(super) since: Option<Instant>,
    pub(super) bytes: usize,
    /// Up to where the last finished job went.
    pub(super) last: u64,
    pub(super) running: bool,
    /// A finished checkpoint behind which the log may be cut.
    pub(super) cut: Option<SnapshotMetadata>,
    pub(super) wanted: Vec<oneshot::Sender<()>>,
    pub(super) answering: Vec<oneshot::Sender<()>>,
}

impl Driver {
    /// Waits for the checkpoint that is under way. What else comes meanwhile is done afterwards.
    pub(super) fn await_checkpoint(&mut self) -> Result<(), String> {
        while self.checkpoint.running {
            match self.keep.inbox.recv() {
                Ok(Command::Checkpointed(result)) => self.checkpointed(result?),
                Ok(other) => self.later.push_back(other),
                Err(_) => return Err("the checkpoint thread ended".into()),
            }
        }
        Ok(())
    }

    /// Starts a checkpoint when it is time, and tidies the log behind the last one.
    pub(super) fn maintain(&mut self) -> Result<(), String> {
        if self.checkpoint.cut.is_some() || self.open.log.has_garbage() {
            let state = self.open.machine.hard_state().clone();
            self.persist(&state, &[])?;
        }
        if !self.checkpoint.running && self.checkpoint.cut.is_none() {
            self.checkpoint.answering.drain(..).for_each(|r| answer(r, ()));
        }
        let policy = &self.keep.policy;
        let due = self.checkpoint.since.is_some_and(|t| t.elapsed() >= policy.interval)
            || self.checkpoint.bytes >= policy.bytes
            || !self.checkpoint.wanted.is_empty();
        if due && !self.checkpoint.running { self.begin_checkpoint() } else { Ok(()) }
    }

    fn begin_checkpoint(&mut self) -> Result<(), String> {
        // The applied index must not be on disk ahead of the commit index.
        if self.open.persisted_commit < self.open.applied.at.index {
            let state = self.open.machine.hard_state().clone();
            self.persist(&state, &[])?;
        }
        let c = &mut self.checkpoint;
        (c.since, c.bytes) = (None, 0);
        c.running = true;
        c.answering.append(&mut c.wanted);
        let dirty = std::mem::take(&mut c.dirty);
        let (tables, applied) = (Arc::new(self.open.tables.clone()), self.open.applied.clone());
        self.open.checkpointer.submit(Job { tables, dirty, applied, all: false })
    }

    pub(super) fn checkpointed(&mut self, done: Applied) {
        self.keep.shared.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint.running = false;
        self.open.machine.checkpointed(done.at, done.members.clone(), Vec::new());
        let others = self.silences();
        let machine = &mut self.open.machine;
        let hold = (self.keep.hold)(self.open.tables.total_bytes());
        let (before, floor) = (self.checkpoint.last, machine.floor(hold.bytes));
        let upto = rules::cut(done.at.index, before, &others, machine.has_peers(), hold, floor);
        self.checkpoint.last = done.at.index;
        let truncated = machine.compact(upto);
        self.checkpoint.cut =
            Some(SnapshotMetadata { index: truncated.index, term: truncated.term, conf_state: Some(done.members) });
    }

    /// What a leader knows of the members, and for how long each was silent: since it was heard, or is known at all.
    fn silences(&mut self) -> Vec<(Progress, Duration)> {
        let (now, all) = (Instant::now(), self.progress());
        self.met.retain(|id, _| all.iter().any(|p| p.id == *id));
        let silent = |p: Progress| {
            let met = *self.met.entry(p.id).or_insert(now);
            let last = self.heard.get(&p.id).map_or(met, |heard| met.max(*heard));
            let silent = if p.id == self.keep.member { Duration::ZERO } else { now.saturating_duration_since(last) };
            (p, silent)
        };
        all.into_iter().map(silent).collect()
    }

    pub(super) fn last_checkpoint(&mut self) -> Result<(), String> {
        loop {
            while self.checkpoint.running {
                match self.keep.inbox.recv() {
                    Ok(Command::Checkpointed(result)) => self.checkpointed(result?),
                    Ok(other) => decline(other, ProposeError::Stopped, ReadError::Stopped),
                    Err(_) => return Err("the checkpoint thread ended".into()),
                }
            }
            while self.checkpoint.cut.is_some() || self.open.log.has_garbage() {
                let state = self.open.machine.hard_state().clone();
                self.persist(&state, &[])?;
            }
            if self.checkpoint.since.is_none() {
                return Ok(());
            }
            self.begin_checkpoint()?;
        }
    }
}
