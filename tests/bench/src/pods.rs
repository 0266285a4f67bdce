//! (b) 1,000 replicas of hello: all bound, all Ready, all gone; and 1,000 pods that come one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use copepod_client::{Client, WatchEvent, WatchStream};
use copepod_model::Object;
use copepod_model::request::{DeleteOptions, ListOptions};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::{Error, ms, percentile};

const REPLICAS: usize = 1000;
/// How many come in a second, where they do not come all at once.
const RATE: u32 = 100;

/// What a watcher of all pods has seen.
struct Pods {
    watch: WatchStream,
    bound: BTreeMap<String, Instant>,
    ready: BTreeMap<String, Instant>,
    left: usize,
}

impl Pods {
    async fn watch(client: &Client) -> Result<Pods, Error> {
        let from = client.list("pods", "default", ListOptions::default()).await?.revision;
        let options = ListOptions { resource_version: Some(from.to_string()), ..ListOptions::default() };
        let watch = client.watch("pods", "default", options).await?;
        Ok(Pods { watch, bound: BTreeMap::new(), ready: BTreeMap::new(), left: 0 })
    }

    async fn until(&mut self, done: impl Fn(&Pods) -> bool) -> Result<(), Error> {
        while !done(self) {
            match self.watch.next().await.ok_or("the watch ended")? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.see(&pod),
                WatchEvent::Deleted(_) => self.left += 1,
                WatchEvent::Error(e) => return Err(e.into()),
                WatchEvent::Bookmark(..) => {}
            }
        }
        Ok(())
    }

    fn see(&mut self, pod: &Object) {
        let value = pod.value();
        let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
        if pod.meta.node_name.is_some() {
            self.bound.entry(pod.name().into()).or_insert_with(Instant::now);
        }
        if conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
            self.ready.entry(pod.name().into()).or_insert_with(Instant::now);
        }
    }

    /// From bound to Ready, of each: p50, p99.
    fn took(&self) -> (Duration, Duration) {
        let mut took: Vec<_> = self.ready.iter().filter_map(|(pod, at)| Some(*at - *self.bound.get(pod)?)).collect();
        took.sort();
        (percentile(&took, 0.5), percentile(&took, 0.99))
    }
}

/// Prints the tables.
pub async fn run() -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    let client = cluster.client()?;
    let idle = cluster.rss();
    let image = std::env::current_dir()?.join("examples/hello/hello.wasm");
    let spec = json!({"containers": [{"name": "hello", "image": format!("file://{}", image.display()),
        "ports": [{"containerPort": 8080}]}]});
    let each = |d: Duration| ms(d / REPLICAS as u32);

    let mut pods = Pods::watch(&client).await?;
    let (cpu, started) = (cluster.cpu(), Instant::now());
    client.create("deployments.apps", "default", deployment(&spec)).await?;
    pods.until(|pods| pods.bound.len() == REPLICAS).await?;
    let bound = started.elapsed();
    pods.until(|pods| pods.ready.len() == REPLICAS).await?;
    let (ready, up_cpu, full) = (started.elapsed(), cluster.cpu() - cpu, cluster.rss());
    let (cpu, deleted) = (cluster.cpu(), Instant::now());
    client.delete("deployments.apps", "default", "hello", DeleteOptions::default()).await?;
    pods.until(|pods| pods.left == REPLICAS).await?;
    let (gone, gone_cpu) = (deleted.elapsed(), cluster.cpu() - cpu);
    let took = pods.took();
    println!("\n## {REPLICAS} replicas of hello\n\n| | time | CPU per pod |\n|---|---|---|");
    println!("| all bound | {} | |", ms(bound));
    println!("| all Ready | {} | {} |", ms(ready), each(up_cpu));
    println!("| bound → Ready, p50 / p99 | {} / {} | |", ms(took.0), ms(took.1));
    println!("| all gone | {} | {} |", ms(gone), each(gone_cpu));

    let mut pods = Pods::watch(&client).await?;
    let cpu = cluster.cpu();
    let creating = tokio::spawn(one_after_the_other(cluster.client()?, spec));
    pods.until(|pods| pods.ready.len() == REPLICAS).await?;
    creating.await??;
    let (took, cpu) = (pods.took(), cluster.cpu() - cpu);
    println!("| {RATE} a second, bound → Ready, p50 / p99 | {} / {} | {} |", ms(took.0), ms(took.1), each(cpu));
    println!("\nRSS idle {} MiB, with {REPLICAS} pods {} MiB.", idle >> 20, full >> 20);
    println!("Kubernetes v1.32 with its rate limits lifted: bound in 8.0 s, Ready in 15.4 s, 18 ms CPU per pod.");
    cluster.stop().await;
    Ok(())
}

fn deployment(spec: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "hello"}},
            "template": {"metadata": {"labels": {"app": "hello"}}, "spec": spec},
        },
    })
}

async fn one_after_the_other(client: Client, spec: Value) -> Result<(), Error> {
    let mut turn = tokio::time::interval(Duration::from_secs(1) / RATE);
    for i in 0..REPLICAS {
        turn.tick().await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("single-{i}")}, "spec": spec});
        client.create("pods", "default", pod).await?;
    }
    Ok(())
}
