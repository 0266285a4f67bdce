//! Another member's state in the place of this one's.

use std::collections::BTreeSet;
use std::sync::Arc;

use copepod_consensus::{HardState, Work};

use super::{Driver, answer};
use crate::store::ProposeError;
use crate::store::checkpoint::Job;
use crate::store::error::Fault;

impl Driver {
    /// Puts another member's state in the place of this one's, if raft asks for it: first a mark in the log that it is
    /// under way, then the objects, then the log that begins behind them. A crash in between leaves the old state or the
    /// new one, never parts of both (see [`LogFile::open`]).
    pub(super) fn install(&mut self, work: &Work, state: &HardState) -> Result<bool, String> {
        let Some(metadata) = work.snapshot().map(|s| s.get_metadata().clone()) else { return Ok(false) };
        let offered = self.offered.take().filter(|(a, _)| a.at.index == metadata.index && a.at.term == metadata.term);
        let (applied, tables) = offered.ok_or("raft wants a snapshot installed that did not come")?;
        let fail = |e: redb::Error| String::from(Fault::Log(e));
        self.await_checkpoint()?;
        self.open.log.begin_install(&metadata).map_err(fail)?;
        self.checkpoint.running = true;
        let all = Arc::new(tables.clone());
        self.open.checkpointer.submit(Job {
            tables: all,
            dirty: BTreeSet::new(),
            applied: applied.clone(),
            all: true,
        })?;
        self.await_checkpoint()?;
        self.checkpoint.cut = None;
        self.open.log.finish_install(state, &metadata).map_err(fail)?;
        self.open.persisted_commit = metadata.index.max(state.commit);
        for reply in self.waiting.drain() {
            answer(reply, Err(ProposeError::Unknown("this server fell behind the others".into())));
        }
        for (_, reply) in self.changing.drain(..) {
            answer(reply, Err(ProposeError::Unknown("this server fell behind the others".into())));
        }
        self.checkpoint.last = metadata.index;
        (self.checkpoint.since, self.checkpoint.bytes) = (None, 0);
        self.checkpoint.dirty.clear();
        self.open.applied = applied;
        self.keep.shared.publish(Arc::new(tables.clone()));
        self.keep.shared.hub.reset(tables.revision());
        self.open.tables = tables;
        Ok(true)
    }
}
