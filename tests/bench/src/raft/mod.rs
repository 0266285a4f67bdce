//! The replicated state beside Debian's etcd, in the same run on the same disk: puts on the propose path and through the API
//! with 1, 16, 64 and 256 clients, reads, one member and three, failover, restart with a GiB of state.
//!
//! What is compared is said with it: etcd's puts come over gRPC without TLS from this process; our propose path is called in
//! this process, without a network in between; our API is a whole Kubernetes API over HTTPS, with admission, managed fields and
//! watchers, beside bare puts. Clients and servers share this machine's cores on both sides.
//!
//! For etcd's good: no TLS, its logs at `error`, its default of snapshots, room for 8 GiB, and as many clients per connection
//! as it takes the most puts with; ours get the same number of connections, and TLS.

mod aims;
mod disk;
mod etcd;
mod failover;
mod grpc;
mod machine;
mod process;
mod protobuf;
mod restart;
pub mod servers;
mod store;
mod tables;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Error;

/// A value's bytes.
const VALUE: usize = 1024;

/// How much is measured.
struct Size {
    /// How long each line of a table of puts lasts; one of reads half of it.
    lasts: Duration,
    clients: &'static [usize],
    keys: usize,
    /// Reads from memory that are counted.
    memory_reads: usize,
    failovers: usize,
    /// What is in the state that is restarted.
    objects: usize,
    object_bytes: usize,
}

impl Size {
    /// For the record: five to eight minutes.
    const ORDINARY: Size = Size {
        lasts: Duration::from_secs(3),
        clients: &[1, 16, 64, 256],
        keys: 10_000,
        memory_reads: 400_000,
        failovers: 5,
        objects: 105_000,
        object_bytes: 10 << 10,
    };
    /// Every path once, to see that it works.
    const QUICK: Size = Size {
        lasts: Duration::from_millis(150),
        clients: &[1, 64],
        keys: 500,
        memory_reads: 5_000,
        failovers: 1,
        objects: 1_000,
        object_bytes: 10 << 10,
    };
}

/// What all parts of a run need.
struct Run {
    size: Size,
    /// Where everything is kept: beside the other benches' data folders.
    dir: PathBuf,
    /// etcd's binary, or why there is none.
    etcd: Result<PathBuf, String>,
    /// How many clients share a connection.
    per_connection: usize,
}

impl Run {
    fn connections(&self, clients: usize) -> usize {
        clients.div_ceil(self.per_connection)
    }
}

/// Puts per second at a number of clients, as far as they were measured.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    clients: usize,
    etcd: Option<f64>,
    propose: Option<f64>,
    /// Through the API, and how many cores were busy with it, its clients' included.
    api: Option<f64>,
    cores: f64,
}

/// What the aims are held against.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Durable appends per second of one writer.
    disk: Option<f64>,
    one: Vec<Rates>,
    three: Vec<Rates>,
    failover: Vec<Duration>,
    restart: Option<Duration>,
}

/// Prints the tables.
pub async fn run(quick: bool) -> Result<(), Error> {
    let begun = Instant::now();
    let size = if quick { Size::QUICK } else { Size::ORDINARY };
    let dir = std::env::temp_dir().join(format!("copepod-bench-raft-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let etcd = etcd::find().await;
    println!("\n## The replicated state beside etcd\n");
    machine::print(&dir, etcd.as_ref().map(|(_, version)| version.as_str())).await;
    let etcd = etcd.map(|(program, _)| program);
    let mut run = Run { size, dir, etcd, per_connection: 16 };
    // With the servers' output, where something went wrong.
    all(&mut run).await.map_err(|e| format!("{e}; what is left is in {}", run.dir.display()))?;
    let _ = std::fs::remove_dir_all(&run.dir);
    println!("\nMeasured in {:.0} s.", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn all(run: &mut Run) -> Result<(), Error> {
    let mut found = Found::default();
    disk::run(&run.dir, run.size.lasts / 2, &mut found).await?;
    tables::one(run, &mut found).await?;
    restart::run(run, &mut found).await?;
    tables::three(run, &mut found).await?;
    aims::print(&found);
    Ok(())
}

/// The `n`th of `keys` keys in an order that touches each once in `keys` steps and is not that of their names.
fn scattered(n: usize, keys: usize) -> usize {
    // A prime that divides no number of keys here.
    (n % keys) * 7919 % keys
}

/// A text of this many bytes, another one each time: a write that changes nothing need not be written.
fn fresh(bytes: usize) -> String {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut text = format!("{:016x}", WRITTEN.fetch_add(1, Ordering::Relaxed));
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    text
}

/// The median.
fn middle(took: &[Duration]) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    crate::percentile(&sorted, 0.5)
}

/// A time beside the peer's.
fn ratio(took: Duration, peer: Option<Duration>) -> String {
    peer.map_or("–".into(), |peer| format!("{:.2} ×", took.as_secs_f64() / peer.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_has_its_turn() {
        for size in [Size::QUICK, Size::ORDINARY] {
            for keys in [size.keys, size.objects] {
                assert_eq!((7..keys + 7).map(|n| scattered(n, keys)).collect::<BTreeSet<_>>().len(), keys);
            }
        }
    }

    #[test]
    fn no_value_is_written_twice() {
        let (one, other) = (fresh(1024), fresh(1024));
        assert_eq!((one.len(), other.len()), (1024, 1024));
        assert_ne!(one, other);
    }

    #[test]
    fn clients_share_connections() {
        let run = Run { size: Size::QUICK, dir: PathBuf::new(), etcd: Err(String::new()), per_connection: 16 };
        assert_eq!([1, 16, 64, 256].map(|clients| run.connections(clients)), [1, 1, 4, 16]);
    }

    #[test]
    fn the_median_of_five_is_the_third() {
        let all = [5, 1, 4, 2, 3].map(Duration::from_secs);
        assert_eq!((middle(&all), middle(&[])), (Duration::from_secs(3), Duration::ZERO));
        assert_eq!(ratio(all[0], Some(all[3])), "2.50 ×");
    }
}
