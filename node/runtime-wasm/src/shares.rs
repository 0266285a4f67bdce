//! Who goes first when more guests want to compute than there are CPUs: the container that has had the least for its
//! weight, as the kernel's scheduler does between cgroups.
//!
//! Only guests that have used up a whole slice queue here; short requests run at once, on threads of their own.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The weight of one core requested, and the least, as the kubelet computes `cpu.shares`.
const PER_CORE: u64 = 1024;
const LEAST: u64 = 2;

/// A container's weight, and what it has had for it.
pub(crate) struct Share {
    weight: AtomicU64,
    /// Nanoseconds had, times the weight of a core, by its own weight.
    had: AtomicU64,
}

impl Share {
    pub(crate) fn new(request_millis: u32) -> Self {
        Share { weight: AtomicU64::new(weight(request_millis)), had: AtomicU64::new(0) }
    }

    /// Weighs it anew, from what it spends next on.
    pub(crate) fn resize(&self, request_millis: u32) {
        self.weight.store(weight(request_millis), Relaxed);
    }

    pub(crate) fn spend(&self, spent: Duration) {
        let spent = (spent.as_nanos() as u64).saturating_mul(PER_CORE) / self.weight.load(Relaxed);
        self.had.fetch_add(spent, Relaxed);
    }
}

fn weight(request_millis: u32) -> u64 {
    (u64::from(request_millis) * PER_CORE / 1000).max(LEAST)
}

/// Places for guests that compute. Clones are the same.
#[derive(Clone)]
pub(crate) struct Places(Arc<Mutex<Queue>>);

struct Queue {
    free: usize,
    /// By what their containers had had when they came, and in order of arrival.
    waiting: BTreeMap<(u64, u64), (Waker, Arc<Share>)>,
    /// Arrivals that have been given a place and have not taken it yet.
    granted: HashSet<u64>,
    arrivals: u64,
    /// What whoever got the last place had had: a container that comes after a rest begins there.
    now: u64,
}

/// A guest's place, or its wait for one.
pub(crate) struct Place {
    places: Places,
    share: Arc<Share>,
    state: State,
}

enum State {
    None,
    Waiting(u64, u64),
    Held,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Places(Arc::new(Mutex::new(Queue {
            free: count,
            waiting: BTreeMap::new(),
            granted: HashSet::new(),
            arrivals: 0,
            now: 0,
        })))
    }

    pub(crate) fn place(&self, share: &Arc<Share>) -> Place {
        Place { places: self.clone(), share: share.clone(), state: State::None }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// A place is free: it goes to the container that has had the least.
    fn pass_on(&mut self) {
        while let Some((key, (waker, share))) = self.waiting.pop_first() {
            let had = share.had.load(Relaxed);
            if had > key.0 {
                // It has had more since it came, through its other guests.
                self.waiting.insert((had, key.1), (waker, share));
                continue;
            }
            self.now = self.now.max(had);
            self.granted.insert(key.1);
            return waker.wake();
        }
        self.free += 1;
    }
}

impl Place {
    /// Waits for a place.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.places.lock();
        match self.state {
            State::Held => return Poll::Ready(()),
            State::Waiting(_, arrival) if queue.granted.remove(&arrival) => {
                self.state = State::Held;
                return Poll::Ready(());
            }
            State::Waiting(had, arrival) => {
                // Its key may have been brought up to date meanwhile.
                let key = match queue.waiting.contains_key(&(had, arrival)) {
                    true => Some((had, arrival)),
                    false => queue.waiting.keys().find(|key| key.1 == arrival).copied(),
                };
                if let Some(key) = key {
                    queue.waiting.insert(key, (cx.waker().clone(), self.share.clone()));
                    self.state = State::Waiting(key.0, arrival);
                }
                return Poll::Pending;
            }
            State::None => {}
        }
        self.share.had.fetch_max(queue.now, Relaxed);
        if queue.free > 0 {
            queue.free -= 1;
            queue.now = queue.now.max(self.share.had.load(Relaxed));
            self.state = State::Held;
            return Poll::Ready(());
        }
        queue.arrivals += 1;
        let key = (self.share.had.load(Relaxed), queue.arrivals);
        queue.waiting.insert(key, (cx.waker().clone(), self.share.clone()));
        self.state = State::Waiting(key.0, key.1);
        Poll::Pending
    }

    /// Queues again: the place goes to whoever has had the least, which may be the same one.
    pub(crate) fn leave_and_queue(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.state, State::Held) {
            return;
        }
        let mut queue = self.places.lock();
        queue.arrivals += 1;
        let key = (self.share.had.load(Relaxed), queue.arrivals);
        queue.waiting.insert(key, (cx.waker().clone(), self.share.clone()));
        self.state = State::Waiting(key.0, key.1);
        queue.pass_on();
    }

    /// Gives the place to the next one.
    pub(crate) fn leave(&mut self) {
        let state = std::mem::replace(&mut self.state, State::None);
        let mut queue = self.places.lock();
        match state {
            State::Held => queue.pass_on(),
            State::Waiting(_, arrival) if queue.granted.remove(&arrival) => queue.pass_on(),
            State::Waiting(_, arrival) => queue.waiting.retain(|key, _| key.1 != arrival),
            State::None => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !matches!(self.state, State::None) {
            self.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_millis(5);

    /// Lets guests with these weights compete for one place; how many of `slices` each got.
    fn compete(guests: &[Arc<Share>], slices: usize) -> Vec<usize> {
        let places = Places::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut all: Vec<_> = guests.iter().map(|share| places.place(share)).collect();
        let mut got = vec![0; guests.len()];
        for place in &mut all {
            let _ = place.poll_take(&mut cx);
        }
        for _ in 0..slices {
            let at = all.iter_mut().position(|place| place.poll_take(&mut cx).is_ready()).expect("somebody has it");
            got[at] += 1;
            guests[at].spend(SLICE);
            all[at].leave_and_queue(&mut cx);
        }
        got
    }

    #[test]
    fn time_follows_the_weights() {
        let got = compete(&[Arc::new(Share::new(3000)), Arc::new(Share::new(1000))], 400);
        assert!((295..=305).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn many_guests_of_one_container_count_as_one() {
        let (many, one) = (Arc::new(Share::new(1000)), Arc::new(Share::new(1000)));
        let mut guests = vec![many; 10];
        guests.push(one);
        let got = compete(&guests, 400);
        assert!((190..=210).contains(&got[10]), "{got:?}");
    }

    #[test]
    fn who_rested_gets_no_arrears() {
        let (old, new) = (Arc::new(Share::new(1000)), Arc::new(Share::new(1000)));
        old.spend(Duration::from_secs(100));
        let got = compete(&[old, new], 100);
        assert!((45..=55).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn a_guest_that_goes_takes_no_place_with_it() {
        let places = Places::new(1);
        let share = Arc::new(Share::new(0));
        let mut cx = Context::from_waker(Waker::noop());
        let [mut a, mut b, mut c] = [0; 3].map(|_| places.place(&share));
        assert!(a.poll_take(&mut cx).is_ready());
        assert!(b.poll_take(&mut cx).is_pending());
        assert!(c.poll_take(&mut cx).is_pending());
        drop(a); // b is granted
        drop(b); // and goes without having taken it
        assert!(c.poll_take(&mut cx).is_ready());
        drop(c);
        assert_eq!(places.lock().free, 1);
    }
}
