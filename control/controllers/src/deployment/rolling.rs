//! One step of a RollingUpdate: never more pods than replicas + maxSurge, never fewer available than replicas −
//! maxUnavailable.

use super::Deployment;
use super::replica_sets::ReplicaSets;

/// Scales the new ReplicaSet up, or the old ones down: one of the two per reconcile, so that the second is decided on
/// what the first has led to.
pub(super) fn step(d: &Deployment, sets: &mut ReplicaSets) {
    if !grow_new(d, sets) {
        shrink_old(d, sets);
    }
}

fn grow_new(d: &Deployment, sets: &mut ReplicaSets) -> bool {
    let total = sets.total();
    let Some(new) = &mut sets.new else { return true };
    if new.object.is_none() {
        // It is created at its size.
        return true;
    }
    let size = if new.replicas >= d.replicas {
        d.replicas
    } else {
        let room = (d.replicas + d.surge - total).max(0);
        new.replicas + room.min(d.replicas - new.replicas)
    };
    let changed = size != new.replicas;
    if changed {
        new.resize(d, size);
    }
    changed
}

fn shrink_old(d: &Deployment, sets: &mut ReplicaSets) {
    // A status from before the last resize may count pods that are about to go. (Upstream counts them, and can fall
    // below its bound when templates change back and forth.)
    if sets.iter().any(|rs| !rs.observed) {
        return;
    }
    let least = d.replicas - d.unavailable;
    let starting = sets.new.as_ref().map_or(0, |rs| (rs.replicas - rs.available).max(0));
    // What may go at all, counting every new pod that is not yet available as missing.
    let mut most = sets.total() - least - starting;
    if most <= 0 {
        return;
    }
    // Pods that are not available cost nothing; they go first, so that a broken rollout does not block the next.
    for rs in &mut sets.old {
        let sick = (rs.replicas - rs.available).clamp(0, most);
        if sick > 0 {
            rs.resize(d, rs.replicas - sick);
            most -= sick;
        }
    }
    let available: i64 = sets.iter().map(|rs| rs.available.min(rs.replicas)).sum();
    let mut spare = (available - least).min(most);
    for rs in &mut sets.old {
        let n = rs.replicas.min(spare);
        if n > 0 {
            rs.resize(d, rs.replicas - n);
            spare -= n;
        }
    }
}
