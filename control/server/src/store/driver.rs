//! The driver: one thread that owns the raft machine, the log on disk and the tables. It takes whatever waits, makes it
//! durable in one commit, applies it, answers, and begins again: writers that come during a commit share the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use copepod_consensus::{
    Committed, ConfChangeV2, ConfState, Entry, HardState, Machine, Message, Position, Progress, SnapshotMetadata, What,
    Work,
};
use copepod_model::Key;
use copepod_state::{Change, Outcome, Tables, apply, codec};
use tokio::sync::oneshot;

use super::checkpoint::{Checkpointer, Job};
use super::error::guarded;
use super::log::LogFile;
use super::mirror::Applied;
use super::save::StateReply;
use super::shared::Shared;
use super::{CheckpointPolicy, Peers, ProposeError, ReadError};

/// Raft's clock while there are other members. A leader's heartbeats come every second tick; whoever hears none for
/// eight to sixteen of them holds an election.
const TICK: Duration = Duration::from_millis(50);
/// A member that was silent for so long counts as gone.
const SILENCE: Duration = Duration::from_secs(1);
/// A batch ends at this many bytes, so that one commit is not too long.
const BATCH_BYTES: usize = 4 << 20;

/// The answer to a proposal: what became of it, and at which index.
pub(super) type ProposeReply = oneshot::Sender<Result<(Outcome, u64), ProposeError>>;
/// The answer to a read.
pub(super) type ReadReply = oneshot::Sender<Result<Arc<Tables>, ReadError>>;

/// What the driver can be asked.
pub(super) enum Command {
    /// A transaction, encoded.
    Propose(Vec<u8>, ProposeReply),
    /// A linearizable snapshot.
    Read(ReadReply),
    /// A snapshot that has everything up to an index.
    ReadAt(u64, ReadReply),
    /// Messages of other members.
    Step(Vec<Message>),
    /// A snapshot that another member sends: raft's message about it, and what it stands for.
    Install(Box<Install>),
    /// Other members, please; the answer comes when the change is committed.
    Change(ConfChangeV2, oneshot::Sender<Result<ConfState, ProposeError>>),
    /// Leadership to this member, or to the one that is furthest.
    Transfer(Option<u64>),
    /// A member could not be reached.
    Unreachable(u64),
    /// A member got its snapshot, or did not.
    SnapshotSent(u64, bool),
    /// What is applied, and up to where.
    State(StateReply),
    /// The checkpoint thread is done, or failed.
    Checkpointed(Result<Applied, String>),
    /// Checkpoint now; the answer comes when it is durable and the log is cut.
    Checkpoint(oneshot::Sender<()>),
    /// Stop, with a last checkpoint or without; the answer comes when everything is closed.
    Stop { checkpoint: bool, reply: oneshot::Sender<Result<(), String>> },
}

/// A whole state from another member.
pub(super) struct Install {
    pub(super) message: Message,
    pub(super) applied: Applied,
    pub(super) tables: Tables,
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
    pub(super) member: u64,
    pub(super) peers: Option<Arc<dyn Peers>>,
}

pub(super) struct Driver {
    parts: Parts,
    /// Proposals that are in the log and not committed, in the order of their positions.
    waiting: VecDeque<(Position, ProposeReply)>,
    /// Reads that raft has not answered, and those that wait until an index is applied.
    asked: BTreeMap<u64, ReadReply>,
    reads: Vec<(u64, ReadReply)>,
    /// Not used before by this member: a leader may still hold an earlier question of the same number.
    next_read: u64,
    /// Whether it led when that was last said.
    leads: bool,
    /// When each other member was last heard of.
    heard: BTreeMap<u64, Instant>,
    /// Who waits for other members, at what index.
    changing: Vec<(u64, oneshot::Sender<Result<ConfState, ProposeError>>)>,
    /// A state that raft may ask to be installed.
    offered: Option<(Applied, Tables)>,
    /// Commands that came while something else had to be waited for.
    later: VecDeque<Command>,
    checkpoint: CheckpointState,
    next_tick: Instant,
}

#[derive(Default)]
struct CheckpointState {
    /// Keys changed since the last job.
    dirty: BTreeSet<Key>,
    /// When something was applied that no job covers, and how many bytes of the log that is.
    since: Option<Instant>,
    bytes: usize,
    /// Up to where the last finished job went.
    last: u64,
    running: bool,
    /// A finished checkpoint behind which the log may be cut.
    cut: Option<SnapshotMetadata>,
    wanted: Vec<oneshot::Sender<()>>,
    answering: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Driver {
        let checkpoint = CheckpointState { last: parts.applied.at.index, ..CheckpointState::default() };
        Driver {
            parts,
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            reads: Vec::new(),
            next_read: crate::now().0,
            leads: false,
            heard: BTreeMap::new(),
            changing: Vec::new(),
            offered: None,
            later: VecDeque::new(),
            checkpoint,
            next_tick: Instant::now() + TICK,
        }
    }

    /// Replays the log. A member that is alone leads at once, and then has everything that was ever acknowledged.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let applied = self.parts.applied.clone();
        if applied.at.index > 0 {
            self.parts.machine.checkpointed(applied.at, applied.members, Vec::new());
        }
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
                    Command::Step(messages) => {
                        bytes += messages.iter().flat_map(|m| &m.entries).map(|e| e.data.len()).sum::<usize>();
                        messages.into_iter().for_each(|m| self.step(m));
                    }
                    Command::Stop { checkpoint, reply } => stop = Some((checkpoint, reply)),
                    other => self.obey(other)?,
                }
                next = match stop {
                    None if bytes < BATCH_BYTES => self.later.pop_front().or_else(|| self.parts.inbox.try_recv().ok()),
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

    /// What is neither data nor the end.
    fn obey(&mut self, command: Command) -> Result<(), String> {
        let machine = &mut self.parts.machine;
        match command {
            Command::Read(reply) => {
                self.next_read += 1;
                self.asked.insert(self.next_read, reply);
                self.ask(self.next_read);
            }
            Command::ReadAt(index, reply) => {
                self.reads.push((index, reply));
                self.serve_reads();
            }
            Command::Install(install) => {
                let Install { message, applied, tables } = *install;
                self.offered = Some((applied, tables));
                self.step(message);
                self.settle()?;
                // Raft has no use for it: what it has is at least as new.
                self.offered = None;
            }
            Command::Change(change, reply) => {
                let index = machine.last_index() + 1;
                match machine.propose_members(change) {
                    // Raft turns a change away that comes before the last one is applied: the entry is empty then.
                    Ok(()) => self.changing.push((index, reply)),
                    Err(_) => answer(reply, Err(ProposeError::NotLeader { leader: machine.leader() })),
                }
            }
            Command::Transfer(to) => self.transfer(to),
            Command::Unreachable(member) => machine.report_unreachable(member),
            Command::SnapshotSent(member, arrived) => machine.report_snapshot(member, arrived),
            Command::State(reply) => answer(reply, (Arc::new(self.parts.tables.clone()), self.parts.applied.clone())),
            Command::Checkpointed(result) => {
                let done = result.map_err(|e| format!("checkpoint: {e}"))?;
                self.checkpointed(done);
            }
            Command::Checkpoint(reply) => self.checkpoint.wanted.push(reply),
            // The caller takes these.
            Command::Propose(..) | Command::Step(_) | Command::Stop { .. } => {}
        }
        Ok(())
    }

    fn step(&mut self, message: Message) {
        self.heard.insert(message.from, Instant::now());
        // A message can be late, or from a member that is none any more; raft says what it does not like.
        if let Err(e) = self.parts.machine.step(message) {
            tracing::debug!("a message of another member was not taken: {e}");
        }
    }

    /// Hands leadership to `to`, or to whoever is furthest.
    fn transfer(&mut self, to: Option<u64>) {
        let voters = &self.parts.machine.members().voters;
        let others = self.progress().into_iter().filter(|p| p.id != self.parts.member && voters.contains(&p.id));
        let furthest = others.max_by_key(|p| (p.active, p.matched)).map(|p| p.id);
        if let Some(to) = to.or(furthest) {
            self.parts.machine.transfer_leader(to);
        }
    }

    /// What a leader knows of the members. Raft forgets once in an election timeout who was there, to see who still is;
    /// that is too short-sighted for anybody else.
    fn progress(&self) -> Vec<Progress> {
        let mut all = self.parts.machine.progress();
        for p in &mut all {
            p.active = p.id == self.parts.member || self.heard.get(&p.id).is_some_and(|t| t.elapsed() < SILENCE);
        }
        all
    }

    /// Whether nobody else is there to speak with: then raft's clock stands still.
    fn is_quiet(&self) -> bool {
        let machine = &self.parts.machine;
        machine.is_alone() && machine.is_leader() && !machine.has_peers()
    }

    /// The next command, or none when it is time for something else.
    fn wait(&mut self) -> Option<Command> {
        if let Some(command) = self.later.pop_front() {
            return Some(command);
        }
        let alone = self.is_quiet();
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
            self.parts.shared.set_progress(self.progress());
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
        let context = [self.parts.member, id].map(u64::to_le_bytes).concat();
        let asked = self.parts.machine.read_index(context);
        if asked.is_err()
            && let Some(reply) = self.asked.remove(&id)
        {
            answer(reply, Err(ReadError::NotReady));
        }
    }

    /// Does what the machine wants until it wants nothing.
    fn settle(&mut self) -> Result<(), String> {
        while let Some(mut work) = self.parts.machine.work() {
            self.send(std::mem::take(&mut work.messages));
            let state = work.hard_state().cloned().unwrap_or_else(|| self.parts.machine.hard_state().clone());
            let installed = self.install(&work, &state)?;
            if work.must_sync() || installed {
                self.persist(&state, work.entries())?;
            }
            let done = self.parts.machine.persisted(work).map_err(|e| e.to_string())?;
            if installed {
                self.parts.machine.applied(self.parts.applied.at.index);
            }
            self.send(done.messages);
            for read in done.reads {
                let id = read.request_ctx.get(8..).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
                if let Some(reply) = self.asked.remove(&id) {
                    self.reads.push((read.index, reply));
                }
            }
            self.take_in(done.committed)?;
            self.serve_reads();
        }
        // Whoever sees that this member leads must see whom it leads.
        if self.parts.machine.is_leader() != std::mem::replace(&mut self.leads, self.parts.machine.is_leader()) {
            self.parts.shared.set_progress(self.progress());
        }
        self.parts.shared.set_role(&self.parts.machine);
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        if let Some(peers) = &self.parts.peers
            && !messages.is_empty()
        {
            peers.send(messages);
        }
    }

    /// Puts another member's state in the place of this one's, if raft asks for it: first a mark in the log that it is
    /// under way, then the objects, then the log that begins behind them. A crash in between leaves the old state or the
    /// new one, never parts of both (see [`LogFile::open`]).
    fn install(&mut self, work: &Work, state: &HardState) -> Result<bool, String> {
        let Some(metadata) = work.snapshot().map(|s| s.get_metadata().clone()) else { return Ok(false) };
        let offered = self.offered.take().filter(|(a, _)| a.at.index == metadata.index && a.at.term == metadata.term);
        let (applied, tables) = offered.ok_or("raft wants a snapshot installed that did not come")?;
        let fail = |e: redb::Error| format!("log: {e}");
        self.await_checkpoint()?;
        self.parts.log.begin_install(&metadata).map_err(fail)?;
        self.checkpoint.running = true;
        let all = Arc::new(tables.clone());
        self.parts.checkpointer.submit(Job {
            tables: all,
            dirty: BTreeSet::new(),
            applied: applied.clone(),
            all: true,
        })?;
        self.await_checkpoint()?;
        self.checkpoint.cut = None;
        self.parts.log.finish_install(state, &metadata).map_err(fail)?;
        self.parts.persisted_commit = metadata.index.max(state.commit);
        for (_, reply) in self.waiting.drain(..) {
            answer(reply, Err(ProposeError::Unknown("this server fell behind the others".into())));
        }
        for (_, reply) in self.changing.drain(..) {
            answer(reply, Err(ProposeError::Unknown("this server fell behind the others".into())));
        }
        self.checkpoint.last = metadata.index;
        (self.checkpoint.since, self.checkpoint.bytes) = (None, 0);
        self.checkpoint.dirty.clear();
        self.parts.applied = applied;
        self.parts.shared.publish(Arc::new(tables.clone()));
        self.parts.shared.hub.reset(tables.revision());
        self.parts.tables = tables;
        Ok(true)
    }

    /// Waits for the checkpoint that is under way. What else comes meanwhile is done afterwards.
    fn await_checkpoint(&mut self) -> Result<(), String> {
        while self.checkpoint.running {
            match self.parts.inbox.recv() {
                Ok(Command::Checkpointed(result)) => self.checkpointed(result?),
                Ok(other) => self.later.push_back(other),
                Err(_) => return Err("the checkpoint thread ended".into()),
            }
        }
        Ok(())
    }

    fn persist(&mut self, state: &HardState, entries: &[Entry]) -> Result<(), String> {
        let cut = self.checkpoint.cut.take();
        self.parts.shared.disk.begin();
        let durable = self.parts.log.persist(state, entries, cut.as_ref()).map_err(|e| format!("log: {e}"));
        self.parts.shared.disk.end();
        durable?;
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
                    self.checkpoint.bytes += data.len();
                    let txn = codec::decode(&data).map_err(|e| format!("log entry {}: {e}", at.index))?;
                    let (outcome, mut made) = apply(&mut self.parts.tables, at.term, &txn);
                    changes.append(&mut made);
                    Some(outcome)
                }
            };
            // What waits at or before this index and is not this entry was overwritten by another leader's.
            while let Some((position, reply)) = self.waiting.pop_front_if(|(p, _)| p.index <= at.index) {
                answers.push((reply, (position == at).then(|| outcome.clone()).flatten().map(|o| (o, at.index))));
            }
        }
        let members = &self.parts.applied.members;
        for (_, reply) in self.changing.extract_if(.., |(index, _)| *index <= last.index) {
            answer(reply, Ok(members.clone()));
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
            || self.checkpoint.bytes >= policy.bytes
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
        (c.since, c.bytes) = (None, 0);
        c.running = true;
        c.answering.append(&mut c.wanted);
        let dirty = std::mem::take(&mut c.dirty);
        let (tables, applied) = (Arc::new(self.parts.tables.clone()), self.parts.applied.clone());
        self.parts.checkpointer.submit(Job { tables, dirty, applied, all: false })
    }

    fn checkpointed(&mut self, done: Applied) {
        self.parts.shared.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint.running = false;
        self.parts.machine.checkpointed(done.at, done.members.clone(), Vec::new());
        // Members that are a little behind go on from the log: it keeps what the slowest of those that are there lacks,
        // but not more than since the checkpoint before.
        let slowest = self.progress().into_iter().filter(|p| p.active).map(|p| p.matched).min().unwrap_or(0);
        let machine = &mut self.parts.machine;
        let keep = if machine.has_peers() { slowest.max(self.checkpoint.last) } else { done.at.index };
        self.checkpoint.last = done.at.index;
        let truncated = machine.compact(done.at.index.min(keep));
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
        for (_, reply) in self.changing.drain(..) {
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
        self.later.drain(..).for_each(|c| decline(c, ProposeError::Stopped, ReadError::Stopped));
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
        Command::Read(reply) | Command::ReadAt(_, reply) => answer(reply, Err(read)),
        Command::Change(_, reply) => answer(reply, Err(propose)),
        Command::Stop { reply, .. } => answer(reply, Ok(())),
        // Whoever waits sees that the sender of the answer is gone.
        _ => {}
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
