//! Instances that answer several requests, one after the other, where the pod asks for it.
//!
//! An instance keeps its memory between requests: whatever the guest has stored is there at the next one, as in a process.
//! A request that comes while an instance is at work gets another one. What has trapped, run out of time, grown far or left
//! handles behind is not used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;

use crate::container::Shared;
use crate::host::Host;

/// An instance that nobody needs is dropped after this.
const IDLE: Duration = Duration::from_secs(10);
/// How many may wait in one container.
const MOST: usize = 64;
/// How far an instance may grow beyond what it starts with.
const GROWTH: u64 = 8 << 20;
/// Handles that a guest may leave behind.
const HANDLES: usize = 64;

/// An instance of a `wasi:http` component.
pub(crate) struct Instance {
    pub(crate) store: Store<Host>,
    pub(crate) proxy: Proxy,
    /// Requests that it was given.
    pub(crate) served: u32,
}

/// The instances of a container that wait for a request.
pub(crate) struct Idle {
    /// Requests that an instance answers at most.
    reuse: u32,
    /// Bytes that an instance may hold.
    largest: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// With the time of their last answer; the last one has answered last.
    instances: Vec<(Instant, Instance)>,
    /// Somebody looks after those that wait for long.
    swept: bool,
}

impl Idle {
    pub(crate) fn new(reuse: u32, initial_memory: u64) -> Arc<Self> {
        let largest = crate::memory::PER_INSTANCE + initial_memory + GROWTH;
        Arc::new(Idle { reuse, largest, waiting: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance that has answered last: the most of it is in the caches.
    pub(crate) fn take(&self) -> Option<Instance> {
        if self.reuse <= 1 {
            return None;
        }
        self.lock().instances.pop().map(|(_, instance)| instance)
    }

    /// Keeps an instance that has answered, if it may answer again.
    pub(crate) fn keep(self: &Arc<Self>, mut instance: Instance, container: &Shared) {
        if instance.served >= self.reuse || container.memory.is_wanted() {
            return;
        }
        let host = instance.store.data_mut();
        host.end_lines();
        if host.limiter.held() > self.largest || host.table.iter_mut().take(HANDLES + 1).count() > HANDLES {
            return;
        }
        let mut waiting = self.lock();
        // Looked at under the lock, since whoever ends the container clears the list after saying so.
        if waiting.instances.len() >= MOST || container.is_draining() || container.is_killed() {
            drop(waiting);
            return;
        }
        waiting.instances.push((Instant::now(), instance));
        if !std::mem::replace(&mut waiting.swept, true) {
            container.threads.light.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Drops one to make room; answers whether there was one.
    pub(crate) fn give_way(&self) -> bool {
        self.take().is_some()
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut self.lock().instances);
        drop(all);
    }

    /// Drops those that have waited since before `since`; answers whether any are left.
    fn expire(&self, since: Instant) -> bool {
        let mut waiting = self.lock();
        let old = waiting.instances.partition_point(|(at, _)| *at < since);
        let old: Vec<_> = waiting.instances.drain(..old).collect();
        waiting.swept = !waiting.instances.is_empty();
        let left = waiting.swept;
        drop(waiting);
        drop(old);
        left
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().instances.len()
    }
}

/// Looks after instances as long as there are any.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        let Some(since) = Instant::now().checked_sub(IDLE) else { continue };
        if !idle.expire(since) {
            return;
        }
    }
}
