//! One piece of work at a time per key: who asks for what is already under way waits for that.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

type Flight<T> = Shared<BoxFuture<'static, Option<T>>>;

pub(crate) struct Flights<K, T>(Arc<Mutex<HashMap<K, Flight<T>>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Flights<K, T> {
        Flights(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Runs `work` as a task of its own unless `key` is under way. `None` if the task was lost to a panic.
    pub(crate) async fn run(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let flight = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match all.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (flights, done) = (self.0.clone(), key.clone());
                    // Taken out when done, even by a panic, so that a failure is not kept for later callers.
                    let guard = Guard { flights, key: done };
                    let task = tokio::spawn(async move {
                        let _guard = guard;
                        work.await
                    });
                    let flight = task.map(Result::ok).boxed().shared();
                    all.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

struct Guard<K: Hash + Eq, T> {
    flights: Arc<Mutex<HashMap<K, Flight<T>>>>,
    key: K,
}

impl<K: Hash + Eq, T> Drop for Guard<K, T> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
