//! The last changes, for watchers that come back or fall behind.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Change;

/// How much a [`Window`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// The most changes.
    pub changes: usize,
    /// The most memory that they keep alive, in bytes, about.
    pub bytes: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        WindowLimits { changes: 10_000, bytes: 16 << 20 }
    }
}

/// The change that was asked for is no longer in the window: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Compacted {
    /// The revision after which changes were asked for.
    pub asked: u64,
    /// The earliest revision after which all changes are there.
    pub oldest: u64,
}

/// A bounded queue of changes. Their revisions have no gaps, so that a revision is found by its distance.
#[derive(Debug)]
pub struct Window {
    limits: WindowLimits,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision is in `changes`.
    after: u64,
}

impl Window {
    /// An empty window: it knows what happens after `revision`.
    pub fn new(limits: WindowLimits, revision: u64) -> Window {
        Window { limits, changes: VecDeque::new(), bytes: 0, after: revision }
    }

    /// The earliest revision that [`Window::since`] accepts.
    pub fn oldest(&self) -> u64 {
        self.after
    }

    /// The revision of the newest change.
    pub fn newest(&self) -> u64 {
        self.after + self.changes.len() as u64
    }

    /// How many changes are kept.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether no change is kept.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// About how many bytes the changes keep alive.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next change; forgets the oldest ones while there are too many. A gap (the state came from elsewhere)
    /// starts anew behind it.
    pub fn push(&mut self, change: Arc<Change>) {
        if change.revision != self.newest() + 1 {
            self.reset(change.revision - 1);
        }
        self.bytes += change.cost();
        self.changes.push_back(change);
        while self.changes.len() > self.limits.changes || self.bytes > self.limits.bytes {
            let Some(gone) = self.changes.pop_front() else { break };
            self.bytes -= gone.cost();
            self.after = gone.revision;
        }
    }

    /// Forgets everything up to `revision`.
    pub fn reset(&mut self, revision: u64) {
        self.changes.clear();
        self.bytes = 0;
        self.after = revision;
    }

    /// Whether all changes after `revision` are still here.
    pub fn covers(&self, revision: u64) -> Result<(), Compacted> {
        if revision < self.after { Err(Compacted { asked: revision, oldest: self.after }) } else { Ok(()) }
    }

    /// The changes after `revision`, oldest first.
    pub fn since(&self, revision: u64) -> Result<impl Iterator<Item = &Arc<Change>>, Compacted> {
        self.covers(revision)?;
        let skip = usize::try_from(revision - self.after).unwrap_or(usize::MAX).min(self.changes.len());
        Ok(self.changes.range(skip..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_model::{Key, Object};
    use proptest::prelude::*;

    fn change(revision: u64, size: usize) -> Arc<Change> {
        let key = Key::new("pods", "d", "a");
        let new = Some(Arc::new(Object::decode(key.clone(), revision, vec![0; size].into())));
        Arc::new(Change { revision, key, new, old: None })
    }

    proptest! {
        #[test]
        fn holds_a_suffix_within_its_limits(
            sizes in proptest::collection::vec(0usize..5000, 1..60),
            start in 0u64..100,
            most in 1usize..20,
            bytes in 1usize..40_000,
            asked in 0u64..170,
        ) {
            let mut w = Window::new(WindowLimits { changes: most, bytes }, start);
            for (i, size) in sizes.iter().enumerate() {
                w.push(change(start + 1 + i as u64, *size));
                prop_assert!(w.len() <= most && w.bytes() <= bytes);
            }
            let last = start + sizes.len() as u64;
            prop_assert_eq!(w.newest(), last);
            match w.since(asked) {
                Ok(found) => {
                    let found: Vec<u64> = found.map(|c| c.revision).collect();
                    prop_assert_eq!(found, (asked + 1..=last).collect::<Vec<_>>());
                    prop_assert!(asked >= w.oldest());
                }
                Err(e) => prop_assert_eq!((e, asked < w.oldest()), (Compacted { asked, oldest: w.oldest() }, true)),
            }
        }
    }

    #[test]
    fn keeps_all_it_can() {
        let mut w = Window::new(WindowLimits { changes: 3, bytes: usize::MAX }, 0);
        (1..=5).for_each(|r| w.push(change(r, 1)));
        assert_eq!((w.oldest(), w.newest(), w.len()), (2, 5, 3));
    }

    #[test]
    fn a_gap_starts_anew() {
        let mut w = Window::new(WindowLimits::default(), 0);
        w.push(change(1, 1));
        w.push(change(9, 1));
        assert_eq!((w.oldest(), w.newest()), (8, 9));
    }
}
