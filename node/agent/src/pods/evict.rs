//! Memory-pressure eviction: the node is measured here, who goes is decided by [`copepod_node_plan::eviction`].

use std::collections::HashMap;
use std::time::Duration;

use copepod_node_plan::eviction::{Candidate, Pressure, Signals, evict};
use copepod_node_plan::{ContainerId, Effect};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::{Pods, Uid};
use crate::clock::now;
use crate::host;

/// How often memory is looked at: a guest fills it faster than the kubelet's ten seconds.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// How the node's memory stands.
#[derive(Default)]
pub(super) struct Memory {
    seen: Pressure,
    /// Whether the node reports pressure.
    pub pressure: bool,
}

fn signals() -> Option<Signals> {
    host::memory_available().map(|memory_available| Signals { memory_available })
}

impl Pods {
    /// Looks at the node's memory, and asks what the containers use if it is short.
    pub(super) fn look_at_memory(&mut self, told: &watch::Sender<bool>) {
        let Some(signals) = signals() else { return };
        let threshold = self.facts.eviction_memory;
        self.memory.pressure = self.memory.seen.observe(signals, threshold, now());
        let pressure = self.memory.pressure;
        told.send_if_modified(|said| std::mem::replace(said, pressure) != pressure);
        // One after the other: the end of one may be enough.
        if signals.memory_available < threshold && !self.entries.values().any(|e| e.observed.is_leaving()) {
            let _ = self.effects.send(Effect::Measure);
        }
    }

    /// The containers have been measured: one pod goes, if memory is still short.
    pub(super) fn evict(&mut self, used: Vec<(ContainerId, u64)>) {
        let Some(signals) = signals() else { return };
        let mut by_pod: HashMap<Uid, HashMap<std::sync::Arc<str>, u64>> = HashMap::new();
        for (id, bytes) in used {
            *by_pod.entry(id.pod_uid).or_default().entry(id.container).or_default() += bytes;
        }
        let candidates = by_pod.into_iter().filter_map(|(uid, used)| {
            let pod = self.entries.get(&uid).filter(|e| !e.gone)?.object.typed::<Pod>()?;
            Some(Candidate::new(uid, &pod, |container| used.get(container).copied().unwrap_or(0)))
        });
        let mut candidates: Vec<_> = candidates.collect();
        // Equals go in a fixed order.
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        let Some(eviction) = evict(signals, self.facts.eviction_memory, candidates) else { return };
        if let Some(entry) = self.entries.get_mut(&eviction.id) {
            tracing::warn!(pod = %entry.object.key, message = eviction.message, "evicted");
            entry.observed.evict(eviction.message);
            self.dirty.insert(eviction.id);
        }
    }
}
