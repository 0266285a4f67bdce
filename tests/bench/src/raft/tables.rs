//! Puts and reads of one or of three members, path by path at each number of clients.

use copepod_client::Kubeconfig;

use super::etcd::{self, Etcd};
use super::servers::{self, Api, Does, Servers};
use super::store::{self, Proposer, Reader, Stores};
use super::{Found, Rates, Run, VALUE};
use crate::load::{self, Load, Until, share};
use crate::{Error, ms};

/// How many clients and connections fill the stores.
const FILLERS: (usize, usize) = (64, 4);

/// A server that is there, or servers: where they answer, the leader first, and their processes.
pub struct At<T> {
    endpoints: Vec<T>,
    pids: Vec<u32>,
}

impl<T> At<T> {
    /// As many connections, but one to each member where there are clients for it.
    fn spread(&self, connections: usize, clients: usize) -> usize {
        connections.max(self.endpoints.len().min(clients))
    }
}

/// What is compared, as far as it is there.
pub struct Sides {
    etcd: Option<At<String>>,
    ours: Option<At<Kubeconfig>>,
    /// Ours in this process.
    stores: Stores,
}

impl Sides {
    /// Puts the keys into all of them.
    pub async fn filled(
        run: &Run,
        etcd: Option<&mut Etcd>,
        ours: Option<&mut Servers>,
        stores: Stores,
    ) -> Result<Sides, Error> {
        let (keys, all) = (run.size.keys, Until::Count(run.size.keys));
        let (clients, connections) = FILLERS;
        let mut sides = Sides { etcd: None, ours: None, stores };
        if let Some(etcd) = etcd {
            let at = At { endpoints: etcd.endpoints().await?, pids: etcd.pids() };
            let open = etcd::connections(&at.endpoints[..1], connections).await?;
            let puts = share(&open, clients, |connection| etcd::Puts { connection, keys, bytes: VALUE });
            load::run(puts, all, &[]).await?;
            sides.etcd = Some(at);
        }
        if let Some(ours) = ours {
            let at = At { endpoints: ours.endpoints().await?, pids: ours.pids() };
            let open = servers::connections(&at.endpoints[..1], connections).await?;
            let creates = share(&open, clients, |client| Api { client, does: Does::Fill, keys, bytes: VALUE });
            load::run(creates, all, &[]).await?;
            sides.ours = Some(at);
        }
        if let Some(store) = sides.stores.all.first() {
            let objects = store::objects(keys, VALUE);
            let make = |store| Proposer { store, objects: objects.clone() };
            load::run(share(std::slice::from_ref(store), clients, make), all, &[]).await?;
        }
        Ok(sides)
    }

    /// Prints the table of puts, all of them to the leader.
    pub async fn puts(&self, run: &Run) -> Result<Vec<Rates>, Error> {
        let (keys, until) = (run.size.keys, Until::Elapsed(run.size.lasts));
        header("puts/s");
        let objects = store::objects(keys, VALUE);
        let mut out = Vec::new();
        for &clients in run.size.clients {
            let connections = run.connections(clients);
            let mut rates = Rates { clients, ..Rates::default() };
            if let Some(at) = &self.etcd {
                let open = etcd::connections(&at.endpoints[..1], connections).await?;
                let puts = share(&open, clients, |connection| etcd::Puts { connection, keys, bytes: VALUE });
                let load = load::run(puts, until, &at.pids).await?;
                line("etcd put", clients, &load, None, true);
                rates.etcd = Some(load.per_second());
            }
            if let Some(store) = self.stores.all.first() {
                let make = |store| Proposer { store, objects: objects.clone() };
                let before = store.stats();
                let load = load::run(share(std::slice::from_ref(store), clients, make), until, &[]).await?;
                let after = store.stats();
                let commits = (after.commits - before.commits).max(1);
                let shared = (after.proposals - before.proposals) as f64 / commits as f64;
                let name = format!("ours, propose in process, {shared:.1} per commit");
                line(&name, clients, &load, rates.etcd, false);
                rates.propose = Some(load.per_second());
            }
            if let Some(at) = &self.ours {
                let open = servers::connections(&at.endpoints[..1], connections).await?;
                for (name, does) in [("ours, API create", Does::Create(clients)), ("ours, API put", Does::Put)] {
                    let api = share(&open, clients, |client| Api { client, does, keys, bytes: VALUE });
                    let load = load::run(api, until, &at.pids).await?;
                    line(name, clients, &load, rates.etcd, true);
                    if does == Does::Put {
                        (rates.api, rates.cores) = (Some(load.per_second()), load.cores());
                    }
                }
            }
            out.push(rates);
        }
        Ok(out)
    }

    /// Prints the table of reads, spread over the members.
    pub async fn reads(&self, run: &Run) -> Result<(), Error> {
        let (keys, until) = (run.size.keys, Until::Elapsed(run.size.lasts / 2));
        header("reads/s");
        for &clients in run.size.clients {
            let connections = run.connections(clients);
            for stale in [false, true] {
                let mut beside = None;
                if let Some(at) = &self.etcd {
                    let open = etcd::connections(&at.endpoints, at.spread(connections, clients)).await?;
                    let gets = share(&open, clients, |connection| etcd::Gets { connection, keys, serializable: stale });
                    let load = load::run(gets, until, &at.pids).await?;
                    line(if stale { "etcd, serializable" } else { "etcd, linearizable" }, clients, &load, None, true);
                    beside = Some(load.per_second());
                }
                if let Some(at) = &self.ours {
                    let (name, does) = if stale {
                        ("ours, API, resourceVersion=0", Does::GetStale)
                    } else {
                        ("ours, API, linearizable", Does::Get)
                    };
                    let open = servers::connections(&at.endpoints, at.spread(connections, clients)).await?;
                    let api = share(&open, clients, |client| Api { client, does, keys, bytes: VALUE });
                    let load = load::run(api, until, &at.pids).await?;
                    line(name, clients, &load, beside, true);
                }
                if !self.stores.all.is_empty() {
                    // A snapshot waits for nobody: millions of them would be timed before any other client's turn.
                    let waits = !stale && self.stores.all.len() > 1;
                    let until = if waits { until } else { Until::Count(run.size.memory_reads) };
                    let readers = share(&self.stores.all, clients, |store| Reader { store, keys, stale });
                    let load = load::run(readers, until, &[]).await?;
                    let name = if stale { "ours, snapshot in process" } else { "ours, read_index in process" };
                    line(name, clients, &load, beside, false);
                }
            }
        }
        Ok(())
    }

    /// Closes what is in this process.
    pub async fn close(self) -> Result<(), Error> {
        self.stores.close().await
    }
}

/// Finds out with how many clients per connection etcd takes the most puts: both sides get that.
pub async fn calibrate(run: &mut Run, etcd: &mut Etcd) -> Result<(), Error> {
    const CLIENTS: usize = 64;
    let (endpoints, until) = (etcd.endpoints().await?, Until::Elapsed(run.size.lasts / 3));
    let (mut rates, mut best) = (Vec::new(), 0.0);
    for connections in [1, 4, 16, CLIENTS] {
        let open = etcd::connections(&endpoints, connections).await?;
        let puts = share(&open, CLIENTS, |connection| etcd::Puts { connection, keys: run.size.keys, bytes: VALUE });
        let rate = load::run(puts, until, &[]).await?.per_second();
        rates.push(format!("{rate:.0}/s over {connections}"));
        if rate > best {
            (best, run.per_connection) = (rate, CLIENTS / connections);
        }
    }
    println!(
        "\nConnections: etcd took {} for {CLIENTS} clients, so {} of them share one on both sides.",
        rates.join(", "),
        run.per_connection
    );
    Ok(())
}

fn header(what: &str) {
    println!("\n| clients | path | {what} | p50 | p99 | CPU/op of servers | of clients | cores busy | beside etcd |");
    println!("|---|---|---|---|---|---|---|---|---|");
}

fn line(path: &str, clients: usize, load: &Load, etcd: Option<f64>, apart: bool) {
    let (servers, own) = if apart {
        (load.each(load.servers), load.each(load.own))
    } else {
        ("in this process".into(), format!("{} with the store", load.each(load.own)))
    };
    println!(
        "| {clients} | {path} | {:.0} | {} | {} | {servers} | {own} | {:.1} | {} |",
        load.per_second(),
        ms(load.percentile(0.5)),
        ms(load.percentile(0.99)),
        load.cores(),
        etcd.map_or("–".into(), |etcd| format!("{:.2} ×", load.per_second() / etcd)),
    );
}

/// One member of each.
pub async fn one(run: &mut Run, found: &mut Found) -> Result<(), Error> {
    println!("\n### One member, values of {VALUE} bytes over {} keys", run.size.keys);
    let dir = run.dir.join("one");
    let mut etcd = match &run.etcd {
        Ok(program) => Some(Etcd::start(program, &dir.join("etcd"), 1).await?),
        Err(why) => {
            println!("\netcd: {why}");
            None
        }
    };
    if let Some(etcd) = &mut etcd {
        calibrate(run, etcd).await?;
    }
    let mut ours = Servers::up(&dir.join("ours")).await?;
    let stores = Stores::one(&dir).await?;
    let sides = Sides::filled(run, etcd.as_mut(), Some(&mut ours), stores).await?;
    found.one = sides.puts(run).await?;
    sides.reads(run).await?;
    sides.close().await
}

/// Three members of each on loopback, all on this machine's cores and disk; then their leaders are killed.
pub async fn three(run: &Run, found: &mut Found) -> Result<(), Error> {
    println!("\n### Three members on loopback; puts go to the leader, reads to all");
    let dir = run.dir.join("three");
    let mut etcd = match &run.etcd {
        Ok(program) => Some(Etcd::start(program, &dir.join("etcd"), 3).await?),
        Err(why) => {
            println!("\netcd: {why}");
            None
        }
    };
    let mut ours = match servers::has_server().await {
        Ok(()) => Some(Servers::three(&dir.join("ours")).await?),
        Err(why) => {
            println!("\nOurs through the API: {why}");
            None
        }
    };
    let stores = Stores::three(&dir).await?;
    let sides = Sides::filled(run, etcd.as_mut(), ours.as_mut(), stores).await?;
    found.three = sides.puts(run).await?;
    sides.reads(run).await?;
    sides.close().await?;
    super::failover::run(run, etcd.as_mut(), ours.as_mut(), found).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_reach_all_members() {
        let at = At { endpoints: vec!["a", "b", "c"], pids: vec![] };
        assert_eq!([(1, 1), (1, 2), (1, 16), (4, 64)].map(|(c, n)| at.spread(c, n)), [1, 2, 3, 4]);
    }
}
