//! No pod is bound twice.

use copepod_state::Change;

use super::Broken;

/// A pod's node, once set, stays.
pub fn check(change: &Change) -> Result<(), Broken> {
    if &*change.key.resource != "pods" {
        return Ok(());
    }
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(()) };
    if old.meta.uid == new.meta.uid && old.meta.node_name.is_some() && old.meta.node_name != new.meta.node_name {
        let (first, then) = (&old.meta.node_name, &new.meta.node_name);
        return Err(("bound_once", format!("{} was bound to {first:?} and then to {then:?}", change.key)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use copepod_state::Tables;
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn a_second_node_is_found_and_a_new_pod_of_the_same_name_is_not() {
        let mut tables = Tables::default();
        let mut bind = |uid: &str, node: &str| {
            let pod = json!({
                "metadata": {"name": "p", "namespace": "d", "uid": uid}, "spec": {"nodeName": node},
            });
            check(&made::put(&mut tables, "pods", &pod))
        };
        bind("1", "a").unwrap();
        bind("1", "a").unwrap();
        assert!(bind("1", "b").is_err());
        bind("2", "a").unwrap();
    }
}
