//! Clients that write and read single keys past the registry, for the invariants of the store itself.

use std::rc::Rc;
use std::time::Duration;

use copepod_machine::View as _;
use copepod_model::{Key, object};
use copepod_state::{Interest, Op as Change, Outcome, Require, Tables, Txn};
use serde_json::json;

use crate::chance::Chance;
use crate::exec::Owner;
use crate::group::hub::WatchError;
use crate::group::process::ProposeError;
use crate::group::{Group, Origin};
use crate::invariants::linearizable::Op;
use crate::invariants::list_watch::Mirror;
use crate::invariants::whole;

/// Tasks that no crash ends.
pub const OUTSIDE: Owner = 1;
/// After so many calls a key is left alone: a search must end.
const CALLS: usize = 90;
const RESOURCE: &str = "configmaps";

/// How clients go about it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many write and read.
    pub clients: u64,
    /// How many keys they share.
    pub keys: u64,
    /// The largest value in bytes.
    pub bytes: u64,
    /// The longest pause in milliseconds.
    pub pause: u64,
}

fn put(key: &Key, value: u64, bytes: u64) -> Change {
    let padding = "x".repeat(bytes as usize);
    let object = json!({
        "metadata": {"name": &*key.name, "namespace": &*key.namespace},
        "data": {"value": value.to_string(), "padding": padding},
    });
    Change::Put { key: key.clone(), body: object::encode(&object), revised: true }
}

fn value(tables: &Tables, key: &Key) -> Option<u64> {
    tables.at(key).and_then(|o| o.value()["data"]["value"].as_str().and_then(|v| v.parse().ok()))
}

/// A server that runs, by chance.
pub fn any(group: &Group, chance: &mut Chance) -> Option<u64> {
    let running = group.running();
    running.get(chance.below(running.len() as u64) as usize).copied()
}

/// One client after the other, until `over`.
pub fn start(group: &Rc<Group>, load: Load, over: &Rc<std::cell::Cell<bool>>, mut chance: Chance) {
    for client in 0..load.clients {
        let (group, over, chance) = (group.clone(), over.clone(), chance.split());
        group.exec.clone().spawn(OUTSIDE, async move { write_and_read(&group, load, client, &over, chance).await });
    }
    for _ in 0..2 {
        let (group, over, chance) = (group.clone(), over.clone(), chance.split());
        group.exec.clone().spawn(OUTSIDE, async move { mirror(&group, RESOURCE, &over, chance).await });
    }
}

async fn write_and_read(group: &Rc<Group>, load: Load, client: u64, over: &std::cell::Cell<bool>, mut chance: Chance) {
    let mut next = client << 32;
    let mut known: Option<(Key, u64, u64)> = None;
    while !over.get() {
        group.exec.sleep(Duration::from_millis(1 + chance.below(load.pause))).await;
        let Some(server) = any(group, &mut chance) else { continue };
        let number = chance.below(load.keys);
        let name = {
            let invariants = group.invariants.borrow();
            let generation = (0..).find(|g| invariants.history.len(&format!("k{number}-{g}")) < CALLS).unwrap_or(0);
            format!("k{number}-{generation}")
        };
        let key = Key::new(RESOURCE, "kv", name.as_str());
        next += 1;
        let bytes = chance.below(load.bytes);
        match chance.below(10) {
            0..4 => {
                let token = group.invariants.borrow_mut().history.call(&name, Op::Read(None));
                let Some(tables) = group.read_index(server).await else { continue };
                let found = value(&tables, &key);
                group.invariants.borrow_mut().history.answer(&token, Op::Read(found));
                known = found.and_then(|v| Some((key.clone(), tables.at(&key)?.revision, v)));
                group.check(|_| whole::check(&tables));
            }
            4..7 => {
                let txn = Txn { ops: vec![put(&key, next, bytes)], ..Txn::default() };
                write(group, server, &name, &txn, |yes| yes.then_some(Op::Write(Some(next))), Op::Write(Some(next)))
                    .await;
            }
            7 if known.is_some() => {
                let Some((key, revision, old)) = known.take() else { continue };
                let require = vec![Require::At(key.clone(), revision)];
                let txn = Txn { require, ops: vec![put(&key, next, bytes)], ..Txn::default() };
                let swap = |yes| Some(Op::Swap(Some(old), next, yes));
                write(group, server, &key.name, &txn, swap, Op::Swap(Some(old), next, true)).await;
            }
            8 => {
                let txn = Txn { ops: vec![Change::Delete { key }], ..Txn::default() };
                write(group, server, &name, &txn, |yes| yes.then_some(Op::Write(None)), Op::Write(None)).await;
            }
            _ => {
                let count = Change::CheckedAdd { key: Key::new("_counts", "", "n"), delta: 1, max: i64::MAX };
                let ops = whole::twins().iter().map(|key| put(key, next, bytes)).chain([count]).collect();
                let _ = group.propose(server, Origin::of("twins"), &Txn { ops, ..Txn::default() }).await;
            }
        }
    }
}

/// Writes; `came` says what it means that the transaction was applied, or was not.
async fn write(group: &Rc<Group>, server: u64, name: &str, txn: &Txn, came: impl Fn(bool) -> Option<Op>, asked: Op) {
    let token = group.invariants.borrow_mut().history.call(name, asked);
    let done = group.propose(server, Origin::of("kv"), txn).await;
    let mut invariants = group.invariants.borrow_mut();
    match done {
        Ok((outcome, _)) => match came(matches!(outcome, Outcome::Applied(_))) {
            Some(op) => invariants.history.answer(&token, op),
            None => invariants.history.never(&token),
        },
        Err((ProposeError::Unknown, _)) => {}
        Err(_) => invariants.history.never(&token),
    }
}

/// Follows a resource by lists and watches, now at this server and then at that.
pub async fn mirror(group: &Rc<Group>, resource: &str, over: &std::cell::Cell<bool>, mut chance: Chance) {
    let mut state: Option<Mirror> = None;
    while !over.get() {
        group.exec.sleep(Duration::from_millis(1 + chance.below(50))).await;
        let Some(server) = any(group, &mut chance) else { continue };
        if state.is_none() || chance.one_in(10) {
            let Some(tables) = group.read_index(server).await else { continue };
            let all = tables.list(resource, None).map(|o| (o.key.to_string(), o.revision));
            state = Some(Mirror::listed(resource, tables.revision(), all));
        }
        // The watch may be at another server, which may not be there yet.
        let Some(server) = any(group, &mut chance) else { continue };
        let Some(mut seen) = state.take() else { continue };
        let there = async {
            while group.snapshot(server).is_some_and(|t| t.revision() < seen.revision) {
                group.changed(server, Duration::from_millis(10)).await;
            }
        };
        let came = group.exec.timeout(Duration::from_secs(3), there).await;
        let behind = group.snapshot(server).is_none_or(|t| t.revision() < seen.revision);
        if came.is_none() || behind {
            state = Some(seen);
            continue;
        }
        let watch = group.ask(server, |p| p.hub.watch(Interest::all(resource), seen.revision));
        let Some(Ok(watch)) = watch else { continue };
        let resets = group.resets.get();
        let until = group.exec.now() + Duration::from_millis(chance.below(8000));
        state = loop {
            if over.get() || group.exec.now() >= until || group.resets.get() > resets {
                break Some(seen);
            }
            let left = until.since(group.exec.now());
            match group.exec.timeout(left, watch.next()).await {
                None => break Some(seen),
                Some(Err(WatchError::Compacted(_))) => break None,
                Some(Err(WatchError::Stopped)) => break Some(seen),
                Some(Ok(changes)) => {
                    let mut followed = Ok(());
                    for change in &changes {
                        followed = followed.and_then(|()| seen.follow(change));
                    }
                    let told = watch.progress();
                    group.check(|all| followed.and_then(|()| seen.check(&all.canon, told)));
                    seen.revision = seen.revision.max(told);
                }
            }
        };
    }
}
