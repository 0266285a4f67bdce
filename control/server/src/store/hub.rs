//! Watchers. The writer files a change with those whom it interests and goes on; a watcher that does not keep up is
//! moved aside and reads the window when it comes back.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use copepod_state::{Change, Compacted, Interest, WatchIndex, Window, WindowLimits};

/// Why a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watcher was so slow that what it missed is gone from the window: 410.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The store is closed.
    #[error("the store is closed")]
    Stopped,
}

/// All watchers and the window.
#[derive(Debug)]
pub(super) struct Hub {
    inner: Mutex<Inner>,
    /// The revision up to which every change is with its watchers.
    routed: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    window: Window,
    index: WatchIndex,
    seats: BTreeMap<u64, Arc<Seat>>,
    next_id: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Seat {
    interest: Interest,
    state: Mutex<State>,
}

/// Where a watcher is, and how it is woken.
#[derive(Debug)]
struct State {
    at: copepod_state::Seat,
    waker: Option<Waker>,
    stopped: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after each statement; a panic elsewhere must not end every watch.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(limits: WindowLimits, revision: u64) -> Hub {
        let window = Window::new(limits, revision);
        let inner = Inner { window, index: WatchIndex::default(), seats: BTreeMap::new(), next_id: 0, stopped: false };
        Hub { inner: Mutex::new(inner), routed: AtomicU64::new(revision) }
    }

    /// Files changes, oldest first, and wakes who waits for them. Never waits for a watcher.
    pub(super) fn publish(&self, changes: Vec<Change>) {
        let Some(newest) = changes.last().map(|c| c.revision) else { return };
        let mut wakers = Vec::new();
        {
            let mut guard = lock(&self.inner);
            let Inner { window, index, seats, .. } = &mut *guard;
            for change in changes {
                let change = Arc::new(change);
                index.interested(&change, |id| {
                    if let Some(seat) = seats.get(&id) {
                        wakers.extend(lock(&seat.state).offer(&change));
                    }
                });
                window.push(change);
            }
            self.routed.store(newest, Ordering::Release);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The state jumped to `revision`, and nobody knows what changed on the way: watches from before end with 410.
    pub(super) fn reset(&self, revision: u64) {
        let mut wakers = Vec::new();
        {
            let mut inner = lock(&self.inner);
            inner.window.reset(revision);
            for seat in inner.seats.values() {
                let mut state = lock(&seat.state);
                if state.at.reset(revision) {
                    wakers.extend(state.waker.take());
                }
            }
            self.routed.store(revision, Ordering::Release);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all watches.
    pub(super) fn stop(&self) {
        let mut wakers = Vec::new();
        {
            let mut inner = lock(&self.inner);
            inner.stopped = true;
            for seat in inner.seats.values() {
                let mut state = lock(&seat.state);
                state.stopped = true;
                wakers.extend(state.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The earliest revision from which a watch can begin.
    pub(super) fn oldest(&self) -> u64 {
        lock(&self.inner).window.oldest()
    }

    pub(super) fn watchers(&self) -> usize {
        lock(&self.inner).seats.len()
    }

    pub(super) fn watch(self: &Arc<Self>, interest: Interest, from: u64) -> Result<Watcher, Compacted> {
        let mut inner = lock(&self.inner);
        let at = copepod_state::Seat::new(from, &inner.window)?;
        let state = State { at, waker: None, stopped: inner.stopped };
        let seat = Arc::new(Seat { interest: interest.clone(), state: Mutex::new(state) });
        let id = inner.next_id;
        inner.next_id += 1;
        inner.index.insert(id, interest);
        inner.seats.insert(id, seat.clone());
        drop(inner);
        Ok(Watcher { hub: self.clone(), seat, id })
    }
}

impl State {
    /// A change for this watcher; gives back whom to wake.
    fn offer(&mut self, change: &Arc<Change>) -> Option<Waker> {
        if self.at.offer(change) { self.waker.take() } else { None }
    }
}

/// One watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    id: u64,
}

impl Watcher {
    /// The next changes, oldest first, at least one; waits until there is one. May be dropped while it waits: nothing is
    /// lost.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, WatchError> {
        poll_fn(|cx| self.poll(cx.waker())).await
    }

    /// The next changes if there are any now.
    pub fn try_next(&mut self) -> Result<Option<Vec<Arc<Change>>>, WatchError> {
        match self.poll(Waker::noop()) {
            Poll::Ready(found) => found.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The revision up to which [`Watcher::next`] has given out every change of interest: what a bookmark says.
    pub fn progress(&self) -> u64 {
        // In this order: what was routed before is in the queue, or was taken out of it.
        let routed = self.hub.routed.load(Ordering::Acquire);
        lock(&self.seat.state).at.progress(routed)
    }

    /// What is watched.
    pub fn interest(&self) -> &Interest {
        &self.seat.interest
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Vec<Arc<Change>>, WatchError>> {
        loop {
            {
                let mut state = lock(&self.seat.state);
                if !state.at.is_empty() {
                    return Poll::Ready(Ok(state.at.take()));
                }
                if state.stopped {
                    return Poll::Ready(Err(WatchError::Stopped));
                }
                if !state.at.is_aside() {
                    if !state.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                        state.waker = Some(waker.clone());
                    }
                    return Poll::Pending;
                }
            }
            let found = self.catch_up()?;
            if !found.is_empty() {
                return Poll::Ready(Ok(found));
            }
        }
    }

    /// Reads on in the window; at its end the watcher is no longer aside.
    fn catch_up(&self) -> Result<Vec<Arc<Change>>, Compacted> {
        // Under the hub's lock no change is routed, so that the end of the window is the present.
        let inner = lock(&self.hub.inner);
        lock(&self.seat.state).at.catch_up(&self.seat.interest, &inner.window)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut inner = lock(&self.hub.inner);
        inner.index.remove(self.id, &self.seat.interest);
        inner.seats.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
