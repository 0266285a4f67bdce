//! A group under a script in place of chance: for the exact order of events that a seed has found.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use copepod_consensus::rules::Hold;
use copepod_model::{Key, object};
use copepod_state::{Op, Outcome, Require, Tables, Txn};
use serde_json::json;

use crate::chance::Chance;
use crate::faults;
use crate::group::disk::Trouble;
use crate::group::process::{Command, ProposeError};
use crate::group::{Group, Origin};
use crate::kv::OUTSIDE;

/// Virtual time after which what is waited for does not come any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A group, whose time passes while something is waited for.
pub struct Scenario {
    /// The group.
    pub group: Rc<Group>,
}

impl Scenario {
    /// `servers` that begin with nothing.
    pub fn new(servers: u64) -> Scenario {
        Scenario::with_quota(servers, 0)
    }

    /// The same with a space quota in bytes, 0 for none.
    pub fn with_quota(servers: u64, quota: u64) -> Scenario {
        Scenario { group: Group::new(servers, Tables::default(), quota, None, Chance::new(1)) }
    }

    /// Lets time pass until a task is done.
    fn run<T: 'static>(&self, what: &str, task: impl Future<Output = T> + 'static) -> T {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let slot = result.clone();
        self.group.exec.spawn(OUTSIDE, async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            self.holds();
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
            assert!(self.group.exec.step(), "{what}: nothing happens any more");
        }
    }

    /// Lets time pass.
    pub fn wait(&self, time: Duration) {
        let group = self.group.clone();
        self.run("wait", async move { group.exec.sleep(time).await });
    }

    fn until(&self, what: &str, f: impl Fn(&Group) -> bool) {
        let end = self.group.exec.now() + PATIENCE;
        while !f(&self.group) {
            assert!(self.group.exec.now() < end && self.group.exec.step(), "{what} does not come");
            self.holds();
        }
    }

    /// The server that leads those who reach it, once there is one.
    pub fn leads(&self) -> u64 {
        let followed = |g: &Group| {
            let leader = g.leader()?;
            let term = g.ask(leader, |p| p.role.term)?;
            let all = g.running();
            let follow = |id: &&u64| g.ask(**id, |p| (p.role.leader, p.role.term)) == Some((Some(leader), term));
            (all.iter().filter(follow).count() > all.len() / 2).then_some(leader)
        };
        self.until("a leader", |g| followed(g).is_some());
        followed(&self.group).unwrap_or_default()
    }

    /// The term in which a server is.
    pub fn term(&self, server: u64) -> u64 {
        self.group.ask(server, |p| p.role.term).unwrap_or_default()
    }

    /// Writes an object that is not there, at a server.
    pub fn write(&self, server: u64, name: &str) -> Result<Outcome, ProposeError> {
        let (group, key) = (self.group.clone(), Key::new("configmaps", "d", name));
        self.run("a write", async move {
            let body = object::encode(&json!({"metadata": {"name": &*key.name, "namespace": "d"}}));
            let require = vec![Require::Absent(key.clone())];
            let txn = Txn { require, ops: vec![Op::Put { key, body, revised: true }], ..Txn::default() };
            group.propose(server, Origin::of("script"), &txn).await.map(|(outcome, _)| outcome).map_err(|(e, _)| e)
        })
    }

    /// Whether an object is there, by a proven read at a server; none if nothing can be proven.
    pub fn read(&self, server: u64, name: &str) -> Option<bool> {
        let (group, key) = (self.group.clone(), Key::new("configmaps", "d", name));
        self.run("a read", async move { group.read_index(server).await.map(|tables| tables.at(&key).is_some()) })
    }

    /// Nobody reaches a server, and it reaches nobody.
    pub fn cut_off(&self, server: u64) {
        let others: Vec<u64> = self.group.running().into_iter().filter(|id| *id != server).collect();
        self.group.net.borrow_mut().part(&[server], &others);
    }

    /// The power of a server fails.
    pub fn lose_power(&self, server: u64) {
        self.group.crash(server, true);
    }

    /// Nothing more can be written to a server's disk.
    pub fn fill_disk(&self, server: u64) {
        if let Some(server) = self.group.servers.borrow_mut().get_mut(&server) {
            server.disk.trouble = Trouble::Full;
        }
    }

    /// From now on whoever leads keeps so much of the log for the others.
    pub fn keeps(&self, hold: Hold) {
        self.group.hold.set(hold);
        self.group.servers.borrow_mut().values_mut().filter_map(|s| s.process.as_mut()).for_each(|p| p.hold = hold);
    }

    /// Each write to a server's disk takes so much longer.
    pub fn slow_disk(&self, server: u64, millis: u64) {
        if let Some(server) = self.group.servers.borrow_mut().get_mut(&server) {
            server.disk.trouble = Trouble::Slow(millis);
        }
    }

    /// How often a server has put another's state in the place of its own.
    pub fn installations(&self, server: u64) -> u64 {
        self.group.ask(server, |p| p.installed).unwrap_or(0)
    }

    /// A leader hands over to another member.
    pub fn hand_over(&self, leader: u64, to: u64) {
        self.group.command(leader, Command::Transfer(to));
    }

    /// Waits until a server begins to install another's state.
    pub fn until_it_installs(&self, server: u64) {
        self.until("an installation", |g| g.ask(server, |p| p.installs()) == Some(true));
    }

    /// Everything is well again.
    pub fn heal(&self) {
        faults::heal(&self.group);
    }

    /// No invariant is broken.
    pub fn holds(&self) {
        if let Some((which, how)) = self.group.failure.borrow().as_ref() {
            panic!("{which}: {how}");
        }
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.group.exec.end();
    }
}
