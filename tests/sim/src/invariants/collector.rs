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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn a_deletion_of_what_has_a_live_owner_is_found() {
        let mut tables = Tables::default();
        let owner = json!([{"kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true}]);
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "p", "ownerReferences": owner}});
        let set = |uid: &str| json!({"metadata": {"name": "set", "namespace": "d", "uid": uid}});
        let mut deleted = |uid: &str, actor: &str| {
            made::put(&mut tables, "replicasets.apps", &set(uid));
            made::put(&mut tables, "pods", &pod);
            let change = made::delete(&mut tables, "pods", "d", "p");
            check(&change, actor, &tables)
        };
        assert!(deleted("set", "garbage-collector").is_err());
        deleted("set", "user").unwrap();
        // Its name is another's now.
        deleted("other", "garbage-collector").unwrap();
    }
}
