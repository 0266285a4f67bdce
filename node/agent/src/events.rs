//! Records Events: repetitions are counted on one object, and a pod that talks too much is not listened to. They are written
//! behind what others wait for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use copepod_client::Client;
use copepod_model::{Object, Time};
use copepod_node_plan::PodEvent;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::now;

/// How many Events wait to be written; more are lost.
const QUEUE: usize = 4096;
/// How many are being written at once.
const AT_ONCE: usize = 16;
/// The same while pods wait for something that nobody can do without.
const BESIDE: usize = 2;
/// How many objects are remembered.
const REMEMBERED: usize = 4096;
/// How many Events one object may have at once, and the seconds after which it may have one more (client-go's limits).
const BURST: u32 = 25;
const REFILL_SECONDS: u64 = 300;

/// Where Events are recorded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    records: mpsc::Sender<Record>,
    busy: Arc<AtomicBool>,
}

struct Record {
    object: Arc<Object>,
    event: PodEvent,
    at: Time,
}

impl Recorder {
    /// A recorder, and the task that writes for it.
    pub fn new(client: Client, node: String) -> (Recorder, impl Future<Output = ()> + Send) {
        let (records, queue) = mpsc::channel(QUEUE);
        let busy = Arc::new(AtomicBool::new(false));
        (Recorder { records, busy: busy.clone() }, write(client, node, queue, busy))
    }

    /// Records an Event about a pod, a Service, or the node. Never waits.
    pub fn record(&self, object: &Arc<Object>, event: PodEvent) {
        let _ = self.records.try_send(Record { object: object.clone(), event, at: now() });
    }

    /// Says whether there is something to do that Events are to be written behind.
    pub fn give_way(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }
}

/// How many Events may be under way at once, where `waiting` others wait in the queue: fewer while the agent is busy, as long as
/// none will be lost for it. Of a pod that starts there are three or four: more than all else that the agent writes of it.
fn room(busy: bool, waiting: usize) -> usize {
    if busy && waiting < QUEUE / 2 { BESIDE } else { AT_ONCE }
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

/// What is being done for whom: one thing at a time for each, in the order in which it came.
struct Lanes<T>(HashMap<Arc<str>, VecDeque<T>>);

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Lanes(HashMap::new())
    }
}

impl<T> Lanes<T> {
    /// What is to be done now; nothing where something else is still being done.
    fn begin(&mut self, whose: &Arc<str>, what: T) -> Option<T> {
        match self.0.get_mut(whose) {
            Some(waiting) => {
                waiting.push_back(what);
                None
            }
            None => {
                self.0.insert(whose.clone(), VecDeque::new());
                Some(what)
            }
        }
    }

    /// It is done; what is to be done next.
    fn end(&mut self, whose: &Arc<str>) -> Option<T> {
        let next = self.0.get_mut(whose)?.pop_front();
        if next.is_none() {
            self.0.remove(whose);
        }
        next
    }
}

async fn write(client: Client, node: String, mut queue: mpsc::Receiver<Record>, busy: Arc<AtomicBool>) {
    let proxy = copepod_client::Recorder::new(client.clone(), "kube-proxy", &node);
    let kubelet = copepod_client::Recorder::new(client, "kubelet", &node);
    let (mut memory, mut lanes, mut under_way) = (Memory::default(), Lanes::default(), FuturesUnordered::new());
    let mut open = true;
    loop {
        // Whoever is held back here is looked at again when one that is under way is done.
        let room = room(busy.load(Ordering::Relaxed), queue.len());
        let next = tokio::select! {
            record = queue.recv(), if open && under_way.len() < room => match record {
                // What waits for its object's turn is bounded by what one object may have at once.
                Some(r) if memory.allow(&r.object.meta.uid, r.at) => lanes.begin(&r.object.meta.uid.clone(), r),
                Some(_) => None,
                None => {
                    open = false;
                    None
                }
            },
            Some(whose) = under_way.next() => lanes.end(&whose),
            else => return,
        };
        if let Some(record) = next {
            under_way.push(send(&proxy, &kubelet, record));
        }
    }
}

/// Writes one Event; whose it was.
async fn send(proxy: &copepod_client::Recorder, kubelet: &copepod_client::Recorder, r: Record) -> Arc<str> {
    let is_service = &*r.object.key.resource == "services";
    let (recorder, kind) = if is_service { (proxy, "Service") } else { (kubelet, "Pod") };
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
    r.object.meta.uid.clone()
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

    #[test]
    fn events_give_way_as_long_as_none_is_lost() {
        assert_eq!([room(false, 0), room(false, QUEUE), room(true, 0), room(true, QUEUE / 2 - 1)], [16, 16, 2, 2]);
        assert_eq!(room(true, QUEUE / 2), 16);
    }

    #[test]
    fn an_objects_events_are_written_in_their_order() {
        let (mut lanes, a, b) = (Lanes::default(), Arc::<str>::from("a"), Arc::<str>::from("b"));
        assert_eq!((lanes.begin(&a, 1), lanes.begin(&a, 2), lanes.begin(&b, 3)), (Some(1), None, Some(3)));
        assert_eq!((lanes.end(&b), lanes.begin(&a, 4)), (None, None));
        assert_eq!((lanes.end(&a), lanes.end(&a), lanes.end(&a)), (Some(2), Some(4), None));
        assert_eq!(lanes.begin(&a, 5), Some(5));
        assert_eq!(lanes.end(&a), None);
        assert!(lanes.0.is_empty(), "who has nothing to say is forgotten");
    }
}
