//! What the node and its pods use: read from the host and the data plane, told by [`copepod_node_plan::usage`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_client::Body;
use copepod_model::Time;
use copepod_model::selector::FieldSelector;
use copepod_node_network::AccessLog;
use copepod_node_plan::NodeFacts;
use copepod_node_plan::usage::{self, ImagesOf, Machine, Node, NodeReading, Reading, Samples};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::{decode, object, prometheus, text};
use crate::clock::now;
use crate::dataplane::Door;
use crate::host;
use crate::logs::lock;

/// The node's measurements.
pub(crate) struct Usage {
    door: Door,
    samples: Mutex<Samples>,
    node: String,
    version: String,
    memory: u64,
    machine: Machine,
    since: Time,
    data_dir: PathBuf,
    access_log: Option<AccessLog>,
}

impl Usage {
    pub fn new(door: Door, facts: &NodeFacts, data_dir: PathBuf, access_log: Option<AccessLog>) -> Usage {
        Usage {
            door,
            samples: Mutex::default(),
            node: facts.name.clone(),
            version: facts.version.clone(),
            memory: u64::try_from(facts.memory).unwrap_or(0),
            machine: Machine {
                cores: u64::try_from(facts.cpu_millis / 1000).unwrap_or(1),
                memory: u64::try_from(facts.memory).unwrap_or(0),
                boot_id: facts.boot_id.clone(),
                machine_id: facts.machine_id.clone(),
                kernel: facts.kernel_version.clone(),
                os: facts.os_image.clone(),
            },
            since: now(),
            data_dir,
            access_log,
        }
    }

    /// Measures now and then, for ever.
    pub async fn sample(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let reading = self.reading();
            lock(&self.samples).push(reading);
        }
    }

    fn reading(&self) -> Reading {
        let available = host::memory_available().and_then(|b| u64::try_from(b).ok());
        let memory = available.map(|available| self.memory.saturating_sub(available));
        Reading::new(now(), NodeReading { cpu: host::cpu_time(), memory }, self.door.usage())
    }

    fn samples(&self) -> Samples {
        lock(&self.samples).clone()
    }

    /// Answers a GET of the node API; `None` if the path is none of ours.
    pub async fn answer(self: &Arc<Self>, path: &[&str], query: &str) -> Option<Response<Body>> {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
            pairs.find(|(k, _)| *k == name).map(|(_, v)| decode(&v.replace('+', " ")))
        };
        Some(match path {
            ["stats", "summary"] => {
                let brief = parameter("only_cpu_and_memory").is_some_and(|v| matches!(v.as_str(), "true" | "1"));
                let this = self.clone();
                // Images and file systems are looked at on the disk.
                let summary = tokio::task::spawn_blocking(move || this.summary(brief)).await;
                match summary {
                    Ok(summary) => object(&summary),
                    Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
                }
            }
            ["metrics"] => {
                let own = usage::kubelet(&self.node, &self.version, &self.reading(), host::process());
                let log = self.access_log.as_ref().map(|log| usage::access_log(log.written(), log.dropped()));
                prometheus(own + &log.unwrap_or_default())
            }
            ["metrics", "resource"] => prometheus(usage::resource(&self.reading())),
            // What the API server makes its own answers of.
            ["apis", usage::GROUP, usage::VERSION, rest @ ..] => {
                let fields = FieldSelector::parse(&parameter("fieldSelector").unwrap_or_default());
                let fields = match fields {
                    Ok(fields) => fields,
                    Err(e) => return Some(text(StatusCode::BAD_REQUEST, &e.to_string())),
                };
                let wanted = |namespace: &str, name: &str| {
                    fields.matches(|field| match field {
                        "metadata.name" => name.into(),
                        "metadata.namespace" => namespace.into(),
                        _ => String::new(),
                    })
                };
                let samples = self.samples();
                match rest {
                    ["nodes"] => {
                        let node = usage::node_metrics(&samples, &self.node).filter(|_| wanted("", &self.node));
                        list("NodeMetricsList", node.into_iter().collect())
                    }
                    ["pods"] => list("PodMetricsList", usage::pod_metrics(&samples, wanted)),
                    &["namespaces", namespace, "pods"] => {
                        let here = |ns: &str, name: &str| ns == namespace && wanted(ns, name);
                        list("PodMetricsList", usage::pod_metrics(&samples, here))
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// `/metrics/cadvisor`, with the images of the node's pods.
    pub fn cadvisor(&self, images: &ImagesOf) -> String {
        usage::cadvisor(&self.machine, &self.reading(), images)
    }

    fn summary(&self, brief: bool) -> Value {
        let fs = if brief { None } else { host::file_system(&self.data_dir) };
        let image_fs = fs.and_then(|mut fs| {
            fs.used = self.door.image_bytes()?;
            Some(fs)
        });
        let volumes = if brief { Vec::new() } else { self.door.volumes() };
        let node = Node { name: self.node.clone(), since: self.since, memory: self.memory, fs, image_fs };
        usage::summary(&node, &self.reading(), &self.samples(), &volumes)
    }
}

fn list(kind: &str, items: Vec<Value>) -> Response<Body> {
    object(&json!({"kind": kind, "apiVersion": usage::API_VERSION, "metadata": {}, "items": items}))
}
