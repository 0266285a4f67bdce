//! The driver: one thread that owns the raft machine, the log on disk and the tables. It takes whatever waits, makes it
//! durable in one commit, applies it, answers, and begins again: writers that come during a commit share the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use copepod_consensus::{Committed, Entry, Machine, Position, SnapshotMetadata, What};
use copepod_model::Key;
use copepod_state::{Change, Outcome, Tables, apply, codec};
use tokio::sync::oneshot;

use super::checkpoint::{Checkpointer, Job};
use super::error::guarded;
use super::log::LogFile;
use super::mirror::Applied;
use super::shared::Shared;
use super::{CheckpointPolicy, ProposeError, ReadError};

/// Raft's clock while there are other members.
const TICK: Duration = Duration::from_millis(100);
/// A batch ends at this many bytes, so that one commit is not too long.
const BATCH_BYTES: usize = 4 << 20;

/// The answer to a proposal.
pub(super) type ProposeReply = oneshot::Sender<Result<Outcome, ProposeError>>;
/// The answer to a read.
pub(super) type ReadReply = oneshot::Sender<Result<Arc<Tables>, ReadError>>;

/// What the driver can be asked.
pub(super) enum Command {
    /// A transaction, encoded.
    Propose(Vec<u8>, ProposeReply),
    /// A linearizable snapshot.
    Read(ReadReply),
    /// The checkpoint thread is done, or failed.
    Checkpointed(Result<Applied, String>),
    /// Checkpoint now; the answer comes when it is durable and the log is cut.
    Checkpoint(oneshot::Sender<()>),
    /// Stop, with a last checkpoint or without; the answer comes when everything is closed.
    Stop { checkpoint: bool, reply: oneshot::Sender<Result<(), String>> },
}

/// The parts that [`Driver::new`] puts together.
pub(super) struct Parts {
    pub(super) machine: Machine,
    pub(super) log: LogFile,
    pub(super) persisted_commit: u64,
    pub(super) tables: Tables,
    pub(super) applied: Applied,
    pub(super) shared: Arc<Shared>,
    pub(super) checkpointer: Checkpointer,
    pub(super) policy: CheckpointPolicy,
    pub(super) inbox: Receiver<Command>,
}

pub(super) struct Driver {
    parts: Parts,
    /// Proposals that are in the log and not committed, in the order of their positions.
    waiting: VecDeque<(Position, ProposeReply)>,
    /// Reads that raft has not answered, and those that wait until an index is applied.
    asked: BTreeMap<u64, ReadReply>,
    reads: Vec<(u64, ReadReply)>,
    next_read: u64,
    checkpoint: CheckpointState,
    next_tick: Instant,
}

#[derive(Default)]
struct CheckpointState {
    /// Keys changed since the last job.
    dirty: BTreeSet<Key>,
    /// When something was applied that no job covers.
    since: Option<Instant>,
    running: bool,
    /// A finished checkpoint behind which the log may be cut.
    cut: Option<SnapshotMetadata>,
    wanted: Vec<oneshot::Sender<()>>,
    answering: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Driver {
        Driver {
            parts,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            reads: Vec::new(),
            next_read: 0,
            checkpoint: CheckpointState::default(),
            next_tick: Instant::now() + TICK,
        }
    }

    /// Replays the log. A member that is alone leads at once, and then has everything that was ever acknowledged.
    pub(super) fn start(&mut self) -> Result<(), String> {
        self.settle()?;
        if self.parts.machine.is_alone() {
            self.parts.machine.campaign().map_err(|e| e.to_string())?;
            self.settle()?;
            if !self.parts.machine.is_settled() {
                return Err("the only member does not lead".into());
            }
        }
        Ok(())
    }

    /// Works until it is stopped. After a failure nothing is acknowledged any more.
    pub(super) fn run(mut self) {
        // Raft panics, too, where its contract is broken.
        let stop = guarded(|| self.work());
        let (checkpoint, reply) = match stop {
            Ok(stop) => stop,
            Err(reason) => {
                tracing::error!(reason, "the store failed; it acknowledges nothing any more");
                self.parts.shared.fail(reason.clone());
                self.refuse(&reason)
            }
        };
        let mut result = self.parts.shared.health();
        if checkpoint && result.is_ok() {
            result = guarded(|| self.last_checkpoint());
        }
        self.parts.shared.hub.stop();
        let shared = self.parts.shared.clone();
        drop(self);
        shared.release();
        // Nobody may wait for it.
        let _ = reply.send(result);
    }

    fn work(&mut self) -> Result<(bool, oneshot::Sender<Result<(), String>>), String> {
        loop {
            let mut next = self.wait();
            let mut batch = Vec::new();
            let mut replies = Vec::new();
            let mut bytes = 0;
            let mut stop = None;
            while let Some(command) = next {
                match command {
                    Command::Propose(data, reply) => {
                        bytes += data.len();
                        batch.push(data);
                        replies.push(reply);
                    }
                    Command::Read(reply) => {
                        self.next_read += 1;
                        self.asked.insert(self.next_read, reply);
                        self.ask(self.next_read);
                    }
                    Command::Checkpointed(result) => {
                        let done = result.map_err(|e| format!("checkpoint: {e}"))?;
                        self.checkpointed(done);
                    }
                    Command::Checkpoint(reply) => self.checkpoint.wanted.push(reply),
                    Command::Stop { checkpoint, reply } => stop = Some((checkpoint, reply)),
                }
                next = match stop {
                    None if bytes < BATCH_BYTES => self.parts.inbox.try_recv().ok(),
                    _ => None,
                };
            }
            self.propose(batch, replies);
            self.settle()?;
            self.maintain()?;
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }

    /// The next command, or none when it is time for something else.
    fn wait(&mut self) -> Option<Command> {
        let alone = self.parts.machine.is_alone() && self.parts.machine.is_leader();
        let due = self.checkpoint.since.filter(|_| !self.checkpoint.running).map(|t| t + self.parts.policy.interval);
        let tick = (!alone).then_some(self.next_tick);
        if self.parts.log.has_garbage() || self.checkpoint.cut.is_some() {
            return self.parts.inbox.try_recv().ok();
        }
        let until = match (due, tick) {
            (None, None) => return self.parts.inbox.recv().ok().or_else(|| Some(abandoned())),
            (a, b) => a.into_iter().chain(b).min()?,
        };
        let now = Instant::now();
        let command = match self.parts.inbox.recv_timeout(until.saturating_duration_since(now)) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(abandoned()),
        };
        if tick.is_some_and(|t| t <= Instant::now()) {
            self.next_tick = Instant::now() + TICK;
            self.parts.machine.tick();
            // A read index may be lost on the way.
            let asked: Vec<u64> = self.asked.keys().copied().collect();
            asked.into_iter().for_each(|id| self.ask(id));
        }
        command
    }

    fn propose(&mut self, batch: Vec<Vec<u8>>, replies: Vec<ProposeReply>) {
        if batch.is_empty() {
            return;
        }
        self.parts.shared.stats.proposals.fetch_add(batch.len() as u64, Ordering::Relaxed);
        match self.parts.machine.propose(batch) {
            Ok(first) => {
                let at = |i| Position { index: first.index + i, term: first.term };
                self.waiting.extend(replies.into_iter().enumerate().map(|(i, reply)| (at(i as u64), reply)));
            }
            Err(_) => {
                let leader = self.parts.machine.leader();
                replies.into_iter().for_each(|r| answer(r, Err(ProposeError::NotLeader { leader })));
            }
        }
    }

    fn ask(&mut self, id: u64) {
        let asked = self.parts.machine.read_index(id.to_le_bytes().to_vec());
        if asked.is_err()
            && let Some(reply) = self.asked.remove(&id)
        {
            answer(reply, Err(ReadError::NotReady));
        }
    }

    /// Does what the machine wants until it wants nothing.
    fn settle(&mut self) -> Result<(), String> {
        while let Some(work) = self.parts.machine.work() {
            if work.snapshot().is_some() {
                return Err("a snapshot came, and this release has no stream for its objects".into());
            }
            let state = work.hard_state().cloned().unwrap_or_else(|| self.parts.machine.hard_state().clone());
            if work.must_sync() {
                self.persist(&state, work.entries())?;
            }
            let done = self.parts.machine.persisted(work).map_err(|e| e.to_string())?;
            for read in done.reads {
                let id = read.request_ctx.as_slice().try_into().map(u64::from_le_bytes).unwrap_or(0);
                if let Some(reply) = self.asked.remove(&id) {
                    self.reads.push((read.index, reply));
                }
            }
            self.take_in(done.committed)?;
            self.serve_reads();
        }
        self.parts.shared.set_role(&self.parts.machine);
        Ok(())
    }

    fn persist(&mut self, state: &copepod_consensus::HardState, entries: &[Entry]) -> Result<(), String> {
        let cut = self.checkpoint.cut.take();
        self.parts.log.persist(state, entries, cut.as_ref()).map_err(|e| format!("log: {e}"))?;
        self.parts.persisted_commit = state.commit;
        self.parts.shared.stats.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Applies committed entries; shows them to readers, then to watchers, then to those who proposed them.
    fn take_in(&mut self, committed: Vec<Committed>) -> Result<(), String> {
        let Some(last) = committed.last().map(|c| c.at) else { return Ok(()) };
        let mut changes: Vec<Change> = Vec::new();
        let mut answers = Vec::new();
        for Committed { at, what } in committed {
            let outcome = match what {
                What::Nothing => None,
                What::Members(members) => {
                    self.parts.applied.members = members;
                    None
                }
                What::Data(data) => {
                    let txn = codec::decode(&data).map_err(|e| format!("log entry {}: {e}", at.index))?;
                    let (outcome, mut made) = apply(&mut self.parts.tables, at.term, &txn);
                    changes.append(&mut made);
                    Some(outcome)
                }
            };
            // What waits at or before this index and is not this entry was overwritten by another leader's.
            while let Some((position, reply)) = self.waiting.pop_front_if(|(p, _)| p.index <= at.index) {
                answers.push((reply, (position == at).then(|| outcome.clone()).flatten()));
            }
        }
        self.parts.applied.at = last;
        self.parts.machine.applied(last.index);
        self.checkpoint.since.get_or_insert_with(Instant::now);
        if !changes.is_empty() {
            self.checkpoint.dirty.extend(changes.iter().map(|c| c.key.clone()));
            self.parts.shared.publish(Arc::new(self.parts.tables.clone()));
            self.parts.shared.hub.publish(changes);
        }
        let leader = self.parts.machine.leader();
        for (reply, outcome) in answers {
            answer(reply, outcome.ok_or(ProposeError::NotLeader { leader }));
        }
        Ok(())
    }

    fn serve_reads(&mut self) {
        let applied = self.parts.applied.at.index;
        for (_, reply) in self.reads.extract_if(.., |(index, _)| *index <= applied) {
            answer(reply, Ok(self.parts.shared.snapshot()));
        }
    }

    /// Starts a checkpoint when it is time, and tidies the log behind the last one.
    fn maintain(&mut self) -> Result<(), String> {
        if self.checkpoint.cut.is_some() || self.parts.log.has_garbage() {
            let state = self.parts.machine.hard_state().clone();
            self.persist(&state, &[])?;
        }
        if !self.checkpoint.running && self.checkpoint.cut.is_none() {
            self.checkpoint.answering.drain(..).for_each(|r| answer(r, ()));
        }
        let policy = &self.parts.policy;
        let due = self.checkpoint.since.is_some_and(|t| t.elapsed() >= policy.interval)
            || self.parts.machine.log_bytes() >= policy.bytes
            || !self.checkpoint.wanted.is_empty();
        if due && !self.checkpoint.running { self.begin_checkpoint() } else { Ok(()) }
    }

    fn begin_checkpoint(&mut self) -> Result<(), String> {
        // The applied index must not be on disk ahead of the commit index.
        if self.parts.persisted_commit < self.parts.applied.at.index {
            let state = self.parts.machine.hard_state().clone();
            self.persist(&state, &[])?;
        }
        let c = &mut self.checkpoint;
        c.since = None;
        c.running = true;
        c.answering.append(&mut c.wanted);
        let dirty = std::mem::take(&mut c.dirty);
        let (tables, applied) = (Arc::new(self.parts.tables.clone()), self.parts.applied.clone());
        self.parts.checkpointer.submit(Job { tables, dirty, applied })
    }

    fn checkpointed(&mut self, done: Applied) {
        self.parts.shared.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint.running = false;
        self.parts.machine.checkpointed(done.at, done.members.clone(), Vec::new());
        let truncated = self.parts.machine.compact(done.at.index);
        self.checkpoint.cut =
            Some(SnapshotMetadata { index: truncated.index, term: truncated.term, conf_state: Some(done.members) });
    }

    fn last_checkpoint(&mut self) -> Result<(), String> {
        loop {
            while self.checkpoint.running {
                match self.parts.inbox.recv() {
                    Ok(Command::Checkpointed(result)) => self.checkpointed(result?),
                    Ok(other) => decline(other, ProposeError::Stopped, ReadError::Stopped),
                    Err(_) => return Err("the checkpoint thread ended".into()),
                }
            }
            while self.checkpoint.cut.is_some() || self.parts.log.has_garbage() {
                let state = self.parts.machine.hard_state().clone();
                self.persist(&state, &[])?;
            }
            if self.checkpoint.since.is_none() {
                return Ok(());
            }
            self.begin_checkpoint()?;
        }
    }

    /// After a failure: what is in the log has an unknown outcome, everything else is turned away.
    fn refuse(&mut self, reason: &str) -> (bool, oneshot::Sender<Result<(), String>>) {
        for (_, reply) in self.waiting.drain(..) {
            answer(reply, Err(ProposeError::Unknown(reason.into())));
        }
        // Whoever waits for a checkpoint is let go; health says why.
        self.checkpoint = CheckpointState::default();
        let asked = std::mem::take(&mut self.asked).into_values();
        for reply in asked.chain(self.reads.drain(..).map(|(_, r)| r)) {
            answer(reply, Err(ReadError::Unhealthy(reason.into())));
        }
        loop {
            match self.parts.inbox.recv().unwrap_or_else(|_| abandoned()) {
                Command::Stop { checkpoint, reply } => return (checkpoint, reply),
                other => decline(other, ProposeError::Unhealthy(reason.into()), ReadError::Unhealthy(reason.into())),
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for (_, reply) in self.waiting.drain(..) {
            answer(reply, Err(ProposeError::Unknown("the store was closed".into())));
        }
        loop {
            match self.parts.inbox.try_recv() {
                Ok(command) => decline(command, ProposeError::Stopped, ReadError::Stopped),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }
}

fn decline(command: Command, propose: ProposeError, read: ReadError) {
    match command {
        Command::Propose(_, reply) => answer(reply, Err(propose)),
        Command::Read(reply) => answer(reply, Err(read)),
        Command::Stop { reply, .. } => answer(reply, Ok(())),
        Command::Checkpoint(_) | Command::Checkpointed(_) => {}
    }
}

/// Who asked may have gone.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}

/// What the driver does when nobody can ask it anything any more.
fn abandoned() -> Command {
    Command::Stop { checkpoint: false, reply: oneshot::channel().0 }
}
