//! The collector deletes nobody who has a live owner.

use copepod_machine::View as _;
use copepod_state::{Change, Tables};

use super::Broken;

/// The resources of the kinds that own something here.
const OWNERS: [(&str, &str); 5] = [
    ("Deployment", "deployments.apps"),
    ("ReplicaSet", "replicasets.apps"),
    ("Service", "services"),
    ("Node", "nodes"),
    ("Pod", "pods"),
];

/// Checks a deletion, or the mark of one, by the collector.
pub fn check(change: &Change, actor: &str, tables: &Tables) -> Result<(), Broken> {
    let Some(old) = change.old.as_ref().filter(|_| actor == "garbage-collector") else { return Ok(()) };
    let marked = change.new.as_ref().is_none_or(|n| n.meta.deletion_timestamp.is_some());
    if !marked || old.meta.deletion_timestamp.is_some() {
        return Ok(());
    }
    let value = old.value();
    for owner in value["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        let Some((_, resource)) = OWNERS.iter().find(|(kind, _)| owner["kind"] == *kind) else { continue };
        let name = owner["name"].as_str().unwrap_or_default();
        let namespace = if *resource == "nodes" { "" } else { old.namespace() };
        let alive = tables
            .get(resource, namespace, name)
            .filter(|o| owner["uid"].as_str() == Some(&*o.meta.uid) && o.meta.deletion_timestamp.is_none());
        if let Some(alive) = alive {
            return Err(("collector", format!("{} was deleted, and its owner {} lives", change.key, alive.key)));
        }
    }
    Ok(())
}
