//! (c) create, get, list of 100, patch with 1, 16 and 64 clients and 1 KiB ConfigMaps over TLS; write → watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use copepod_client::{Client, WatchEvent};
use copepod_model::request::{ListOptions, PatchType};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::cluster::{Cluster, cpu_of};
use crate::{Error, ms, percentile};

/// Operations of each kind per number of clients.
const OPERATIONS: usize = 8000;

/// Prints the tables.
pub async fn run() -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    println!("\n## API over TLS, 1 KiB ConfigMaps\n");
    println!(
        "| operation | clients | per second | p50 | p99 | server CPU/op | client CPU/op |\n|---|---|---|---|---|---|---|"
    );
    for clients in [1, 16, 64] {
        let count = if clients == 1 { OPERATIONS / 4 } else { OPERATIONS };
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
    let next = Arc::new(AtomicUsize::new(0));
    let handles: Vec<Client> = (0..clients).map(|_| cluster.client()).collect::<Result<_, _>>()?;
    for client in &handles {
        client.get("namespaces", "", "default").await?; // the connection, outside of the measurement
    }
    let (server, own, started) = (cluster.cpu(), cpu_of(std::process::id()), Instant::now());
    let tasks: Vec<_> = handles
        .into_iter()
        .map(|client| {
            let next = next.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return Ok::<_, Error>(took);
                    }
                    let begun = Instant::now();
                    once(&client, operation, clients, i).await?;
                    took.push(begun.elapsed());
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let elapsed = started.elapsed();
    all.sort();
    let each = |d: Duration| format!("{:.0} µs", d.as_secs_f64() * 1e6 / count as f64);
    println!(
        "| {operation} | {clients} | {:.0} | {} | {} | {} | {} |",
        count as f64 / elapsed.as_secs_f64(),
        ms(percentile(&all, 0.5)),
        ms(percentile(&all, 0.99)),
        each(cluster.cpu() - server),
        each(cpu_of(std::process::id()) - own),
    );
    Ok(())
}

async fn once(client: &Client, operation: &str, clients: usize, i: usize) -> Result<(), Error> {
    let name = format!("c{clients}-{i}");
    match operation {
        "create" => {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": "x".repeat(1024)}});
            client.create("configmaps", "default", map).await?;
        }
        "get" => drop(client.get("configmaps", "default", &name).await?),
        "patch" => {
            let patch = json!({"data": {"patched": i.to_string()}});
            client.patch("configmaps", "default", &name, "", PatchType::Merge, patch).await?;
        }
        _ => drop(client.list("configmaps", "default", ListOptions { limit: 100, ..ListOptions::default() }).await?),
    }
    Ok(())
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
