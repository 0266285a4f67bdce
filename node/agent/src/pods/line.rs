//! Pods in the order in which they came, each once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::Uid;

/// A line of pods, with something noted of each.
pub(super) struct Line<T> {
    order: BTreeMap<u64, (Uid, T)>,
    places: HashMap<Uid, u64>,
    last: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { order: BTreeMap::new(), places: HashMap::new(), last: 0 }
    }
}

impl<T> Line<T> {
    /// Adds a pod at the end; who stands in the line already keeps its place, and what was noted.
    pub fn join(&mut self, uid: Uid, note: T) {
        if let Entry::Vacant(place) = self.places.entry(uid) {
            self.last += 1;
            self.order.insert(self.last, (place.key().clone(), note));
            place.insert(self.last);
        }
    }

    /// Takes a pod out.
    pub fn leave(&mut self, uid: &Uid) {
        if let Some(place) = self.places.remove(uid) {
            self.order.remove(&place);
        }
    }

    /// Whether a pod stands in the line.
    pub fn has(&self, uid: &Uid) -> bool {
        self.places.contains_key(uid)
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What was noted of the first one.
    pub fn first(&self) -> Option<&T> {
        self.order.first_key_value().map(|(_, (_, note))| note)
    }

    /// Takes the first one out.
    pub fn pop(&mut self) -> Option<Uid> {
        let (_, (uid, _)) = self.order.pop_first()?;
        self.places.remove(&uid);
        Some(uid)
    }
}
