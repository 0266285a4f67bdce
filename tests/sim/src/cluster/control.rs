//! What only the leader runs, fenced by its term: every controller with its queue, and the scheduler, over the server's
//! own watches. They stop when it leads no more, and a little later than that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use copepod_controllers::{BalancerPool, Config, Controller};
use copepod_machine::{Action, Backoff, Correlated, Correlator, Plan, Step, Time, WorkQueue};
use copepod_model::request::{Body, PatchType};
use copepod_model::{ApiRequest, Key, Status, UserInfo, Verb};
use copepod_scheduler::{Cache, Packing, Scheduler};
use copepod_state::{Interest, Tables};
use serde_json::json;

use super::POOL;
use super::api::{Api, Sender, absent, benign, request};
use crate::bug::Bug;
use crate::chance::Chance;
use crate::counts::Event;
use crate::exec::Owner;
use crate::group::Group;
use crate::group::hub::Watcher;

const RETRY: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_secs(1000) };
const BIND: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
/// Keys in work at once.
const WORKERS: usize = 8;
/// What tells the owner of control loops from that of the process that they are a part of.
const LOOPS: Owner = 1;

/// One leader's term at one server.
#[derive(Clone)]
struct Term {
    api: Rc<Api>,
    server: u64,
    term: u64,
    user: Arc<UserInfo>,
    binder: Arc<UserInfo>,
}

/// Who executes a plan.
#[derive(Clone, Copy)]
struct By<'a> {
    user: &'a Arc<UserInfo>,
    actor: &'static str,
    recorder: &'a RefCell<Correlator>,
}

struct Done {
    queue: usize,
    key: Key,
    ok: bool,
    again: Option<Duration>,
}

/// Runs the control loops of a server whenever it leads, for as long as its process lives.
pub async fn lead(api: Rc<Api>, server: u64, life: u64, mut chance: Chance) {
    let group = api.group.clone();
    loop {
        let Some(role) = group.ask(server, |p| p.role.clone()) else { return };
        if !role.leads {
            group.changed(server, Duration::from_secs(3600)).await;
            continue;
        }
        let user = Arc::new(UserInfo::system("system:kube-controller-manager"));
        let binder = Arc::new(UserInfo::system("system:kube-scheduler"));
        let term = Term { api: api.clone(), server, term: role.term, user, binder };
        group.check(|all| {
            all.led(role.term, term.steady(), api.shape.grace);
            Ok(())
        });
        // A part of the process that ends by itself.
        let owner = Group::owner(server, life) | (role.term & 0x7f) << 1 | LOOPS;
        let (t, c) = (term.clone(), chance.split());
        group.exec.spawn(owner, async move { t.control(owner, c).await });
        let (t, c) = (term.clone(), chance.split());
        group.exec.spawn(owner, async move { t.schedule(c).await });
        while group.ask(server, |p| p.role.leads && p.role.term == role.term) == Some(true) {
            group.changed(server, Duration::from_secs(3600)).await;
        }
        let lag = if group.bug == Some(Bug::Unfenced) { 4000 } else { 20 };
        group.exec.sleep(Duration::from_millis(chance.below(lag))).await;
        group.exec.kill(owner);
    }
}

/// Ends the control loops of all servers.
pub fn end(group: &Group) {
    let first = Group::owner(1, 0);
    group.exec.kill_where(|owner| owner >= first && owner & LOOPS != 0);
}

/// Watches of several resources from one snapshot.
struct Watches {
    view: Tables,
    all: Vec<(String, Watcher)>,
}

impl Term {
    fn group(&self) -> &Rc<Group> {
        &self.api.group
    }

    /// The time of day at the server, which may be wrong.
    fn now(&self) -> Time {
        self.group().clock(self.server)
    }

    /// The time of a clock that nobody sets.
    fn steady(&self) -> Time {
        self.group().exec.now()
    }

    fn sender(&self, actor: &'static str, view: Tables, decided: Time) -> Sender {
        let fence = (self.group().bug != Some(Bug::Unfenced)).then_some(self.term);
        Sender { actor, fence, term: Some(self.term), view: Some(view), decided: Some(decided), lives: None }
    }

    fn watch(&self, resources: &[String]) -> Option<Watches> {
        self.group().ask(self.server, |p| {
            let view = p.shown.clone();
            let one = |r: &String| Some((r.clone(), p.hub.watch(Interest::all(r.as_str()), view.revision()).ok()?));
            Some(Watches { all: resources.iter().map(one).collect::<Option<_>>()?, view: view.clone() })
        })?
    }

    async fn control(&self, owner: u64, mut chance: Chance) {
        let config = Config::new(self.api.kinds(), "ca".into(), self.steady());
        let balancer_pool = if self.api.shape.pool { pool() } else { BalancerPool::default() };
        let config = Config { node_grace: self.api.shape.grace, balancer_pool, ..config };
        let controllers: Rc<Vec<Box<dyn Controller>>> = Rc::new(copepod_controllers::all(&config));
        // Over again from a snapshot whenever a watch falls out of the window.
        while self.group().ask(self.server, |_| ()).is_some() {
            self.run(owner, &controllers, &mut chance).await;
        }
    }

    async fn run(&self, owner: u64, controllers: &Rc<Vec<Box<dyn Controller>>>, chance: &mut Chance) -> Option<()> {
        let every: Vec<String> = self.api.kinds().iter().map(|k| k.group_resource()).collect();
        let watches = self.watch(&every)?;
        let recorders: Rc<Vec<RefCell<Correlator>>> =
            Rc::new(controllers.iter().map(|c| recorder(&format!("{}-controller", c.name()))).collect());
        let mut queues: Vec<WorkQueue<Key>> = controllers.iter().map(|_| WorkQueue::new(RETRY)).collect();
        for (i, c) in controllers.iter().enumerate() {
            c.all(&watches.view).into_iter().for_each(|key| queues[i].add(key, self.steady()));
        }
        let done: Rc<RefCell<Vec<Done>>> = Rc::default();
        let signal = self.group().ask(self.server, |p| p.signal.clone())?;
        let mut running = 0;
        loop {
            let seen = signal.count();
            // Each resource's watch is as late as it is.
            let first = chance.below(watches.all.len() as u64) as usize;
            for i in 0..watches.all.len() {
                let (resource, watch) = &watches.all[(first + i) % watches.all.len()];
                let changes = watch.try_next().ok()?;
                if changes.is_empty() {
                    continue;
                }
                let view = self.group().snapshot(self.server)?;
                for change in changes {
                    for (i, c) in controllers.iter().enumerate() {
                        if !c.watches().iter().any(|w| *w == "*" || w == resource) {
                            continue;
                        }
                        for key in c.keys(&view, change.old.as_deref(), change.new.as_deref()) {
                            queues[i].add(key, self.steady());
                        }
                    }
                }
            }
            for Done { queue, key, ok, again } in done.take() {
                running -= 1;
                queues[queue].done(key.clone(), ok, self.steady());
                if let Some(after) = again {
                    queues[queue].add_at(key, self.steady() + after);
                }
            }
            let start = chance.below(queues.len() as u64) as usize;
            for i in 0..queues.len() {
                let queue = (start + i) % queues.len();
                while running < WORKERS {
                    let Some(key) = queues[queue].pop(self.steady()) else { break };
                    running += 1;
                    let (term, controllers, recorders) = (self.clone(), controllers.clone(), recorders.clone());
                    let (done, signal) = (done.clone(), signal.clone());
                    let late = Duration::from_micros(chance.below(3000));
                    self.group().exec.spawn(owner, async move {
                        term.group().exec.sleep(late).await;
                        let (ok, again) = term.reconcile(&*controllers[queue], &recorders[queue], &key).await;
                        done.borrow_mut().push(Done { queue, key, ok, again });
                        signal.ring();
                    });
                }
            }
            let due = queues.iter().filter_map(WorkQueue::next_due).min().filter(|_| running < WORKERS);
            let wait = due.map_or(Duration::from_secs(3600), |t| t.since(self.steady()));
            self.group().exec.timeout(wait, signal.changed(seen)).await;
        }
    }

    async fn reconcile(
        &self,
        controller: &dyn Controller,
        recorder: &RefCell<Correlator>,
        key: &Key,
    ) -> (bool, Option<Duration>) {
        let Some(view) = self.group().snapshot(self.server) else { return (false, None) };
        let steady = self.steady();
        let plan = controller.reconcile_steadily(&view, key, self.now(), steady);
        let by = By { user: &self.user, actor: controller.name(), recorder };
        let (step, refused) = match self.execute(by, plan, view, steady).await {
            Ok(again) => return (true, again),
            Err(failure) => failure,
        };
        if let Some(view) = self.group().snapshot(self.server) {
            let steady = self.steady();
            let report = controller.failed(&view, key, &step, &refused, self.now());
            // Once, whatever comes of it: the key comes again.
            let _ = self.execute(by, report, view, steady).await;
        }
        (false, None)
    }

    /// Executes a plan step by step through the API: what was decided on a view at a time of the steady clock. Answers when
    /// the key wants to be looked at again, or the step that failed and why.
    async fn execute(
        &self,
        by: By<'_>,
        plan: Plan,
        view: Tables,
        decided: Time,
    ) -> Result<Option<Duration>, (Step, Status)> {
        let mut again = None;
        // Names that the API drew, for events that speak of what an earlier step created.
        let mut names: BTreeMap<usize, String> = BTreeMap::new();
        let sender = self.sender(by.actor, view, decided);
        for (at, step) in plan.0.into_iter().enumerate() {
            let request = match &step.action {
                Action::After(d) => {
                    again = Some(again.map_or(*d, |a: Duration| a.min(*d)));
                    continue;
                }
                Action::Event { regarding, kind, reason, message } => {
                    let message = copepod_controllers::fill_names(message, |n| names.get(&n).cloned());
                    let event = by.recorder.borrow_mut().correlate(regarding, *kind, reason, &message, self.now());
                    self.record(by.user, &sender, event).await;
                    continue;
                }
                // The simulation has no CA.
                Action::Certify { .. } => continue,
                action => to_request(by.user, action.clone()),
            };
            match self.api.write(self.server, &sender, &request).await {
                Ok(made) => {
                    names.extend(made.map(|key| (at, key.name.to_string())));
                    match by.actor {
                        "node-lifecycle" if request.verb == Verb::Delete => self.group().counts.add(Event::Evicted),
                        "load-balancer" => self.group().counts.add(Event::Balanced),
                        _ => {}
                    }
                    self.meddle(&sender, &request).await;
                }
                Err(e) if e.reason == "AlreadyExists" || (e.code == 404 && request.verb != Verb::Create) => {}
                Err(e) if request.verb == Verb::Delete && e.code == 409 => {}
                Err(e) => {
                    if !(benign(&e) || absent(&e) || unlucky(&e)) {
                        let (actor, why) = (by.actor, &step.why);
                        self.group().broke("refused", format!("{actor}: {why} was refused: {e}"));
                    }
                    return Err((step, e));
                }
            }
        }
        Ok(again)
    }

    /// Writes an Event. One that cannot be written is lost, and what it reports goes on; but the API has nothing to say
    /// against any.
    async fn record(&self, user: &Arc<UserInfo>, sender: &Sender, event: Correlated) {
        match self.tell(user, sender, event).await {
            Ok(_) => self.group().counts.add(Event::Recorded),
            Err(e) if benign(&e) || absent(&e) || unlucky(&e) => {}
            Err(e) => self.group().broke("refused", format!("{}: an event was refused: {e}", sender.actor)),
        }
    }

    /// The same, as the server's recorder does it.
    async fn tell(&self, user: &Arc<UserInfo>, sender: &Sender, event: Correlated) -> Result<Option<Key>, Status> {
        let Correlated { namespace, name, again, object } = event;
        if let Some(patch) = again {
            let counted = request(user, Verb::Patch, "events", &namespace, &name);
            let counted = ApiRequest { body: Body::Patch(PatchType::Merge, patch), ..counted };
            match self.api.write(self.server, sender, &counted).await {
                // It has expired.
                Err(e) if e.code == 404 => {}
                done => return done,
            }
        }
        let create = request(user, Verb::Create, "events", &namespace, "");
        let create = ApiRequest { body: Body::Object(object), ..create };
        self.api.write(self.server, sender, &create).await
    }

    /// [`Bug::TwoWriters`].
    async fn meddle(&self, sender: &Sender, scaled: &ApiRequest) {
        let Body::Patch(kind, patch) = &scaled.body else { return };
        let replicas = &patch["spec"]["replicas"];
        if self.group().bug == Some(Bug::TwoWriters) && scaled.resource == "replicasets" && !replicas.is_null() {
            let body = Body::Patch(*kind, json!({"status": {"replicas": replicas}}));
            let status = ApiRequest { body, subresource: Some("status".into()), ..scaled.clone() };
            // Whatever comes of it: it is wrong.
            let _ = self.api.write(self.server, sender, &status).await;
        }
    }

    async fn schedule(&self, mut chance: Chance) {
        while self.group().ask(self.server, |_| ()).is_some() {
            self.bind(&mut chance).await;
        }
    }

    async fn bind(&self, chance: &mut Chance) -> Option<()> {
        let scheduler = Scheduler::new(Packing::default());
        let recorder = recorder("default-scheduler");
        let watches = self.watch(&["pods".into(), "nodes".into()])?;
        let mut cache = Cache::build(&watches.view);
        let mut queue: WorkQueue<Key> = WorkQueue::new(BIND);
        copepod_scheduler::all(&watches.view).into_iter().for_each(|key| queue.add(key, self.steady()));
        let signal = self.group().ask(self.server, |p| p.signal.clone())?;
        loop {
            let seen = signal.count();
            for (_, watch) in &watches.all {
                for change in watch.try_next().ok()? {
                    for key in cache.observe(change.old.as_deref(), change.new.as_deref()) {
                        queue.add(key, self.steady());
                    }
                }
            }
            if let Some(key) = queue.pop(self.steady()) {
                let view = self.group().snapshot(self.server)?;
                let steady = self.steady();
                let plan = scheduler.schedule(&view, &key, self.now(), &mut cache);
                let by = By { user: &self.binder, actor: "scheduler", recorder: &recorder };
                let done = self.execute(by, plan, view, steady).await;
                queue.done(key, done.is_ok(), self.steady());
                self.group().exec.sleep(Duration::from_micros(chance.below(500))).await;
                continue;
            }
            let wait = queue.next_due().map_or(Duration::from_secs(3600), |t| t.since(self.steady()));
            self.group().exec.timeout(wait, signal.changed(seen)).await;
        }
    }
}

/// The addresses that are set aside for load balancers.
fn pool() -> BalancerPool {
    let ranges = POOL.map(|ip| format!("{ip}-{ip}")).join(",");
    ranges.parse().expect("each is a range")
}

/// What a component has reported; it begins anew wherever its process does.
fn recorder(component: &str) -> RefCell<Correlator> {
    RefCell::new(Correlator::new(component, ""))
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
        Action::Certify { .. } | Action::Event { .. } | Action::After(_) => request(user, Verb::Get, "events", "", ""),
    }
}

fn sub(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.into())
}
