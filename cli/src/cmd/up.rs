//! `copepod up`: a whole cluster of one node, in this process.

mod waiting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use copepod_agent::{Agent, NodeApiHandle};
use copepod_client::{Body, Client};
use copepod_model::Status;
use copepod_model::request::ListOptions;
use copepod_node_plan::Descriptors;
use copepod_server::api::NodeApi;
use copepod_server::{Server, ServerConfig};

use super::{Error, default_data_dir};
use crate::descriptors;
use crate::node::{self, NodeFlags, NodeTls};
use crate::stop::Stop;

/// Start a cluster of one node in this process and stay; Ctrl-C stops it, and a second start resumes.
#[derive(Debug, Args)]
pub struct Up {
    /// Manifests to apply once the cluster is ready: files, folders, or `-` for stdin.
    #[arg(short, long = "filename", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Where everything is kept. Default: the XDG data folder.
    #[arg(long, env = "COPEPOD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address that the API, the node's API, the ingress, DNS and node ports listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP")]
    bind: IpAddr,
    /// Port of the Kubernetes API; 0 takes any free one.
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    api_port: u16,
    /// Ask the node at its port, as nodes of other processes are, instead of in this process.
    #[arg(long, hide = true)]
    reach_node_by_https: bool,
    /// Name of the node.
    #[arg(long, default_value = "copepod", value_name = "NAME")]
    node_name: String,
    /// Bytes that all objects may have together; above that nothing new is stored. 0 for any number.
    #[arg(long, default_value_t = copepod_server::store::DEFAULT_QUOTA, value_name = "BYTES")]
    quota_bytes: u64,
    /// Addresses for Services of type LoadBalancer, each its own: networks and ranges, such as
    /// `192.0.2.0/24,10.0.0.10-10.0.0.20`. They must lead to the nodes. Default: the nodes' own addresses.
    #[arg(
        long,
        env = "COPEPOD_LOAD_BALANCER_POOL",
        default_value = "",
        hide_default_value = true,
        value_name = "NETWORK|FIRST-LAST,…"
    )]
    load_balancer_pool: copepod_server::BalancerPool,
    #[command(flatten)]
    node: NodeFlags,
}

impl Up {
    /// Runs the cluster until it is told to stop.
    pub async fn run(self) -> Result<(), Error> {
        let started = Instant::now();
        let dir = self.data_dir.clone().unwrap_or_else(default_data_dir);
        let dir = std::path::absolute(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        copepod_model::kinds::names::subdomain(&self.node_name)
            .map_err(|e| format!("--node-name {:?}: {e}", self.node_name))?;
        let say = |text: &str| eprintln!("{:>6.2}s  {text}", started.elapsed().as_secs_f64());
        say(&format!("starting in {}", dir.display()));
        // Signals first: a Ctrl-C during the start must stop cleanly too.
        let mut stop = Stop::new()?;

        let room = Descriptors::split(descriptors::raise());
        let config = ServerConfig {
            data_dir: dir.clone(),
            api: SocketAddr::new(self.bind, self.api_port),
            advertise: node::api_alias(self.bind),
            peer: None,
            quota_bytes: self.quota_bytes,
            balancer_pool: self.load_balancer_pool.clone(),
            connections: room.api as usize,
        };
        let server = Server::start(config).await?;
        say("the API is ready");
        let agent = match self.agent(&dir, &server, room).await {
            Ok(agent) => agent,
            Err(e) => {
                server.stop().await;
                return Err(e);
            }
        };
        say("the node is ready");
        let admin = server.admin_client("copepod-up");
        let result = tokio::select! {
            r = self.apply(&admin, &say) => r,
            () = stop.wait() => Err("stopped before everything was ready".into()),
        };
        if result.is_ok() {
            places(&server, &agent, &admin).await;
            stop.wait().await;
            eprintln!("stopping");
        }
        let stopped = async {
            agent.shutdown().await;
            server.stop().await;
        };
        tokio::select! {
            () = stopped => result,
            // Whoever asks twice has no more patience; what was acknowledged is on disk all the same.
            () = stop.wait() => Err("stopped at once, without waiting for what was under way".into()),
        }
    }
}

impl Up {
    async fn agent(&self, dir: &std::path::Path, server: &Server, room: Descriptors) -> Result<Agent, Error> {
        let client = server.node_client(&self.node_name);
        let tls = NodeTls { ingress: server.ingress_tls()?, kubelet: server.kubelet_tls(&self.node_name, self.bind)? };
        let mut config = self.node.config(&self.node_name, self.bind, dir, client, tls)?;
        // Someone waits at a keyboard.
        config.drain = Duration::from_secs(1);
        config.roots = server.ca();
        // The server in this process does not ask there.
        config.kubelet_any_port = !self.node.names_kubelet_port();
        config.descriptors = room;
        let agent = Agent::start(config).await?;
        if let Some(alias) = node::api_alias(self.bind) {
            let api = server.address();
            let here = if api.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { api.ip() };
            agent.network().expose_host(SocketAddr::new(alias, api.port()), SocketAddr::new(here, api.port()));
        }
        if !self.reach_node_by_https {
            server.api().add_node(&self.node_name, Arc::new(InProcessNode(agent.node_api_handle())));
        }
        agent.ready().await;
        Ok(agent)
    }

    /// Applies the files and waits until what they define is ready.
    async fn apply(&self, client: &Client, say: &impl Fn(&str)) -> Result<(), Error> {
        if self.file.is_empty() {
            return Ok(());
        }
        let applied = super::apply::files(client, &self.file, "default").await?;
        for object in &applied {
            say(&format!("{} {}", object.name, object.outcome));
        }
        let mut shown = String::new();
        loop {
            let mut waiting = Vec::new();
            for object in &applied {
                let live = client.get(&object.resource, &object.namespace, &object.object_name).await?.value();
                let Some(mut why) = waiting::not_ready(&live) else { continue };
                if let Some(label_selector) = waiting::pods_of(&live) {
                    let options = ListOptions { label_selector, ..ListOptions::default() };
                    let found = client.list("pods", &object.namespace, options).await?;
                    let pods: Vec<_> = found.items.iter().map(|p| p.value()).collect();
                    if let Some(what) = waiting::troubles(&live, &pods) {
                        why = format!("{why}; {what}");
                    }
                }
                waiting.push(format!("{} ({why})", object.name));
            }
            if waiting.is_empty() {
                say("everything is ready");
                return Ok(());
            }
            let text = format!("waiting for {}", waiting.join(", "));
            if text != shown {
                say(&text);
                shown = text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Says where things are: on stdout, one `name value` per line.
async fn places(server: &Server, agent: &Agent, client: &Client) {
    println!("API      https://{}", server.address());
    println!("Config   {}", server.kubeconfig().display());
    node::places(agent);
    println!("Images   {} (copepod push app.wasm NAME)", copepod_server::images::HOST);
    println!("\n  export KUBECONFIG={}", server.kubeconfig().display());
    let Ok(list) = client.list("ingresses.networking.k8s.io", "", ListOptions::default()).await else { return };
    let Some(at) = agent.ingress_addr() else { return };
    for ingress in list.items {
        let value = ingress.value();
        for rule in value["spec"]["rules"].as_array().into_iter().flatten() {
            let host = rule["host"].as_str().unwrap_or("localhost").replacen('*', "any", 1);
            let path = rule["http"]["paths"][0]["path"].as_str().unwrap_or("/");
            println!("  curl http://{host}:{}{path}", at.port());
        }
    }
}

/// The node's API, called where it is.
struct InProcessNode(NodeApiHandle);

#[async_trait::async_trait]
impl NodeApi for InProcessNode {
    async fn request(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        Ok(self.0.call(request).await)
    }
}
