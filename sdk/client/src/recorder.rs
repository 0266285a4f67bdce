//! Events about objects, with repetitions counted instead of written again: what that means is decided by the
//! [`Correlator`], and written here.

use std::sync::{Mutex, PoisonError};

use copepod_machine::{Correlated, Correlator, EventType};
use copepod_model::request::PatchType;
use copepod_model::{Status, Time};
use serde_json::Value;

use crate::Client;

/// Writes Events as one component.
pub struct Recorder {
    client: Client,
    seen: Mutex<Correlator>,
}

impl Recorder {
    /// A recorder for `component` on `host` (empty for the control plane).
    pub fn new(client: Client, component: &str, host: &str) -> Recorder {
        Recorder { client, seen: Mutex::new(Correlator::new(component, host)) }
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
        let Correlated { namespace, name, again, object } = self.correlate(regarding, kind, reason, message, now);
        if let Some(patch) = again {
            match self.client.patch("events", &namespace, &name, "", PatchType::Merge, patch).await {
                Err(e) if e.code == 404 => {} // Expired: make it anew, under the same name.
                done => return done.map(drop),
            }
        }
        self.client.create("events", &namespace, object).await.map(drop)
    }

    fn correlate(&self, regarding: &Value, kind: EventType, reason: &str, message: &str, now: Time) -> Correlated {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.correlate(regarding, kind, reason, message, now)
    }
}
