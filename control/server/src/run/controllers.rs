//! Runs the controllers: changes become keys, keys become plans, plans become API requests. It is the only place where a
//! controller meets time and I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Client, Recorder};
use copepod_controllers::{BalancerPool, Controller, TokenEnd};
use copepod_machine::{Action, Backoff, Plan, Step, WorkQueue};
use copepod_model::kinds::Kinds;
use copepod_model::request::{Body, DeleteOptions};
use copepod_model::{Key, Status, Verb};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::pki::Pki;
use crate::store::Store;
use crate::{now, steady};

/// Requests of one plan at once.
const AT_ONCE: usize = 64;
/// Keys of all controllers in work at once.
const WORKERS: usize = 64;
/// client-go's default per-item back-off.
const RETRY: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_secs(1000) };

struct Running {
    controller: usize,
    key: Key,
    ok: bool,
    again: Option<Duration>,
}

/// Runs `controllers` until `shutdown` turns true.
pub async fn run(
    store: Store,
    client: Client,
    kinds: &Kinds,
    pki: Arc<Pki>,
    controllers: Vec<Box<dyn Controller>>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Status> {
    let controllers: Arc<[Box<dyn Controller>]> = controllers.into();
    let recorders: Arc<Vec<Recorder>> = Arc::new(
        controllers.iter().map(|c| Recorder::new(client.clone(), &format!("{}-controller", c.name()), "")).collect(),
    );
    let mut by_resource: HashMap<String, Vec<usize>> = HashMap::new();
    let every: Vec<String> = kinds.iter().map(|k| k.group_resource()).collect();
    for (i, c) in controllers.iter().enumerate() {
        for resource in c.watches() {
            let named = if *resource == "*" { every.clone() } else { vec![(*resource).to_string()] };
            for resource in named {
                by_resource.entry(resource).or_default().push(i);
            }
        }
    }
    let mut queues: Vec<WorkQueue<Key>> = controllers.iter().map(|_| WorkQueue::new(RETRY)).collect();
    let (view, mut changes) = super::changes(&store, by_resource.keys().map(String::as_str))?;
    for (i, c) in controllers.iter().enumerate() {
        for key in c.all(&*view) {
            queues[i].add(key, steady());
        }
    }
    let mut running: JoinSet<Running> = JoinSet::new();
    loop {
        for (i, queue) in queues.iter_mut().enumerate() {
            while running.len() < WORKERS {
                let Some(key) = queue.pop(steady()) else { break };
                let (store, client, controllers, recorders, pki) =
                    (store.clone(), client.clone(), controllers.clone(), recorders.clone(), pki.clone());
                running.spawn(async move {
                    let plan = controllers[i].reconcile_steadily(&*store.snapshot(), &key, now(), steady());
                    if !plan.is_empty() {
                        tracing::debug!(controller = controllers[i].name(), %key, "{plan}");
                    }
                    let done = match issue(&pki, plan) {
                        Ok(plan) => execute(&client, &recorders[i], plan).await,
                        Err(failed) => Err(*failed),
                    };
                    let (ok, again) = match done {
                        Ok(again) => (true, again),
                        Err((step, e)) => {
                            let report = controllers[i].failed(&*store.snapshot(), &key, &step, &e, now());
                            let _ = execute(&client, &recorders[i], report).await;
                            // Conflicts are how optimistic writers meet; the retry reads the newer state.
                            if e.code != 409 {
                                tracing::info!(controller = controllers[i].name(), %key, "will try again: {e}");
                            }
                            (false, None)
                        }
                    };
                    Running { controller: i, key, ok, again }
                });
            }
        }
        let due = queues.iter().filter_map(WorkQueue::next_due).min();
        let wait = due.map_or(Duration::from_secs(3600), |t| t.since(steady()));
        tokio::select! {
            Some(done) = running.join_next() => {
                let Ok(done) = done else { return Err(Status::internal("a controller panicked")) };
                let queue = &mut queues[done.controller];
                queue.done(done.key.clone(), done.ok, steady());
                if let Some(after) = done.again {
                    queue.add_at(done.key, steady() + after);
                }
            }
            change = changes.next() => {
                let change = change.ok_or_else(super::behind)??;
                let view = store.snapshot();
                for i in by_resource.get(&*change.key.resource).into_iter().flatten() {
                    for key in controllers[*i].keys(&*view, change.old.as_deref(), change.new.as_deref()) {
                        queues[*i].add(key, steady());
                    }
                }
            }
            () = tokio::time::sleep(wait), if running.len() < WORKERS => {}
            () = crate::listener::stopped(&mut shutdown) => return Ok(()),
        }
    }
}

/// Has the CA issue what a plan asks for, so that nothing but requests to the API is left to do.
fn issue(pki: &Pki, mut plan: Plan) -> Result<Plan, Box<(Step, Status)>> {
    for step in &mut plan.0 {
        let Action::Certify { name, uid, template } = &step.action else { continue };
        match pki.issue(template) {
            Ok(pem) => step.action = copepod_controllers::certified(name, uid, &pem),
            Err(e) => return Err(Box::new((step.clone(), Status::internal(e)))),
        }
    }
    Ok(plan)
}

/// Executes a plan: neighbours of the same kind at once, in batches that grow, so that a quota that refuses one creation
/// does not get a thousand (upstream's slow start). Answers when the key wants to be looked at again, or the step that
/// failed and why.
pub async fn execute(client: &Client, recorder: &Recorder, plan: Plan) -> Result<Option<Duration>, (Step, Status)> {
    let mut again = None;
    let mut steps = plan.0.into_iter().enumerate().peekable();
    let mut batch: Vec<(usize, Step)> = Vec::new();
    // Names that the server drew, for events that speak of what an earlier step created.
    let mut names: HashMap<usize, String> = HashMap::new();
    let mut room = 1;
    while let Some((at, mut step)) = steps.next() {
        match &mut step.action {
            Action::After(d) => again = Some(again.map_or(*d, |a: Duration| a.min(*d))),
            Action::Event { message, .. } => {
                *message = copepod_controllers::fill_names(message, |n| names.get(&n).cloned());
                batch.push((at, step));
            }
            _ => batch.push((at, step)),
        }
        let goes_on = steps
            .peek()
            .is_some_and(|(_, next)| batch.last().is_none_or(|(_, last)| alike(&last.action, &next.action)));
        if goes_on && batch.len() < room {
            continue;
        }
        let mut results = stream::iter(batch.drain(..).map(|(at, step)| async move {
            let done = act(client, recorder, &step.action).await;
            done.map(|name| (at, name)).map_err(|e| (step, e))
        }))
        .buffer_unordered(AT_ONCE);
        let mut failed = None;
        while let Some(result) = results.next().await {
            match result {
                Ok((at, Some(name))) => drop(names.insert(at, name)),
                Ok((_, None)) => {}
                Err(failure) => failed = Some(failure),
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        room = if goes_on { (room * 2).min(512) } else { 1 };
    }
    Ok(again)
}

fn alike(a: &Action, b: &Action) -> bool {
    let resource = |x: &Action| match x {
        Action::Create { resource, .. } => Some((0, resource.to_string())),
        Action::Delete { resource, .. } => Some((1, resource.clone())),
        Action::Bind { .. } => Some((2, String::new())),
        Action::Event { .. } => Some((3, String::new())),
        Action::Update { .. } | Action::Patch { .. } | Action::Certify { .. } | Action::After(_) => None,
    };
    resource(a).is_some() && resource(a) == resource(b)
}

/// Does one thing; the name of what it created.
async fn act(client: &Client, recorder: &Recorder, action: &Action) -> Result<Option<String>, Status> {
    let done = match action {
        Action::Create { resource, namespace, object } => {
            return match client.create(resource, namespace, object.clone()).await {
                Ok(made) => Ok(Some(made.name().to_string())),
                Err(e) if e.reason == "AlreadyExists" => Ok(None),
                Err(e) => Err(e),
            };
        }
        Action::Update { resource, namespace, name, subresource, object } => {
            client.update(resource, namespace, name, subresource, object.clone()).await.map(drop)
        }
        Action::Patch { resource, namespace, name, subresource, kind, patch } => {
            gone_is_done(client.patch(resource, namespace, name, subresource, *kind, patch.clone()).await)
        }
        Action::Delete { resource, namespace, name, uid, propagation, grace_seconds } => {
            let uid = (!uid.is_empty()).then(|| uid.clone());
            let options = DeleteOptions {
                uid,
                propagation: *propagation,
                grace_period_seconds: *grace_seconds,
                resource_version: None,
            };
            match client.delete(resource, namespace, name, options).await {
                // Already another object of that name: what was wanted.
                Err(e) if e.code == 409 => Ok(()),
                done => gone_is_done(done),
            }
        }
        Action::Bind { namespace, name, uid, node } => {
            let mut request = client.request(Verb::Create, "pods", namespace, name);
            request.subresource = Some("binding".into());
            request.body = Body::Object(json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }));
            gone_is_done(client.call(request).await)
        }
        // [`issue`] leaves none.
        Action::Certify { .. } => Err(Status::internal("there is no CA here")),
        Action::Event { regarding, kind, reason, message } => {
            // An event that cannot be written must not stop the work that it reports.
            if let Err(e) = recorder.record(regarding, *kind, reason, message, now()).await {
                tracing::debug!("event {reason} not recorded: {e}");
            }
            Ok(())
        }
        Action::After(_) => Ok(()),
    };
    done.map(|()| None)
}

fn gone_is_done<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Err(e) if e.code == 404 => Ok(()),
        done => done.map(drop),
    }
}

/// Runs all controllers until `shutdown` turns true, starting over from a snapshot whenever they fall behind.
pub async fn forever(
    store: Store,
    client: Client,
    pki: Arc<Pki>,
    balancer_pool: BalancerPool,
    token_end: TokenEnd,
    shutdown: watch::Receiver<bool>,
) {
    let started = steady();
    while !*shutdown.borrow() {
        let kinds = Kinds::shared();
        let config = copepod_controllers::Config {
            balancer_pool: balancer_pool.clone(),
            allows: copepod_registry::allows,
            token_end: token_end.clone(),
            ..copepod_controllers::Config::new(kinds.clone(), pki.ca_pem().into(), started)
        };
        let all = copepod_controllers::all(&config);
        if let Err(e) = run(store.clone(), client.clone(), &kinds, pki.clone(), all, shutdown.clone()).await {
            tracing::warn!("the controllers start over: {e}");
        }
    }
}
