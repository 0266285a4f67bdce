//! Several stores that are one group, over a network in memory that can be cut.

mod faults;
mod slow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use copepod_consensus::{ConfChangeSingle, ConfChangeType, MessageType};

use super::*;
use crate::store::offline;

/// The network.
#[derive(Default)]
struct Bus {
    stores: Mutex<BTreeMap<u64, Store>>,
    /// Those who hear and say nothing.
    cut: Mutex<BTreeSet<u64>>,
    /// Whether whole states stay on their way, and how many have set out.
    held: watch::Sender<bool>,
    set_out: AtomicU64,
}

/// One end of it.
struct End(Arc<Bus>, u64);

impl Bus {
    fn reach(&self, from: u64, to: u64) -> Option<Store> {
        let cut = self.cut.lock().unwrap();
        if cut.contains(&from) || cut.contains(&to) {
            return None;
        }
        self.stores.lock().unwrap().get(&to).cloned()
    }

    fn cut(&self, id: u64) {
        self.cut.lock().unwrap().insert(id);
    }

    fn mend(&self, id: u64) {
        self.cut.lock().unwrap().remove(&id);
    }
}

#[async_trait]
impl Peers for End {
    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let Some(to) = self.0.reach(self.1, message.to) else { continue };
            if message.get_msg_type() != MessageType::MsgSnapshot {
                to.step(vec![message]);
                continue;
            }
            let (bus, from) = (self.0.clone(), self.0.stores.lock().unwrap()[&self.1].clone());
            std::thread::spawn(move || {
                let (meta, tables) = block_on(from.applied_state()).unwrap();
                bus.set_out.fetch_add(1, Ordering::Relaxed);
                block_on(bus.held.subscribe().wait_for(|held| !held)).unwrap();
                let member = message.to;
                to.install(message, meta, (*tables).clone());
                from.report_snapshot(member, true);
            });
        }
    }

    async fn propose(&self, to: u64, txn: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        match self.0.reach(self.1, to) {
            Some(store) => store.propose_for_another(txn).await,
            None => Err(ProposeError::NotLeader { leader: None }),
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

struct Group {
    dir: tempfile::TempDir,
    bus: Arc<Bus>,
    /// Disks in memory, for those members that have one.
    disks: Mutex<BTreeMap<u64, Disk>>,
}

impl Group {
    /// `n` members that vote.
    async fn new(n: u64) -> Group {
        Group::on(n, |_| None).await
    }

    /// `n` members that vote, on these disks or on real ones.
    async fn on(n: u64, disk: impl Fn(u64) -> Option<Disk>) -> Group {
        let disks = (1..=n).filter_map(|id| Some((id, disk(id)?))).collect();
        let group = Group { dir: tempfile::tempdir().unwrap(), bus: Arc::default(), disks: Mutex::new(disks) };
        group.open(1);
        for id in 2..=n {
            group.join(id).await;
            group.change(ConfChangeType::AddNode, id).await.unwrap();
        }
        group
    }

    fn path(&self, id: u64) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    fn open(&self, id: u64) {
        let mut options = StoreOptions::new(self.path(id), id);
        options.peers = Some(Arc::new(End(self.bus.clone(), id)));
        if let Some(disk) = self.disks.lock().unwrap().get(&id) {
            options.backends = Arc::new(disk.clone());
        }
        options.checkpoint = CheckpointPolicy { bytes: usize::MAX, interval: Duration::from_secs(1 << 30) };
        // Nothing beyond the checkpoint before, so that a few writes leave a member too far behind.
        options.hold = |_| Hold { bytes: 0, silence: Duration::from_secs(1) };
        let store = Store::open(options).unwrap();
        self.bus.stores.lock().unwrap().insert(id, store);
    }

    fn store(&self, id: u64) -> Store {
        self.bus.stores.lock().unwrap()[&id].clone()
    }

    fn disk(&self, id: u64) -> Disk {
        self.disks.lock().unwrap()[&id].clone()
    }

    /// Takes in a learner, with the state that the leader has.
    async fn join(&self, id: u64) {
        self.change(ConfChangeType::AddLearnerNode, id).await.unwrap();
        let (meta, tables) = self.leader().await.applied_state().await.unwrap();
        offline::restore(&self.path(id), id, meta.members.clone(), &meta, &tables).unwrap();
        if let Some(disk) = self.disks.lock().unwrap().get(&id) {
            for name in [LOG, MIRROR] {
                disk.put(name, std::fs::read(self.path(id).join(name)).unwrap());
            }
        }
        self.open(id);
    }

    async fn change(&self, kind: ConfChangeType, id: u64) -> Result<ConfState, ProposeError> {
        let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        let change = ConfChangeV2 { changes: vec![single], ..ConfChangeV2::default() };
        self.leader().await.change_members(change).await
    }

    /// Ends a member as a crash does.
    async fn kill(&self, id: u64) {
        let store = self.bus.stores.lock().unwrap().remove(&id).unwrap();
        store.abandon().await.unwrap();
    }

    /// The leader, once those that can hear each other agree on one.
    async fn leader(&self) -> Store {
        let found = async {
            loop {
                let cut = self.bus.cut.lock().unwrap().clone();
                let stores = self.bus.stores.lock().unwrap().clone();
                let there: Vec<&Store> = stores.iter().filter(|(id, _)| !cut.contains(id)).map(|(_, s)| s).collect();
                let leading: Vec<&&Store> = there.iter().filter(|s| s.role().borrow().leads).collect();
                if let [leader] = leading.as_slice() {
                    let (id, term) = (leader.member(), leader.term());
                    if there.iter().all(|s| (s.leader(), s.term()) == (Some(id), term)) {
                        return (**leader).clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), found).await.expect("a leader")
    }
}

async fn until(store: &Store, what: &str, f: impl Fn(&Tables) -> bool) {
    let reached = async {
        while !f(&store.snapshot()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("{what}"));
}

/// What becomes of a transaction that may be tried again.
async fn outcome(store: &Store, txn: Txn) -> Outcome {
    // A leader may be deposed under the load of other tests; that is no error here.
    let outcome = async {
        loop {
            match store.propose(txn.clone()).await {
                Ok(outcome) => return outcome,
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    };
    timeout(Duration::from_secs(60), outcome).await.expect("an outcome")
}

async fn write(store: &Store, name: &str) {
    let outcome = outcome(store, txn([put(name, "1")])).await;
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    assert!(data(&store.snapshot(), name).is_some(), "what was acknowledged is shown where it was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_takes_a_write_and_every_member_has_it() {
    let group = Group::new(3).await;
    for id in 1..=3 {
        write(&group.store(id), &format!("by-{id}")).await;
        for reader in 1..=3 {
            let view = group.store(reader).read_index().await.unwrap();
            assert!(data(&view, &format!("by-{id}")).is_some(), "{reader} reads what {id} has acknowledged");
        }
    }
    let revisions: BTreeSet<u64> = (1..=3).map(|id| group.store(id).snapshot().revision()).collect();
    assert_eq!(revisions.len(), 1, "one counter for all");
    // What must hold for a transaction is judged by the leader, and whoever asked hears of it.
    for id in 1..=3 {
        let (store, there) = (group.store(id), Key::new("configmaps", "d", "by-1"));
        let require = vec![Require::Absent(there)];
        let failed = outcome(&store, Txn { require, ..txn([put("refused", "1")]) }).await;
        assert_eq!(failed, Outcome::Failed(0), "by {id}");
        let fenced = outcome(&store, Txn { fence: Some(u64::MAX), ..txn([put("refused", "1")]) }).await;
        assert_eq!(fenced, Outcome::Fenced, "by {id}");
    }
    for id in 1..=3 {
        let view = group.store(id).read_index().await.unwrap();
        assert!(data(&view, "refused").is_none() && revisions.contains(&view.revision()), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_knows_best_how_full_it_is() {
    let group = Group::new(3).await;
    let leader = group.leader().await;
    write(&leader, "a").await;
    let asked = (1..=3).find(|id| *id != leader.member()).expect("three members");
    // Only the one that is asked knows of no quota, as if it had not seen what has come to fill it.
    (1..=3).filter(|id| *id != asked).for_each(|id| group.store(id).set_quota(1));
    let other = group.store(asked);
    let refused = async {
        loop {
            match other.propose(txn([put("new", "1")])).await {
                Err(ProposeError::NoSpace) => return,
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_)) => {}
                got => panic!("{got:?}"),
            }
        }
    };
    timeout(Duration::from_secs(60), refused).await.expect("an answer");
    assert!(data(&group.leader().await.snapshot(), "new").is_none());
    assert_eq!(other.space(), Ok(()), "it has no quota itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_the_leader_and_it_comes_back() {
    let group = Group::new(3).await;
    write(&group.store(1), "before").await;
    let leader = group.leader().await.member();
    let (mut watch, term) = {
        let other = group.store(leader % 3 + 1);
        until(&other, "all have it", |t| data(t, "before").is_some()).await;
        let from = other.snapshot().revision();
        (other.watch(Interest::all("configmaps"), from).unwrap(), other.term())
    };
    group.kill(leader).await;
    write(&group.store(leader % 3 + 1), "without").await;
    assert!(group.leader().await.term() > term);
    let seen = timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap();
    assert_eq!(seen[0].key.name.as_ref(), "without", "a watch does not notice who leads");
    group.open(leader);
    until(&group.store(leader), "the old leader catches up", |t| data(t, "without").is_some()).await;
    write(&group.store(leader), "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over() {
    let group = Group::new(3).await;
    let leader = group.leader().await;
    leader.hand_over().await;
    let next = group.leader().await;
    assert_ne!(next.member(), leader.member());
    write(&leader, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_is_proven() {
    let group = Group::new(3).await;
    write(&group.store(1), "before").await;
    let leader = group.leader().await;
    for id in (1..=3).filter(|id| *id != leader.member()) {
        group.bus.cut(id);
    }
    let (written, read) = tokio::join!(leader.propose(txn([put("lost", "1")])), leader.read_index());
    assert!(matches!(written, Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. })), "{written:?}");
    assert_eq!(read.map(drop), Err(ReadError::NotReady));
    assert!(data(&leader.snapshot(), "before").is_some() && data(&leader.snapshot(), "lost").is_none());
    // Without a majority it leads no more, and knows of nobody who does.
    let mut role = leader.role();
    let deposed = role.wait_for(|role| !role.leads && role.leader.is_none());
    tokio::time::timeout(Duration::from_secs(60), deposed).await.expect("it steps back").unwrap();
    (1..=3).for_each(|id| group.bus.mend(id));
    write(&leader, "mended").await;
}

/// Cuts off a follower and lets the others write until their logs begin behind what it has; gives its id.
async fn left_behind(group: &Group) -> u64 {
    let leader = group.leader().await;
    let far = leader.member() % 3 + 1;
    group.bus.cut(far);
    // Two checkpoints, so that the log is cut beyond what the member has.
    for round in 0..2 {
        for i in 0..20 {
            write(&leader, &format!("n{round}-{i}")).await;
        }
        for id in (1..=3).filter(|id| *id != far) {
            group.store(id).checkpoint().await;
        }
    }
    far
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_far_behind_gets_the_whole_state() {
    let group = Group::new(3).await;
    write(&group.store(1), "before").await;
    let mut watches = BTreeMap::new();
    for id in 1..=3 {
        let store = group.store(id);
        until(&store, "all have it", |t| data(t, "before").is_some()).await;
        watches.insert(id, store.watch(Interest::all("configmaps"), store.snapshot().revision()).unwrap());
    }
    let far = left_behind(&group).await;
    group.bus.mend(far);
    until(&group.store(far), "the state comes", |t| data(t, "n1-19").is_some()).await;
    let missed = watches.get_mut(&far).unwrap().next().await;
    assert!(matches!(missed, Err(WatchError::Compacted(_))), "what happened meanwhile is not known here");
    write(&group.store(far), "after").await;
    // It is on disk, too, and the log goes on behind it.
    group.kill(far).await;
    group.open(far);
    until(&group.store(far), "it is still there", |t| data(t, "n0-0").is_some() && data(t, "after").is_some()).await;
    write(&group.store(far), "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_while_a_member_gets_the_whole_state() {
    let group = Group::new(3).await;
    let far = left_behind(&group).await;
    group.bus.held.send_replace(true);
    group.bus.mend(far);
    let set_out = async {
        while group.bus.set_out.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), set_out).await.expect("a state sets out");
    // Through the leader and through a follower.
    for i in 0..20 {
        for id in (1..=3).filter(|id| *id != far) {
            write(&group.store(id), &format!("meanwhile-{i}-{id}")).await;
        }
    }
    for id in (1..=3).filter(|id| *id != far) {
        group.store(id).checkpoint().await;
    }
    assert!(data(&group.store(far).snapshot(), "n0-0").is_none(), "it is on its way all the while");
    group.bus.held.send_replace(false);
    let last = group.leader().await.read_index().await.unwrap().revision();
    until(&group.store(far), "the state and what came behind it", |t| t.revision() >= last).await;
    let view = group.store(far).snapshot();
    for name in (0..20).flat_map(|i| (1..=3).filter(|id| *id != far).map(move |id| format!("meanwhile-{i}-{id}"))) {
        assert!(data(&view, &name).is_some(), "{name}");
    }
    write(&group.store(far), "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_member_is_replaced() {
    let group = Group::new(3).await;
    let leader = group.leader().await.member();
    let lost = leader % 3 + 1;
    group.kill(lost).await;
    group.change(ConfChangeType::RemoveNode, lost).await.unwrap();
    group.join(4).await;
    let members = group.change(ConfChangeType::AddNode, 4).await.unwrap();
    assert!(members.voters.contains(&4) && !members.voters.contains(&lost));
    write(&group.store(4), "new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_has_lost_does_not_stand_in_the_way_when_it_leads_again() {
    const LOST: u64 = 50;
    let group = Group::new(3).await;
    let first = group.leader().await;
    let before = first.stats().proposals;
    group.bus.cut(first.member());
    let propose = |name: String| {
        let store = first.clone();
        tokio::spawn(async move { store.propose_here(codec::encode(&txn([put(&name, "1")]))).await })
    };
    let lost: Vec<_> = (0..LOST).map(|i| propose(format!("lost{i}"))).collect();
    let proposed = async {
        while first.stats().proposals < before + LOST {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), proposed).await.expect("they are in its log");
    write(&group.leader().await, "kept").await;
    group.bus.mend(first.member());
    let again = async {
        loop {
            let leader = group.leader().await;
            if leader.member() == first.member() {
                return;
            }
            leader.send(Command::Transfer(Some(first.member()))).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), again).await.expect("it leads again");
    for i in 0..3 {
        let outcome = propose(format!("again{i}")).await.unwrap();
        assert!(matches!(outcome, Ok((Outcome::Applied(_), _))), "{outcome:?}");
    }
    // What stood behind it becomes known as the log grows past it.
    for i in 0..LOST {
        write(&first, &format!("more{i}")).await;
    }
    for one in lost {
        assert!(one.await.unwrap().is_err());
    }
    assert!((0..LOST).all(|i| data(&first.snapshot(), &format!("lost{i}")).is_none()));
}
