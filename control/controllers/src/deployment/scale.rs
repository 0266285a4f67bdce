//! Changes of a Deployment's size while it is paused or between its rollout steps: each ReplicaSet keeps its share.

use super::Deployment;
use super::replica_sets::{ReplicaSets, Rs};

/// Whether the Deployment's size differs from what its active ReplicaSets were last sized for.
pub(super) fn wanted(d: &Deployment, sets: &ReplicaSets) -> bool {
    sets.iter().filter(|rs| rs.replicas > 0).any(|rs| rs.desired_annotation().is_some_and(|n| n != d.replicas))
}

/// Gives every ReplicaSet its size.
pub(super) fn scale(d: &Deployment, sets: &mut ReplicaSets) {
    if let Some(only) = active_or_latest(sets) {
        only.resize(d, d.replicas);
        return;
    }
    if sets.new.as_ref().is_some_and(|new| saturated(d, new)) {
        sets.scale_down_old();
        return;
    }
    if d.rolling {
        proportionally(d, sets);
    }
}

/// The one active ReplicaSet, or the newest if none is; nothing if several are.
fn active_or_latest(sets: &mut ReplicaSets) -> Option<&mut Rs> {
    match sets.iter().filter(|rs| rs.replicas > 0).count() {
        0 if sets.new.is_some() => sets.new.as_mut(),
        0 => sets.old.last_mut(),
        1 => sets.iter_mut().find(|rs| rs.replicas > 0),
        _ => None,
    }
}

fn saturated(d: &Deployment, new: &Rs) -> bool {
    new.desired_annotation() == Some(d.replicas) && new.replicas == d.replicas && new.available == d.replicas
}

fn proportionally(d: &Deployment, sets: &mut ReplicaSets) {
    let most = if d.replicas > 0 { d.replicas + d.surge } else { 0 };
    let total = sets.total();
    let change = most - total;
    let reported = super::int(&d.value["status"]["replicas"]);
    let mut active: Vec<&mut Rs> = sets.iter_mut().filter(|rs| rs.replicas > 0).collect();
    // The largest first; of equals the newest when growing, the oldest when shrinking.
    active.sort_by(|a, b| {
        let newer = b.created.cmp(&a.created);
        b.replicas.cmp(&a.replicas).then(if change > 0 { newer } else { newer.reverse() })
    });
    let mut given = 0;
    let mut sizes: Vec<i64> = Vec::with_capacity(active.len());
    for rs in &active {
        let part = share(d, rs, change, given, reported);
        given += part;
        sizes.push(rs.replicas + part);
    }
    // What rounding left over goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + change - given).max(0);
    }
    if change < 0 {
        keep_available(&active, &mut sizes, d.replicas - d.unavailable);
    }
    for (rs, size) in active.into_iter().zip(sizes) {
        rs.resize(d, size);
    }
}

/// Gives what shares would take from pods that are available, and `least` of those must stay, to the account of pods that
/// are not. (Upstream looks at the sizes only, and can fall below its bound when a rollout is made smaller.)
fn keep_available(active: &[&mut Rs], sizes: &mut [i64], least: i64) {
    let had: Vec<i64> = active.iter().map(|rs| rs.available.min(rs.replicas)).collect();
    let left: i64 = had.iter().zip(&*sizes).map(|(had, size)| *had.min(size)).sum();
    let mut missing = (least.min(had.iter().sum()) - left).max(0);
    let mut moved = 0;
    for (had, size) in had.iter().zip(&mut *sizes) {
        let back = (had - *size).clamp(0, missing);
        *size += back;
        missing -= back;
        moved += back;
    }
    for (had, size) in had.iter().zip(sizes) {
        let sick = (*size - had).clamp(0, moved);
        *size -= sick;
        moved -= sick;
    }
}

fn share(d: &Deployment, rs: &Rs, change: i64, given: i64, reported: i64) -> i64 {
    if change == 0 || change == given {
        return 0;
    }
    let left = change - given;
    if d.replicas == 0 {
        return (-rs.replicas).max(left);
    }
    let before = rs.max_annotation().filter(|n| *n > 0).unwrap_or(reported);
    let fraction = if before <= 0 {
        0
    } else {
        let exact = rs.replicas as f64 * (d.replicas + d.surge) as f64 / before as f64;
        exact.round() as i64 - rs.replicas
    };
    if change > 0 { fraction.clamp(0, left) } else { fraction.clamp(left, 0) }
}
