//! The leader of three is killed: how long until a write is acknowledged again.

use std::time::{Duration, Instant};

use super::etcd::{Etcd, Puts};
use super::grpc::Connection;
use super::servers::{Api, Does, Servers, connect};
use super::{Found, Run, VALUE, middle, ratio};
use crate::load::Client;
use crate::{Error, ms};

/// How long the client waits for one server before it tries the next.
const ATTEMPT: Duration = Duration::from_millis(100);
/// After a refusal, before the next attempt.
const PAUSE: Duration = Duration::from_millis(2);
/// No failover takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// A group of servers of which one leads.
trait Group {
    /// A client of one of them.
    type Writer: Client;
    /// How many there are.
    fn members(&self) -> usize;
    /// Waits until all are there; who leads.
    async fn leads(&mut self) -> Result<usize, Error>;
    /// Kills one of them.
    fn end(&mut self, member: usize) -> Result<(), Error>;
    /// Starts it again.
    async fn revive(&mut self, member: usize) -> Result<(), Error>;
    /// Connects to one of them.
    async fn writer(&self, member: usize, keys: usize) -> Result<Self::Writer, Error>;
}

impl Group for Etcd {
    type Writer = Puts;

    fn members(&self) -> usize {
        self.size()
    }
    async fn leads(&mut self) -> Result<usize, Error> {
        self.settle().await
    }
    fn end(&mut self, member: usize) -> Result<(), Error> {
        self.kill(member)
    }
    async fn revive(&mut self, member: usize) -> Result<(), Error> {
        self.again(member).await.map(drop)
    }
    async fn writer(&self, member: usize, keys: usize) -> Result<Puts, Error> {
        Ok(Puts { connection: Connection::open(self.at(member)).await?, keys, bytes: VALUE })
    }
}

impl Group for Servers {
    type Writer = Api;

    fn members(&self) -> usize {
        self.size()
    }
    async fn leads(&mut self) -> Result<usize, Error> {
        self.settle().await
    }
    fn end(&mut self, member: usize) -> Result<(), Error> {
        self.kill(member)
    }
    async fn revive(&mut self, member: usize) -> Result<(), Error> {
        self.again(member).await.map(drop)
    }
    async fn writer(&self, member: usize, keys: usize) -> Result<Api, Error> {
        Ok(Api { client: connect(self.config(member))?, does: Does::Put, keys, bytes: VALUE })
    }
}

/// Prints the table.
pub async fn run(
    run: &Run,
    etcd: Option<&mut Etcd>,
    ours: Option<&mut Servers>,
    found: &mut Found,
) -> Result<(), Error> {
    let (times, keys) = (run.size.failovers, run.size.keys);
    println!("\n### Failover: the leader of three is killed → the next acknowledged write, {times} times\n");
    println!("| | median | worst | median beside etcd |\n|---|---|---|---|");
    let mut beside = None;
    if let Some(etcd) = etcd {
        let took = rounds(etcd, times, keys).await?;
        beside = Some(line("etcd", &took, None));
    }
    if let Some(ours) = ours {
        found.failover = rounds(ours, times, keys).await?;
        line("ours, through the API", &found.failover, beside);
    }
    println!(
        "\nThe client tries the two others in turn, {} for each; both have their default times of heartbeats and elections.",
        ms(ATTEMPT)
    );
    Ok(())
}

fn line(name: &str, took: &[Duration], beside: Option<Duration>) -> Duration {
    let (median, worst) = (middle(took), took.iter().max().copied().unwrap_or_default());
    println!("| {name} | {} | {} | {} |", ms(median), ms(worst), ratio(median, beside));
    median
}

async fn rounds<G: Group>(group: &mut G, times: usize, keys: usize) -> Result<Vec<Duration>, Error> {
    let mut took = Vec::new();
    for _ in 0..times {
        let leader = group.leads().await?;
        let mut writers = Vec::new();
        for member in (0..group.members()).filter(|m| *m != leader) {
            let mut writer = group.writer(member, keys).await?;
            // The connection is open, and the server takes writes.
            tokio::time::timeout(LONGEST, writer.once(0)).await??;
            writers.push(writer);
        }
        let killed = Instant::now();
        group.end(leader)?;
        took.push(next_write(&mut writers, killed).await?);
        group.revive(leader).await?;
    }
    group.leads().await?;
    Ok(took)
}

/// From `killed` to the next acknowledged write.
async fn next_write<W: Client>(writers: &mut [W], killed: Instant) -> Result<Duration, Error> {
    let many = writers.len();
    let mut last = None;
    for n in 0.. {
        match tokio::time::timeout(ATTEMPT, writers[n % many].once(n)).await {
            Ok(Ok(())) => break,
            Ok(Err(e)) => {
                last = Some(e);
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {}
        }
        if killed.elapsed() > LONGEST {
            return Err(
                format!("no write for {LONGEST:?} after the leader was killed; the last refusal: {last:?}").into()
            );
        }
    }
    Ok(killed.elapsed())
}
