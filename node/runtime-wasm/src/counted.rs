//! Things of which a pod may have so many at once, such as sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How many there are and may be.
#[derive(Debug)]
pub(crate) struct Counter {
    limit: u32,
    now: AtomicU32,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Counter>);

impl Counter {
    pub(crate) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Counter { limit, now: AtomicU32::new(0) })
    }

    /// One more, unless there are as many as there may be.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        let more = |now: u32| (now < self.limit).then_some(now + 1);
        self.now.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Permit(self.clone()))
    }

    pub(crate) fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

/// Something of each pod.
pub(crate) struct OfPods<T>(Mutex<HashMap<Arc<str>, Weak<T>>>);

impl<T> Default for OfPods<T> {
    fn default() -> Self {
        OfPods(Mutex::default())
    }
}

impl<T> OfPods<T> {
    /// A pod's, if one of its containers lives.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid)?.upgrade()
    }

    /// A pod's, which lives as long as one of its containers does.
    pub(crate) fn of(&self, uid: &Arc<str>, new: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.get(uid).and_then(Weak::upgrade) {
            return one;
        }
        if all.len() >= 2 * all.capacity().max(64) / 3 {
            all.retain(|_, one| one.strong_count() > 0);
        }
        let one = new();
        all.insert(uid.clone(), Arc::downgrade(&one));
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_and_shared_by_the_pod() {
        let counters = OfPods::default();
        let uid = Arc::from("uid");
        let (first, second) = (counters.of(&uid, || Counter::new(2)), counters.of(&uid, || Counter::new(2)));
        let held = (first.take().unwrap(), second.take().unwrap());
        assert!(first.take().is_none());
        drop(held);
        assert_eq!(first.now(), 0);
        drop((first, second));
        assert!(counters.get("uid").is_none());
        assert!(counters.of(&uid, || Counter::new(0)).take().is_none(), "a new pod's own limit");
    }
}
