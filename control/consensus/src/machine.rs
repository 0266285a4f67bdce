//! The machine: raft's raw node, its log, and the order in which what it wants is done.

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};
use raft::{Config, RawNode, ReadState, Ready, StateRole, StorageError};

use crate::log::{Log, Position};

/// How this member takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member's id, not 0.
    pub id: u64,
    /// Ticks without a leader after which an election begins; the real number is drawn from here to twice as many.
    pub election_ticks: usize,
    /// Exactly this many ticks instead of a draw, so that a simulation repeats itself. Give each member its own.
    pub fixed_election_ticks: Option<usize>,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// How many bytes of data a leader may hold that no majority has yet, at least a mebibyte; what would make them more is turned
    /// away. If there are none, one round is taken however large it is.
    pub uncommitted_bytes: u64,
}

impl Options {
    /// The usual values.
    pub fn new(id: u64) -> Options {
        Options { id, election_ticks: 10, fixed_election_ticks: None, heartbeat_ticks: 2, uncommitted_bytes: 256 << 20 }
    }
}

/// What the disk knows when a member starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The members as of `applied`.
    pub conf_state: ConfState,
    /// The position before the first entry.
    pub truncated: Position,
    /// The log, without gaps.
    pub entries: Vec<Entry>,
    /// The index up to which the state machine already has everything.
    pub applied: u64,
}

/// Why the machine refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was restored contradicts itself.
    #[error("the log is inconsistent: {0}")]
    Inconsistent(String),
    /// Only the leader can do this.
    #[error("not the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<u64>,
    },
    /// Not now: leadership is being handed over, or this term has not committed anything yet.
    #[error("not ready yet")]
    NotReady,
    /// Not now: as much waits for a majority as may ([`Options::uncommitted_bytes`]). Nothing of it is in the log.
    #[error("too much waits for a majority")]
    Full,
    /// Raft's own.
    #[error(transparent)]
    Raft(#[from] raft::Error),
}

/// What has to be done, in the order that the crate's page shows.
#[derive(Debug)]
pub struct Work {
    /// Messages that need not wait for the disk.
    pub messages: Vec<Message>,
    ready: Ready,
}

impl Work {
    /// Entries to make durable; what stands at their indexes and behind them is replaced.
    pub fn entries(&self) -> &[Entry] {
        self.ready.entries()
    }
    /// Term, vote and commit index to make durable, if they changed.
    pub fn hard_state(&self) -> Option<&HardState> {
        self.ready.hs()
    }
    /// A snapshot to install before the entries, if the leader sent one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        Some(self.ready.snapshot()).filter(|s| !s.is_empty())
    }
    /// Whether the disk must be synced before [`Machine::persisted`].
    pub fn must_sync(&self) -> bool {
        self.ready.must_sync()
    }
}

/// What may be done once a [`Work`] is durable.
#[derive(Debug, Default)]
pub struct Done {
    /// Messages that promise what is durable now.
    pub messages: Vec<Message>,
    /// Entries to apply, in order.
    pub committed: Vec<Committed>,
    /// Reads that may be served once their index is applied.
    pub reads: Vec<ReadState>,
}

/// A committed entry.
#[derive(Debug)]
pub struct Committed {
    /// Where it is.
    pub at: Position,
    /// What it is.
    pub what: What,
}

/// The contents of a committed entry.
#[derive(Debug)]
pub enum What {
    /// A new leader's first entry.
    Nothing,
    /// What was proposed.
    Data(Vec<u8>),
    /// The members from here on; already in force.
    Members(ConfState),
}

/// What a leader knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whose.
    pub id: u64,
    /// The last entry that is known to be durable there.
    pub matched: u64,
    /// Whether it has answered within the last election timeout.
    pub active: bool,
    /// The index of the snapshot that it is waiting for, if its log cannot be continued.
    pub snapshot: Option<u64>,
}

/// One member of the group.
pub struct Machine {
    node: RawNode<Log>,
    id: u64,
    uncommitted_bytes: u64,
}

impl Machine {
    /// A member that continues with what the disk knows; of a new group, `restored.conf_state` names its members.
    pub fn new(options: &Options, restored: Restored) -> Result<Machine, Error> {
        check(&restored)?;
        let fixed = options.fixed_election_ticks;
        let config = Config {
            id: options.id,
            election_tick: options.election_ticks,
            min_election_tick: fixed.unwrap_or(0),
            max_election_tick: fixed.map_or(0, |t| t + 1),
            heartbeat_tick: options.heartbeat_ticks,
            applied: restored.applied,
            max_size_per_msg: 1 << 20,
            max_uncommitted_size: options.uncommitted_bytes,
            check_quorum: true,
            pre_vote: true,
            // Raft 0.7.0 hangs entries on a message that waits to be sent and has none, whatever index that one follows
            // (`try_batching`): a follower then confirms what it does not have. One round is one message as it is.
            batch_append: false,
            ..Config::default()
        };
        let bytes = restored.entries.iter().map(|e| e.data.len()).sum();
        let log = Log {
            hard_state: restored.hard_state,
            conf_state: restored.conf_state,
            truncated: restored.truncated,
            entries: restored.entries.into(),
            bytes,
            snapshot: None,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &logger)?;
        Ok(Machine { node, id: options.id, uncommitted_bytes: options.uncommitted_bytes })
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Starts an election now, instead of after the time without a leader.
    pub fn campaign(&mut self) -> Result<(), Error> {
        Ok(self.node.campaign()?)
    }

    /// Proposes entries, which get indexes without gaps from the one in the result on, at the current term.
    pub fn propose(&mut self, data: impl IntoIterator<Item = Vec<u8>>) -> Result<Position, Error> {
        self.must_lead()?;
        let entries: Vec<Entry> = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect();
        // Raft would drop it by the same rule, and not say why.
        let (held, more) = (self.node.raft.uncommitted_size(), entries.iter().map(|e| e.data.len()).sum::<usize>());
        if held > 0 && more > 0 && (held + more) as u64 > self.uncommitted_bytes {
            return Err(Error::Full);
        }
        let first = Position { index: self.node.raft.raft_log.last_index() + 1, term: self.term() };
        if !entries.is_empty() {
            let mut m = Message { from: self.id, entries, ..Message::default() };
            m.set_msg_type(MessageType::MsgPropose);
            self.node.raft.step(m).map_err(dropped)?;
        }
        Ok(first)
    }

    /// Proposes other members.
    pub fn propose_members(&mut self, change: ConfChangeV2) -> Result<(), Error> {
        self.must_lead()?;
        self.node.propose_conf_change(Vec::new(), change).map_err(dropped)
    }

    /// Takes a message from another member.
    pub fn step(&mut self, message: Message) -> Result<(), Error> {
        Ok(self.node.step(message)?)
    }

    /// Asks for the index up to which a read must see everything; it comes with the `context` in [`Done::reads`]. May be
    /// lost on the way: ask again after a while.
    pub fn read_index(&mut self, context: Vec<u8>) -> Result<(), Error> {
        // Raft would drop these without a word.
        if self.is_leader() && !self.node.raft.commit_to_current_term() {
            return Err(Error::NotReady);
        }
        if !self.is_leader() && self.leader().is_none() {
            return Err(Error::NotLeader { leader: None });
        }
        self.node.read_index(context);
        Ok(())
    }

    /// Hands leadership to another member.
    pub fn transfer_leader(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    /// A message to `member` could not be delivered.
    pub fn report_unreachable(&mut self, member: u64) {
        self.node.report_unreachable(member);
    }

    /// A snapshot for `member` arrived, or did not.
    pub fn report_snapshot(&mut self, member: u64, arrived: bool) {
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.node.report_snapshot(member, status);
    }

    /// What has to be done now, if anything. The result must be given back to [`Machine::persisted`] before anything
    /// else is asked of the machine.
    pub fn work(&mut self) -> Option<Work> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        Some(Work { messages: ready.take_messages(), ready })
    }

    /// The work is durable.
    pub fn persisted(&mut self, work: Work) -> Result<Done, Error> {
        let mut ready = work.ready;
        let log = self.node.raft.mut_store();
        if !ready.snapshot().is_empty() {
            log.install(ready.snapshot().get_metadata());
        }
        if let Some(hs) = ready.hs() {
            log.hard_state = hs.clone();
        }
        log.append(ready.take_entries());
        let mut done = Done { messages: ready.take_persisted_messages(), ..Done::default() };
        done.reads = ready.take_read_states();
        let mut committed = ready.take_committed_entries();
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.raft.mut_store().hard_state.commit = commit;
        }
        done.messages.append(&mut light.take_messages());
        committed.append(&mut light.take_committed_entries());
        for entry in committed {
            let at = Position { index: entry.index, term: entry.term };
            done.committed.push(Committed { at, what: self.take_in(entry)? });
        }
        Ok(done)
    }

    fn take_in(&mut self, entry: Entry) -> Result<What, Error> {
        let mut members = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => return Ok(What::Nothing),
            EntryType::EntryNormal => return Ok(What::Data(entry.data)),
            EntryType::EntryConfChange => {
                let mut change = ConfChange::default();
                change.merge_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                self.node.apply_conf_change(&change)?
            }
            EntryType::EntryConfChangeV2 => {
                let mut change = ConfChangeV2::default();
                change.merge_from_bytes(&entry.data).map_err(raft::Error::CodecError)?;
                self.node.apply_conf_change(&change)?
            }
        };
        // Raft keeps them in hash sets; on disk and to the reader they have one order.
        let m = &mut members;
        for ids in [&mut m.voters, &mut m.learners, &mut m.voters_outgoing, &mut m.learners_next] {
            ids.sort_unstable();
        }
        self.node.raft.mut_store().conf_state = members.clone();
        if self.is_leader() && !self.is_member() {
            // Raft 0.7.0 lets it lead on, and panics when it next counts itself; etcd lets it step down (StepDownOnRemoval).
            let term = self.term();
            self.node.raft.become_follower(term, 0);
        }
        Ok(What::Members(members))
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
    }

    /// A checkpoint up to `at` is durable: it is what members that are far behind get, as metadata with `data`.
    pub fn checkpointed(&mut self, at: Position, members: ConfState, data: Vec<u8>) {
        let metadata = SnapshotMetadata { conf_state: Some(members), index: at.index, term: at.term };
        self.node.raft.mut_store().snapshot = Some(Snapshot { data, metadata: Some(metadata) });
    }

    /// Forgets the entries up to `index`, which must be applied; gives the position before the first entry now.
    pub fn compact(&mut self, index: u64) -> Position {
        let index = index.min(self.node.raft.raft_log.applied);
        let log = self.node.raft.mut_store();
        log.compact(index);
        log.truncated
    }

    /// Term, vote and commit index as they are. Make them durable before any applied index that they cover.
    pub fn hard_state(&self) -> &HardState {
        &self.node.raft.store().hard_state
    }

    /// The members as of the last committed entry that was handed out.
    pub fn members(&self) -> &ConfState {
        &self.node.raft.store().conf_state
    }

    /// Whether this member is the only one that votes: then its disk alone decides.
    pub fn is_alone(&self) -> bool {
        let m = self.members();
        m.voters == [self.id] && m.voters_outgoing.is_empty()
    }

    /// Whether there are others to speak with.
    pub fn has_peers(&self) -> bool {
        let m = self.members();
        let all = [&m.voters, &m.learners, &m.voters_outgoing, &m.learners_next];
        all.into_iter().flatten().any(|id| *id != self.id)
    }

    /// Whether this member is one of those that it knows of. One that was taken out may not have heard of it.
    pub fn is_member(&self) -> bool {
        let m = self.members();
        [&m.voters, &m.learners, &m.voters_outgoing, &m.learners_next].into_iter().flatten().any(|id| *id == self.id)
    }

    /// What this member knows of all members, itself included, if it leads: by id.
    pub fn progress(&self) -> Vec<Progress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let one = |(id, p): (&u64, &raft::Progress)| Progress {
            id: *id,
            matched: p.matched,
            active: p.recent_active || *id == self.id,
            snapshot: (p.state == raft::ProgressState::Snapshot).then_some(p.pending_snapshot),
        };
        let mut all: Vec<Progress> = self.node.raft.prs().iter().map(one).collect();
        all.sort_unstable_by_key(|p| p.id);
        all
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this member leads and has committed something in its term, and so knows all that was committed before.
    pub fn is_settled(&self) -> bool {
        self.is_leader() && self.node.raft.commit_to_current_term()
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != 0)
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The commit index.
    pub fn commit(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The index behind which the entries have at most so many bytes of data.
    pub fn floor(&self, bytes: usize) -> u64 {
        self.node.raft.store().floor(bytes)
    }

    /// The bytes of data in the entries that are kept.
    pub fn log_bytes(&self) -> usize {
        self.node.raft.store().bytes
    }

    fn must_lead(&self) -> Result<(), Error> {
        if self.is_leader() { Ok(()) } else { Err(Error::NotLeader { leader: self.leader() }) }
    }
}

fn dropped(error: raft::Error) -> Error {
    match error {
        raft::Error::ProposalDropped => Error::NotReady,
        raft::Error::Store(StorageError::LogTemporarilyUnavailable) => Error::NotReady,
        other => Error::Raft(other),
    }
}

/// Raft panics on these; a damaged disk must not get that far.
fn check(r: &Restored) -> Result<(), Error> {
    let fail = |why: String| Err(Error::Inconsistent(why));
    let mut last = r.truncated;
    for e in &r.entries {
        if e.index != last.index + 1 {
            return fail(format!("entry {} follows entry {}", e.index, last.index));
        }
        if e.term < last.term {
            return fail(format!("entry {} has term {} after term {}", e.index, e.term, last.term));
        }
        last = Position { index: e.index, term: e.term };
    }
    let (commit, term) = (r.hard_state.commit, r.hard_state.term);
    if last.term > term {
        return fail(format!("entry {} has term {}, the member is at term {term}", last.index, last.term));
    }
    if commit > last.index || commit < r.truncated.index {
        let first = r.truncated.index;
        return fail(format!("commit index {commit} is outside of the log, which goes from {first} to {}", last.index));
    }
    if r.applied > commit || r.applied < r.truncated.index {
        let first = r.truncated.index;
        return fail(format!("applied index {} is not between {first} and commit index {commit}", r.applied));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
