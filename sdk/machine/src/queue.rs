//! A work queue of keys: each at most once, in the order they became due, with retries and holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Backoff, Time};

/// Keys that want to be looked at. A key that is being worked on is not handed out a second time; if it is added
/// meanwhile it comes again afterwards (client-go `util/workqueue`). Pure: `now` is an argument.
#[derive(Debug)]
pub struct WorkQueue<K> {
    backoff: Backoff,
    due: BTreeSet<(Time, u64, K)>,
    when: BTreeMap<K, (Time, u64)>,
    working: BTreeSet<K>,
    again: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
    order: u64,
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// An empty queue whose failed keys wait by `backoff`.
    pub fn new(backoff: Backoff) -> WorkQueue<K> {
        WorkQueue {
            backoff,
            due: BTreeSet::new(),
            when: BTreeMap::new(),
            working: BTreeSet::new(),
            again: BTreeSet::new(),
            failures: BTreeMap::new(),
            order: 0,
        }
    }

    /// Wants `key` looked at as soon as possible.
    pub fn add(&mut self, key: K, now: Time) {
        self.add_at(key, now);
    }

    /// Wants `key` looked at from `at` on; an earlier wish stands.
    pub fn add_at(&mut self, key: K, at: Time) {
        if self.working.contains(&key) {
            self.again.insert(key.clone());
        }
        if let Some((old, order)) = self.when.get(&key).copied() {
            if old <= at {
                return;
            }
            self.due.remove(&(old, order, key.clone()));
        }
        self.order += 1;
        self.when.insert(key.clone(), (at, self.order));
        self.due.insert((at, self.order, key));
    }

    /// The next key that is due, which then is being worked on until [`WorkQueue::done`].
    pub fn pop(&mut self, now: Time) -> Option<K> {
        let item =
            self.due.iter().take_while(|(at, _, _)| *at <= now).find(|(_, _, k)| !self.working.contains(k)).cloned()?;
        self.due.remove(&item);
        self.when.remove(&item.2);
        self.working.insert(item.2.clone());
        self.again.remove(&item.2);
        Some(item.2)
    }

    /// Work on `key` ended; a failure brings it back after its back-off.
    pub fn done(&mut self, key: K, ok: bool, now: Time) {
        self.working.remove(&key);
        self.again.remove(&key);
        if ok {
            self.failures.remove(&key);
            return;
        }
        let n = self.failures.entry(key.clone()).or_insert(0);
        *n += 1;
        let at = now + self.backoff.delay(*n);
        self.add_at(key, at);
    }

    /// When the next key that nobody works on will be due.
    pub fn next_due(&self) -> Option<Time> {
        self.due.iter().find(|(_, _, k)| !self.working.contains(k)).map(|(at, _, _)| *at)
    }

    /// Whether nothing waits and nothing is being worked on.
    pub fn is_idle(&self) -> bool {
        self.due.is_empty() && self.working.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::new(Backoff { first: Duration::from_secs(1), max: Duration::from_secs(8) })
    }

    #[test]
    fn a_key_is_worked_on_once_and_comes_again() {
        let (mut q, t) = (queue(), Time::from_secs(1));
        q.add("a", t);
        q.add("a", t);
        q.add("b", t);
        assert_eq!(q.pop(t), Some("a"));
        q.add("a", t);
        assert_eq!(q.pop(t), Some("b"));
        assert_eq!(q.pop(t), None);
        q.done("a", true, t);
        assert_eq!(q.pop(t), Some("a"));
        q.done("a", true, t);
        q.done("b", true, t);
        assert!(q.is_idle());
    }

    #[test]
    fn failures_wait_longer_and_success_forgets_them() {
        let (mut q, t) = (queue(), Time::from_secs(1));
        q.add("a", t);
        assert_eq!(q.pop(t), Some("a"));
        q.done("a", false, t);
        assert_eq!(q.pop(t), None);
        assert_eq!(q.next_due(), Some(Time::from_secs(2)));
        assert_eq!(q.pop(Time::from_secs(2)), Some("a"));
        q.done("a", false, Time::from_secs(2));
        assert_eq!(q.next_due(), Some(Time::from_secs(4)));
        assert_eq!(q.pop(Time::from_secs(4)), Some("a"));
        q.done("a", true, Time::from_secs(4));
        q.add("a", Time::from_secs(4));
        assert_eq!(q.pop(Time::from_secs(4)), Some("a"));
    }

    #[test]
    fn an_earlier_wish_replaces_a_later_one() {
        let mut q = queue();
        q.add_at("a", Time::from_secs(9));
        q.add_at("a", Time::from_secs(3));
        q.add_at("a", Time::from_secs(5));
        assert_eq!(q.next_due(), Some(Time::from_secs(3)));
    }
}
