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

/// The counters of all pods.
#[derive(Default)]
pub(crate) struct Counters(Mutex<HashMap<Arc<str>, Weak<Counter>>>);

impl Counters {
    /// The one of a pod, which lives as long as one of its containers does.
    pub(crate) fn of(&self, uid: &Arc<str>, limit: u32) -> Arc<Counter> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = all.get(uid).and_then(Weak::upgrade) {
            return counter;
        }
        if all.len() >= 2 * all.capacity().max(64) / 3 {
            all.retain(|_, counter| counter.strong_count() > 0);
        }
        let counter = Counter::new(limit);
        all.insert(uid.clone(), Arc::downgrade(&counter));
        counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_and_shared_by_the_pod() {
        let counters = Counters::default();
        let uid = Arc::from("uid");
        let (first, second) = (counters.of(&uid, 2), counters.of(&uid, 2));
        let held = (first.take().unwrap(), second.take().unwrap());
        assert!(first.take().is_none());
        drop(held);
        assert_eq!(first.now(), 0);
        drop((first, second));
        assert!(counters.of(&uid, 0).take().is_none(), "a new pod's own limit");
    }
}
