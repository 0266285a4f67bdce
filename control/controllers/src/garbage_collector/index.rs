//! Which objects name an owner, by the owner's UID: a hint, so that the end of an owner costs no scan of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use copepod_model::{Key, Object};

/// Kept up to date by every change.
#[derive(Default)]
pub(super) struct Index(Mutex<BTreeMap<Box<str>, BTreeSet<Key>>>);

impl Index {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, BTreeSet<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Takes in the change of one object.
    pub(super) fn change(&self, old: Option<&Object>, new: Option<&Object>) {
        fn refs(o: Option<&Object>) -> &[copepod_model::OwnerReference] {
            o.map_or(&[][..], |o| &o.meta.owner_references)
        }
        if refs(old) == refs(new) {
            return;
        }
        let mut map = self.lock();
        if let Some(old) = old {
            for r in refs(Some(old)) {
                if let Some(set) = map.get_mut(&r.uid) {
                    set.remove(&old.key);
                    if set.is_empty() {
                        map.remove(&r.uid);
                    }
                }
            }
        }
        if let Some(new) = new {
            for r in refs(Some(new)) {
                map.entry(r.uid.clone()).or_default().insert(new.key.clone());
            }
        }
    }

    /// The objects that were last seen to name this owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Key> {
        self.lock().get(uid).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }
}
