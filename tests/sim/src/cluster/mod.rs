//! What runs on the servers of a cluster and beside them: control loops on the leader, agents, users.

pub mod api;
pub mod control;
pub mod node;
pub mod user;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Ids as _, View as _};
use copepod_model::{Key, Object, Status, UserInfo, object};
use copepod_state::{Op, Tables, Txn, apply};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::counts::Event;
use crate::exec::Owner;
use crate::faults::{Fault, struck};
use crate::group::Group;
use crate::group::net::Place;
use crate::invariants::resource_quota::{HARD, NAMESPACE};
use crate::kv::{OUTSIDE, mirror};
use crate::shape::Shape;
use crate::{START, invariants};
use api::{Api, Sender};
use node::Node;

/// How many nodes there are.
const NODES: u8 = 2;
/// Where users are in the network.
const USER: Place = 2000;
/// How many of them want the same Secrets.
const HOARDERS: usize = 3;
/// How many want Services of the same names.
const PUBLISHERS: usize = 2;
/// The addresses that are set aside for load balancers, where some are: fewer than the Services that want one.
pub const POOL: [&str; 5] = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "2001:db8::2"];
/// Virtual time that a converged cluster must stay quiet for: longer than any grace of the control plane.
const QUIET: Duration = Duration::from_secs(330);
/// The same after a rollout, in which something happens every few seconds.
const ROLLED_OUT: Duration = Duration::from_secs(60);
/// Virtual time after which a healed cluster that still has work to do has failed to converge.
const HEAL: Duration = Duration::from_secs(7200);

/// A cluster on a group.
pub struct Cluster {
    api: Rc<Api>,
    /// Whether containers fail.
    fails: Rc<Cell<bool>>,
}

/// The objects that a cluster begins with.
pub fn first() -> Tables {
    let mut tables = Tables::default();
    let mut ids = Chance::new(0);
    for (key, mut value) in copepod_registry::bootstrap_objects().into_iter().chain([quota()]) {
        value["metadata"]["uid"] = ids.uid().into();
        value["metadata"]["creationTimestamp"] = START.rfc3339().into();
        let body = object::encode(&value);
        let txn = Txn { ops: vec![Op::Put { key, body, revised: true }], ..Txn::default() };
        apply(&mut tables, 1, &txn);
    }
    tables
}

/// The quota of [`invariants::resource_quota`], as its controller would have it counted.
fn quota() -> (Key, Value) {
    let hard: Value = HARD.iter().map(|(name, n)| (name.to_string(), json!(n.to_string()))).collect();
    let used: Value = HARD.iter().map(|(name, _)| (name.to_string(), json!("0"))).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bound", "namespace": NAMESPACE},
        "spec": {"hard": hard.clone()}, "status": {"hard": hard, "used": used},
    });
    (Key::new("resourcequotas", NAMESPACE, "bound"), object)
}

fn owner(number: u8) -> Owner {
    2 + u64::from(number)
}

impl Cluster {
    /// Starts control loops, agents, a user and somebody who follows the pods.
    pub fn start(group: &Rc<Group>, shape: &Shape, over: &Rc<Cell<bool>>, mut chance: Chance) -> Cluster {
        let faults = &shape.faults;
        let api = Api::new(group.clone(), shape.clone(), chance.split());
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
                    struck(&api.group, Fault::Agent);
                    exec.kill(owner(number));
                    exec.sleep(Duration::from_millis(chance.below(5000))).await;
                }
            });
        }
        let (a, o, c) = (api.clone(), over.clone(), chance.split());
        group.exec.spawn(OUTSIDE, user::live(a, USER, o, c));
        for _ in 0..HOARDERS {
            let (a, o, c) = (api.clone(), over.clone(), chance.split());
            group.exec.spawn(OUTSIDE, user::hoard(a, USER, o, c));
        }
        let (g, o, c) = (group.clone(), over.clone(), chance.split());
        group.exec.spawn(OUTSIDE, async move { mirror(&g, "pods", &o, c).await });
        for _ in 0..PUBLISHERS {
            let (a, o, c) = (api.clone(), over.clone(), chance.split());
            group.exec.spawn(OUTSIDE, user::publish(a, USER, o, c));
        }
        Cluster { api, fails }
    }

    /// After healing: waits until nothing is written any more for a long time, looks at what has come of it, and lets all
    /// Deployments get new pods while nothing fails.
    pub async fn rest(&self) {
        let group = self.api.group.clone();
        self.api.busy.set(0);
        self.fails.set(false);
        group.calm();
        let pool = self.api.shape.pool;
        let settled = || {
            group.check(|all| {
                invariants::settled::check(&all.canon.tables)?;
                invariants::balanced::check(&all.canon.tables, pool)
            });
        };
        if !self.quiet(QUIET).await {
            return;
        }
        settled();
        group.invariants.borrow_mut().steady = true;
        self.roll_out().await;
        if !self.quiet(ROLLED_OUT).await {
            return;
        }
        group.invariants.borrow_mut().steady = false;
        group.stir();
        // Heartbeats would go on for ever, and whoever listens would evict the pods of nodes that are not heard any more.
        (1..=NODES).for_each(|number| group.exec.kill(owner(number)));
        control::end(&group);
        group.exec.sleep(Duration::from_secs(2)).await;
        settled();
    }

    /// Waits until nothing has been written for so long; whether that came.
    async fn quiet(&self, long: Duration) -> bool {
        let group = &self.api.group;
        let spoken = || group.invariants.borrow().canon.spoken.clone();
        let begun = group.exec.now();
        let (mut last, mut since) = (spoken(), begun);
        while group.exec.now().since(since) < long {
            if group.exec.now().since(begun) > HEAL {
                group.broke("quiet", format!("still busy {HEAL:?} after healing; last: {}", last.1));
                return false;
            }
            group.exec.sleep(Duration::from_secs(5)).await;
            if spoken().0 != last.0 {
                (last, since) = (spoken(), group.exec.now());
            }
        }
        true
    }

    /// Wishes new pods for every Deployment.
    async fn roll_out(&self) {
        let group = &self.api.group;
        let user = Arc::new(UserInfo::system("user"));
        let all: Vec<Arc<Object>> =
            group.invariants.borrow().canon.tables.list("deployments.apps", Some("default")).collect();
        for deployment in all {
            let request = user::new_image(&user, deployment.name(), 9);
            let done = match group.leader() {
                Some(leader) => self.api.call(USER, leader, Sender::outside("user"), request).await,
                None => Err(Status::unavailable("nobody leads")),
            };
            match done {
                Ok(()) => group.counts.add(Event::Rollout),
                Err(e) => group.broke("progress", format!("{} cannot be changed: {e}", deployment.key)),
            }
        }
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
