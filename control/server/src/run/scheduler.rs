//! Runs the scheduler: decisions one after the other over one cache, bindings concurrently.

use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Client, Recorder};
use copepod_machine::{Backoff, WorkQueue};
use copepod_model::{Key, Status};
use copepod_scheduler::{Cache, Packing, Scheduler};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::controllers::execute;
use crate::store::Store;
use crate::{now, steady};

/// Bindings at once.
const AT_ONCE: usize = 64;
/// kube-scheduler's podInitialBackoffSeconds and podMaxBackoffSeconds.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };

/// Runs until `shutdown` turns true, starting over from a snapshot whenever it falls behind.
pub async fn forever(store: Store, client: Client, shutdown: watch::Receiver<bool>) {
    while !*shutdown.borrow() {
        if let Err(e) = run(&store, &client, shutdown.clone()).await {
            tracing::warn!("the scheduler starts over: {e}");
        }
    }
}

async fn run(store: &Store, client: &Client, mut shutdown: watch::Receiver<bool>) -> Result<(), Status> {
    let scheduler = Scheduler::new(Packing::default());
    let recorder = Arc::new(Recorder::new(client.clone(), "default-scheduler", ""));
    let (view, mut changes) = super::changes(store, ["pods", "nodes"].into_iter())?;
    let mut cache = Cache::build(&*view);
    let mut queue: WorkQueue<Key> = WorkQueue::new(RETRY);
    for key in copepod_scheduler::all(&*view) {
        queue.add(key, steady());
    }
    drop(view);
    let mut running: JoinSet<(Key, bool)> = JoinSet::new();
    loop {
        while running.len() < AT_ONCE {
            let Some(key) = queue.pop(steady()) else { break };
            let plan = scheduler.schedule(&*store.snapshot(), &key, now(), &mut cache);
            if plan.is_empty() {
                queue.done(key, true, steady());
                continue;
            }
            tracing::debug!(%key, "{plan}");
            let (client, recorder) = (client.clone(), recorder.clone());
            running.spawn(async move {
                let result = execute(&client, &recorder, plan).await;
                if let Err((step, e)) = &result {
                    tracing::info!(%key, "{} failed: {e}", step.action);
                }
                (key, result.is_ok())
            });
        }
        let wait = queue.next_due().map_or(Duration::from_secs(3600), |t| t.since(steady()));
        tokio::select! {
            Some(done) = running.join_next() => {
                let (key, ok) = done.map_err(|_| Status::internal("a binding panicked"))?;
                queue.done(key, ok, steady());
            }
            change = changes.next() => {
                let change = change.ok_or_else(super::behind)??;
                for key in cache.observe(change.old.as_deref(), change.new.as_deref()) {
                    queue.add(key, steady());
                }
            }
            () = tokio::time::sleep(wait), if running.len() < AT_ONCE => {}
            () = crate::listener::stopped(&mut shutdown) => return Ok(()),
        }
    }
}
