//! Names that the ingress asks for its clients' sake. Answers are kept for a moment, and few are sought at once: whoever sends
//! requests must not keep the threads of the host's resolver busy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::NetError;
use crate::network::Network;
use crate::sync::lock;

/// How long an answer is kept, be it that there is none.
const KEPT: Duration = Duration::from_secs(5);
/// How many names are sought at once.
const AT_ONCE: usize = 16;
/// How many answers are kept.
const MOST: usize = 1024;

type Found = Result<Vec<IpAddr>, NetError>;

/// Answers, and since when each is known.
pub(crate) struct Names {
    known: Mutex<HashMap<String, (Duration, Found)>>,
    room: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Names {
        Names { known: Mutex::default(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Names {
    fn fresh(&self, name: &str, now: Duration) -> Option<Found> {
        let known = lock(&self.known);
        let (since, found) = known.get(name)?;
        (now < *since + KEPT).then(|| found.clone())
    }

    fn keep(&self, name: String, found: Found, now: Duration) {
        let mut known = lock(&self.known);
        if known.len() >= MOST {
            known.retain(|_, (since, _)| now < *since + KEPT);
        }
        if known.len() < MOST {
            known.insert(name, (now, found));
        }
    }
}

impl Network {
    /// The addresses of an absolute name: at once what the cluster's zone says, what it does not know from outside.
    pub(crate) async fn resolve_kept(&self, name: &str) -> Found {
        let outside = match self.resolve_inside(name.trim_end_matches('.').into()) {
            Ok(found) => return found,
            Err(outside) => outside,
        };
        let names = &self.0.names;
        if let Some(found) = names.fresh(&outside, self.now()) {
            return found;
        }
        let room = names.room.clone().acquire_owned().await;
        let permit = room.map_err(|_| NetError::TemporaryResolverFailure)?;
        // Somebody else may have had the same question.
        if let Some(found) = names.fresh(&outside, self.now()) {
            return found;
        }
        let network = self.clone();
        // A task of its own: the resolver goes on when nobody waits any more, and so must its place.
        let task = self.0.runtime.spawn(async move {
            let found = network.resolve(&outside, &[]).await;
            network.0.names.keep(outside, found.clone(), network.now());
            drop(permit);
            found
        });
        task.await.unwrap_or(Err(NetError::TemporaryResolverFailure))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::NetworkConfig;
    use crate::resolve::Upstream;

    /// Answers when it is told to, and counts.
    struct Slow(AtomicUsize, Semaphore);

    #[async_trait]
    impl Upstream for Slow {
        async fn lookup(&self, name: &str, _: IpAddr) -> Found {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            self.1.acquire().await.unwrap().forget();
            if name == "none.test" { Err(NetError::NameUnresolvable) } else { Ok(vec![[192, 0, 2, n as u8].into()]) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_moment_and_few_are_sought_at_once() {
        let upstream = Arc::new(Slow(AtomicUsize::new(0), Semaphore::new(2)));
        let network = Network::new(NetworkConfig { upstream: upstream.clone(), ..NetworkConfig::default() });
        let asked = || upstream.0.load(Ordering::SeqCst);
        let first = network.resolve_kept("a.test").await;
        assert_eq!(first, Ok(vec![[192, 0, 2, 0].into()]));
        assert_eq!((network.resolve_kept("a.test.").await, asked()), (first, 1));
        assert_eq!(network.resolve_kept("none.test").await, Err(NetError::NameUnresolvable));
        assert_eq!((network.resolve_kept("none.test").await, asked()), (Err(NetError::NameUnresolvable), 2));
        tokio::time::advance(KEPT).await;
        // The resolver does not answer: those who gave up leave their places taken.
        for n in 0..100 {
            let name = format!("n{n}.test");
            let waited = tokio::time::timeout(Duration::from_secs(1), network.resolve_kept(&name)).await;
            assert!(waited.is_err());
        }
        assert_eq!(asked(), 2 + AT_ONCE);
        upstream.1.add_permits(1000);
        assert_eq!(network.resolve_kept("a.test").await.map(|ips| ips.len()), Ok(1), "the answer was too old");
        assert_eq!(network.resolve_kept("192.0.2.99").await, Ok(vec![[192, 0, 2, 99].into()]));
    }
}
