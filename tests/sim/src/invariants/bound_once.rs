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
