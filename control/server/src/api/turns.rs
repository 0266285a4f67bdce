//! Turns for writers that all change the same object, of whom one wins at a time. Where many are expected, who has lost once waits
//! for a turn, and whoever comes meanwhile stands in line as well; elsewhere who has lost a few times waits, and others do not. So
//! each of them decides and proposes for itself alone. A server knows its own
//! clients; those of different servers race on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lines of those who wait, by what they wait for.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Arc<str>, Weak<Semaphore>>>);

/// A turn. It lasts until it is dropped.
pub(super) struct Turn {
    line: Arc<Semaphore>,
    /// None when the line was broken up.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Whether there is a line for it.
    pub(super) fn wanted(&self, what: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what).is_some_and(|line| open(line).is_some())
    }

    /// Stands in line until it is one's turn.
    pub(super) async fn take(&self, what: &Arc<str>) -> Turn {
        let line = self.line(what);
        Turn { _permit: line.clone().acquire_owned().await.ok(), line }
    }

    fn line(&self, what: &Arc<str>) -> Arc<Semaphore> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(what).and_then(open) {
            return line;
        }
        // Where the last one has gone nobody looks any more.
        lines.retain(|_, line| open(line).is_some());
        let line = Arc::new(Semaphore::new(1));
        lines.insert(what.clone(), Arc::downgrade(&line));
        line
    }
}

fn open(line: &Weak<Semaphore>) -> Option<Arc<Semaphore>> {
    line.upgrade().filter(|line| !line.is_closed())
}

impl Turn {
    /// Lets all go that stand in the line, as they would wait in vain one after the other.
    pub(super) fn break_up(&self) {
        self.line.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_has_a_turn_and_the_others_stand_in_line() {
        let (turns, a, b) = (Turns::default(), Arc::from("a"), Arc::from("b"));
        assert!(!turns.wanted(&a));
        let first = turns.take(&a).now_or_never().unwrap();
        assert!(turns.wanted(&a) && !turns.wanted(&b));
        assert!(turns.take(&b).now_or_never().is_some(), "each thing has its own line");
        let (mut second, mut third) = (Box::pin(turns.take(&a)), Box::pin(turns.take(&a)));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "in the order in which they came");
        let second = second.now_or_never().unwrap();
        drop(third);
        assert!(turns.wanted(&a));
        drop(second);
        assert!(!turns.wanted(&a));
        let _again = turns.take(&b);
        assert_eq!(turns.0.lock().unwrap().len(), 2, "b is over, and nobody has looked since");
        assert!(turns.take(&Arc::from("c")).now_or_never().is_some());
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_gets_nowhere_is_broken_up() {
        let (turns, a) = (Turns::default(), Arc::from("a"));
        let first = turns.take(&a).now_or_never().unwrap();
        let mut waiting = [Box::pin(turns.take(&a)), Box::pin(turns.take(&a))];
        assert!(waiting.iter_mut().all(|w| w.as_mut().now_or_never().is_none()));
        first.break_up();
        assert!(waiting.into_iter().all(|w| w.now_or_never().is_some()));
        assert!(!turns.wanted(&a));
        let anew = turns.take(&a).now_or_never().unwrap();
        assert!(turns.take(&a).now_or_never().is_none(), "the next line is one again");
        drop((first, anew));
    }
}
