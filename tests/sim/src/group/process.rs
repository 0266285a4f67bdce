//! A server's process: the real machine, the real apply, and a small driver that keeps to the rules of the store's own
//! (`control/server/src/store/driver`): durable before anything is promised, applied before it is shown, shown before it
//! is answered; checkpoints behind the log; snapshots for those who are far behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use copepod_consensus::rules::{self, Hold, Waiting};
use copepod_consensus::{
    Committed, ConfChangeV2, ConfState, HardState, Machine, Message, Options, Position, Progress, SnapshotMetadata,
    What, Work,
};
use copepod_machine::Time;
use copepod_state::{Change, Outcome, Tables, WindowLimits, apply, codec};

use super::disk::{Applied, Batch, Disk, Trouble};
use super::hub::Hub;
use crate::bug::Bug;
use crate::counts::Counts;
use crate::exec::{Sender, Signal};

/// Raft's clock.
pub const TICK: Duration = Duration::from_millis(50);
/// As the store has it.
const SILENCE: Duration = Duration::from_secs(1);
/// How much of the log is kept for others: nothing beyond the checkpoint before, so that runs of some seconds see members
/// that are too far behind.
pub const LITTLE: Hold = Hold { bytes: 0, silence: SILENCE };
/// More than such a run has.
pub const MUCH: Hold = Hold { bytes: 1 << 30, silence: Duration::from_secs(300) };
/// A checkpoint is due when something has waited for it so long.
const CHECKPOINT: Duration = Duration::from_secs(2);
const WINDOW: WindowLimits = WindowLimits { changes: 300, bytes: usize::MAX };
/// In front of each transaction: whose it is.
pub const TAG: usize = 8;

/// Why a proposal is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// It will never be applied.
    NotLeader,
    /// Nobody knows.
    Unknown,
    /// The space quota.
    NoSpace,
}

/// The answer to a proposal: what became of it, and at which index.
pub type ProposeReply = Sender<Result<(Outcome, u64), ProposeError>>;
/// The answer to a read; none where it cannot be proven.
pub type ReadReply = Sender<Option<Tables>>;

/// What a process can be asked.
pub enum Command {
    /// A tagged transaction.
    Propose(Vec<u8>, ProposeReply),
    /// A linearizable snapshot.
    Read(ReadReply),
    /// A snapshot that has everything up to an index.
    ReadAt(u64, ReadReply),
    /// A message of another member.
    Step(Message),
    /// A snapshot that another member sends, and what it stands for.
    Install(Message, Applied, Tables),
    /// Other members.
    Change(ConfChangeV2, Sender<Result<ConfState, ProposeError>>),
    /// Leadership to another member.
    Transfer(u64),
    /// A member got its snapshot, or did not.
    SnapshotSent(u64, bool),
    /// The checkpoint is durable.
    Checkpointed(u64, Applied),
    /// Raft's clock.
    Tick,
}

/// What others see of a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    /// The term.
    pub term: u64,
    /// Who leads, as far as is known.
    pub leader: Option<u64>,
    /// Whether this one leads and knows all that was committed.
    pub leads: bool,
    /// Whether it is the only one that votes, and leads.
    pub sovereign: bool,
    /// Who takes part.
    pub members: ConfState,
}

/// What is seen of a process, for the invariants.
pub enum Seen {
    /// An entry was applied.
    Applied {
        /// Where.
        at: Position,
        /// The term in which the member was that applied it.
        term: u64,
        /// Whose transaction, 0 for none.
        tag: u64,
        /// What became of it.
        outcome: Option<Outcome>,
        /// What changed.
        changes: Vec<Arc<Change>>,
        /// The objects after it.
        tables: Tables,
        /// The members after it.
        members: ConfState,
    },
    /// Another member's state was installed.
    Installed(Applied, Tables),
    /// It leads in this term.
    Leads(u64),
    /// An entry was written: its place, and a digest of it.
    Wrote(Position, u64),
    /// It started.
    Started,
}

/// What a process wants of the world after a step.
#[derive(Default)]
pub struct Out {
    /// Messages to send.
    pub messages: Vec<Message>,
    /// What was seen.
    pub seen: Vec<Seen>,
    /// A write is under way and takes so long.
    pub flight: Option<Duration>,
    /// A checkpoint was begun.
    pub checkpoint: Option<(u64, Applied)>,
    /// Why it failed.
    pub failed: Option<String>,
}

/// A write under way; nothing else happens meanwhile.
enum Flight {
    Work(Box<Work>),
    /// A mark in the log, then the objects, then the log behind them.
    Mark(Box<Work>, HardState),
    Objects(Box<Work>, HardState),
    Tidy,
}

#[derive(Default)]
struct Checkpoint {
    since: Option<Time>,
    last: u64,
    /// The number of the one that is under way.
    running: Option<u64>,
    begun: u64,
    cut: Option<SnapshotMetadata>,
}

/// A process.
pub struct Process {
    id: u64,
    machine: Machine,
    /// What is applied.
    pub tables: Tables,
    /// How far that is.
    pub applied: Applied,
    persisted_commit: u64,
    /// What readers see.
    pub shown: Tables,
    /// Its watchers.
    pub hub: Hub,
    /// What it is in the group.
    pub role: Role,
    /// Rings when something is shown or the role changes.
    pub signal: Signal,
    waiting: Waiting<ProposeReply>,
    asked: BTreeMap<u64, ReadReply>,
    reads: Vec<(u64, ReadReply)>,
    next_read: u64,
    changing: Vec<(u64, Sender<Result<ConfState, ProposeError>>)>,
    offered: Option<(Applied, Tables)>,
    heard: BTreeMap<u64, Time>,
    met: BTreeMap<u64, Time>,
    /// How much of the log it keeps for others when it leads.
    pub hold: Hold,
    /// How often another's state was put in the place of its own.
    pub installed: u64,
    /// What waits for it.
    pub inbox: VecDeque<Command>,
    flight: Option<Flight>,
    checkpoint: Checkpoint,
    bug: Option<Bug>,
    now: Time,
    settled: bool,
    /// Whether the alarm of the space quota is on.
    pub full: bool,
}

impl Process {
    /// A process on what the disk knows. `ticks` are those of its elections.
    pub fn start(
        id: u64,
        disk: &mut Disk,
        ticks: usize,
        now: Time,
        bug: Option<Bug>,
        counts: &Counts,
    ) -> Result<Process, String> {
        let (mut restored, applied, tables) = disk.open()?;
        if bug == Some(Bug::ApplyTwice) {
            restored.applied = restored.truncated.index.max(restored.applied.saturating_sub(3));
        }
        let persisted_commit = restored.hard_state.commit;
        let options = Options { election_ticks: 8, fixed_election_ticks: Some(8 + ticks % 8), ..Options::new(id) };
        let mut machine = Machine::new(&options, restored).map_err(|e| e.to_string())?;
        machine.checkpointed(applied.at, applied.members.clone(), Vec::new());
        let signal = Signal::default();
        let checkpoint = Checkpoint { last: applied.at.index, ..Checkpoint::default() };
        Ok(Process {
            id,
            machine,
            shown: tables.clone(),
            hub: Hub::new(WINDOW, tables.revision(), signal.clone(), counts.clone()),
            tables,
            applied,
            persisted_commit,
            role: Role::default(),
            signal,
            waiting: Waiting::default(),
            asked: BTreeMap::new(),
            reads: Vec::new(),
            next_read: now.0,
            changing: Vec::new(),
            offered: None,
            heard: BTreeMap::new(),
            met: BTreeMap::new(),
            hold: LITTLE,
            installed: 0,
            inbox: VecDeque::new(),
            flight: None,
            checkpoint,
            bug,
            now,
            settled: false,
            full: false,
        })
    }

    /// Whether somebody waits for raft here.
    pub fn is_waited_for(&self) -> bool {
        let waits = !self.waiting.is_empty() || !self.asked.is_empty() || !self.reads.is_empty();
        waits
            || !self.changing.is_empty()
            || !self.inbox.is_empty()
            || self.flight.is_some()
            || self.checkpoint.running.is_some()
    }

    /// Whether the installation of another member's state is under way.
    pub fn installs(&self) -> bool {
        matches!(self.flight, Some(Flight::Mark(..) | Flight::Objects(..)))
    }

    /// What a leader knows of the others.
    pub fn progress(&self) -> Vec<Progress> {
        let mut all = self.machine.progress();
        for p in &mut all {
            p.active = p.id == self.id || self.heard.get(&p.id).is_some_and(|t| self.now.since(*t) < SILENCE);
        }
        all
    }

    /// The last entry of its log.
    pub fn last_index(&self) -> u64 {
        self.machine.last_index()
    }

    /// Works until it has to wait for the disk or for somebody.
    pub fn run(&mut self, disk: &mut Disk, now: Time, out: &mut Out) {
        self.now = now;
        if let Err(why) = self.work(disk, out) {
            out.failed = Some(why);
        }
    }

    /// The write that was under way is durable.
    pub fn written(&mut self, disk: &mut Disk, now: Time, out: &mut Out) {
        self.now = now;
        let result = match self.flight.take() {
            None => Ok(()),
            Some(flight) => match disk.trouble.of_a_write() {
                Ok(()) => {
                    disk.sync();
                    self.land(flight, disk, out)
                }
                failed => {
                    if disk.trouble == Trouble::Full {
                        disk.forget();
                    }
                    failed
                }
            },
        };
        if let Err(why) = result.and_then(|()| self.work(disk, out)) {
            out.failed = Some(why);
        }
    }

    fn land(&mut self, flight: Flight, disk: &mut Disk, out: &mut Out) -> Result<(), String> {
        match flight {
            Flight::Tidy => disk.tidy(),
            Flight::Work(work) => self.done(*work, false, disk, out),
            Flight::Mark(work, state) => {
                if let Some((applied, tables)) = &self.offered {
                    disk.replace(applied.clone(), tables.clone());
                }
                self.fly(Flight::Objects(work, state), disk, out);
                Ok(())
            }
            Flight::Objects(work, state) => {
                disk.replaced()?;
                let (applied, tables) = self.offered.take().ok_or("the snapshot has gone")?;
                let metadata = applied.metadata();
                self.persisted_commit = metadata.index.max(state.commit);
                let (hard_state, truncated) = (Some(state), Some(metadata));
                disk.append(&Batch { hard_state, truncated, installed: true, ..Batch::default() });
                disk.append(&Batch { entries: work.entries().to_vec(), ..Batch::default() });
                disk.sync();
                for reply in self.waiting.drain() {
                    reply.send(Err(ProposeError::Unknown));
                }
                for (_, reply) in self.changing.drain(..) {
                    reply.send(Err(ProposeError::Unknown));
                }
                let begun = self.checkpoint.begun;
                self.checkpoint = Checkpoint { last: applied.at.index, begun, ..Checkpoint::default() };
                self.hub.reset(tables.revision(), self.bug == Some(Bug::WatchSkips));
                (self.shown, self.tables, self.applied) = (tables.clone(), tables.clone(), applied.clone());
                self.signal.ring();
                self.installed += 1;
                out.seen.push(Seen::Installed(applied, tables));
                self.done(*work, true, disk, out)
            }
        }
    }

    fn fly(&mut self, flight: Flight, disk: &Disk, out: &mut Out) {
        out.flight = Some(Duration::from_micros(300) + disk.trouble.delay());
        self.flight = Some(flight);
    }

    fn work(&mut self, disk: &mut Disk, out: &mut Out) -> Result<(), String> {
        loop {
            if !self.settle(disk, out)? || !self.maintain(disk, out)? || self.inbox.is_empty() {
                return Ok(());
            }
            let mut batch = Vec::new();
            let mut replies = Vec::new();
            while let Some(command) = self.inbox.pop_front() {
                match command {
                    Command::Propose(data, reply) => {
                        batch.push(data);
                        replies.push(reply);
                    }
                    other => self.obey(other),
                }
                if self.offered.is_some() {
                    break;
                }
            }
            self.propose(batch, replies);
        }
    }

    fn propose(&mut self, batch: Vec<Vec<u8>>, replies: Vec<ProposeReply>) {
        if batch.is_empty() {
            return;
        }
        match self.machine.propose(batch) {
            Ok(first) => self.waiting.add(first, replies),
            Err(_) => replies.into_iter().for_each(|r| r.send(Err(ProposeError::NotLeader))),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Read(reply) => {
                if self.bug == Some(Bug::StaleRead) && self.machine.is_leader() {
                    return reply.send(Some(self.shown.clone()));
                }
                self.next_read += 1;
                self.asked.insert(self.next_read, reply);
                self.ask(self.next_read);
            }
            Command::ReadAt(index, reply) => {
                self.reads.push((index, reply));
                self.serve_reads();
            }
            Command::Step(message) => {
                self.heard.insert(message.from, self.now);
                // A message can be late, or from a member that is none any more.
                let _ = self.machine.step(message);
            }
            Command::Install(mut message, applied, tables) => {
                *message.mut_snapshot().mut_metadata() = applied.metadata();
                self.offered = Some((applied, tables));
                self.heard.insert(message.from, self.now);
                let _ = self.machine.step(message);
            }
            Command::Change(change, reply) => {
                let index = self.machine.last_index() + 1;
                match self.machine.propose_members(change) {
                    Ok(()) => self.changing.push((index, reply)),
                    Err(_) => reply.send(Err(ProposeError::NotLeader)),
                }
            }
            Command::Transfer(to) => self.machine.transfer_leader(to),
            Command::SnapshotSent(member, arrived) => self.machine.report_snapshot(member, arrived),
            Command::Checkpointed(number, done) if self.wants_checkpoint(number) => self.checkpointed(done),
            Command::Checkpointed(..) => {}
            Command::Tick => {
                self.machine.tick();
                let asked: Vec<u64> = self.asked.keys().copied().collect();
                asked.into_iter().for_each(|id| self.ask(id));
            }
            Command::Propose(..) => {}
        }
    }

    fn ask(&mut self, id: u64) {
        let context = [self.id, id].map(u64::to_le_bytes).concat();
        let asked = self.machine.read_index(context);
        if asked.is_err()
            && let Some(reply) = self.asked.remove(&id)
        {
            reply.send(None);
        }
    }

    /// Does what the machine wants; false when a write is under way.
    fn settle(&mut self, disk: &mut Disk, out: &mut Out) -> Result<bool, String> {
        if self.flight.is_some() {
            return Ok(false);
        }
        while let Some(mut work) = self.machine.work() {
            out.messages.append(&mut work.messages);
            let state = work.hard_state().cloned().unwrap_or_else(|| self.machine.hard_state().clone());
            if let Some(metadata) = work.snapshot().map(|s| s.get_metadata().clone()) {
                let fits = |(a, _): &&(Applied, Tables)| (a.at.index, a.at.term) == (metadata.index, metadata.term);
                if self.offered.as_ref().filter(fits).is_none() {
                    return Err("raft wants a snapshot installed that did not come".into());
                }
                disk.append(&Batch { installing: Some(metadata), ..Batch::default() });
                // A checkpoint that is under way is of the old objects: it is not to come after the new ones.
                self.checkpoint.running = None;
                self.fly(Flight::Mark(Box::new(work), state), disk, out);
                return Ok(false);
            }
            if work.must_sync() {
                self.write(&state, &work, disk, out);
                if self.bug != Some(Bug::AcknowledgeBeforeSync) {
                    self.fly(Flight::Work(Box::new(work)), disk, out);
                    return Ok(false);
                }
            }
            self.done(work, false, disk, out)?;
        }
        // Raft has no use for it: what it has is at least as new.
        self.offered = None;
        self.set_role(out);
        Ok(true)
    }

    fn write(&mut self, state: &HardState, work: &Work, disk: &mut Disk, out: &mut Out) {
        for e in work.entries() {
            let digest = crate::trace::digest(&e.data) ^ e.entry_type as u64;
            out.seen.push(Seen::Wrote(Position { index: e.index, term: e.term }, digest));
        }
        let truncated = self.checkpoint.cut.take();
        self.persisted_commit = state.commit;
        disk.append(&Batch {
            hard_state: Some(state.clone()),
            entries: work.entries().to_vec(),
            truncated,
            ..Batch::default()
        });
    }

    fn done(&mut self, work: Work, installed: bool, disk: &mut Disk, out: &mut Out) -> Result<(), String> {
        let done = self.machine.persisted(work).map_err(|e| e.to_string())?;
        if installed {
            self.machine.applied(self.applied.at.index);
        }
        out.messages.extend(done.messages);
        for read in done.reads {
            let id = read.request_ctx.get(8..).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
            if let Some(reply) = self.asked.remove(&id) {
                self.reads.push((read.index, reply));
            }
        }
        self.take_in(done.committed, disk, out)?;
        self.serve_reads();
        Ok(())
    }

    fn take_in(&mut self, committed: Vec<Committed>, disk: &mut Disk, out: &mut Out) -> Result<(), String> {
        let Some(last) = committed.last().map(|c| c.at) else { return Ok(()) };
        let mut all = Vec::new();
        let mut answers = Vec::new();
        let mut regrouped = false;
        for Committed { at, what } in committed {
            let (mut tag, mut outcome, mut changes) = (0, None, Vec::new());
            match what {
                What::Nothing => {}
                What::Members(members) => {
                    self.applied.members = members;
                    regrouped = true;
                }
                What::Data(data) => {
                    let (head, body) = data.split_first_chunk::<TAG>().ok_or("an entry without a tag")?;
                    tag = u64::from_le_bytes(*head);
                    let txn = codec::decode(body).map_err(|e| format!("log entry {}: {e}", at.index))?;
                    let (came, made) = apply(&mut self.tables, at.term, &txn);
                    changes = made.into_iter().map(Arc::new).collect();
                    outcome = Some(came);
                }
            }
            while let Some((reply, own)) = self.waiting.decided(at) {
                answers.push((reply, own.then(|| outcome.clone()).flatten().map(|o| (o, at.index))));
            }
            all.extend(changes.iter().cloned());
            let (tables, members, term) = (self.tables.clone(), self.applied.members.clone(), self.machine.term());
            out.seen.push(Seen::Applied { at, term, tag, outcome, changes, tables, members });
        }
        if regrouped {
            let state = self.machine.hard_state().clone();
            self.persisted_commit = state.commit;
            disk.append(&Batch { hard_state: Some(state), ..Batch::default() });
            disk.sync();
        }
        for (_, reply) in self.changing.extract_if(.., |(index, _)| *index <= last.index) {
            reply.send(Ok(self.applied.members.clone()));
        }
        self.applied.at = last;
        self.machine.applied(last.index);
        self.checkpoint.since.get_or_insert(self.now);
        self.shown = self.tables.clone();
        self.hub.publish(&all);
        self.signal.ring();
        for (reply, outcome) in answers {
            reply.send(outcome.ok_or(ProposeError::NotLeader));
        }
        Ok(())
    }

    fn serve_reads(&mut self) {
        for (_, reply) in self.reads.extract_if(.., |(index, _)| *index <= self.applied.at.index) {
            reply.send(Some(self.shown.clone()));
        }
    }

    fn set_role(&mut self, out: &mut Out) {
        let m = &self.machine;
        let role = Role {
            term: m.term(),
            leader: m.leader(),
            leads: m.is_settled(),
            sovereign: m.is_alone() && m.is_settled(),
            members: m.members().clone(),
        };
        if m.is_leader() && !std::mem::replace(&mut self.settled, m.is_leader()) {
            out.seen.push(Seen::Leads(role.term));
        }
        self.settled = m.is_leader();
        if role != self.role {
            self.role = role;
            self.signal.ring();
        }
    }

    /// Starts a checkpoint when it is time, and tidies the log behind the last one; false when a write is under way.
    fn maintain(&mut self, disk: &mut Disk, out: &mut Out) -> Result<bool, String> {
        let due = self.checkpoint.running.is_none()
            && self.checkpoint.since.is_some_and(|t| self.now.since(t) >= CHECKPOINT)
            && out.checkpoint.is_none();
        let early = due && self.persisted_commit < self.applied.at.index;
        if self.checkpoint.cut.is_some() || early {
            let state = self.machine.hard_state().clone();
            self.persisted_commit = state.commit;
            let truncated = self.checkpoint.cut.take();
            disk.append(&Batch { hard_state: Some(state), truncated, ..Batch::default() });
            self.fly(Flight::Tidy, disk, out);
            return Ok(false);
        }
        if due {
            self.checkpoint.begun += 1;
            (self.checkpoint.since, self.checkpoint.running) = (None, Some(self.checkpoint.begun));
            disk.replace(self.applied.clone(), self.tables.clone());
            out.checkpoint = Some((self.checkpoint.begun, self.applied.clone()));
        }
        Ok(true)
    }

    fn checkpointed(&mut self, done: Applied) {
        self.checkpoint.running = None;
        self.machine.checkpointed(done.at, done.members.clone(), Vec::new());
        let (others, machine) = (self.silences(), &self.machine);
        let (before, floor) = (self.checkpoint.last, machine.floor(self.hold.bytes));
        let upto = rules::cut(done.at.index, before, &others, machine.has_peers(), self.hold, floor);
        self.checkpoint.last = done.at.index;
        let truncated = self.machine.compact(upto);
        self.checkpoint.cut =
            Some(SnapshotMetadata { index: truncated.index, term: truncated.term, conf_state: Some(done.members) });
    }

    fn silences(&mut self) -> Vec<(Progress, Duration)> {
        let (now, all) = (self.now, self.progress());
        self.met.retain(|id, _| all.iter().any(|p| p.id == *id));
        let silent = |p: Progress| {
            let met = *self.met.entry(p.id).or_insert(now);
            let last = self.heard.get(&p.id).map_or(met, |heard| met.max(*heard));
            (p, if p.id == self.id { Duration::ZERO } else { now.since(last) })
        };
        all.into_iter().map(silent).collect()
    }

    /// Whether the checkpoint of this number is still under way: then it may replace the objects.
    pub fn wants_checkpoint(&self, number: u64) -> bool {
        self.checkpoint.running == Some(number)
    }

    /// The end of the process, or of its disk: what is in the log has an unknown outcome.
    pub fn fail(mut self) {
        for reply in self.waiting.drain() {
            reply.send(Err(ProposeError::Unknown));
        }
        for (_, reply) in self.changing.drain(..) {
            reply.send(Err(ProposeError::Unknown));
        }
        for reply in std::mem::take(&mut self.asked).into_values().chain(self.reads.drain(..).map(|(_, r)| r)) {
            reply.send(None);
        }
        self.hub.stop();
    }
}
