//! What one revision did.

use std::sync::Arc;

use copepod_model::{Key, Object, object};

/// One change of one key: what watchers are told.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision that this change is.
    pub revision: u64,
    /// What changed.
    pub key: Key,
    /// The value from now on; none when it was deleted.
    pub new: Option<Arc<Object>>,
    /// The value until now; none when there was none. Of a deletion it is the last value with the deletion's revision
    /// in its metadata, as a DELETED event carries it.
    pub old: Option<Arc<Object>>,
}

impl Change {
    /// The object of a DELETED event: of a deletion, or for a watcher whose selector matched before this change and no
    /// longer does. It has the old contents and this change's revision.
    pub fn departed(&self) -> Option<Arc<Object>> {
        let old = self.old.as_ref()?;
        Some(if old.revision == self.revision { old.clone() } else { Arc::new(at_revision(old, self.revision)) })
    }

    /// About how much memory this change keeps alive.
    pub(crate) fn cost(&self) -> usize {
        // Decoded metadata of a typical object is about as large as this, beside its body.
        const PER_OBJECT: usize = 1024;
        let of = |o: &Option<Arc<Object>>| o.as_ref().map_or(0, |o| o.body.len() + PER_OBJECT);
        size_of::<Change>() + of(&self.new) + of(&self.old)
    }
}

/// [`Object::at_revision`] for bodies that hold their revision; any other body stays as it is.
pub(crate) fn at_revision(old: &Object, revision: u64) -> Object {
    let digits = old.revision.to_string();
    if old.body.get(object::revision_at()..).is_some_and(|rest| rest.starts_with(digits.as_bytes())) {
        old.at_revision(revision)
    } else {
        Object::decode(old.key.clone(), revision, old.body.clone())
    }
}
