//! No pod is bound twice.

use copepod_state::Change;

/// A pod's node, once set, stays.
pub fn check(change: &Change) -> Result<(), String> {
    if &*change.key.resource != "pods" {
        return Ok(());
    }
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(()) };
    if old.meta.uid == new.meta.uid && old.meta.node_name.is_some() && old.meta.node_name != new.meta.node_name {
        return Err(format!(
            "{} was bound to {:?} and then to {:?}",
            change.key, old.meta.node_name, new.meta.node_name
        ));
    }
    Ok(())
}
