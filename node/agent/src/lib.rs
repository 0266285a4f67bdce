//! Floor 3b: the node's agent. It registers the node, follows the pods that are bound to it, asks `copepod-node-plan` what
//! to do about each, carries effects to the data plane and status to the API, and answers the node API.
//!
//! It is crash-only: it keeps no state of its own but logs and images, and begins from what the API says.

mod addresses;
mod api;
mod certificates;
mod clock;
mod cluster_registry;
mod config;
mod dataplane;
mod dns;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod kubelet;
mod logs;
mod neighbours;
mod pods;
mod reflect;
mod register;
mod routes;
mod static_pods;
mod streaming;
mod usage;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::Body;
use copepod_dns_server::Sockets;
use copepod_model::networks;
use copepod_node_network::{
    AccessLog, Beneficiary, Certificates, HostAccess, HostAccessError, HostListeners, HostPortFailure, Identity,
    Ingress, IngressConfig, Network, NetworkConfig, TunnelConfig, TunnelTiming,
};
use copepod_node_plan::{NodeFacts, Observation, balancer_failed};
use copepod_runtime_wasm::{Runtime, RuntimeConfig, RuntimeError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use addresses::{AddressPool, Cidr};
pub use config::{AgentConfig, DataPort, DnsConfig, NamespacePod, POD_CIDR};
pub use copepod_dns_server::{StubDomain, server as dns_server};
pub use copepod_node_network::AccessLogTo;

use api::NodeApi;
use copepod_volumes::Volumes;
use dataplane::DataPlane;
use events::Recorder;
use host::Host;
use logs::Logs;
use pods::{Collector, Pods, Wires};
use routes::Services;

/// The version that the node reports: the Kubernetes level and this program's own.
const VERSION: &str = concat!("v1.35.0+copepod.", env!("CARGO_PKG_VERSION"));
/// A file of the node that is there while the host's routes are changed.
const HOST_ACCESS: &str = "host-access";
/// How often log files that nobody writes to are closed.
const CLOSE_IDLE: Duration = Duration::from_secs(5);

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A folder or a file of the node.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// An address cannot be listened on; first the flag by which another one is said.
    #[error("cannot listen on {1} ({0}): {2}")]
    Listen(&'static str, SocketAddr, io::Error),
    /// The wasm runtime.
    #[error("cannot start the wasm runtime: {0}")]
    Runtime(#[from] RuntimeError),
    /// The host's own way to pods and Services.
    #[error("--host-access: {0}")]
    HostAccess(#[from] HostAccessError),
}

/// A running agent.
pub struct Agent {
    api: NodeApi,
    network: Network,
    access_log: Option<AccessLog>,
    ready: watch::Receiver<bool>,
    ingress: Option<SocketAddr>,
    ingress_tls: Option<SocketAddr>,
    kubelet: Option<SocketAddr>,
    dns: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Ends in its own time: requests may finish.
    front: JoinSet<()>,
}

impl Agent {
    /// Starts everything and comes back at once; the node registers itself as soon as the API answers.
    pub async fn start(config: AgentConfig) -> Result<Agent, AgentError> {
        let folder = |path: PathBuf| move |e: io::Error| AgentError::Folder(path.clone(), e);
        let (dir, drain) = (config.data_dir.clone(), config.drain);
        std::fs::create_dir_all(&dir).map_err(folder(dir.clone()))?;
        let taken = |flag, addr: SocketAddr| move |e: io::Error| AgentError::Listen(flag, addr, e);
        let ingress = match config.ingress_addr {
            Some(addr) => Some(listen(addr, config.second_ip).await.map_err(taken("--ingress-port", addr))?),
            None => None,
        };
        let ingress_tls = match &config.ingress_tls {
            Some((addr, tls)) => {
                let listeners = listen(*addr, config.second_ip).await.map_err(taken("--ingress-tls-port", *addr))?;
                let (certificates, tls) = Certificates::over(tls);
                Some((listeners, tls, certificates))
            }
            None => None,
        };
        let access_log = match &config.access_log {
            Some(to) => Some(AccessLog::open(to).map_err(|e| match to {
                AccessLogTo::File(path) => AgentError::Folder(path.clone(), e),
                AccessLogTo::Stdout => AgentError::Folder("-".into(), e),
            })?),
            None => None,
        };
        let kubelet = match &config.kubelet {
            Some((addr, tls)) => {
                let mut listener = TcpListener::bind(addr).await;
                if config.kubelet_any_port && listener.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
                    listener = TcpListener::bind(SocketAddr::new(addr.ip(), 0)).await;
                }
                Some((listener.map_err(taken("--kubelet-port", *addr))?, tls.clone()))
            }
            None => None,
        };
        let kubelet_addr = kubelet.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let configz = Arc::new(kubelet::configz(&config, kubelet_addr));
        let auth = kubelet::Auth::new(config.client.clone(), config.node_name.clone());
        let data = match &config.data {
            Some(DataPort { addr, .. }) => Some(TcpListener::bind(addr).await.map_err(taken("--data-port", *addr))?),
            None => None,
        };
        let data_port = data.as_ref().and_then(|listener| listener.local_addr().ok()).map(|at| at.port());
        let dns = match config.dns_addr {
            Some(addr) => Some(Sockets::bind(addr).await.map_err(taken("--dns-port", addr))?),
            None => None,
        };
        let second = dns.as_ref().and_then(|first| Some(SocketAddr::new(config.second_ip?, first.addr().port())));
        let second_dns = match second {
            Some(addr) => Some(Sockets::bind(addr).await.map_err(taken("--dns-port", addr))?),
            None => None,
        };
        let outside = dns::Outside::new(&config, dns.as_ref().map(Sockets::addr));
        let images_dir = dir.join("images");
        let store = copepod_images::Config {
            allow_file: config.allow_file_images,
            registries: config.registries.clone(),
            cluster: config.cluster_registry.clone().map(|host| cluster_registry::at(host, config.client.clone())),
            ..copepod_images::Config::default()
        };
        let images = copepod_images::Store::open(&images_dir, store).map_err(folder(images_dir.clone()))?;
        let room = config.descriptors;
        let runtime = RuntimeConfig { files: room.files, ..RuntimeConfig::new(&dir) };
        let runtime = Arc::new(Runtime::new(&runtime)?);
        // Connections are served on the guests' threads: a request is answered without a hand-over to another one.
        let serving = runtime.serving();
        let logs = Arc::new(Logs::new(dir.join("logs")));
        let volumes = copepod_volumes::Config { data_dir: dir.clone(), allow_host_path: config.allow_host_path };
        let volumes = Arc::new(Volumes::open(&volumes).map_err(folder(dir.join("pods")))?);
        let network = NetworkConfig {
            cluster: config.networks(),
            node_ip: config.pod_block.unwrap_or(config.pod_cidr).0.into(),
            egress: config.egress,
            roots: config.roots.clone(),
            upstream: Arc::new(outside.clone()),
            tunnel: config.data.as_ref().map(|data| TunnelConfig {
                client: data.client.clone(),
                server: data.server.clone(),
                node_of: neighbours::node_of,
                timing: TunnelTiming::default(),
            }),
            incoming: room.incoming as usize,
            outgoing: room.outgoing as usize,
            ..NetworkConfig::default()
        };
        // Its own tasks carry requests, too: over connections to elsewhere, from host ports, from other nodes.
        let network = {
            let _serving = serving.enter();
            Network::new(network)
        };
        // Before anything begins that others see: it is refused where the host's network cannot be changed.
        let mark = dir.join(HOST_ACCESS);
        let access = match config.host_access {
            true => Some(HostAccess::start(network.clone(), &config.networks(), &mark).await?),
            false => {
                if let Err(error) = HostAccess::clean_up(&mark).await {
                    tracing::warn!(%error, "what an earlier process has changed of the host's routes is still there");
                }
                None
            }
        };
        let facts = NodeFacts { api_port: kubelet_addr.map_or(0, |at| at.port()), ..facts(&config) };
        let (stop, stopped) = watch::channel(false);
        let (ready_tx, ready) = watch::channel(false);
        let listed = ready.clone();
        let (mut tasks, mut front) = (JoinSet::new(), JoinSet::new());
        let (known_tx, known) = watch::channel(false);
        tasks.spawn(neighbours::run(config.client.clone(), config.node_name.clone(), network.clone(), known_tx));
        // Pods start when both are known: where Services lead, and where their endpoints are and who may go there.
        let ready = both(&mut tasks, [ready, known]);
        if let Some(listener) = data {
            let (network, mut stopped) = (network.clone(), stopped.clone());
            let serve = async move {
                let stop = async move { drop(stopped.wait_for(|s| *s).await) };
                match here(listener) {
                    Ok(listener) => network.serve_tunnel(listener, stop, drain).await,
                    Err(error) => tracing::error!(%error, "nothing comes from other nodes"),
                }
            };
            front.spawn_on(serve, &serving);
        }

        let (effects_tx, effects) = mpsc::unbounded_channel();
        let (observer, observations) = mpsc::unbounded_channel();
        let failures = observer.clone();
        let plane = DataPlane::new(runtime, images, images_dir, network.clone(), volumes, logs.clone(), observer);
        tasks.spawn(plane.measure(config.volume_check));
        let streaming = streaming::Streaming::new(plane.door());
        let usage = Arc::new(usage::Usage::new(plane.door(), &facts, dir.clone(), access_log.clone()));
        tasks.spawn(usage.clone().sample(config.usage_period));
        tasks.spawn(plane.run(effects));

        let services = Services::default();
        let routing =
            copepod_node_routes::Config { node: Some(config.node_name.as_str().into()), ..Default::default() };
        let zone = copepod_dns_zone::Config {
            domain: config.cluster_domain.as_str().into(),
            dns_ip: config.cluster_dns,
            networks: config.networks(),
            ..Default::default()
        };
        let (recorder, writer) = Recorder::new(config.client.clone(), config.node_name.clone());
        tasks.spawn(writer);
        let (known, events) = (services.clone(), recorder.clone());
        let host_port_failed = move |HostPortFailure { whose, at, error }| match whose {
            Beneficiary::Pod(uid) => {
                let _ = failures.send(Observation::HostPortFailed { uid, port: at.addr.port(), error });
            }
            Beneficiary::Service(key) => {
                if let Some(service) = known.get(&key.namespace, &key.name) {
                    events.record(&service, balancer_failed(&error));
                }
            }
        };
        let listeners = HostListeners::new(network.clone(), config.node_addresses.clone());
        tasks.spawn_on(listeners.run(host_port_failed), &serving);
        let (tls_tx, tls_wanted) = watch::channel(Vec::new());
        let sinks =
            routes::Sinks { network: network.clone(), services: services.clone(), tls: tls_tx, ready: ready_tx };
        tasks.spawn(routes::run(config.client.clone(), routing, zone, sinks));
        if let Some((_, _, certificates)) = &ingress_tls {
            tasks.spawn(certificates::run(config.client.clone(), certificates.clone(), tls_wanted));
        }

        for pod in &config.namespaces {
            network.attach(in_namespace(pod));
        }
        let (asks_tx, asks) = mpsc::channel(64);
        let wires = Node {
            effects: effects_tx,
            observations,
            asks,
            ready: ready.clone(),
            recorder,
            services,
            network: network.clone(),
        };
        tasks.spawn(node(config, facts, data_port, logs.clone(), wires));

        let idle = logs.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(CLOSE_IDLE);
            loop {
                ticks.tick().await;
                idle.close_idle();
            }
        });

        let mut dns_addr = None;
        for sockets in dns.into_iter().chain(second_dns) {
            let (at, zones, listed) = (sockets.addr(), network.clone(), listed.clone());
            // Until everything was listed, what is not in the zone is not known to be missing.
            let zone = Arc::new(move || listed.borrow().then(|| zones.zone()));
            let server = outside.serve(sockets, zone, room.dns as usize).map_err(taken("--dns-port", at))?;
            dns_addr = dns_addr.or(Some(server.addr()));
            let mut stopped = stopped.clone();
            front.spawn(async move {
                let _ = stopped.wait_for(|s| *s).await;
                server.shutdown().await;
            });
        }
        let mut enter = |listener: TcpListener, tls| {
            let at = listener.local_addr().ok();
            let (network, mut stopped, access_log) = (network.clone(), stopped.clone(), access_log.clone());
            let serve = async move {
                let shutdown = async move { drop(stopped.wait_for(|s| *s).await) };
                let config = IngressConfig { tls, drain, access_log, ..IngressConfig::default() };
                Ingress::serve(here(listener)?, network, config, shutdown).await
            };
            front.spawn_on(
                async move {
                    if let Err(error) = serve.await {
                        tracing::error!(%error, "the ingress has ended");
                    }
                },
                &serving,
            );
            at
        };
        let first = |at: Option<SocketAddr>, _| at;
        let ingress_addr = ingress.and_then(|all| all.into_iter().map(|l| enter(l, None)).reduce(first)?);
        let ingress_tls_addr =
            ingress_tls.and_then(|(all, tls, _)| all.into_iter().map(|l| enter(l, Some(tls.clone()))).reduce(first)?);
        if let Some(access) = access {
            let mut stopped = stopped.clone();
            front.spawn(access.run(async move { drop(stopped.wait_for(|s| *s).await) }));
        }
        let api = NodeApi { asks: asks_tx, logs, streaming, usage, configz };
        if let Some((listener, tls)) = kubelet {
            let doors = kubelet::Front { api: api.clone(), auth };
            front.spawn(kubelet::serve(listener, tls, doors, room.node_api as usize, stopped.clone()));
        }
        Ok(Agent {
            api,
            network,
            access_log: access_log.clone(),
            ready,
            ingress: ingress_addr,
            ingress_tls: ingress_tls_addr,
            kubelet: kubelet_addr,
            dns: dns_addr,
            stop,
            tasks,
            front,
        })
    }

    /// Answers one request of the node API: `/containerLogs/{namespace}/{pod}/{container}`, `/pods`, `/healthz`,
    /// `/stats/summary`, `/metrics` … Nobody is asked whether it may be.
    pub async fn node_api(&self, request: http::Request<Body>) -> http::Response<Body> {
        self.api.handle(request).await
    }

    /// The node API as something to keep: answers as long as the agent runs.
    pub fn node_api_handle(&self) -> NodeApiHandle {
        NodeApiHandle(self.api.clone())
    }

    /// The pod network, for whoever forwards ports or routes into it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Waits until Services and routes are known, which is when pods may start.
    pub async fn ready(&self) {
        let _ = self.ready.clone().wait_for(|r| *r).await;
    }

    /// Where the ingress listens.
    pub fn ingress_addr(&self) -> Option<SocketAddr> {
        self.ingress
    }

    /// Where the ingress listens for TLS.
    pub fn ingress_tls_addr(&self) -> Option<SocketAddr> {
        self.ingress_tls
    }

    /// Where the node's API is served over HTTPS.
    pub fn kubelet_addr(&self) -> Option<SocketAddr> {
        self.kubelet
    }

    /// Where DNS is served.
    pub fn dns_addr(&self) -> Option<SocketAddr> {
        self.dns
    }

    /// Ends the agent: the ingress finishes what it has begun, then everything stops and containers are killed. Their pods
    /// stay in the API and start again with the next agent.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.front.join_next().await.is_some() {}
        if let Some(log) = &self.access_log {
            log.flush().await;
        }
        self.tasks.shutdown().await;
    }
}

/// True once both are.
fn both(tasks: &mut JoinSet<()>, of: [watch::Receiver<bool>; 2]) -> watch::Receiver<bool> {
    let (tx, rx) = watch::channel(false);
    tasks.spawn(async move {
        for mut one in of {
            if one.wait_for(|r| *r).await.is_err() {
                return;
            }
        }
        tx.send_replace(true);
    });
    rx
}

/// A handle on a node's API. Cheap to clone.
#[derive(Clone)]
pub struct NodeApiHandle(NodeApi);

impl NodeApiHandle {
    /// Answers one request.
    pub async fn call(&self, request: http::Request<Body>) -> http::Response<Body> {
        self.0.handle(request).await
    }
}

/// Listens at an address, and with the same port at the host's second one.
async fn listen(addr: SocketAddr, second: Option<IpAddr>) -> io::Result<Vec<TcpListener>> {
    let mut all = vec![TcpListener::bind(addr).await?];
    let port = all[0].local_addr()?.port();
    if let Some(ip) = second {
        all.push(TcpListener::bind((ip, port)).await?);
    }
    Ok(all)
}

/// What the node's main task is connected to.
struct Node {
    effects: mpsc::UnboundedSender<copepod_node_plan::Effect>,
    observations: mpsc::UnboundedReceiver<copepod_node_plan::Observation>,
    asks: mpsc::Receiver<pods::Ask>,
    ready: watch::Receiver<bool>,
    recorder: Recorder,
    services: Services,
    network: Network,
}

/// A listener that the calling task's runtime wakes from now on.
fn here(listener: TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener.into_std()?)
}

/// Registers the node, then looks after its Lease and its pods.
async fn node(config: AgentConfig, mut facts: NodeFacts, data_port: Option<u16>, logs: Arc<Logs>, wires: Node) {
    let client = config.client.clone();
    let registered = register::register(&client, &facts, &config.labels).await;
    let blocks = registered.meta.annotations.get(register::BLOCKS).map(ToString::to_string).unwrap_or_default();
    let blocks = blocks.split(',').filter_map(|b| b.trim().split('/').next()?.parse().ok());
    let addresses = AddressPool::new(config.pod_block.unwrap_or(config.pod_cidr), blocks);
    facts.pod_cidrs = addresses.cidrs();
    facts.dual_stack = register::is_dual_stack(&registered);
    if facts.dual_stack {
        let own = config.pod_block.unwrap_or(config.pod_cidr).0;
        wires.network.set_second_ip(networks::beside(own).into());
    }
    let (listed_tx, listed) = watch::channel(Vec::new());
    let images = move || listed.borrow().clone();
    let collector = Collector::new(registered.clone(), config.image_gc, config.image_gc_period, listed_tx);
    let mut beside = JoinSet::new();
    let (at, node) = (client.clone(), registered.clone());
    beside.spawn(async move { register::record_data_port(&at, &node, data_port).await });
    let (own_tx, own) = watch::channel(registered.clone());
    let (pressure, seen) = watch::channel(copepod_node_plan::node::Health::default());
    beside.spawn(register::heartbeat(client.clone(), facts.clone(), images, seen, own));
    let (changes_tx, changes) = mpsc::channel(1024);
    let selector = format!("spec.nodeName={}", config.node_name);
    beside.spawn(reflect::reflect(client.clone(), "pods", selector, changes_tx, |c| c));
    let (statics_tx, statics) = mpsc::channel(1);
    match &config.static_pods {
        Some(dir) => drop(beside.spawn(static_pods::follow(dir.clone(), config.node_name.clone(), statics_tx))),
        // Without a folder there are none, and mirrors that are left go.
        None => drop(statics_tx.send(static_pods::Set::new()).await),
    }
    let (node_tx, node) = mpsc::channel(16);
    let selector = format!("metadata.name={}", config.node_name);
    beside.spawn(reflect::reflect(client.clone(), "nodes", selector, node_tx, move |c| {
        let c = match c {
            // There is only one.
            reflect::Change::Reset(mut all) if all.len() == 1 => reflect::Change::Put(all.remove(0)),
            other => other,
        };
        if let reflect::Change::Put(node) = &c {
            own_tx.send_replace(node.clone());
        }
        c
    }));
    let pods = Pods::new(
        client,
        facts,
        registered.value(),
        wires.recorder,
        logs,
        addresses,
        wires.services,
        wires.effects.clone(),
        collector,
        pods::Disks::new(&config.data_dir),
    );
    let wires = Wires {
        changes,
        node,
        statics,
        observations: wires.observations,
        asks: wires.asks,
        ready: wires.ready,
        pressure,
    };
    pods.run(wires).await;
}

/// A pod of which nothing is known but where it is.
fn in_namespace(pod: &NamespacePod) -> Identity {
    let NamespacePod { namespace, name, ip, interface } = pod;
    Identity {
        uid: format!("{namespace}/{name}@{ip}").into(),
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
        service_account: "default".into(),
        ip: (*ip).into(),
        second_ip: Some(networks::beside(*ip).into()),
        hostname: name.clone(),
        dns: Default::default(),
        hosts: Vec::new(),
        host_ports: Vec::new(),
        interface: Some(interface.clone()),
    }
}

fn facts(config: &AgentConfig) -> NodeFacts {
    let host = Host::read(&config.data_dir);
    NodeFacts {
        name: config.node_name.clone(),
        host_ip: config.host_ip,
        cluster_domain: config.cluster_domain.clone(),
        cpu_millis: host.cpu_millis,
        memory: host.memory,
        storage: host.storage,
        allocatable_cpu_millis: host.cpu_millis,
        allocatable_memory: (host.memory - config.eviction_memory).max(0),
        eviction_memory: config.eviction_memory,
        eviction_disk: config.eviction_disk,
        max_pods: config.max_pods,
        machine_id: host.machine_id,
        boot_id: host.boot_id,
        kernel_version: host.kernel,
        os_image: host.os_image,
        architecture: host.architecture.into(),
        version: VERSION.into(),
        runtime_version: "wasmtime://48.0.8".into(),
        api_port: 0,
        pod_cidrs: Vec::new(),
        dual_stack: false,
        second_host_ip: config.second_ip,
    }
}

#[cfg(test)]
mod tests;
