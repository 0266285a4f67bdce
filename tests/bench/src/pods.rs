//! (b) 1,000 replicas of hello: all bound, all Ready, all gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use copepod_client::WatchEvent;
use copepod_model::request::{DeleteOptions, ListOptions};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::cluster::Cluster;
use crate::{Error, ms, percentile};

const REPLICAS: usize = 1000;

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    let client = cluster.client()?;
    let idle = cluster.rss();
    let from = client.list("pods", "default", ListOptions::default()).await?.revision;
    let options = ListOptions { resource_version: Some(from.to_string()), ..ListOptions::default() };
    let mut watch = client.watch("pods", "default", options).await?;
    let (cpu, started) = (cluster.cpu(), Instant::now());
    let image = std::env::current_dir()?.join("examples/hello/hello.wasm");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "hello"}},
            "template": {
                "metadata": {"labels": {"app": "hello"}},
                "spec": {"containers": [{"name": "hello", "image": format!("file://{}", image.display()),
                    "ports": [{"containerPort": 8080}]}]},
            },
        },
    });
    client.create("deployments.apps", "default", deployment).await?;
    let mut pods: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    let (mut bound_at, mut took) = (BTreeMap::new(), Vec::new());
    let (mut bound, mut ready) = (None, None);
    while ready.is_none() {
        match watch.next().await.ok_or("the watch ended")? {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                let v = o.value();
                let is_ready = v["status"]["conditions"].as_array().into_iter().flatten();
                let is_ready = is_ready.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
                if o.meta.node_name.is_some() {
                    bound_at.entry(o.name().to_string()).or_insert_with(Instant::now);
                }
                if is_ready && pods.get(o.name()).is_none_or(|p| !p.1) {
                    took.extend(bound_at.get(o.name()).map(Instant::elapsed));
                }
                pods.insert(o.name().into(), (o.meta.node_name.is_some(), is_ready));
            }
            WatchEvent::Error(e) => return Err(e.into()),
            _ => {}
        }
        let count = |f: fn(&(bool, bool)) -> bool| pods.values().filter(|p| f(p)).count() == REPLICAS;
        if bound.is_none() && count(|p| p.0) {
            bound = Some(started.elapsed());
        }
        if count(|p| p.1) {
            ready = Some(started.elapsed());
        }
    }
    let up_cpu = cluster.cpu() - cpu;
    let full = cluster.rss();
    let (cpu, deleted) = (cluster.cpu(), Instant::now());
    client.delete("deployments.apps", "default", "hello", DeleteOptions::default()).await?;
    while !pods.is_empty() {
        match watch.next().await.ok_or("the watch ended")? {
            WatchEvent::Deleted(o) => drop(pods.remove(o.name())),
            WatchEvent::Error(e) => return Err(e.into()),
            _ => {}
        }
    }
    let gone = deleted.elapsed();
    let each = |d: Duration| ms(d / REPLICAS as u32);
    println!("\n## {REPLICAS} replicas of hello\n\n| | time | CPU per pod |\n|---|---|---|");
    println!("| all bound | {} | |", ms(bound.unwrap_or_default()));
    println!("| all Ready | {} | {} |", ms(ready.unwrap_or_default()), each(up_cpu));
    took.sort();
    let (half, most) = (percentile(&took, 0.5), percentile(&took, 0.99));
    println!("| bound → Ready, p50 / p99 | {} / {} | |", ms(half), ms(most));
    println!("| all gone | {} | {} |", ms(gone), each(cluster.cpu() - cpu));
    println!("\nRSS idle {} MiB, with {REPLICAS} pods {} MiB.", idle >> 20, full >> 20);
    println!("Kubernetes v1.32 with its rate limits lifted: bound in 8.0 s, Ready in 15.4 s, 18 ms CPU per pod.");
    cluster.stop().await;
    Ok(())
}
