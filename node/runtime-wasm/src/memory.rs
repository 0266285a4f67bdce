//! The memory of a container: one budget for all of its instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

/// The guest wanted more memory than its container may have.
#[derive(Debug, thiserror::Error)]
#[error("the container's memory limit of {limit} bytes is exceeded")]
pub(crate) struct OutOfMemory {
    pub(crate) limit: u64,
}

/// What all instances of a container use together.
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    freed: Notify,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Budget { limit: limit.unwrap_or(u64::MAX), used: AtomicU64::new(0), freed: Notify::new() }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        self.used
            .fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|&sum| sum <= self.limit))
            .map(drop)
            .map_err(|_| OutOfMemory { limit: self.limit })
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Relaxed);
            self.freed.notify_waiters();
        }
    }

    /// Waits until an instance that starts with `initial` bytes fits beside the others, so that many requests at once
    /// queue up instead of killing the container. An instance that fits nowhere is let in, and meets the limit.
    pub(crate) async fn admit(self: &Arc<Self>, initial: u64) -> Limiter {
        loop {
            let freed = self.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if self.take(initial).is_ok() {
                return Limiter { budget: self.clone(), held: initial, reserved: initial };
            }
            if self.used() == 0 {
                return self.limiter();
            }
            freed.await;
        }
    }

    /// A limiter with nothing reserved.
    pub(crate) fn limiter(self: &Arc<Self>) -> Limiter {
        Limiter { budget: self.clone(), held: 0, reserved: 0 }
    }
}

/// One store's part of the budget, given back when the store is dropped.
pub(crate) struct Limiter {
    budget: Arc<Budget>,
    held: u64,
    /// The part of `held` that was taken in advance and is not used yet.
    reserved: u64,
}

impl Limiter {
    fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let reserved = self.reserved.min(bytes);
        self.budget.take(bytes - reserved)?;
        self.reserved -= reserved;
        self.held += bytes - reserved;
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
        self.grow((desired.saturating_sub(current) * size_of::<usize>()) as u64)?;
        Ok(true)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn instances_share_the_limit_and_give_back() {
        let budget = Arc::new(Budget::new(Some(100)));
        let mut first = budget.admit(60).await;
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert_eq!(budget.used(), 60);
        let mut second = budget.limiter();
        assert!(second.memory_growing(0, 40, None).unwrap());
        let error = second.memory_growing(40, 41, None).unwrap_err();
        assert_eq!(error.downcast_ref::<OutOfMemory>().unwrap().limit, 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn an_instance_waits_for_room() {
        let budget = Arc::new(Budget::new(Some(100)));
        let first = budget.admit(60).await;
        let mut second = std::pin::pin!(budget.admit(60));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        second.await;
        // What fits nowhere is let in alone, and fails by the limit.
        let mut huge = budget.admit(101).await;
        assert!(huge.memory_growing(0, 101, None).is_err());
    }

    #[test]
    fn the_modules_own_maximum_is_not_our_limit() {
        let mut limiter = Arc::new(Budget::new(None)).limiter();
        assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
    }
}
