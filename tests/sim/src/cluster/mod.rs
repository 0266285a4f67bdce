//! What runs on the servers of a cluster and beside them: control loops on the leader, agents, users.

pub mod api;
pub mod control;
pub mod node;
pub mod user;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use copepod_machine::Ids as _;
use copepod_model::object;
use copepod_state::{Op, Tables, Txn, apply};

use crate::chance::Chance;
use crate::exec::Owner;
use crate::faults::Fault;
use crate::group::Group;
use crate::kv::{OUTSIDE, mirror};
use crate::{START, invariants};
use api::Api;
use node::Node;

/// How many nodes there are.
const NODES: u8 = 2;
/// Virtual time that a converged cluster must stay quiet for: longer than any grace of the control plane.
const QUIET: Duration = Duration::from_secs(330);
/// Virtual time after which a healed cluster that still has work to do has failed to converge.
const HEAL: Duration = Duration::from_secs(7200);

/// A cluster on a group.
pub struct Cluster {
    api: Rc<Api>,
    /// Whether containers fail and watches are reset.
    fails: Rc<Cell<bool>>,
}

/// The objects that a cluster begins with.
pub fn first() -> Tables {
    let mut tables = Tables::default();
    let mut ids = Chance::new(0);
    for (key, mut value) in copepod_registry::bootstrap_objects() {
        value["metadata"]["uid"] = ids.uid().into();
        value["metadata"]["creationTimestamp"] = START.rfc3339().into();
        let body = object::encode(&value);
        let txn = Txn { ops: vec![Op::Put { key, body, revised: true }], ..Txn::default() };
        apply(&mut tables, 1, &txn);
    }
    tables
}

fn owner(number: u8) -> Owner {
    2 + u64::from(number)
}

impl Cluster {
    /// Starts control loops, agents, a user and somebody who follows the pods.
    pub fn start(group: &Rc<Group>, faults: &[Fault], over: &Rc<Cell<bool>>, mut chance: Chance) -> Cluster {
        let api = Api::new(group.clone(), chance.split());
        api.busy.set(if faults.contains(&Fault::Busy) { 10 } else { 0 });
        let fails = Rc::new(Cell::new(faults.contains(&Fault::Containers)));
        let (a, c) = (api.clone(), chance.split());
        group.exec.spawn(OUTSIDE, async move { rule(a, c).await });
        for number in 1..=NODES {
            let (api, fails, over, mut chance) = (api.clone(), fails.clone(), over.clone(), chance.split());
            let ends = faults.contains(&Fault::Agent);
            let exec = group.exec.clone();
            group.exec.spawn(OUTSIDE, async move {
                loop {
                    let node = Node::new(api.clone(), number, fails.clone(), chance.split());
                    exec.spawn(owner(number), node.live());
                    if !ends || over.get() {
                        return;
                    }
                    exec.sleep(Duration::from_millis(1000 + chance.below(30_000))).await;
                    if over.get() {
                        return;
                    }
                    exec.kill(owner(number));
                    exec.sleep(Duration::from_millis(chance.below(5000))).await;
                }
            });
        }
        let (a, o, c) = (api.clone(), over.clone(), chance.split());
        group.exec.spawn(OUTSIDE, user::live(a, 2000, o, c));
        let (g, o, c) = (group.clone(), over.clone(), chance.split());
        group.exec.spawn(OUTSIDE, async move { mirror(&g, "pods", &o, c).await });
        Cluster { api, fails }
    }

    /// After healing: waits until nothing is written any more for a long time, and looks at what has come of it.
    pub async fn rest(&self) {
        let group = self.api.group.clone();
        self.api.busy.set(0);
        self.fails.set(false);
        group.calm.set(true);
        let spoken = || group.invariants.borrow().canon.spoken.clone();
        let begun = group.exec.now();
        let mut last = spoken();
        let mut since = begun;
        while group.exec.now().since(since) < QUIET {
            if group.exec.now().since(begun) > HEAL {
                return group.broke("quiet", format!("still busy {HEAL:?} after healing; last: {}", last.1));
            }
            group.exec.sleep(Duration::from_secs(5)).await;
            if spoken().0 != last.0 {
                (last, since) = (spoken(), group.exec.now());
            }
        }
        group.calm.set(false);
        // Heartbeats would go on for ever.
        (1..=NODES).for_each(|number| group.exec.kill(owner(number)));
        group.exec.sleep(Duration::from_secs(2)).await;
        group.check(|all| invariants::settled::check(&all.canon.tables));
    }
}

/// Gives every process of every server its control loops.
async fn rule(api: Rc<Api>, mut chance: Chance) {
    let group = api.group.clone();
    let mut seen: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    loop {
        let count = group.news.count();
        let lives: Vec<(u64, u64)> = {
            let servers = group.servers.borrow();
            servers.iter().filter(|(_, s)| s.process.is_some()).map(|(id, s)| (*id, s.life)).collect()
        };
        for (id, life) in lives {
            if seen.insert(id, life) != Some(life) {
                let (api, chance) = (api.clone(), chance.split());
                group.exec.spawn(Group::owner(id, life), control::lead(api, id, life, chance));
            }
        }
        group.news.changed(count).await;
    }
}
