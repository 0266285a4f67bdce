//! A server's watchers, over the store's own seats and window.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use copepod_state::{Change, Compacted, Interest, Seat, WatchIndex, Window, WindowLimits};

use crate::counts::{Counts, Event};
use crate::exec::Signal;

/// Why a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// 410: list again.
    Compacted(Compacted),
    /// The server has gone.
    Stopped,
}

#[derive(Default)]
struct Inner {
    window: Option<Window>,
    index: WatchIndex,
    seats: BTreeMap<u64, Seat>,
    next: u64,
    routed: u64,
    stopped: bool,
}

/// All watchers of one process. Clones are the same.
#[derive(Clone)]
pub struct Hub(Rc<RefCell<Inner>>, Signal, Counts);

impl Hub {
    /// A hub that knows what happens after `revision`; `signal` rings when something has. Watches that end are counted.
    pub fn new(limits: WindowLimits, revision: u64, signal: Signal, counts: Counts) -> Hub {
        let inner = Inner { window: Some(Window::new(limits, revision)), routed: revision, ..Inner::default() };
        Hub(Rc::new(RefCell::new(inner)), signal, counts)
    }

    /// Files changes.
    pub fn publish(&self, changes: &[Arc<Change>]) {
        let mut guard = self.0.borrow_mut();
        let Inner { window, index, seats, routed, .. } = &mut *guard;
        for change in changes {
            index.interested(change, |id| {
                if let Some(seat) = seats.get_mut(&id) {
                    seat.offer(change);
                }
            });
            if let Some(window) = window {
                window.push(change.clone());
            }
            *routed = change.revision;
        }
    }

    /// The state jumped. With `skip`, as no hub may, nobody is told.
    pub fn reset(&self, revision: u64, skip: bool) {
        let mut inner = self.0.borrow_mut();
        if let Some(window) = &mut inner.window {
            window.reset(revision);
        }
        if !skip {
            for seat in inner.seats.values_mut() {
                seat.reset(revision);
            }
        }
        inner.routed = revision;
    }

    /// Ends all watches.
    pub fn stop(&self) {
        self.0.borrow_mut().stopped = true;
        self.1.ring();
    }

    /// Watches from behind `from`.
    pub fn watch(&self, interest: Interest, from: u64) -> Result<Watcher, Compacted> {
        let mut inner = self.0.borrow_mut();
        let Some(window) = &inner.window else { return Err(Compacted { asked: from, oldest: u64::MAX }) };
        let seat = Seat::new(from, window).inspect_err(|_| self.2.add(Event::Gone))?;
        inner.next += 1;
        let id = inner.next;
        inner.seats.insert(id, seat);
        inner.index.insert(id, interest.clone());
        Ok(Watcher { hub: self.clone(), interest, id })
    }
}

/// One watch.
pub struct Watcher {
    hub: Hub,
    interest: Interest,
    id: u64,
}

impl Watcher {
    /// The next changes if there are any now.
    pub fn try_next(&self) -> Result<Vec<Arc<Change>>, WatchError> {
        let mut guard = self.hub.0.borrow_mut();
        let Inner { window, seats, stopped, .. } = &mut *guard;
        let (Some(window), Some(seat)) = (window, seats.get_mut(&self.id)) else { return Err(WatchError::Stopped) };
        if !seat.is_empty() {
            return Ok(seat.take());
        }
        if *stopped {
            return Err(WatchError::Stopped);
        }
        while seat.is_aside() {
            let found = seat.catch_up(&self.interest, window).map_err(|gone| {
                self.hub.2.add(Event::Gone);
                WatchError::Compacted(gone)
            })?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// The next changes, at least one.
    pub async fn next(&self) -> Result<Vec<Arc<Change>>, WatchError> {
        loop {
            let seen = self.hub.1.count();
            let found = self.try_next()?;
            if !found.is_empty() {
                return Ok(found);
            }
            self.hub.1.changed(seen).await;
        }
    }

    /// Up to where everything of interest was given out.
    pub fn progress(&self) -> u64 {
        let inner = self.hub.0.borrow();
        inner.seats.get(&self.id).map_or(0, |s| s.progress(inner.routed))
    }

    /// What rings when there may be more.
    pub fn signal(&self) -> Signal {
        self.hub.1.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut inner = self.hub.0.borrow_mut();
        inner.index.remove(self.id, &self.interest);
        inner.seats.remove(&self.id);
    }
}
