//! The memory of a container: one budget for all of its instances, with their stacks and what the host holds for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

use crate::capability::filesystem::volume::PodMemory;
use crate::engine::WASM_STACK;

/// What an instance may use beside its memories and tables: its whole stack, with room for the host's frames on it, and
/// the host's own bookkeeping. Taken when it starts, so that deep recursion in many instances at once finds no loophole.
pub(crate) const PER_INSTANCE: u64 = WASM_STACK as u64 + (64 << 10);
/// What of that is usually touched, and so counts as used.
const TOUCHED: u64 = 48 << 10;

/// The rest of it.
const ASIDE: u64 = PER_INSTANCE - TOUCHED;
/// What an instance is thought to need beyond its initial memory while none has ended.
const GUESS: u64 = 1 << 20;

/// The guest wanted more memory than its container may have, or its pod with its volumes in memory.
#[derive(Debug, thiserror::Error)]
#[error("the {of}'s memory limit of {limit} bytes is exceeded")]
pub(crate) struct OutOfMemory {
    pub(crate) of: &'static str,
    pub(crate) limit: u64,
}

/// What all instances of a container use together.
pub(crate) struct Budget {
    limit: AtomicU64,
    taken: AtomicU64,
    /// The part of `taken` that is set aside and usually not touched.
    aside: AtomicU64,
    peak: AtomicU64,
    freed: Notify,
    /// Somebody waits for room: instances that are kept for later should go.
    wanted: AtomicBool,
    /// What instances came to need beside [`PER_INSTANCE`], lately; 0 while none has ended.
    usual: AtomicU64,
    /// What the pod takes, where its volumes count, too.
    pod: Option<Arc<PodMemory>>,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>, pod: Option<Arc<PodMemory>>) -> Self {
        Budget {
            limit: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            taken: AtomicU64::new(0),
            aside: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            freed: Notify::new(),
            wanted: AtomicBool::new(false),
            usual: AtomicU64::new(0),
            pod,
        }
    }

    /// Sets another limit. One that is below what is taken already would kill whoever grows next, and is refused.
    pub(crate) fn resize(&self, limit: Option<u64>) -> Result<(), String> {
        let limit = limit.unwrap_or(u64::MAX);
        let before = self.limit.swap(limit, Relaxed);
        // What grew just now has found the one limit or the other; whatever is there after the change counts.
        let taken = self.taken.load(Relaxed);
        if taken > limit && limit < before {
            self.limit.store(before, Relaxed);
            return Err(format!("attempting to set container memory limit ({limit}) below current usage ({taken})"));
        }
        self.freed.notify_waiters();
        Ok(())
    }

    /// Bytes in use, the working set: without what is only set aside.
    pub(crate) fn used(&self) -> u64 {
        self.taken.load(Relaxed).saturating_sub(self.aside.load(Relaxed))
    }

    /// The most that was in use at once.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.taken.load(Relaxed) == 0
    }

    /// Whether an instance waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let limit = self.limit.load(Relaxed);
        self.taken
            .fetch_update(Relaxed, Relaxed, |taken| taken.checked_add(bytes).filter(|&sum| sum <= limit))
            .map_err(|_| OutOfMemory { of: "container", limit })?;
        match &self.pod {
            Some(pod) if !pod.take(bytes) => {
                self.taken.fetch_sub(bytes, Relaxed);
                Err(OutOfMemory { of: "pod", limit: pod.limit() })
            }
            _ => Ok(()),
        }
    }

    /// Takes room for an instance: `aside` is the part of `bytes` that it does not use at once.
    fn set_aside(&self, bytes: u64, aside: u64) -> Result<(), OutOfMemory> {
        self.aside.fetch_add(aside, Relaxed);
        let taken = self.take(bytes);
        if taken.is_err() {
            self.aside.fetch_sub(aside, Relaxed);
        }
        taken
    }

    /// What an instance that starts with `initial` bytes will need, so that those that are let in have room to grow.
    fn estimate(&self, initial: u64) -> u64 {
        match self.usual.load(Relaxed) {
            0 => initial.saturating_add(GUESS),
            usual => usual.max(initial),
        }
    }

    /// An instance has ended that needed `most` bytes. A large one is forgotten after some that were not.
    fn learn(&self, most: u64) {
        let next = |usual: u64| Some(most.max(usual - usual.div_ceil(16)));
        let _ = self.usual.fetch_update(Relaxed, Relaxed, next);
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            self.taken.fetch_sub(bytes, Relaxed);
            if let Some(pod) = &self.pod {
                pod.give_back(bytes);
            }
            self.freed.notify_waiters();
        }
    }

    /// Waits until an instance that starts with `initial` bytes fits beside the others and has the room to grow as its like
    /// do, so that many requests at once queue up instead of killing the container. One for which there is too little room
    /// in all is let in alone, and may meet the limit. `make_room` is called before each wait and may drop what is kept for
    /// later; it answers whether it did.
    pub(crate) async fn admit(self: &Arc<Self>, initial: u64, make_room: impl Fn() -> bool) -> Limiter {
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if let Ok(limiter) = Limiter::new(self, self.estimate(initial)) {
                return limiter;
            }
            if self.is_empty() {
                match Limiter::new(self, initial) {
                    Ok(limiter) => return limiter,
                    Err(_) if self.is_empty() => return Limiter::none(self),
                    Err(_) => {}
                }
            }
            if make_room() {
                continue;
            }
            self.wanted.store(true, Relaxed);
            freed.await;
            self.wanted.store(false, Relaxed);
        }
    }

    /// A limiter for the one instance of a command.
    pub(crate) fn limiter(self: &Arc<Self>) -> Limiter {
        Limiter::new(self, 0).unwrap_or_else(|_| Limiter::none(self))
    }
}

/// One store's part of the budget, given back when the store is dropped.
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    held: u64,
    /// The part of `held` that was taken for the instance itself.
    instance: u64,
    /// The part of `held` that was taken in advance and is not used yet.
    reserved: u64,
    /// The most that was used beside `instance`.
    most: u64,
    /// What was permitted last, in case it comes to nothing.
    last: u64,
    /// The part of `held` that the host holds for the guest, as it was counted last.
    host: u64,
}

impl Limiter {
    fn new(budget: &Arc<Budget>, reserved: u64) -> Result<Limiter, OutOfMemory> {
        budget.set_aside(PER_INSTANCE.saturating_add(reserved), ASIDE + reserved)?;
        let mut limiter = Limiter::none(budget);
        (limiter.held, limiter.instance, limiter.reserved) = (PER_INSTANCE + reserved, PER_INSTANCE, reserved);
        Ok(limiter)
    }

    /// One that holds nothing.
    fn none(budget: &Arc<Budget>) -> Limiter {
        Limiter { budget: budget.clone(), held: 0, instance: 0, reserved: 0, most: 0, last: 0, host: 0 }
    }

    /// Bytes that the instance uses.
    pub(crate) fn held(&self) -> u64 {
        self.held - self.reserved
    }

    /// Uses more: first of what is reserved.
    fn extend(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let reserved = self.reserved.min(bytes);
        self.budget.take(bytes - reserved)?;
        self.reserved -= reserved;
        self.budget.aside.fetch_sub(reserved, Relaxed);
        self.budget.peak.fetch_max(self.budget.used(), Relaxed);
        self.held += bytes - reserved;
        self.most = self.most.max(self.held() - self.instance);
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        self.held -= bytes;
        self.budget.give_back(bytes);
    }

    fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        self.extend(bytes)?;
        self.last = bytes;
        Ok(())
    }

    /// What was permitted last has failed: there is no such room in the pool.
    fn failed(&mut self) {
        let bytes = std::mem::take(&mut self.last);
        self.give_back(bytes);
    }

    /// Says how much the host holds for the guest now.
    pub(crate) fn host_holds(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if bytes > self.host {
            self.extend(bytes - self.host)?;
        } else {
            self.give_back(self.host - bytes);
        }
        self.host = bytes;
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // the module's own limit: it may handle that
        }
        self.grow(desired.saturating_sub(current) as u64)?;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow((desired.saturating_sub(current).saturating_mul(size_of::<usize>())) as u64)?;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if self.instance > 0 {
            self.budget.aside.fetch_sub(ASIDE + self.reserved, Relaxed);
            self.budget.learn(self.most);
        }
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: usize = PER_INSTANCE as usize;

    fn budget(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget::new(Some(bytes), None))
    }

    #[tokio::test]
    async fn instances_share_the_limit_and_give_back() {
        let budget = budget(2 * PER_INSTANCE + 100);
        let mut first = budget.admit(60, || false).await;
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert_eq!(budget.used(), TOUCHED + 60);
        let mut second = budget.limiter();
        assert!(second.memory_growing(0, 40, None).unwrap());
        let error = second.memory_growing(40, 41, None).unwrap_err();
        assert_eq!(error.downcast_ref::<OutOfMemory>().unwrap().limit, 2 * PER_INSTANCE + 100);
        drop((first, second));
        assert_eq!((budget.used(), budget.taken.load(Relaxed)), (0, 0));
        assert_eq!(budget.peak(), 2 * TOUCHED + 100);
    }

    #[tokio::test]
    async fn an_instance_waits_for_room() {
        let budget = budget(PER_INSTANCE + 100);
        let first = budget.admit(60, || false).await;
        let mut second = std::pin::pin!(budget.admit(60, || false));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(budget.is_wanted());
        drop(first);
        second.await;
        assert!(!budget.is_wanted());
        // What fits nowhere is let in alone, and fails by the limit.
        let mut huge = budget.admit(101, || false).await;
        assert!(huge.memory_growing(0, INSTANCE + 101, None).is_err());
    }

    #[tokio::test]
    async fn another_limit_counts_from_the_next_growth_on() {
        let budget = budget(PER_INSTANCE + 100);
        let mut first = budget.admit(60, || false).await;
        assert!(first.memory_growing(0, 60, None).unwrap());
        let mut second = std::pin::pin!(budget.admit(60, || false));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        budget.resize(Some(2 * PER_INSTANCE + GUESS + 1000)).unwrap();
        let mut second = second.await;
        assert!(second.memory_growing(0, 500, None).unwrap());
        let taken = budget.taken.load(Relaxed);
        let refused = budget.resize(Some(taken - 1)).unwrap_err();
        let why = format!("attempting to set container memory limit ({}) below current usage ({taken})", taken - 1);
        assert_eq!(refused, why);
        assert!(second.memory_growing(500, 600, None).unwrap(), "it keeps the one that it had");
        budget.resize(Some(budget.taken.load(Relaxed))).unwrap();
        // What it was let in with it may use.
        let more = 600 + GUESS as usize + 60;
        assert!(second.memory_growing(600, more, None).is_err());
        budget.resize(None).unwrap();
        assert!(second.memory_growing(600, 10_000_000, None).unwrap());
    }

    #[tokio::test]
    async fn those_who_wait_are_let_in_by_what_their_like_came_to_need() {
        let budget = budget(2 * PER_INSTANCE + 1000);
        let mut first = budget.admit(100, || false).await; // alone, since nothing is known
        assert!(first.memory_growing(0, 600, None).unwrap());
        drop(first);
        let first = budget.admit(100, || false).await;
        assert_eq!((budget.taken.load(Relaxed), budget.used()), (PER_INSTANCE + 600, TOUCHED));
        let mut second = std::pin::pin!(budget.admit(100, || false));
        assert!(futures_util::poll!(second.as_mut()).is_pending(), "there is room for it, but not to grow");
        drop(first); // it was small
        second.await;
        assert_eq!(budget.usual.load(Relaxed), 600 - 38 - 36);
    }

    #[tokio::test]
    async fn what_is_kept_for_later_makes_room() {
        let budget = budget(PER_INSTANCE + 100);
        let kept = std::cell::RefCell::new(Some(budget.admit(60, || false).await));
        budget.admit(60, || kept.borrow_mut().take().is_some()).await;
        assert!(kept.borrow().is_none());
    }

    #[test]
    fn what_the_host_holds_counts() {
        let budget = budget(PER_INSTANCE + 100);
        let mut limiter = budget.limiter();
        limiter.host_holds(80).unwrap();
        assert_eq!(budget.used(), TOUCHED + 80);
        assert!(limiter.host_holds(101).is_err());
        limiter.host_holds(10).unwrap();
        assert!(limiter.memory_growing(0, 90, None).unwrap());
        drop(limiter);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_pods_volumes_in_memory_count_too() {
        let pod = PodMemory::new(Some(PER_INSTANCE + 100));
        let budget = Arc::new(Budget::new(Some(PER_INSTANCE + 200), Some(pod.clone())));
        assert!(pod.take(60));
        let mut limiter = budget.limiter();
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        let error = limiter.memory_growing(40, 41, None).unwrap_err();
        let error = error.downcast_ref::<OutOfMemory>().unwrap();
        assert_eq!((error.of, error.limit), ("pod", PER_INSTANCE + 100));
        drop(limiter);
        assert!(pod.take(PER_INSTANCE + 40) && !pod.take(1));
    }

    #[test]
    fn the_modules_own_maximum_is_not_our_limit() {
        let mut limiter = Arc::new(Budget::new(None, None)).limiter();
        assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
    }
}
