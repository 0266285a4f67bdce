//! A Deployment's controller keeps to `maxSurge` and `maxUnavailable` with every single step: never more pods wanted than
//! it may want, never so few that those it knew as available fall below what must be.

use copepod_machine::View as _;
use copepod_model::Object;
use copepod_state::{Change, Tables};
use serde_json::Value;

use super::Broken;

/// A number, or a percentage of `of`, rounded up or down.
fn part(v: &Value, of: u64, up: bool) -> u64 {
    if let Some(n) = v.as_u64() {
        return n;
    }
    let percent = v.as_str().and_then(|t| t.trim_end_matches('%').parse::<u64>().ok()).unwrap_or(25);
    if up { (of * percent).div_ceil(100) } else { of * percent / 100 }
}

fn replicas(v: &Value) -> u64 {
    v["spec"]["replicas"].as_u64().unwrap_or(1)
}

/// Checks a change of a ReplicaSet's size that was decided on `view` and led to `tables`.
pub fn check(change: &Change, actor: &str, view: Option<&Tables>, tables: &Tables) -> Result<(), Broken> {
    let (Some(old), Some(new), Some(view)) = (&change.old, &change.new, view) else { return Ok(()) };
    if actor != "deployment" || &*change.key.resource != "replicasets.apps" {
        return Ok(());
    }
    let (before, after) = (replicas(&old.value()), replicas(&new.value()));
    let Some(owner) = new.meta.controller().filter(|_| before != after) else { return Ok(()) };
    let (namespace, uid) = (new.namespace(), owner.uid.clone());
    let deployment = view.list("deployments.apps", Some(namespace)).find(|d| *d.meta.uid == *uid);
    let Some(deployment) = deployment.map(|d| d.value()) else { return Ok(()) };
    let strategy = &deployment["spec"]["strategy"];
    if strategy["type"] == "Recreate" {
        return Ok(());
    }
    let wanted = replicas(&deployment);
    let surge = part(&strategy["rollingUpdate"]["maxSurge"], wanted, true);
    let mut missing = part(&strategy["rollingUpdate"]["maxUnavailable"], wanted, false);
    if surge == 0 && missing == 0 {
        missing = 1;
    }
    let owned = |o: &std::sync::Arc<Object>| o.meta.controller().is_some_and(|c| *c.uid == *uid);
    let sets: Vec<_> = tables.list("replicasets.apps", Some(namespace)).filter(owned).collect();
    let total: u64 = sets.iter().map(|s| replicas(&s.value())).sum();
    if after > before && total > wanted + surge {
        let how = format!("{} grew to {after}: {total} pods are wanted of {wanted} and {surge} more", change.key);
        return Err(("rollout", how));
    }
    if after < before {
        let available = |s: &Object| {
            let known = view.get("replicasets.apps", namespace, s.name()).map(|s| s.value()).unwrap_or_default();
            known["status"]["availableReplicas"].as_u64().unwrap_or(0)
        };
        let had: u64 = sets.iter().map(|s| available(s)).sum();
        let left: u64 = sets.iter().map(|s| available(s).min(replicas(&s.value()))).sum();
        let least = had.min(wanted.saturating_sub(missing));
        if left < least {
            let how = format!("{} shrank from {before} to {after}: {left} of {had} stay, {least} must", change.key);
            return Err(("rollout", how));
        }
    }
    Ok(())
}
