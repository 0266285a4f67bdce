//! The driver: one thread that owns the raft machine, the log on disk and the tables. It takes whatever waits, makes it
//! durable in one commit, applies it, answers, and begins again: writers that come during a commit share the next one.

mod checkpoints;
mod install;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use copepod_consensus::rules::{Hold, Leaderless, News, Waiting};
use copepod_consensus::{Committed, ConfChangeV2, ConfState, Entry, HardState, Message, Progress, What};
use copepod_state::{Change, Outcome, Tables, apply, codec};
use tokio::sync::oneshot;

use checkpoints::CheckpointState;

use super::error::{Fault, guarded};
use super::load::{Loader, Open};
use super::mend::{Failed, Stop};
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

/// What a driver has as long as its store is open, whatever becomes of the disk.
pub(super) struct Keep {
    pub(super) shared: Arc<Shared>,
    pub(super) policy: CheckpointPolicy,
    pub(super) hold: fn(usize) -> Hold,
    pub(super) inbox: Receiver<Command>,
    pub(super) member: u64,
    pub(super) peers: Option<Arc<dyn Peers>>,
    pub(super) loader: Loader,
}

pub(super) struct Driver {
    pub(super) open: Open,
    pub(super) keep: Keep,
    /// Up to where readers and watchers have seen everything already when this began.
    shown: u64,
    /// Proposals that are in the log and not committed.
    waiting: Waiting<ProposeReply>,
    /// Reads that raft has not answered, and those that wait until an index is applied.
    asked: BTreeMap<u64, ReadReply>,
    reads: Vec<(u64, ReadReply)>,
    /// Not used before by this member: a leader may still hold an earlier question of the same number.
    next_read: u64,
    /// Whether it led when that was last said.
    leads: bool,
    /// When each other member was last heard of, and since when a leader knows that there is such a one.
    heard: BTreeMap<u64, Instant>,
    met: BTreeMap<u64, Instant>,
    /// Who waits for other members, at what index.
    changing: Vec<(u64, oneshot::Sender<Result<ConfState, ProposeError>>)>,
    /// A state that raft may ask to be installed.
    offered: Option<(Applied, Tables)>,
    /// Commands that came while something else had to be waited for.
    pub(super) later: VecDeque<Command>,
    checkpoint: CheckpointState,
    born: Instant,
    leaderless: Leaderless,
    next_tick: Instant,
}

impl Driver {
    pub(super) fn new(open: Open, keep: Keep) -> Driver {
        let checkpoint = CheckpointState { last: open.applied.at.index, ..CheckpointState::default() };
        Driver {
            open,
            shown: keep.shared.snapshot().revision(),
            keep,
            waiting: Waiting::default(),
            asked: BTreeMap::new(),
            reads: Vec::new(),
            next_read: crate::now().0,
            leads: false,
            heard: BTreeMap::new(),
            met: BTreeMap::new(),
            changing: Vec::new(),
            offered: None,
            later: VecDeque::new(),
            checkpoint,
            born: Instant::now(),
            leaderless: Leaderless::default(),
            next_tick: Instant::now() + TICK,
        }
    }

    /// Replays the log. A member that is alone leads at once, and then has everything that was ever acknowledged.
    pub(super) fn start(&mut self) -> Result<(), Fault> {
        let applied = self.open.applied.clone();
        if applied.at.index > 0 {
            self.open.machine.checkpointed(applied.at, applied.members, Vec::new());
        }
        self.settle()?;
        if self.open.machine.is_alone() {
            self.open.machine.campaign().map_err(|e| Fault::Damaged(e.to_string()))?;
            self.settle()?;
            if !self.open.machine.is_settled() {
                return Err(Fault::Damaged("the only member does not lead".into()));
            }
        }
        Ok(())
    }

    /// Works until it is stopped. After a failure nothing is acknowledged any more, until the disk gives back all that was.
    pub(super) fn run(mut self) {
        let (checkpoint, reply) = loop {
            // Raft panics, too, where its contract is broken.
            let reason = match guarded(|| self.work()) {
                Ok(stop) => break stop,
                Err(reason) => reason,
            };
            tracing::error!(reason, "the store failed; it acknowledges nothing any more");
            self.keep.shared.fail(reason.clone());
            match self.fail(&reason).mend(reason) {
                Ok(driver) => {
                    tracing::warn!("the store has everything that it acknowledged, and goes on");
                    driver.keep.shared.mend();
                    driver.keep.shared.set_role(&driver.open.machine);
                    self = driver;
                }
                Err(stopped) => {
                    let (keep, (_, reply)) = *stopped;
                    return keep.close(reply);
                }
            }
        };
        let result = if checkpoint { guarded(|| self.last_checkpoint()) } else { Ok(()) };
        if let Err(reason) = result {
            self.keep.shared.fail(reason);
        }
        self.turn_away();
        let Driver { open, keep, .. } = self;
        drop(open);
        keep.close(reply);
    }

    fn work(&mut self) -> Result<Stop, String> {
        loop {
            let mut next = self.wait();
            self.tick();
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
                    None if bytes < BATCH_BYTES => self.later.pop_front().or_else(|| self.keep.inbox.try_recv().ok()),
                    _ => None,
                };
            }
            self.propose(batch, replies);
            let done = guarded(|| {
                self.settle()?;
                self.maintain()
            });
            if let Err(reason) = done {
                // Who waits for the end must not hear of it before the files and the folder are let go.
                self.later.extend(stop.map(|(checkpoint, reply)| Command::Stop { checkpoint, reply }));
                return Err(reason);
            }
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }

    /// A member that is alone must have everything that was shown; one of several hears the rest from its leader.
    pub(super) fn keeps_what_was_shown(&self) -> Result<(), String> {
        let has = self.open.tables.revision();
        if self.open.machine.is_alone() && has < self.shown {
            return Err(format!("the disk has lost what was acknowledged: revision {has} after {}", self.shown));
        }
        Ok(())
    }

    /// What is neither data nor the end.
    fn obey(&mut self, command: Command) -> Result<(), String> {
        let machine = &mut self.open.machine;
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
            Command::State(reply) => answer(reply, (Arc::new(self.open.tables.clone()), self.open.applied.clone())),
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
        if let Err(e) = self.open.machine.step(message) {
            tracing::debug!("a message of another member was not taken: {e}");
        }
    }

    /// Hands leadership to `to`, or to whoever is furthest.
    fn transfer(&mut self, to: Option<u64>) {
        let voters = &self.open.machine.members().voters;
        let others = self.progress().into_iter().filter(|p| p.id != self.keep.member && voters.contains(&p.id));
        let furthest = others.max_by_key(|p| (p.active, p.matched)).map(|p| p.id);
        if let Some(to) = to.or(furthest) {
            self.open.machine.transfer_leader(to);
        }
    }

    /// What a leader knows of the members. Raft forgets once in an election timeout who was there, to see who still is;
    /// that is too short-sighted for anybody else.
    fn progress(&self) -> Vec<Progress> {
        let mut all = self.open.machine.progress();
        for p in &mut all {
            p.active = p.id == self.keep.member || self.heard.get(&p.id).is_some_and(|t| t.elapsed() < SILENCE);
        }
        all
    }

    /// Whether nobody else is there to speak with: then raft's clock stands still.
    fn is_quiet(&self) -> bool {
        let machine = &self.open.machine;
        machine.is_alone() && machine.is_leader() && !machine.has_peers()
    }

    /// Raft's clock goes on whatever there is to do.
    fn tick(&mut self) {
        if self.is_quiet() || Instant::now() < self.next_tick {
            return;
        }
        self.next_tick = Instant::now() + TICK;
        self.open.machine.tick();
        self.keep.shared.set_progress(self.progress());
        self.tell();
        // A read index may be lost on the way.
        let asked: Vec<u64> = self.asked.keys().copied().collect();
        asked.into_iter().for_each(|id| self.ask(id));
    }

    /// Says so when no leader is there for a while, and when one is there again.
    fn tell(&mut self) {
        let leader = self.open.machine.leader();
        match self.leaderless.look(leader.is_some(), self.born.elapsed()) {
            Some(News::Lost(since)) => {
                let heard: Vec<u64> =
                    self.heard.iter().filter(|(_, t)| t.elapsed() < SILENCE).map(|(id, _)| *id).collect();
                let voters = &self.open.machine.members().voters;
                tracing::warn!(
                    ?since,
                    ?voters,
                    ?heard,
                    "no leader is known: nothing is acknowledged until a majority is there"
                );
            }
            Some(News::Back(after)) => tracing::warn!(?after, leader, "there is a leader again"),
            None => {}
        }
    }

    /// The next command, or none when it is time for something else.
    fn wait(&mut self) -> Option<Command> {
        if let Some(command) = self.later.pop_front() {
            return Some(command);
        }
        let alone = self.is_quiet();
        let due = self.checkpoint.since.filter(|_| !self.checkpoint.running).map(|t| t + self.keep.policy.interval);
        let tick = (!alone).then_some(self.next_tick);
        if self.open.log.has_garbage() || self.checkpoint.cut.is_some() {
            return self.keep.inbox.try_recv().ok();
        }
        let until = match (due, tick) {
            (None, None) => return self.keep.inbox.recv().ok().or_else(|| Some(abandoned())),
            (a, b) => a.into_iter().chain(b).min()?,
        };
        let now = Instant::now();
        match self.keep.inbox.recv_timeout(until.saturating_duration_since(now)) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(abandoned()),
        }
    }

    fn propose(&mut self, batch: Vec<Vec<u8>>, replies: Vec<ProposeReply>) {
        if batch.is_empty() {
            return;
        }
        self.keep.shared.stats.proposals.fetch_add(batch.len() as u64, Ordering::Relaxed);
        match self.open.machine.propose(batch) {
            Ok(first) => self.waiting.add(first, replies),
            Err(e) => {
                let refused = match e {
                    copepod_consensus::Error::Full => ProposeError::Busy,
                    _ => ProposeError::NotLeader { leader: self.open.machine.leader() },
                };
                replies.into_iter().for_each(|r| answer(r, Err(refused.clone())));
            }
        }
    }

    fn ask(&mut self, id: u64) {
        let context = [self.keep.member, id].map(u64::to_le_bytes).concat();
        let asked = self.open.machine.read_index(context);
        if asked.is_err()
            && let Some(reply) = self.asked.remove(&id)
        {
            answer(reply, Err(ReadError::NotReady));
        }
    }

    /// Does what the machine wants until it wants nothing.
    fn settle(&mut self) -> Result<(), Fault> {
        while let Some(mut work) = self.open.machine.work() {
            self.send(std::mem::take(&mut work.messages));
            let state = work.hard_state().cloned().unwrap_or_else(|| self.open.machine.hard_state().clone());
            let installed = self.install(&work, &state).map_err(Fault::Damaged)?;
            if work.must_sync() || installed {
                self.persist(&state, work.entries())?;
            }
            let done = self.open.machine.persisted(work).map_err(|e| Fault::Damaged(e.to_string()))?;
            if installed {
                self.open.machine.applied(self.open.applied.at.index);
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
        if self.open.machine.is_leader() != std::mem::replace(&mut self.leads, self.open.machine.is_leader()) {
            self.keep.shared.set_progress(self.progress());
        }
        self.keep.shared.set_role(&self.open.machine);
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        if let Some(peers) = &self.keep.peers
            && !messages.is_empty()
        {
            peers.send(messages);
        }
    }

    fn persist(&mut self, state: &HardState, entries: &[Entry]) -> Result<(), Fault> {
        let cut = self.checkpoint.cut.take();
        self.keep.shared.disk.begin();
        let durable = self.open.log.persist(state, entries, cut.as_ref()).map_err(Fault::Log);
        self.keep.shared.disk.end();
        if durable? {
            self.open.persisted_commit = state.commit;
        }
        self.keep.shared.stats.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Applies committed entries; shows them to readers, then to watchers, then to those who proposed them.
    fn take_in(&mut self, committed: Vec<Committed>) -> Result<(), Fault> {
        let Some(last) = committed.last().map(|c| c.at) else { return Ok(()) };
        let mut changes: Vec<Change> = Vec::new();
        let mut answers = Vec::new();
        let mut regrouped = false;
        for Committed { at, what } in committed {
            let outcome = match what {
                What::Nothing => None,
                What::Members(members) => {
                    self.open.applied.members = members;
                    regrouped = true;
                    None
                }
                What::Data(data) => {
                    self.checkpoint.bytes += data.len();
                    let unknown = |e| Fault::Damaged(format!("log entry {}: {e}", at.index));
                    let txn = codec::decode(&data).map_err(unknown)?;
                    let (outcome, mut made) = apply(&mut self.open.tables, at.term, &txn);
                    changes.append(&mut made);
                    Some(outcome)
                }
            };
            while let Some((reply, own)) = self.waiting.decided(at) {
                answers.push((reply, own.then(|| outcome.clone()).flatten().map(|o| (o, at.index))));
            }
        }
        // What the mirror does not have has to be written, whether it was shown before or not.
        self.checkpoint.dirty.extend(changes.iter().map(|c| c.key.clone()));
        // After a failure the log is replayed, and what it says was said before.
        changes.retain(|c| c.revision > self.shown);
        if regrouped {
            // Nothing is sent to the new group, and nothing is committed by it, before it is known on disk that it is the
            // group: a member that came back as one of an older group could find a majority where there is none.
            let state = self.open.machine.hard_state().clone();
            self.persist(&state, &[])?;
        }
        let members = &self.open.applied.members;
        for (_, reply) in self.changing.extract_if(.., |(index, _)| *index <= last.index) {
            answer(reply, Ok(members.clone()));
        }
        self.open.applied.at = last;
        self.open.machine.applied(last.index);
        self.checkpoint.since.get_or_insert_with(Instant::now);
        if !changes.is_empty() {
            self.keep.shared.publish(Arc::new(self.open.tables.clone()));
            self.keep.shared.hub.publish(changes);
        }
        let leader = self.open.machine.leader();
        for (reply, outcome) in answers {
            answer(reply, outcome.ok_or(ProposeError::NotLeader { leader }));
        }
        Ok(())
    }

    fn serve_reads(&mut self) {
        let applied = self.open.applied.at.index;
        for (_, reply) in self.reads.extract_if(.., |(index, _)| *index <= applied) {
            answer(reply, Ok(self.keep.shared.snapshot()));
        }
    }

    /// After a failure: what is in the log has an unknown outcome, everything else is turned away, and the files are closed.
    fn fail(mut self, reason: &str) -> Failed {
        for reply in self.waiting.drain() {
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
        let Driver { open, keep, later, .. } = self;
        Failed { promised: open.log.promised(), keep, later }
    }

    /// What waits when the store is closed.
    fn turn_away(&mut self) {
        for reply in self.waiting.drain() {
            answer(reply, Err(ProposeError::Unknown("the store was closed".into())));
        }
        self.later.drain(..).for_each(|c| decline(c, ProposeError::Stopped, ReadError::Stopped));
        while let Ok(command) = self.keep.inbox.try_recv() {
            decline(command, ProposeError::Stopped, ReadError::Stopped);
        }
    }
}

impl Keep {
    /// The end: whoever asks from now on finds nobody.
    fn close(self, reply: oneshot::Sender<Result<(), String>>) {
        let shared = self.shared.clone();
        let result = shared.health();
        shared.hub.stop();
        drop(self);
        shared.release();
        // Nobody may wait for it.
        let _ = reply.send(result);
    }
}

pub(super) fn decline(command: Command, propose: ProposeError, read: ReadError) {
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
