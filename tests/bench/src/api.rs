//! (c) create, get, list of 100, patch with 1, 16 and 64 clients and 1 KiB ConfigMaps over TLS; write → watcher.

use std::time::Instant;

use copepod_client::{Client, WatchEvent};
use copepod_model::request::{ListOptions, PatchType};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::cluster::Cluster;
use crate::load::{self, Until};
use crate::{Error, ms, percentile};

/// Operations of each kind by one client, and by several.
const ALONE: usize = 4000;
const TOGETHER: usize = 40_000;

/// Prints the tables.
pub async fn run() -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    println!("\n## API over TLS, 1 KiB ConfigMaps\n");
    println!(
        "| operation | clients | per second | p50 | p99 | server CPU/op | client CPU/op | cores busy |\n|---|---|---|---|---|---|---|---|"
    );
    for clients in [1, 16, 64] {
        let count = if clients == 1 { ALONE } else { TOGETHER };
        for operation in ["create", "get", "list of 100", "patch"] {
            let count = if operation == "list of 100" { count / 4 } else { count };
            measure(&cluster, operation, clients, count).await?;
        }
    }
    println!(
        "\nKubernetes v1.32 + etcd: creates 640–724, 1,600–1,814, 1,836–2,004/s at 0.8 ms CPU; gets 1,190–4,100/s at 0.4 ms."
    );
    println!("\n## Write → watcher\n\n| watchers | p50 of all | p99 of all |\n|---|---|---|");
    for watchers in [1, 200] {
        watch(&cluster, watchers).await?;
    }
    println!("\nKubernetes v1.32 + etcd: 3.3 ms to one watcher, 7 ms to 200 (p50).");
    cluster.stop().await;
    Ok(())
}

async fn measure(cluster: &Cluster, operation: &'static str, clients: usize, count: usize) -> Result<(), Error> {
    let mut handles = Vec::new();
    for _ in 0..clients {
        let client = cluster.client()?;
        client.get("namespaces", "", "default").await?; // the connection, outside of the measurement
        handles.push(One { client, operation, clients });
    }
    let load = load::run(handles, Until::Count(count), &[cluster.pid()]).await?;
    println!(
        "| {operation} | {clients} | {:.0} | {} | {} | {} | {} | {:.1} |",
        load.per_second(),
        ms(load.percentile(0.5)),
        ms(load.percentile(0.99)),
        load.each(load.servers),
        load.each(load.own),
        load.cores(),
    );
    Ok(())
}

/// One of `clients` clients that all do the same.
struct One {
    client: Client,
    operation: &'static str,
    clients: usize,
}

impl load::Client for One {
    async fn once(&mut self, i: usize) -> Result<(), Error> {
        let name = format!("c{}-{i}", self.clients);
        let client = &self.client;
        match self.operation {
            "create" => {
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "x".repeat(1024)}});
                client.create("configmaps", "default", map).await?;
            }
            "get" => drop(client.get("configmaps", "default", &name).await?),
            "patch" => {
                let patch = json!({"data": {"patched": i.to_string()}});
                client.patch("configmaps", "default", &name, "", PatchType::Merge, patch).await?;
            }
            _ => {
                drop(client.list("configmaps", "default", ListOptions { limit: 100, ..ListOptions::default() }).await?)
            }
        }
        Ok(())
    }
}

async fn watch(cluster: &Cluster, watchers: usize) -> Result<(), Error> {
    const WRITES: usize = 200;
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
    for i in 0..WRITES {
        let name = format!("watched-{watchers}-{i}");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "x".repeat(1024)}});
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
