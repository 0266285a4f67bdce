//! A Deployment's controller keeps to `maxSurge` and `maxUnavailable` with every single step: never more pods wanted than
//! it may want, never so few that those it knew as available fall below what must be. Where nothing fails that holds of the
//! pods themselves at every moment.

use std::collections::BTreeSet;

use copepod_machine::View as _;
use copepod_model::Object;
use copepod_model::facts::PodFacts;
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

/// What a rollout must keep to.
struct Bounds {
    wanted: u64,
    surge: u64,
    missing: u64,
}

/// Those of a Deployment; none where all pods go first.
fn bounds(deployment: &Value) -> Option<Bounds> {
    let strategy = &deployment["spec"]["strategy"];
    if strategy["type"] == "Recreate" {
        return None;
    }
    let wanted = replicas(deployment);
    let surge = part(&strategy["rollingUpdate"]["maxSurge"], wanted, true);
    let missing = part(&strategy["rollingUpdate"]["maxUnavailable"], wanted, false);
    Some(Bounds { wanted, surge, missing: if surge == 0 && missing == 0 { 1 } else { missing } })
}

/// Checks how many pods of each Deployment are available after a change of one, while nothing fails and no Deployment changes
/// its size. (Those that are there and are not are more for a moment, as upstream, where a ReplicaSet creates before another
/// deletes: only what is wanted of both is decided together.)
pub fn steady(change: &Change, tables: &Tables) -> Result<(), Broken> {
    if &*change.key.resource != "pods" {
        return Ok(());
    }
    let namespace = &*change.key.namespace;
    for deployment in tables.list("deployments.apps", Some(namespace)) {
        let Some(Bounds { wanted, surge, missing }) = bounds(&deployment.value()) else { continue };
        let sets: BTreeSet<String> = tables
            .list("replicasets.apps", Some(namespace))
            .filter(|set| set.meta.controller().is_some_and(|owner| *owner.uid == *deployment.meta.uid))
            .map(|set| set.meta.uid.to_string())
            .collect();
        let mut available = 0;
        for pod in tables.list("pods", Some(namespace)) {
            let (owner, facts) = (pod.meta.controller(), pod.facts::<PodFacts>());
            let ends = pod.meta.deletion_timestamp.is_some() || matches!(&*facts.phase, "Succeeded" | "Failed");
            if !ends && owner.is_some_and(|owner| sets.contains(&*owner.uid)) {
                available += u64::from(facts.ready);
            }
        }
        if available > wanted + surge || available + missing < wanted {
            let how = format!(
                "{} led to {available} pods of {} that are available; {wanted} are wanted, {surge} more may be, {missing} \
                 may be missing",
                change.key, deployment.key
            );
            return Err(("rollout", how));
        }
    }
    Ok(())
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
    let Some(Bounds { wanted, surge, missing }) = deployment.and_then(|d| bounds(&d.value())) else { return Ok(()) };
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

#[cfg(test)]
mod tests {
    use copepod_model::{Key, object};
    use copepod_state::{Op, Txn, apply};
    use serde_json::json;

    use super::*;
    use crate::made;

    fn put(tables: &mut Tables, resource: &str, mut value: Value) -> Result<(), Broken> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_string();
        value["metadata"]["namespace"] = json!("d");
        value["metadata"]["uid"] = json!(name);
        let op = Op::Put { key: Key::new(resource, "d", &*name), body: object::encode(&value), revised: true };
        let (_, changes) = apply(tables, 1, &Txn { ops: vec![op], ..Txn::default() });
        changes.iter().try_for_each(|change| steady(change, tables))
    }

    fn pod(tables: &mut Tables, name: &str, ready: bool) -> Result<(), Broken> {
        let owner = json!([{"kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true}]);
        let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let value = json!({"metadata": {"name": name, "ownerReferences": owner}, "status": {"conditions": ready}});
        put(tables, "pods", value)
    }

    #[test]
    fn a_pod_too_many_and_one_too_few_are_found() {
        let owner = json!([{"kind": "Deployment", "name": "app", "uid": "app", "controller": true}]);
        let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
        let mut tables = Tables::default();
        pod(&mut tables, "a", true).unwrap();
        pod(&mut tables, "b", true).unwrap();
        put(&mut tables, "replicasets.apps", json!({"metadata": {"name": "set", "ownerReferences": owner}})).unwrap();
        let spec = json!({"replicas": 2, "strategy": strategy});
        put(&mut tables, "deployments.apps", json!({"metadata": {"name": "app"}, "spec": spec})).unwrap();
        pod(&mut tables, "c", true).unwrap();
        assert!(pod(&mut tables, "d", true).is_err(), "four of two and one more");
        let gone = Txn { ops: vec![Op::Delete { key: Key::new("pods", "d", "d") }], ..Txn::default() };
        let (_, changes) = apply(&mut tables, 1, &gone);
        changes.iter().try_for_each(|change| steady(change, &tables)).unwrap();
        pod(&mut tables, "c", false).unwrap();
        pod(&mut tables, "a", false).unwrap();
        assert!(pod(&mut tables, "b", false).is_err(), "none of two");
    }

    /// A ReplicaSet's wish, in the state in which all that it wishes was available when that was looked at.
    fn set(tables: &mut Tables, name: &str, size: u64) -> Change {
        let owner = json!([{"kind": "Deployment", "name": "app", "uid": "app", "controller": true}]);
        let set = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name, "ownerReferences": owner},
            "spec": {"replicas": size}, "status": {"availableReplicas": size},
        });
        made::put(tables, "replicasets.apps", &set)
    }

    #[test]
    fn a_step_that_is_too_large_is_found() {
        let mut view = Tables::default();
        let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
        let spec = json!({"replicas": 4, "strategy": strategy});
        let app = json!({"metadata": {"name": "app", "namespace": "d", "uid": "app"}, "spec": spec});
        made::put(&mut view, "deployments.apps", &app);
        set(&mut view, "old", 4);
        set(&mut view, "new", 0);
        let step = |name: &str, size: u64, actor: &str| {
            let mut tables = view.clone();
            let change = set(&mut tables, name, size);
            check(&change, actor, Some(&view), &tables)
        };
        step("new", 1, "deployment").unwrap();
        assert!(step("new", 2, "deployment").is_err(), "six of four and one more");
        step("old", 3, "deployment").unwrap();
        assert!(step("old", 2, "deployment").is_err(), "two of four, of which one may be missing");
        step("old", 2, "user").unwrap();
    }
}
