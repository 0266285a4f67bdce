//! The node's DNS beside knot and bind with the same names, loaded by dnsperf in turns.

mod dnsperf;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copepod_model::request::ListOptions;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::Error;
use crate::cluster::{Cluster, cpu_of};
use dnsperf::{Measured, Said};
use peers::Peer;

/// How many Services there are.
const SERVICES: usize = 5_000;
/// How often every server is loaded.
const ROUNDS: usize = 3;
/// How long each time.
const SECONDS: u64 = 8;
/// How many Services are created at once.
const AT_ONCE: usize = 16;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes when it is done with.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Somebody who answers.
struct Server {
    name: String,
    port: u16,
    pid: u32,
    /// Questions at full load, and one after the other.
    full: Vec<Measured>,
    single: Vec<Measured>,
}

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    println!("\n## DNS\n");
    if let Err(why) = dnsperf::present().await {
        println!("skipped: {why}");
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("copepod-bench-dns-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let folder = Folder(dir);
    let cluster = Cluster::up(&[]).await?;
    let names = services(&cluster).await?;
    let zone = folder.0.join("zone");
    std::fs::write(&zone, peers::zone(&names))?;
    let queries = folder.0.join("queries");
    std::fs::write(&queries, dnsperf::questions(&names))?;

    let port = cluster.dns.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.ok_or_else(|| format!("no port in {:?}", cluster.dns))?;
    let mut servers = vec![Server::new("copepod".into(), port, cluster.pid())];
    let mut peers = Vec::new();
    for started in [Peer::knot(&folder.0, &zone).await, Peer::bind(&folder.0, &zone).await] {
        match started {
            Ok(peer) => {
                servers.push(Server::new(peer.name.clone(), peer.port, peer.pid()));
                peers.push(peer);
            }
            Err(why) => println!("skipped: {why}\n"),
        }
    }
    for server in &servers {
        knows(server, &names).await?;
    }
    println!(
        "{SERVICES} Services; of ten questions six are for an address, one is for one of the other family, one for a port"
    );
    println!(
        "and two for a name that the search list makes and nobody has. dnsperf for {SECONDS} s, {ROUNDS} times in turns.\n"
    );
    for _ in 0..ROUNDS {
        for server in &mut servers {
            server.load(&queries).await?;
        }
    }
    print(&servers);
    for peer in peers {
        peer.stop().await;
    }
    cluster.stop().await;
    Ok(())
}

impl Server {
    fn new(name: String, port: u16, pid: u32) -> Server {
        Server { name, port, pid, full: Vec::new(), single: Vec::new() }
    }

    async fn load(&mut self, queries: &Path) -> Result<(), Error> {
        for (all, single) in [(&mut self.full, false), (&mut self.single, true)] {
            let before = cpu_of(self.pid);
            let Said { per_second, latency, answered, lost } =
                dnsperf::run(self.port, queries, SECONDS, single).await?;
            let cpu = cpu_of(self.pid).saturating_sub(before);
            if answered == 0 {
                return Err(format!("{} has answered nothing", self.name).into());
            }
            all.push(Measured { per_second, latency, lost, cpu: cpu.as_secs_f64() / answered as f64 });
        }
        Ok(())
    }
}

/// Creates the Services; their names and addresses.
async fn services(cluster: &Cluster) -> Result<BTreeMap<String, String>, Error> {
    let client = cluster.client()?;
    let create = |n: usize| {
        let client = client.clone();
        async move {
            let spec = json!({"selector": {"app": format!("s{n}")}, "ports": [{"name": "http", "port": 80}]});
            let service =
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")}, "spec": spec});
            client.create("services", "default", service).await.map(drop)
        }
    };
    let mut created = futures_util::stream::iter((0..SERVICES).map(create)).buffer_unordered(AT_ONCE);
    while let Some(result) = created.next().await {
        result?;
    }
    let all = client.list("services", "default", ListOptions::default()).await?;
    let of = |o: &copepod_model::Object| {
        let ip = o.value()["spec"]["clusterIP"].as_str().map(ToString::to_string);
        Some((o.name().to_string(), ip?)).filter(|(name, _)| name != "kubernetes")
    };
    let names: BTreeMap<String, String> = all.items.iter().filter_map(|o| of(o)).collect();
    if names.len() != SERVICES {
        return Err(format!("{} of {SERVICES} Services have an address", names.len()).into());
    }
    Ok(names)
}

/// Waits until a server knows every name, and that it says what is true.
async fn knows(server: &Server, names: &BTreeMap<String, String>) -> Result<(), Error> {
    let begun = Instant::now();
    for (name, ip) in names {
        while !peers::answers(server.port, &format!("{name}.default.svc.cluster.local"), ip).await? {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not know {name} after {PATIENCE:?}", server.name).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

fn print(servers: &[Server]) {
    println!(
        "| server | questions/s | of ours | server CPU/question | of ours | average time | one after the other | lost |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let rate = |s: &Server| median(s.full.iter().map(|m| m.per_second));
    let cpu = |s: &Server| median(s.full.iter().map(|m| m.cpu));
    for server in servers {
        let (full, one) = (|f: fn(&Measured) -> f64| median(server.full.iter().map(f)), &server.single);
        println!(
            "| {} | {:.0} | {:.2} | {:.2} µs | {:.2} | {:.0} µs | {:.0} µs | {} |",
            server.name,
            rate(server),
            rate(server) / rate(&servers[0]),
            cpu(server) * 1e6,
            cpu(server) / cpu(&servers[0]),
            full(|m| m.latency) * 1e6,
            median(one.iter().map(|m| m.latency)) * 1e6,
            server.full.iter().map(|m| m.lost).sum::<u64>(),
        );
    }
}

/// The middle of some values, 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
