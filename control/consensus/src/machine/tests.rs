use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::record::{seal, unseal};
use crate::{ConfChangeSingle, ConfChangeType};

/// A member with its disk: what a driver does, with a crash that keeps only the disk.
struct Member {
    options: Options,
    machine: Machine,
    disk: Restored,
    applied: Vec<Vec<u8>>,
    checkpoint: (Position, ConfState, usize),
    reads: Vec<u64>,
}

impl Member {
    fn new(id: u64, voters: &[u64]) -> Member {
        let conf_state = ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let disk = Restored { conf_state: conf_state.clone(), ..Restored::default() };
        // A number of its own, so that the run repeats itself.
        let options = Options { fixed_election_ticks: Some(10 + id as usize), ..Options::new(id) };
        let machine = Machine::new(&options, disk.clone()).unwrap();
        let checkpoint = (Position::default(), conf_state, 0);
        Member { options, machine, disk, applied: Vec::new(), checkpoint, reads: Vec::new() }
    }

    fn settle(&mut self, network: &mut VecDeque<Message>) {
        while let Some(work) = self.machine.work() {
            network.extend(work.messages.iter().cloned());
            if let Some(first) = work.entries().first() {
                self.disk.entries.retain(|e| e.index < first.index);
                // As the disk would: through their records.
                let read = |e: &Entry| unseal::<Entry>(e.index, &seal(e.index, e)).unwrap();
                self.disk.entries.extend(work.entries().iter().map(read));
            }
            assert!(work.must_sync() || work.entries().is_empty());
            if work.must_sync() {
                let hs = work.hard_state().unwrap_or_else(|| self.machine.hard_state());
                self.disk.hard_state = hs.clone();
            }
            let done = self.machine.persisted(work).unwrap();
            network.extend(done.messages);
            for c in done.committed {
                if let What::Data(data) = c.what {
                    self.applied.push(data);
                }
                self.machine.applied(c.at.index);
            }
            self.reads.extend(done.reads.iter().map(|r| r.index));
        }
    }

    /// Everything in memory is lost; what was applied after the checkpoint is replayed.
    fn crash(&mut self) {
        self.disk.applied = self.checkpoint.0.index;
        self.disk.conf_state = self.checkpoint.1.clone();
        self.applied.truncate(self.checkpoint.2);
        self.machine = Machine::new(&self.options, self.disk.clone()).unwrap();
    }

    fn checkpoint(&mut self) {
        self.disk.hard_state = self.machine.hard_state().clone();
        let at = Position { index: self.machine.node.raft.raft_log.applied, term: 0 };
        let truncated = self.machine.compact(at.index);
        self.checkpoint = (truncated, self.machine.members().clone(), self.applied.len());
        self.disk.truncated = truncated;
        self.disk.entries.retain(|e| e.index > truncated.index);
        assert_eq!(self.machine.log_bytes(), self.disk.entries.iter().map(|e| e.data.len()).sum::<usize>());
    }
}

#[test]
fn alone_it_commits_when_its_own_log_is_durable() {
    let mut m = Member::new(1, &[1]);
    let mut network = VecDeque::new();
    m.machine.campaign().unwrap();
    m.settle(&mut network);
    assert!(m.machine.is_alone() && m.machine.is_settled());
    let first = m.machine.propose([b"a".to_vec(), b"b".to_vec()]).unwrap();
    assert_eq!(first, Position { index: 2, term: 1 });
    // Nothing is committed before the work is durable, and then both are: one round, one sync.
    let work = m.machine.work().unwrap();
    assert_eq!((work.entries().len(), m.machine.commit()), (2, 1));
    let done = m.machine.persisted(work).unwrap();
    assert_eq!(done.committed.len(), 2);
    assert!(m.machine.work().is_none() && network.is_empty() && done.messages.is_empty());
}

#[test]
fn alone_it_finds_again_what_was_durable_and_not_known_as_committed() {
    let mut m = Member::new(1, &[1]);
    let mut network = VecDeque::new();
    m.machine.campaign().unwrap();
    m.settle(&mut network);
    for round in 0..20u8 {
        m.machine.propose([vec![round]]).unwrap();
        m.settle(&mut network);
        assert!(m.disk.hard_state.commit < m.machine.commit(), "the last commit index is only in memory");
        if round % 3 == 0 {
            m.checkpoint();
        }
        let term = m.machine.term();
        m.crash();
        m.machine.campaign().unwrap();
        m.settle(&mut network);
        assert_eq!(m.applied, (0..=round).map(|n| vec![n]).collect::<Vec<_>>());
        assert!(m.machine.term() > term);
    }
}

#[test]
fn the_floor_has_at_most_so_many_bytes_behind_it() {
    let mut m = Member::new(1, &[1]);
    m.machine.campaign().unwrap();
    m.settle(&mut VecDeque::new());
    // The leader's own empty entry, then four of ten bytes each at the indexes from 2 on.
    m.machine.propose((0..4).map(|n| vec![n; 10])).unwrap();
    m.settle(&mut VecDeque::new());
    for (bytes, floor) in [(40, 0), (39, 2), (25, 3), (10, 4), (9, 5), (0, 5)] {
        assert_eq!(m.machine.floor(bytes), floor, "{bytes} bytes");
    }
    m.machine.compact(3);
    assert_eq!((m.machine.floor(1000), m.machine.floor(10)), (3, 4));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let entry = |index, term| Entry { index, term, ..Entry::default() };
    let good = Restored {
        hard_state: HardState { term: 3, commit: 6, ..HardState::default() },
        conf_state: ConfState { voters: vec![1], ..ConfState::default() },
        truncated: Position { index: 4, term: 1 },
        entries: vec![entry(5, 1), entry(6, 2), entry(7, 3)],
        applied: 5,
    };
    assert!(Machine::new(&Options::new(1), good.clone()).is_ok());
    let spoil: [fn(&mut Restored); 8] = [
        |r| r.applied = 7,
        |r| r.applied = 3,
        |r| r.hard_state.commit = 8,
        |r| r.hard_state.commit = 3,
        |r| r.hard_state.term = 2,
        |r| drop(r.entries.remove(1)),
        |r| drop(r.entries.remove(0)),
        |r| r.entries[1].term = 0,
    ];
    for (i, spoil) in spoil.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(matches!(Machine::new(&Options::new(1), bad), Err(Error::Inconsistent(_))), "{i}");
    }
}

/// Members, the messages between them, and what must always hold.
struct Group {
    members: BTreeMap<u64, Member>,
    network: VecDeque<Message>,
    cut: Option<u64>,
    proposed: u64,
}

impl Group {
    fn new(ids: &[u64]) -> Group {
        let members = ids.iter().map(|id| (*id, Member::new(*id, ids))).collect();
        Group { members, network: VecDeque::new(), cut: None, proposed: 0 }
    }

    fn deliver(&mut self, most: usize) {
        for _ in 0..most {
            let Some(m) = self.network.pop_front() else { return };
            if self.cut == Some(m.from) || self.cut == Some(m.to) {
                continue;
            }
            if let Some(to) = self.members.get_mut(&m.to) {
                // A message of a term or member that is over is refused, which is all right.
                let _ = to.machine.step(m);
                to.settle(&mut self.network);
            }
        }
    }

    fn tick(&mut self, id: u64) {
        let m = self.members.get_mut(&id).unwrap();
        m.machine.tick();
        m.settle(&mut self.network);
    }

    fn leader(&self) -> Option<u64> {
        self.members
            .iter()
            .filter(|(_, m)| m.machine.is_settled())
            .max_by_key(|(_, m)| m.machine.term())
            .map(|(id, _)| *id)
    }

    fn propose(&mut self) {
        for m in self.members.values_mut() {
            if m.machine.is_leader() {
                self.proposed += 1;
                let _ = m.machine.propose([self.proposed.to_le_bytes().to_vec()]);
                m.settle(&mut self.network);
            }
        }
    }

    /// No two members applied different things.
    fn check(&self) {
        let longest = self.members.values().max_by_key(|m| m.applied.len()).unwrap();
        for (id, m) in &self.members {
            assert_eq!(m.applied[..], longest.applied[..m.applied.len()], "member {id}");
        }
    }

    fn heal(&mut self) {
        self.cut = None;
        for _ in 0..300 {
            let ids: Vec<u64> = self.members.keys().copied().collect();
            ids.into_iter().for_each(|id| self.tick(id));
            self.deliver(usize::MAX);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Tick(u64),
    Deliver(usize),
    Propose,
    Crash(u64),
    Cut(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u64..=3).prop_map(Step::Tick),
        8 => (1usize..6).prop_map(Step::Deliver),
        4 => Just(Step::Propose),
        1 => (1u64..=3).prop_map(Step::Crash),
        1 => proptest::option::of(1u64..=3).prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn three_members_agree_whatever_happens(steps in proptest::collection::vec(step(), 1..400)) {
        let mut g = Group::new(&[1, 2, 3]);
        for s in steps {
            match s {
                Step::Tick(id) => g.tick(id),
                Step::Deliver(n) => g.deliver(n),
                Step::Propose => g.propose(),
                Step::Crash(id) => g.members.get_mut(&id).unwrap().crash(),
                Step::Cut(who) => g.cut = who,
            }
            g.check();
        }
        g.heal();
        prop_assert!(g.leader().is_some());
        g.propose();
        g.heal();
        g.check();
        let last = g.proposed.to_le_bytes();
        prop_assert!(g.members.values().all(|m| m.applied.last().is_some_and(|d| d[..] == last)));
    }
}

#[test]
fn a_member_joins_and_reads_are_confirmed_by_the_others() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let change = ConfChangeV2 {
        changes: vec![ConfChangeSingle { change_type: ConfChangeType::AddNode as i32, node_id: 4 }],
        ..ConfChangeV2::default()
    };
    let m = g.members.get_mut(&leader).unwrap();
    m.machine.propose_members(change).unwrap();
    m.settle(&mut g.network);
    g.members.insert(4, Member::new(4, &[1, 2, 3]));
    g.propose();
    g.heal();
    assert!(g.members.values().all(|m| m.machine.members().voters == [1, 2, 3, 4] && m.applied.len() == 1));

    let leader = g.leader().unwrap();
    let m = g.members.get_mut(&leader).unwrap();
    m.machine.read_index(b"r".to_vec()).unwrap();
    m.settle(&mut g.network);
    assert!(m.reads.is_empty(), "nobody has confirmed it yet");
    g.deliver(usize::MAX);
    let m = &g.members[&leader];
    assert_eq!(m.reads, [m.machine.commit()]);

    // Whoever is not the leader says so.
    let follower = g.members.values_mut().find(|m| !m.machine.is_leader()).unwrap();
    assert!(matches!(follower.machine.propose([vec![1]]), Err(Error::NotLeader { leader: Some(l) }) if l == leader));
}

#[test]
fn one_member_cut_off_commits_nothing() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let old = g.leader().unwrap();
    g.cut = Some(old);
    let m = g.members.get_mut(&old).unwrap();
    m.machine.propose([b"lost".to_vec()]).unwrap();
    m.settle(&mut g.network);
    for _ in 0..100 {
        (1..=3).for_each(|id| g.tick(id));
        g.deliver(usize::MAX);
    }
    let new = g.leader().unwrap();
    assert_ne!(new, old);
    assert!(!g.members[&old].machine.is_leader(), "it has asked in vain for its majority (check-quorum)");
    g.heal();
    g.propose();
    g.heal();
    assert!(g.members.values().all(|m| !m.applied.contains(&b"lost".to_vec()) && m.applied.len() == 1));
}

#[test]
fn what_is_proposed_together_goes_to_each_member_in_one_message() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let m = g.members.get_mut(&leader).unwrap();
    m.machine.propose([b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]).unwrap();
    m.settle(&mut g.network);
    let mut sent: Vec<(u64, usize)> = g.network.iter().map(|m| (m.to, m.entries.len())).collect();
    sent.sort_unstable();
    let others: Vec<(u64, usize)> = (1..=3).filter(|id| *id != leader).map(|id| (id, 3)).collect();
    assert_eq!(sent, others);
}

#[test]
fn entries_follow_the_index_of_their_message_whatever_comes_between_two_rounds() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let (far, near) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // Of two entries `far` gets the second one only, and refuses it; `near` confirms both.
    let mut answers = VecDeque::new();
    for lost in [true, false] {
        g.propose();
        for m in std::mem::take(&mut g.network) {
            if m.to == far && lost {
                continue;
            }
            let to = g.members.get_mut(&m.to).unwrap();
            to.machine.step(m).unwrap();
            to.settle(&mut answers);
        }
    }
    // The leader hears of a commit, which it wants to tell, and then of the refusal, before it sends anything.
    let (confirmed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|m| m.from == near);
    assert!(!confirmed.is_empty() && refused.iter().any(|m| m.reject));
    let m = g.members.get_mut(&leader).unwrap();
    for answer in confirmed.into_iter().chain(refused) {
        m.machine.step(answer).unwrap();
    }
    m.settle(&mut g.network);
    let sent: Vec<_> = g.network.iter().filter(|m| m.to == far && !m.entries.is_empty()).collect();
    assert!(!sent.is_empty());
    for m in sent {
        assert_eq!(m.entries[0].index, m.index + 1, "{m:?}");
    }
    g.heal();
    g.check();
    assert!(g.members.values().all(|m| m.applied.len() == 2));
}

#[test]
fn a_leader_that_is_taken_out_leads_no_more() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let change = ConfChangeV2 {
        changes: vec![ConfChangeSingle { change_type: ConfChangeType::RemoveNode as i32, node_id: leader }],
        ..ConfChangeV2::default()
    };
    let m = g.members.get_mut(&leader).unwrap();
    m.machine.propose_members(change).unwrap();
    m.settle(&mut g.network);
    // This one is confirmed after the change is in force.
    m.machine.propose([b"later".to_vec()]).unwrap();
    m.settle(&mut g.network);
    g.deliver(usize::MAX);
    assert!(!g.members[&leader].machine.is_leader());
    g.heal();
    let next = g.leader().unwrap();
    assert_ne!(next, leader);
    assert_eq!(g.members[&next].applied.last().map(Vec::as_slice), Some(&b"later"[..]));
}

#[test]
fn a_member_that_was_cut_off_comes_back_without_an_election() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let term = g.members[&leader].machine.term();
    for far in (1..=3).filter(|id| *id != leader) {
        g.cut = Some(far);
        for _ in 0..100 {
            (1..=3).for_each(|id| g.tick(id));
            g.deliver(usize::MAX);
        }
        // It would stand for election, and asks first.
        let cut_off = &g.members[&far].machine;
        assert_eq!((cut_off.leader(), cut_off.term()), (None, term));
        g.propose();
        g.heal();
        for (id, m) in &g.members {
            assert_eq!((m.machine.leader(), m.machine.term()), (Some(leader), term), "member {id}");
            assert_eq!(m.applied.len() as u64, g.proposed, "member {id}");
        }
    }
}

/// The appends with entries that are on their way to a member.
fn appends(g: &Group, to: u64) -> Vec<&Message> {
    let append = |m: &&Message| m.to == to && m.get_msg_type() == MessageType::MsgAppend && !m.entries.is_empty();
    g.network.iter().filter(append).collect()
}

#[test]
fn rounds_are_sent_without_waiting_for_the_answers_to_those_before() {
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let last = g.members[&leader].machine.last_index();
    g.propose();
    g.propose();
    for to in (1..=3).filter(|id| *id != leader) {
        let sent: Vec<(u64, Vec<u64>)> =
            appends(&g, to).iter().map(|m| (m.index, m.entries.iter().map(|e| e.index).collect())).collect();
        assert_eq!(sent, [(last, vec![last + 1]), (last + 1, vec![last + 2])], "member {to}");
    }
    g.deliver(usize::MAX);
    assert_eq!(g.members[&leader].machine.commit(), last + 2);
}

#[test]
fn who_does_not_answer_is_sent_only_so_much() {
    const ROUNDS: usize = 300;
    let mut g = Group::new(&[1, 2, 3]);
    g.heal();
    let leader = g.leader().unwrap();
    let far = leader % 3 + 1;
    let last = g.members[&leader].machine.last_index();
    for _ in 0..ROUNDS {
        g.propose();
    }
    let sent: Vec<u64> = appends(&g, far).iter().flat_map(|m| m.entries.iter().map(|e| e.index)).collect();
    assert!(appends(&g, far).len() <= 256, "{}", appends(&g, far).len());
    assert_eq!(sent, (last + 1..=last + sent.len() as u64).collect::<Vec<_>>(), "none twice, none left out");
    assert!(!sent.is_empty() && sent.len() < ROUNDS);
    // As soon as it answers it gets the rest.
    g.heal();
    g.check();
    assert!(g.members.values().all(|m| m.applied.len() == ROUNDS));
}

#[test]
fn a_leader_holds_only_so_much_that_no_majority_has() {
    let mut g = Group::new(&[1, 2, 3]);
    for m in g.members.values_mut() {
        m.options.uncommitted_bytes = 1 << 20;
        m.machine = Machine::new(&m.options, m.disk.clone()).unwrap();
    }
    g.heal();
    let leader = g.leader().unwrap();
    let propose = |g: &mut Group, sizes: &[usize]| {
        let m = g.members.get_mut(&leader).unwrap();
        let done = m.machine.propose(sizes.iter().map(|size| vec![0; *size]));
        m.settle(&mut g.network);
        done.map(drop)
    };
    let last = g.members[&leader].machine.last_index();
    propose(&mut g, &[900 << 10, 400 << 10]).unwrap();
    for refused in [&[1][..], &[100 << 10, 1]] {
        assert!(matches!(propose(&mut g, refused), Err(Error::Full)), "{refused:?}");
    }
    assert_eq!(g.members[&leader].machine.last_index(), last + 2, "nothing of what was refused is in the log");
    // Once a majority has it there is room again.
    g.heal();
    propose(&mut g, &[500 << 10]).unwrap();
    propose(&mut g, &[500 << 10]).unwrap();
    assert!(matches!(propose(&mut g, &[100 << 10]), Err(Error::Full)));
    g.heal();
    g.check();
    assert!(g.members.values().all(|m| m.applied.len() == 4));
}
