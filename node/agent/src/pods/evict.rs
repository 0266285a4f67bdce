//! Eviction under pressure: the node is measured here, and its memory looked after; who goes is decided by
//! [`copepod_node_plan::eviction`]. The disks are in [`super::disks`].

use std::collections::HashMap;
use std::time::Duration;

use copepod_node_plan::eviction::{Candidate, Eviction, Pressure, Signals, evict};
use copepod_node_plan::node::Health;
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
    /// Looks at the node's memory and disks, and does something about it if they are short.
    pub(super) fn look(&mut self, told: &watch::Sender<Health>) {
        self.look_at_memory();
        self.look_at_disks();
        let health = self.health();
        told.send_if_modified(|said| std::mem::replace(said, health) != health);
    }

    /// How the node is doing.
    pub(super) fn health(&self) -> Health {
        Health { memory_pressure: self.memory.pressure, disk_pressure: self.disks.pressure, pid_pressure: false }
    }

    /// Asks what the containers use if memory is short.
    fn look_at_memory(&mut self) {
        let Some(signals) = signals() else { return };
        let short = signals.memory_available < self.facts.eviction_memory;
        self.memory.pressure = self.memory.seen.observe(short, now());
        // One after the other: the end of one may be enough.
        if short && !self.is_any_leaving() {
            let _ = self.effects.send(Effect::Measure);
        }
    }

    /// Whether a pod that was evicted still runs.
    pub(super) fn is_any_leaving(&self) -> bool {
        self.entries.values().any(|e| e.observed.is_leaving())
    }

    /// The containers have been measured: one pod goes, if memory is still short.
    pub(super) fn evict(&mut self, used: Vec<(ContainerId, u64)>) {
        let Some(signals) = signals() else { return };
        let mut by_pod: HashMap<Uid, HashMap<std::sync::Arc<str>, u64>> = HashMap::new();
        for (id, bytes) in used {
            *by_pod.entry(id.pod_uid).or_default().entry(id.container).or_default() += bytes;
        }
        let candidates = by_pod.into_iter().filter_map(|(uid, used)| {
            let pod = self.entries.get(&uid).filter(|e| !e.gone && !e.is_static)?.object.typed::<Pod>()?;
            Some(Candidate::new(uid, &pod, |container| used.get(container).copied().unwrap_or(0)))
        });
        let mut candidates: Vec<_> = candidates.collect();
        // Equals go in a fixed order.
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(eviction) = evict(signals, self.facts.eviction_memory, candidates) {
            self.carry_out_eviction(eviction);
        }
    }

    /// A pod goes.
    pub(super) fn carry_out_eviction(&mut self, eviction: Eviction<Uid>) {
        if let Some(entry) = self.entries.get_mut(&eviction.id) {
            tracing::warn!(pod = %entry.object.key, message = eviction.message, "evicted");
            entry.observed.evict(eviction.message);
            self.dirty.insert(eviction.id);
        }
    }
}
