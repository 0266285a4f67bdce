//! The API without transport: the registry's decisions applied at once, with every change kept for watchers and
//! invariants.

use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Time, View as _};
use copepod_model::kinds::Kinds;
use copepod_model::{ApiRequest, Key, Object, Status};
use copepod_registry::{Config, Decision, Env, Page, Registry, Sealer};
use copepod_state::{Change, Op, Outcome, Tables, Txn, apply};
use serde_json::Value;

use crate::START;
use crate::chance::Chance;

/// The API and everything that it stores.
pub struct Api {
    registry: Registry,
    tables: Tables,
    changes: Vec<(Arc<Change>, &'static str)>,
    now: Time,
    ids: Chance,
    digest: u64,
    spoken: u64,
}

const TERM: u64 = 1;

impl Api {
    /// A cluster with its first objects.
    pub fn new(ids: Chance) -> Api {
        let registry = Registry::new(Arc::new(Kinds::builtin()), Config::new(Sealer::new(&[7; 32])));
        let mut api =
            Api { registry, tables: Tables::default(), changes: Vec::new(), now: START, ids, digest: 0, spoken: 0 };
        for (key, mut value) in copepod_registry::bootstrap_objects() {
            use copepod_machine::Ids as _;
            value["metadata"]["uid"] = api.ids.uid().into();
            value["metadata"]["creationTimestamp"] = api.now.rfc3339().into();
            let body = copepod_model::object::encode(&value);
            let txn = Txn { ops: vec![Op::Put { key, body, revised: true }], ..Txn::default() };
            let (_, changes) = apply(&mut api.tables, TERM, &txn);
            api.keep(changes, "bootstrap");
        }
        api
    }

    /// Any request but reads and watches; the object's key after it, if there is one.
    pub fn call(&mut self, actor: &'static str, request: &ApiRequest) -> Result<(), Status> {
        for _ in 0..16 {
            let mut env = Env { view: &self.tables, now: self.now, ids: &mut self.ids };
            let write = match self.registry.decide(&mut env, request)? {
                Decision::Answer(_) => return Ok(()),
                Decision::Write(write) => write,
            };
            let (outcome, changes) = apply(&mut self.tables, TERM, &write.txn);
            self.keep(changes, actor);
            if matches!(outcome, Outcome::Applied(_)) {
                return Ok(());
            }
        }
        Err(Status::internal(
            "sixteen decisions on the newest view failed: a decision's preconditions contradict its view",
        ))
    }

    /// Writes past the registry, as nothing may: for runs that must fail.
    pub fn tamper(&mut self, actor: &'static str, key: &Key, edit: impl FnOnce(&mut Value)) {
        let Some(object) = self.tables.get(&key.resource, &key.namespace, &key.name) else { return };
        let mut value = object.value();
        edit(&mut value);
        let body = copepod_model::object::encode(&value);
        let txn = Txn { ops: vec![Op::Put { key: key.clone(), body, revised: true }], ..Txn::default() };
        let (_, changes) = apply(&mut self.tables, TERM, &txn);
        self.keep(changes, actor);
    }

    /// Keeps the last change from everybody, as nothing may: for runs that must fail.
    pub fn lose_a_change(&mut self) {
        if let Some((change, _)) = self.changes.last_mut() {
            let other = Key::new("configmaps", "default", "nothing");
            *change = Arc::new(Change { key: other, old: None, new: None, ..(**change).clone() });
        }
    }

    fn keep(&mut self, changes: Vec<Change>, actor: &'static str) {
        for change in changes {
            let body = change.new.as_ref().map_or(&[][..], |o| &o.body[..]);
            for b in change.key.to_string().bytes().chain(body.iter().copied()) {
                self.digest = (self.digest ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
            }
            // Heartbeats go on for ever and say nothing.
            if !change.key.resource.starts_with("leases") {
                self.spoken = change.revision;
            }
            self.changes.push((Arc::new(change), actor));
        }
    }

    /// A page of a collection.
    pub fn list(&self, request: &ApiRequest) -> Result<Page, Status> {
        self.registry.list(&self.tables, request)
    }
    /// One object.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.tables.get(resource, namespace, name)
    }
    /// The stored objects.
    pub fn view(&self) -> &Tables {
        &self.tables
    }
    /// The changes from the `cursor`-th on, with who made them.
    pub fn since(&self, cursor: usize) -> &[(Arc<Change>, &'static str)] {
        self.changes.get(cursor..).unwrap_or_default()
    }
    /// How many changes there were.
    pub fn count(&self) -> usize {
        self.changes.len()
    }
    /// The last revision.
    pub fn revision(&self) -> u64 {
        self.tables.revision()
    }
    /// The last revision of a change that was no heartbeat.
    pub fn spoken(&self) -> u64 {
        self.spoken
    }
    /// The last change that was no heartbeat, for people.
    pub fn last_change(&self) -> String {
        let last = self.changes.iter().rev().find(|(c, _)| !c.key.resource.starts_with("leases"));
        last.map(|(c, who)| format!("{who} wrote {}", c.key)).unwrap_or_default()
    }
    /// Digest of all changes.
    pub fn digest(&self) -> u64 {
        self.digest
    }
    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }
    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }
    /// Lets time pass until `at`, if that is later.
    pub fn advance_to(&mut self, at: Time) {
        self.now = self.now.max(at);
    }
}
