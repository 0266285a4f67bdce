//! Records Events: repetitions are counted on one object, and a pod that talks too much is not listened to.

use std::collections::HashMap;
use std::sync::Arc;

use copepod_client::Client;
use copepod_model::{Object, Time};
use copepod_node_plan::PodEvent;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::now;

/// How many Events wait to be written; more are lost.
const QUEUE: usize = 4096;
/// How many objects are remembered.
const REMEMBERED: usize = 4096;
/// How many Events one object may have at once, and the seconds after which it may have one more (client-go's limits).
const BURST: u32 = 25;
const REFILL_SECONDS: u64 = 300;

/// Where Events are recorded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Record>);

struct Record {
    object: Arc<Object>,
    event: PodEvent,
    at: Time,
}

impl Recorder {
    /// A recorder, and the task that writes for it.
    pub fn new(client: Client, node: String) -> (Recorder, impl Future<Output = ()> + Send) {
        let (tx, rx) = mpsc::channel(QUEUE);
        (Recorder(tx), write(client, node, rx))
    }

    /// Records an Event about a pod, a Service, or the node. Never waits.
    pub fn record(&self, object: &Arc<Object>, event: PodEvent) {
        let _ = self.0.try_send(Record { object: object.clone(), event, at: now() });
    }
}

/// How many Events each object may still have, and since when.
#[derive(Default)]
struct Memory {
    budget: HashMap<Arc<str>, (u32, Time)>,
}

impl Memory {
    /// Whether the object may have one more.
    fn allow(&mut self, uid: &Arc<str>, at: Time) -> bool {
        if self.budget.len() > REMEMBERED {
            self.budget.clear();
        }
        let (tokens, since) = self.budget.entry(uid.clone()).or_insert((BURST, at));
        let refill = at.since(*since).as_secs() / REFILL_SECONDS;
        if refill > 0 {
            *tokens = BURST.min(tokens.saturating_add(u32::try_from(refill).unwrap_or(BURST)));
            *since = at;
        }
        let allowed = *tokens > 0;
        *tokens = tokens.saturating_sub(1);
        allowed
    }
}

async fn write(client: Client, node: String, mut queue: mpsc::Receiver<Record>) {
    let proxy = copepod_client::Recorder::new(client.clone(), "kube-proxy", &node);
    let kubelet = copepod_client::Recorder::new(client, "kubelet", &node);
    let mut memory = Memory::default();
    while let Some(r) = queue.recv().await {
        if !memory.allow(&r.object.meta.uid, r.at) {
            continue;
        }
        let is_service = &*r.object.key.resource == "services";
        let (recorder, kind) = if is_service { (&proxy, "Service") } else { (&kubelet, "Pod") };
        let mut regarding = json!({
            "apiVersion": "v1", "kind": kind, "namespace": r.object.namespace(), "name": r.object.name(),
            "uid": &*r.object.meta.uid, "resourceVersion": r.object.revision.to_string(),
        });
        if r.object.namespace().is_empty() {
            // The node itself: the kubelet names it by its name alone.
            regarding = json!({"kind": "Node", "name": r.object.name(), "uid": r.object.name()});
        }
        if let Some(path) = &r.event.field_path {
            regarding["fieldPath"] = path.as_str().into();
        }
        // The namespace may be on its way out.
        if let Err(e) = recorder.record(&regarding, r.event.kind, r.event.reason, &r.event.message, r.at).await {
            tracing::debug!(error = %e, "an event is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_pod_runs_out_of_events_and_recovers() {
        let (mut m, uid) = (Memory::default(), Arc::<str>::from("u"));
        let t = Time::from_secs(1000);
        assert_eq!((0..100).filter(|_| m.allow(&uid, t)).count(), 25);
        assert_eq!((0..9).filter(|_| m.allow(&uid, Time::from_secs(1600))).count(), 2);
        assert!(m.allow(&"other".into(), t));
    }
}
