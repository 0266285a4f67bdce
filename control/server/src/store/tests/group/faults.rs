//! A group under load, whose network and disks fail at random: what was acknowledged is there, what was refused is not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use copepod_machine::SeededIds;

use super::*;
use crate::store::tests::disk::draw;

/// Runs of [`faults`]; more by the environment variable `COPEPOD_SEEDS`.
const SEEDS: u64 = 2;
const STEPS: usize = 12;
const WRITERS: usize = 4;
/// How long a state of the network and the disks lasts at most, where nothing can be acknowledged meanwhile.
const LASTS: Duration = Duration::from_millis(1000);

/// What clients know.
#[derive(Default)]
struct Known {
    acknowledged: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
    reads: AtomicUsize,
    over: AtomicBool,
}

/// Writes one object after the other through any member.
async fn write_on(group: &Group, known: &Known, writer: usize, mut ids: SeededIds) {
    for n in 0.. {
        if known.over.load(Ordering::Relaxed) {
            return;
        }
        let Some(store) = any(group, &mut ids) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let name = format!("w{writer}-{n}");
        let to = match store.propose(txn([put(&name, "1")])).await {
            Ok(Outcome::Applied(_)) => &known.acknowledged,
            Ok(other) => panic!("{other:?}"),
            Err(ProposeError::Unknown(_)) => continue,
            Err(_) => {
                // Nobody leads: not so often that the refusals are all there is.
                tokio::time::sleep(Duration::from_millis(5)).await;
                &known.refused
            }
        };
        to.lock().unwrap().push(name);
    }
}

/// Reads through any member: a read that has begun after an acknowledgement shows what was acknowledged.
async fn read_on(group: &Group, known: &Known, mut ids: SeededIds) {
    while !known.over.load(Ordering::Relaxed) {
        let before = known.acknowledged.lock().unwrap().len();
        let read = match any(group, &mut ids) {
            Some(store) => store.read_index().await.map(|view| (view, store.member())),
            None => Err(ReadError::NotReady),
        };
        let Ok((view, member)) = read else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        for name in &known.acknowledged.lock().unwrap()[..before] {
            assert!(data(&view, name).is_some(), "member {member} proved a state without {name}");
        }
        known.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn any(group: &Group, ids: &mut SeededIds) -> Option<Store> {
    let stores = group.bus.stores.lock().unwrap();
    let at = draw(ids, stores.len() as u64) as usize;
    stores.values().nth(at).cloned()
}

impl Group {
    fn is_up(&self, id: u64) -> bool {
        self.bus.stores.lock().unwrap().contains_key(&id)
    }

    /// The power of one member fails: what it had not synced is lost, or some of it.
    async fn lose_power(&self, id: u64, ids: &mut SeededIds) {
        let disk = self.disk(id);
        disk.crash_after(0);
        let store = self.bus.stores.lock().unwrap().remove(&id).unwrap();
        // It may well say that its disk has failed.
        let _ = store.abandon().await;
        self.disks.lock().unwrap().insert(id, disk.reboot(Some(ids)));
    }

    /// The power of all of them fails at about the same time.
    async fn blackout(&self, ids: &mut SeededIds) {
        for id in 1..=3 {
            if self.is_up(id) {
                self.lose_power(id, ids).await;
            }
        }
    }

    async fn step(&self, ids: &mut SeededIds) -> String {
        let id = draw(ids, 3) + 1;
        match draw(ids, 11) {
            0 | 1 => {
                self.bus.cut(id);
                format!("cut {id}")
            }
            2..=4 if self.is_up(id) => {
                self.lose_power(id, ids).await;
                format!("power off {id}")
            }
            5 if self.is_up(id) => {
                self.disk(id).fail_syncs();
                format!("disk {id} fails")
            }
            6 if self.is_up(id) => {
                let store = self.store(id);
                // Behind everything that it has to do: nobody waits for it here.
                tokio::spawn(async move { store.checkpoint().await });
                format!("checkpoint {id}")
            }
            7 if self.is_up(id) => {
                let store = self.store(id);
                tokio::spawn(async move { store.hand_over().await });
                format!("hand over {id}")
            }
            8 => {
                self.blackout(ids).await;
                self.heal();
                "blackout".into()
            }
            _ => {
                self.heal();
                "heal".into()
            }
        }
    }

    fn heal(&self) {
        for id in 1..=3 {
            self.bus.mend(id);
            self.disk(id).mend_syncs();
            if !self.is_up(id) {
                self.open(id);
            }
        }
    }
}

async fn faults(seed: u64) {
    let mut ids = SeededIds(seed);
    let group = Arc::new(Group::on(3, |_| Some(Disk::default())).await);
    let known = Arc::new(Known::default());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (group, known, ids) = (group.clone(), known.clone(), SeededIds(seed + 1000 * (writer as u64 + 1)));
        tasks.spawn(async move { write_on(&group, &known, writer, ids).await });
    }
    let (g, k) = (group.clone(), known.clone());
    tasks.spawn(async move { read_on(&g, &k, SeededIds(seed + 1)).await });
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        steps.push(group.step(&mut ids).await);
        let enough = known.acknowledged.lock().unwrap().len() + 20 + draw(&mut ids, 60) as usize;
        let more = async {
            while known.acknowledged.lock().unwrap().len() < enough {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(LASTS, more).await;
    }
    group.blackout(&mut ids).await;
    group.heal();
    let leader = group.leader().await;
    write(&leader, "healed").await;
    known.over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done.unwrap_or_else(|e| panic!("seed {seed}, {steps:?}: {e}"));
    }
    let [acknowledged, refused] = [&known.acknowledged, &known.refused].map(|names| names.lock().unwrap().clone());
    let last = group.leader().await.read_index().await.unwrap().revision();
    for id in 1..=3 {
        until(&group.store(id), "all have all", |t| t.revision() >= last).await;
        let view = group.store(id).snapshot();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| data(&view, name).is_none()).collect();
        assert!(lost.is_empty(), "seed {seed}, {steps:?}: member {id} has lost {lost:?} of {}", acknowledged.len());
        let there: Vec<&String> = refused.iter().filter(|name| data(&view, name).is_some()).collect();
        assert!(there.is_empty(), "seed {seed}, {steps:?}: refused and there on {id}: {there:?}");
        assert_eq!(view.revision(), last, "seed {seed}: one counter for all");
    }
    let reads = known.reads.load(Ordering::Relaxed);
    println!("seed {seed}: {} acknowledged, {} refused, {reads} reads: {steps:?}", acknowledged.len(), refused.len());
    assert!(acknowledged.len() > STEPS && reads > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_whatever_fails() {
    let seeds = std::env::var("COPEPOD_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        faults(seed).await;
    }
}
