//! (c) create, get, list of 100, patch, update and delete with 1, 16 and 64 clients and 1 KiB ConfigMaps over TLS; write →
//! watcher; what the server keeps of pods that came and went.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use copepod_client::{Client, WatchEvent};
use copepod_model::request::{DeleteOptions, ListOptions, PatchType};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::load::{self, Load, Until};
use crate::{Error, ms, percentile};

/// How much is measured.
struct Size {
    /// Operations of each kind by one client, and by several.
    alone: usize,
    together: usize,
    /// Writes that watchers see.
    writes: usize,
    /// Pods that come and go in each round.
    pods: usize,
}

impl Size {
    /// For the record.
    const ORDINARY: Size = Size { alone: 4000, together: 40_000, writes: 200, pods: 1000 };
    /// To see that it works.
    const QUICK: Size = Size { alone: 100, together: 1000, writes: 10, pods: 100 };
}

/// How often pods come and go.
const ROUNDS: usize = 4;
/// How many clients create them and delete them.
const POD_CLIENTS: usize = 16;
/// At how many clients Kubernetes was measured, too.
const BESIDE: usize = 64;

/// What clients do, and what Kubernetes v1.32 with etcd made of it with [`BESIDE`] clients, in an earlier measurement.
struct Operation {
    name: &'static str,
    peer_per_second: f64,
    peer_cpu: Duration,
}

const fn operation(name: &'static str, peer_per_second: f64, peer_cpu: u64) -> Operation {
    Operation { name, peer_per_second, peer_cpu: Duration::from_micros(peer_cpu) }
}

/// In the order in which they are measured: each works on what those before it have left. CPU in µs.
static OPERATIONS: [Operation; 6] = [
    operation("create", 1860.0, 800),
    operation("get", 3590.0, 400),
    operation("list of 100", 1230.0, 900),
    operation("patch", 1600.0, 1100),
    operation("update", 1650.0, 1000),
    operation("delete", 2010.0, 750),
];

/// Prints the tables.
pub async fn run(quick: bool) -> Result<(), Error> {
    let size = if quick { Size::QUICK } else { Size::ORDINARY };
    let cluster = Cluster::up(&[]).await?;
    println!("\n## API over TLS, 1 KiB ConfigMaps\n");
    println!(
        "| operation | clients | per second | p50 | p99 | server CPU/op | client CPU/op | cores busy |\n|---|---|---|---|---|---|---|---|"
    );
    let mut beside = Vec::new();
    for clients in [1, 16, BESIDE] {
        let count = if clients == 1 { size.alone } else { size.together };
        let revisions: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        for operation in &OPERATIONS {
            let count = if operation.name == "list of 100" { count / 4 } else { count };
            let load = measure(&cluster, operation.name, clients, count, &revisions).await?;
            if clients == BESIDE {
                beside.push((operation, load));
            }
        }
    }
    println!(
        "\nKubernetes v1.32 + etcd: creates 640–724, 1,600–1,814, 1,836–2,004/s at 0.8 ms CPU; gets 1,190–4,100/s at 0.4 ms."
    );
    println!("With {BESIDE} clients, beside what was recorded of it:\n");
    println!("| operation | its per second | ours | its CPU/op | our server's |\n|---|---|---|---|---|");
    for (operation, load) in &beside {
        println!("{}", comparison(operation, load));
    }
    println!("\n## Write → watcher\n\n| watchers | p50 of all | p99 of all |\n|---|---|---|");
    for watchers in [1, 200] {
        watch(&cluster, watchers, size.writes).await?;
    }
    println!("\nKubernetes v1.32 + etcd: 3.3 ms to one watcher, 7 ms to 200 (p50).");
    cluster.stop().await;
    come_and_go(size.pods).await
}

async fn measure(
    cluster: &Cluster,
    operation: &'static str,
    clients: usize,
    count: usize,
    revisions: &Arc<[AtomicU64]>,
) -> Result<Load, Error> {
    let mut handles = Vec::new();
    for _ in 0..clients {
        let client = cluster.client()?;
        client.get("namespaces", "", "default").await?; // the connection, outside of the measurement
        handles.push(One { client, operation, clients, revisions: revisions.clone() });
    }
    let load = load::run(handles, Until::Count(count), &[cluster.pid()]).await?;
    println!("| {operation} | {clients} | {} |", load.columns());
    Ok(load)
}

/// A line of what an operation costs beside what it costs Kubernetes.
fn comparison(operation: &Operation, load: &Load) -> String {
    let cpu = load.servers.as_secs_f64() / load.sorted.len().max(1) as f64;
    format!(
        "| {} | {:.0} | {:.2} × | {} | {:.2} × |",
        operation.name,
        operation.peer_per_second,
        load.per_second() / operation.peer_per_second,
        ms(operation.peer_cpu),
        cpu / operation.peer_cpu.as_secs_f64()
    )
}

/// One of `clients` clients that all do the same.
struct One {
    client: Client,
    operation: &'static str,
    clients: usize,
    /// The objects' revisions as far as they were told, so that an update can name the one that it replaces.
    revisions: Arc<[AtomicU64]>,
}

impl One {
    fn note(&self, i: usize, revision: u64) {
        self.revisions[i].store(revision, Ordering::Relaxed);
    }
}

impl load::Client for One {
    async fn once(&mut self, i: usize) -> Result<(), Error> {
        let name = format!("c{}-{i}", self.clients);
        let client = &self.client;
        match self.operation {
            "create" => {
                let made = client.create("configmaps", "default", config_map(&name, "x")).await?;
                self.note(i, made.revision);
            }
            "get" => drop(client.get("configmaps", "default", &name).await?),
            "patch" => {
                let patch = json!({"data": {"patched": i.to_string()}});
                let made = client.patch("configmaps", "default", &name, "", PatchType::Merge, patch).await?;
                self.note(i, made.revision);
            }
            "update" => {
                let mut map = config_map(&name, "y");
                map["metadata"]["resourceVersion"] = self.revisions[i].load(Ordering::Relaxed).to_string().into();
                let made = client.update("configmaps", "default", &name, "", map).await?;
                self.note(i, made.revision);
            }
            "delete" => drop(client.delete("configmaps", "default", &name, DeleteOptions::default()).await?),
            _ => {
                drop(client.list("configmaps", "default", ListOptions { limit: 100, ..ListOptions::default() }).await?)
            }
        }
        Ok(())
    }
}

/// A ConfigMap with a KiB of `letter`.
fn config_map(name: &str, letter: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": letter.repeat(1024)}})
}

async fn watch(cluster: &Cluster, watchers: usize, writes: usize) -> Result<(), Error> {
    let client = cluster.client()?;
    let from = client.list("configmaps", "default", ListOptions { limit: 1, ..ListOptions::default() }).await?.revision;
    let (send, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    let (ready, mut is_ready) = tokio::sync::mpsc::channel(watchers);
    for _ in 0..watchers {
        let options = ListOptions { resource_version: Some(from.to_string()), ..ListOptions::default() };
        let (client, send, ready) = (cluster.client()?, send.clone(), ready.clone());
        tasks.push(tokio::spawn(async move {
            let mut events = client.watch("configmaps", "default", options).await?;
            ready.send(()).await?;
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(o) = event {
                    send.send((o.name().to_string(), Instant::now()))?;
                }
            }
            Ok::<_, Error>(())
        }));
    }
    for _ in 0..watchers {
        is_ready.recv().await;
    }
    let mut took = Vec::new();
    for i in 0..writes {
        let name = format!("watched-{watchers}-{i}");
        let map = config_map(&name, "x");
        let begun = Instant::now();
        client.create("configmaps", "default", map).await?;
        for _ in 0..watchers {
            let (seen, at) = seen.recv().await.ok_or("the watchers ended")?;
            assert_eq!(seen, name, "every watcher sees every write in order");
            took.push(at.duration_since(begun));
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    took.sort();
    println!("| {watchers} | {} | {} |", ms(percentile(&took, 0.5)), ms(percentile(&took, 0.99)));
    Ok(())
}

/// Creates `pods` pods that no node takes and deletes them, [`ROUNDS`] times, in a server that has done nothing else.
async fn come_and_go(pods: usize) -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    let client = cluster.client()?;
    // Without it no pod is admitted; a controller makes it.
    cluster.settled("serviceaccounts", "default").await?;
    println!("\n## Memory after {ROUNDS} × {pods} pods that no node takes\n\n| | RSS |\n|---|---|");
    println!("| before | {} MiB |", cluster.rss() >> 20);
    for round in 1..=ROUNDS {
        for deletes in [false, true] {
            let one = |client| PodClient { client, round, deletes };
            let clients = load::share(std::slice::from_ref(&client), POD_CLIENTS, one);
            load::run(clients, Until::Count(pods), &[cluster.pid()]).await?;
            let what = if deletes { "without them again" } else { "with them" };
            println!("| round {round}, {what} | {} MiB |", cluster.rss() >> 20);
        }
    }
    println!("\nKubernetes v1.32 with etcd: 626 MiB in the API server alone after 4 × 1,000 pods.");
    cluster.stop().await;
    Ok(())
}

/// One of the clients that create the pods of a round, or delete them.
struct PodClient {
    client: Client,
    round: usize,
    deletes: bool,
}

impl load::Client for PodClient {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let name = format!("pod-{}-{n}", self.round);
        if self.deletes {
            self.client.delete("pods", "default", &name, DeleteOptions::default()).await?;
            return Ok(());
        }
        let container = json!({"name": "main", "image": "registry.example/nothing:1",
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}, "env": [{"name": "ROUND", "value": self.round.to_string()}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "none"}},
            "spec": {"schedulerName": "nobody", "containers": [container]}});
        self.client.create("pods", "default", pod).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_stands_beside_what_kubernetes_made_of_it() {
        let load = Load {
            elapsed: Duration::from_secs(2),
            sorted: vec![Duration::from_millis(1); 800],
            servers: Duration::from_millis(160),
            own: Duration::ZERO,
        };
        let line = comparison(&operation("create", 200.0, 400), &load);
        assert_eq!(line, "| create | 200 | 2.00 × | 0.40 ms | 0.50 × |");
    }
}
