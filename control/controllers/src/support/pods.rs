//! Questions about pods.

use std::sync::Arc;
use std::time::Duration;

use copepod_model::facts::PodFacts;
use copepod_model::{Object, Time};

/// A pod with its facts.
#[derive(Clone)]
pub(crate) struct Pod {
    pub object: Arc<Object>,
    pub facts: Arc<PodFacts>,
}

impl Pod {
    pub(crate) fn of(object: Arc<Object>) -> Pod {
        let facts = object.facts::<PodFacts>();
        Pod { object, facts }
    }
    /// Neither finished nor being deleted.
    pub(crate) fn active(&self) -> bool {
        !self.finished() && !self.terminating()
    }
    /// Whether it has succeeded or failed for good.
    pub(crate) fn finished(&self) -> bool {
        matches!(self.facts.phase.as_str(), "Succeeded" | "Failed")
    }
    /// Whether it is being deleted.
    pub(crate) fn terminating(&self) -> bool {
        self.object.meta.deletion_timestamp.is_some()
    }
    /// From when on it counts as available, if it is ready.
    pub(crate) fn available_at(&self, min_ready: Duration) -> Option<Time> {
        if !self.facts.ready {
            return None;
        }
        if min_ready.is_zero() {
            return Some(Time::default());
        }
        self.facts.ready_since.map(|t| t + min_ready)
    }
}
