//! 10,000 Ready pods on one node: how long until they are, what they cost while idle, and a thousand requests to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use copepod_client::WatchEvent;
use copepod_model::request::ListOptions;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::cluster::Cluster;
use crate::http::LOGGED;
use crate::{Error, ms, percentile};

const IDLE: Duration = Duration::from_secs(20);
const REQUESTS: usize = 1000;

/// When a pod was first seen bound and Ready.
#[derive(Default)]
struct Seen {
    bound: Option<Instant>,
    ready: Option<Instant>,
}

/// Prints the table; `COPEPOD_BENCH_PODS` is how many pods, 10,000 if it is not set.
pub async fn run() -> Result<(), Error> {
    let pods = std::env::var("COPEPOD_BENCH_PODS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000usize);
    let cluster = Cluster::up(&[]).await?;
    let client = cluster.client()?;
    let before = cluster.rss();
    let from = client.list("pods", "default", ListOptions::default()).await?.revision;
    let options = ListOptions { resource_version: Some(from.to_string()), ..ListOptions::default() };
    let mut watch = client.watch("pods", "default", options).await?;
    let image = std::env::current_dir()?.join("examples/hello/hello.wasm");
    let labels = json!({"app": "hello"});
    let container = json!({"name": "hello", "image": format!("file://{}", image.display()),
        "ports": [{"containerPort": 8080, "name": "http"}], "resources": {"requests": {"cpu": "0", "memory": "64Ki"}},
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
    client
        .create(
            "services",
            "default",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]}}),
        )
        .await?;
    client
        .create("ingresses.networking.k8s.io", "default", json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "hello"}, "spec": {"rules": [{"host": "hello.localhost", "http": {"paths": [{"path": "/",
            "pathType": "Prefix", "backend": {"service": {"name": "hello", "port": {"number": 80}}}}]}}]}}))
        .await?;
    let (cpu, started) = (cluster.cpu(), Instant::now());
    client
        .create(
            "deployments.apps",
            "default",
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "hello"}, "spec": {"replicas": pods, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}}),
        )
        .await?;
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut ready = 0;
    while ready < pods {
        match watch.next().await.ok_or("the watch ended")? {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                let pod = seen.entry(o.name().into()).or_default();
                if pod.bound.is_none() && o.meta.node_name.is_some() {
                    pod.bound = Some(Instant::now());
                }
                let value = o.value();
                let conditions = value["status"]["conditions"].as_array();
                let is_ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
                if pod.ready.is_none() && is_ready {
                    pod.ready = Some(Instant::now());
                    ready += 1;
                }
            }
            WatchEvent::Error(e) => return Err(e.into()),
            _ => {}
        }
    }
    let (took, up) = (started.elapsed(), cluster.cpu() - cpu);
    drop(watch);
    let mut each: Vec<_> = seen.values().filter_map(|s| Some(s.ready?.duration_since(s.bound?))).collect();
    each.sort();
    // What follows a burst, such as checkpoints, is not idling.
    tokio::time::sleep(IDLE).await;
    let (full, cpu) = (cluster.rss(), cluster.cpu());
    tokio::time::sleep(IDLE).await;
    let idle = cluster.cpu() - cpu;
    let (mut times, mut answered) = (Vec::new(), BTreeSet::new());
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        let code = crate::http::get_text(&cluster.ingress, "hello.localhost", LOGGED).await?.0;
        times.push(begun.elapsed());
        if code != 200 {
            return Err(format!("a request was answered {code}").into());
        }
        // Who answers with nothing does not say who it is.
        answered.insert(crate::http::get_text(&cluster.ingress, "hello.localhost", "/").await?.1);
    }
    times.sort();
    let per_pod = full.saturating_sub(before) as f64 / pods as f64 / 1024.0;
    let share = idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0 / pods as f64;
    println!("\n## {pods} Ready pods on one node\n\n| | | aim for 10,000 |\n|---|---|---|");
    println!("| all Ready after | {:.1} s, {} CPU per pod | |", took.as_secs_f64(), ms(up / pods as u32));
    println!(
        "| bound → Ready, as a watcher sees it, all created at once | p50 {}, p99 {} | (20 ms for 1,000) |",
        ms(percentile(&each, 0.5)),
        ms(percentile(&each, 0.99))
    );
    println!(
        "| RSS without pods, with them, per pod | {} MiB, {} MiB, {per_pod:.0} KiB | 100 KiB |",
        before >> 20,
        full >> 20
    );
    println!("| idle CPU per pod, over {} s | {share:.5} % of a core | 0.01 % |", IDLE.as_secs());
    println!(
        "| {REQUESTS} requests over new connections, each a log line | p50 {}, p99 {} | |\n\
         | as many more, by different pods | {} | |",
        ms(percentile(&times, 0.5)),
        ms(percentile(&times, 0.99)),
        answered.len()
    );
    cluster.stop().await;
    Ok(())
}
