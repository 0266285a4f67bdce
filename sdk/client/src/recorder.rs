//! Events about objects, with repetitions counted instead of written again (client-go `tools/record`).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use copepod_machine::EventType;
use copepod_model::request::PatchType;
use copepod_model::{Status, Time};
use serde_json::{Value, json};

use crate::Client;

/// How many different events are remembered for counting.
const REMEMBERED: usize = 4096;

/// Writes Events as one component.
pub struct Recorder {
    client: Client,
    component: String,
    host: String,
    seen: Mutex<Seen>,
}

/// What makes two events the same: object, type, reason, message.
type Same = (String, bool, String, String);

#[derive(Default)]
struct Seen {
    events: HashMap<Same, (String, u64)>,
    order: VecDeque<Same>,
    made: u64,
}

impl Recorder {
    /// A recorder for `component` on `host` (empty for the control plane).
    pub fn new(client: Client, component: &str, host: &str) -> Recorder {
        Recorder { client, component: component.into(), host: host.into(), seen: Mutex::default() }
    }

    /// Records that something happened to `regarding`, a `core/v1.ObjectReference`.
    pub async fn record(
        &self,
        regarding: &Value,
        kind: EventType,
        reason: &str,
        message: &str,
        now: Time,
    ) -> Result<(), Status> {
        let text = |k: &str| regarding[k].as_str().unwrap_or_default();
        let namespace = if text("namespace").is_empty() { "default" } else { text("namespace") };
        let same: Same = (
            ["kind", "namespace", "name", "uid", "fieldPath"].map(text).join("/"),
            kind == EventType::Warning,
            reason.into(),
            message.into(),
        );
        let (name, count) = self.count(same.clone(), text("name"), now);
        if count > 1 {
            let patch = json!({"count": count, "lastTimestamp": now.rfc3339()});
            match self.client.patch("events", namespace, &name, "", PatchType::Merge, patch).await {
                Err(e) if e.code == 404 => {} // Expired: make it anew, under the same name.
                done => return done.map(drop),
            }
        }
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": regarding,
            "reason": reason, "message": message,
            "type": if kind == EventType::Warning { "Warning" } else { "Normal" },
            "firstTimestamp": now.rfc3339(), "lastTimestamp": now.rfc3339(), "count": count,
            "source": if self.host.is_empty() { json!({"component": self.component}) }
                else { json!({"component": self.component, "host": self.host}) },
            "reportingComponent": self.component, "reportingInstance": self.host,
        });
        self.client.create("events", namespace, event).await.map(drop)
    }

    fn count(&self, same: Same, object: &str, now: Time) -> (String, u64) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((name, count)) = seen.events.get_mut(&same) {
            *count += 1;
            return (name.clone(), *count);
        }
        // Two events of one object in the same nanosecond need two names.
        seen.made += 1;
        let name = format!("{object}.{:x}", now.0.wrapping_add(seen.made));
        seen.events.insert(same.clone(), (name.clone(), 1));
        seen.order.push_back(same);
        if seen.order.len() > REMEMBERED
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.events.remove(&oldest);
        }
        (name, 1)
    }
}
