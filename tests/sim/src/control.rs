//! The control loops: every controller with its queue, and the scheduler, each a client of the API that sees changes late.

use std::sync::Arc;
use std::time::Duration;

use copepod_controllers::{Config, Controller};
use copepod_machine::{Action, Backoff, Plan, Time, View as _, WorkQueue};
use copepod_model::kinds::Kinds;
use copepod_model::request::Body;
use copepod_model::{ApiRequest, Key, Status, UserInfo, Verb};
use copepod_scheduler::{Cache, Packing, Scheduler};
use serde_json::json;

use crate::api::Api;
use crate::chance::Chance;
use crate::client::{benign, request};

const RETRY: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_secs(1000) };

struct Loop {
    controller: Box<dyn Controller>,
    queue: WorkQueue<Key>,
    cursor: usize,
}

/// All control loops.
pub struct Control {
    loops: Vec<Loop>,
    scheduler: Scheduler,
    cache: Cache,
    pods: WorkQueue<Key>,
    cursor: usize,
    chance: Chance,
    controllers: Arc<UserInfo>,
    binder: Arc<UserInfo>,
    /// One change in so many is overlooked.
    overlooks: Option<u64>,
}

impl Control {
    /// The same that overlook one change in `so_many`, as a broken watch would.
    pub fn overlooking(mut self, so_many: Option<u64>) -> Control {
        self.overlooks = so_many;
        self
    }

    /// Control loops that start now, be it as those of a new leader.
    pub fn new(api: &Api, chance: Chance) -> Control {
        let config = Config::new(Arc::new(Kinds::builtin()), "ca".into(), api.now());
        let loops = copepod_controllers::all(&config).into_iter().map(|controller| {
            let mut queue = WorkQueue::new(RETRY);
            for key in controller.all(api.view()) {
                queue.add(key, api.now());
            }
            Loop { controller, queue, cursor: api.count() }
        });
        let loops = loops.collect();
        let mut pods = WorkQueue::new(RETRY);
        for pod in api.view().list("pods", None) {
            pods.add(pod.key.clone(), api.now());
        }
        Control {
            loops,
            scheduler: Scheduler::new(Packing::default()),
            cache: Cache::build(api.view()),
            pods,
            cursor: api.count(),
            chance,
            controllers: Arc::new(UserInfo::system("system:kube-controller-manager")),
            binder: Arc::new(UserInfo::system("system:kube-scheduler")),
            overlooks: None,
        }
    }

    /// Lets one loop, chosen by chance among all, take in some changes and reconcile one key. With `chaos` a plan may be cut
    /// short after any step, as by a crash of its runner.
    pub fn step(&mut self, api: &mut Api, chaos: bool) -> Result<bool, String> {
        let first = self.chance.below(self.loops.len() as u64 + 1) as usize;
        for offset in 0..=self.loops.len() {
            let i = (first + offset) % (self.loops.len() + 1);
            let acted = if i == self.loops.len() { self.schedule(api)? } else { self.reconcile(api, i, chaos)? };
            // In chaos one loop gets its turn and that is all; healed, whoever has work does it.
            if acted || chaos {
                return Ok(acted);
            }
        }
        Ok(false)
    }

    /// When the next key is due.
    pub fn next_due(&self) -> Option<Time> {
        self.loops.iter().filter_map(|l| l.queue.next_due()).chain(self.pods.next_due()).min()
    }

    fn reconcile(&mut self, api: &mut Api, i: usize, chaos: bool) -> Result<bool, String> {
        let now = api.now();
        let l = &mut self.loops[i];
        let all = l.controller.watches().contains(&"*");
        // How many of the changes that wait are seen now.
        let waiting = (api.count() - l.cursor) as u64;
        let seen = if chaos { self.chance.below(waiting + 1) } else { waiting } as usize;
        for (change, _) in &api.since(l.cursor)[..seen] {
            if self.overlooks.is_some_and(|n| self.chance.one_in(n)) {
                continue;
            }
            if all || l.controller.watches().contains(&&*change.key.resource) {
                for key in l.controller.keys(api.view(), change.old.as_deref(), change.new.as_deref()) {
                    l.queue.add(key, now);
                }
            }
        }
        l.cursor += seen;
        let Some(key) = l.queue.pop(now) else { return Ok(false) };
        let plan = l.controller.reconcile(api.view(), &key, now);
        let cut = if chaos && self.chance.one_in(8) {
            self.chance.below(plan.0.len() as u64 + 1) as usize
        } else {
            usize::MAX
        };
        let name = l.controller.name();
        let (ok, again) =
            execute(api, &self.controllers, "control", plan, cut).map_err(|e| format!("{name} on {key}: {e}"))?;
        let l = &mut self.loops[i];
        l.queue.done(key.clone(), ok, now);
        if let Some(after) = again {
            l.queue.add_at(key, now + after);
        }
        Ok(true)
    }

    fn schedule(&mut self, api: &mut Api) -> Result<bool, String> {
        let now = api.now();
        for (change, _) in api.since(self.cursor) {
            if matches!(&*change.key.resource, "pods" | "nodes") {
                for key in self.cache.observe(change.old.as_deref(), change.new.as_deref()) {
                    self.pods.add(key, now);
                }
            }
        }
        self.cursor = api.count();
        let Some(key) = self.pods.pop(now) else { return Ok(false) };
        let plan = self.scheduler.schedule(api.view(), &key, now, &mut self.cache);
        let (ok, _) = execute(api, &self.binder, "scheduler", plan, usize::MAX)
            .map_err(|e| format!("the scheduler on {key}: {e}"))?;
        self.pods.done(key, ok, now);
        Ok(true)
    }
}

type Done = (bool, Option<Duration>);

/// Executes a plan's first `cut` steps through the API.
fn execute(api: &mut Api, user: &Arc<UserInfo>, actor: &'static str, plan: Plan, cut: usize) -> Result<Done, String> {
    let mut again = None;
    for (i, step) in plan.0.into_iter().enumerate() {
        if i >= cut {
            return Ok((false, again));
        }
        let request = match step.action {
            Action::After(d) => {
                again = Some(again.map_or(d, |a: Duration| a.min(d)));
                continue;
            }
            Action::Event { .. } => continue,
            action => to_request(user, action),
        };
        match api.call(actor, &request) {
            Ok(()) => {}
            Err(e) if e.reason == "AlreadyExists" || (e.code == 404 && request.verb != Verb::Create) => {}
            Err(e) if benign(&e) || unlucky(&e) => return Ok((false, again)),
            Err(e) => return Err(format!("{} was refused: {e}", step.why)),
        }
    }
    Ok((true, again))
}

/// A namespace that is going away refuses what was planned before, and one that is new has no service account yet; the
/// retry sees it.
fn unlucky(e: &Status) -> bool {
    e.code == 403 && ["terminated", "serviceaccount \"default\" not found"].iter().any(|t| e.message.contains(t))
}

fn to_request(user: &Arc<UserInfo>, action: Action) -> ApiRequest {
    match action {
        Action::Create { resource, namespace, object } => {
            ApiRequest { body: Body::Object(object), ..request(user, Verb::Create, resource, &namespace, "") }
        }
        Action::Update { resource, namespace, name, subresource, object } => ApiRequest {
            body: Body::Object(object),
            subresource: sub(subresource),
            ..request(user, Verb::Update, resource, &namespace, &name)
        },
        Action::Patch { resource, namespace, name, subresource, kind, patch } => ApiRequest {
            body: Body::Patch(kind, patch),
            subresource: sub(subresource),
            ..request(user, Verb::Patch, &resource, &namespace, &name)
        },
        Action::Delete { resource, namespace, name, uid, propagation, grace_seconds } => {
            let mut r = request(user, Verb::Delete, &resource, &namespace, &name);
            r.delete.uid = (!uid.is_empty()).then_some(uid);
            r.delete.propagation = propagation;
            r.delete.grace_period_seconds = grace_seconds;
            r
        }
        Action::Bind { namespace, name, uid, node } => {
            let mut r = request(user, Verb::Create, "pods", &namespace, &name);
            r.subresource = Some("binding".into());
            r.body = Body::Object(json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }));
            r
        }
        Action::Event { .. } | Action::After(_) => request(user, Verb::Get, "events", "", ""),
    }
}

fn sub(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.into())
}
