//! Clients that each do one operation after the other, and what that took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::cpu_of;
use crate::{Error, ms, percentile};

/// No run takes longer.
const LONGEST: Duration = Duration::from_secs(600);

/// One client.
pub trait Client: Send + 'static {
    /// Does the `n`th operation of the run; each number is given out once, to one of the clients.
    fn once(&mut self, n: usize) -> impl Future<Output = Result<(), Error>> + Send;
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this many operations of all clients.
    Count(usize),
    /// When it has lasted so long; operations that have begun are finished.
    Elapsed(Duration),
}

impl Until {
    fn is_over(self, n: usize, elapsed: Duration) -> bool {
        match self {
            Until::Count(count) => n >= count,
            Until::Elapsed(most) => elapsed >= most,
        }
    }
}

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Load {
    /// From the first operation's begin to the last one's end.
    pub elapsed: Duration,
    /// How long each operation took, the shortest first.
    pub sorted: Vec<Duration>,
    /// CPU time of the servers.
    pub servers: Duration,
    /// CPU time of this process.
    pub own: Duration,
}

impl Load {
    /// Operations per second.
    pub fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which `share` of the operations were done.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.sorted, share)
    }

    /// A part of the CPU time for each operation, as text.
    pub fn each(&self, cpu: Duration) -> String {
        format!("{:.0} µs", cpu.as_secs_f64() * 1e6 / self.sorted.len().max(1) as f64)
    }

    /// What a table of operations says of it: operations per second, p50, p99, CPU of the servers and of this process for
    /// each, cores busy.
    pub fn columns(&self) -> String {
        format!(
            "{:.0} | {} | {} | {} | {} | {:.1}",
            self.per_second(),
            ms(self.percentile(0.5)),
            ms(self.percentile(0.99)),
            self.each(self.servers),
            self.each(self.own),
            self.cores()
        )
    }

    /// How many cores were busy with it.
    pub fn cores(&self) -> f64 {
        (self.servers + self.own).as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Runs these clients together; `servers` are the processes whose CPU time counts as theirs.
pub async fn run<C: Client>(clients: Vec<C>, until: Until, servers: &[u32]) -> Result<Load, Error> {
    let cpu = || (servers.iter().copied().map(cpu_of).sum::<Duration>(), cpu_of(std::process::id()));
    let next = Arc::new(AtomicUsize::new(0));
    let (before, started) = (cpu(), Instant::now());
    // When one fails the others end with the set.
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let next = next.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                if until.is_over(n, begun.duration_since(started)) {
                    return Ok::<_, Error>(took);
                }
                client.once(n).await?;
                took.push(begun.elapsed());
            }
        });
    }
    let mut sorted = Vec::new();
    let all = async {
        while let Some(took) = tasks.join_next().await {
            sorted.extend(took??);
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(LONGEST, all).await??;
    let (elapsed, after) = (started.elapsed(), cpu());
    sorted.sort_unstable();
    let (servers, own) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Ok(Load { elapsed, sorted, servers, own })
}

/// `clients` clients that share these connections evenly.
pub fn share<T: Clone, C>(connections: &[T], clients: usize, make: impl Fn(T) -> C) -> Vec<C> {
    connections.iter().cycle().take(clients).cloned().map(make).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Noting(Arc<Mutex<Vec<usize>>>);

    impl Client for Noting {
        async fn once(&mut self, n: usize) -> Result<(), Error> {
            self.0.lock().map_err(|e| e.to_string())?.push(n);
            tokio::task::yield_now().await;
            if n == 1000 { Err("the last straw".into()) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn every_number_is_given_out_once_and_a_failure_ends_the_run() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let load = run(share(std::slice::from_ref(&seen), 3, Noting), Until::Count(50), &[]).await.unwrap();
        assert_eq!(load.sorted.len(), 50);
        let mut numbers = std::mem::take(&mut *seen.lock().unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        assert!(run(share(std::slice::from_ref(&seen), 3, Noting), Until::Count(2000), &[]).await.is_err());
    }

    #[test]
    fn connections_are_shared_evenly() {
        assert_eq!(share(&['a', 'b'], 5, |c| c), ['a', 'b', 'a', 'b', 'a']);
        assert_eq!(share(&['a', 'b'], 1, |c| c), ['a']);
    }
}
