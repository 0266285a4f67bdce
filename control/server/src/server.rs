//! The control plane as one value: starts in order, stops in order.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use copepod_client::Client;
use copepod_client::tls::{Clients, TlsError};
use copepod_controllers::BalancerPool;
use copepod_model::kinds::Kinds;
use copepod_model::{Status, UserInfo};
use copepod_registry::{Config as RegistryConfig, KUBELET_CLIENT, Registry, Sealer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{Api, InProcess};
use crate::auth::token::Tokens;
use crate::images::Images;
use crate::members::Members;
use crate::nodes::{self, Nodes};
use crate::peers::{self, Network, PeerTls};
use crate::pki::{self, Pki, PkiError};
use crate::rotate::{Paper, Papers, Renewal, RenewalError};
use crate::run::leader::Leader;
use crate::store::{OpenError, Peers, Store, StoreOptions, offline};
use crate::{bootstrap, listener, now};

/// The raft id of the first server.
const FIRST: u64 = 1;
/// The file in the folder `server` with this server's raft id, where it is another.
pub const MEMBER_FILE: &str = "member";
/// How long a server that joins tries to get the state.
const FETCH: Duration = Duration::from_secs(60);

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the API listens; port 0 takes any free one.
    pub api: SocketAddr,
    /// The address by which pods reach the API, as the endpoint of the Service `kubernetes`: where it listens, unless
    /// that is the host's alone. One of several servers is where the others reach it; then this stands for those that
    /// listen on loopback.
    pub advertise: Option<IpAddr>,
    /// How this server takes part in a group of several; none for a cluster that never has another server.
    pub peer: Option<PeerConfig>,
    /// The bytes that all objects may have together; 0 for any number.
    pub quota_bytes: u64,
    /// The addresses that are set aside for Services of type LoadBalancer; without any they have the nodes'. All servers should
    /// have the same.
    pub balancer_pool: BalancerPool,
    /// Connections to the API at once; more wait in the kernel's queue.
    pub connections: usize,
}

/// How a server is one of several.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This server's name, unique among the servers.
    pub name: String,
    /// Where it listens for the other servers.
    pub listen: SocketAddr,
    /// `host:port` at which the other servers reach `listen`.
    pub advertise: String,
    /// `host:port` at which clients and agents reach the API.
    pub api: String,
    /// What the group answered when this server joined it; none for the first one, and after the first start.
    pub joined: Option<crate::members::Joined>,
}

/// Why a control plane does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder cannot be made or used.
    #[error("{0}: {1}")]
    Dir(PathBuf, io::Error),
    /// The stored state cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The keys cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The keys that the stored state was made with are not there.
    #[error(
        "{0}; the cluster's state was made with it, and nothing was changed. Put it back from a backup, or restore a snapshot \
         with its keys into a new folder: copepod snapshot restore FILE --data-dir NEW --keys FILE.keys"
    )]
    KeysLost(PkiError),
    /// The port cannot be had; first the flag by which another one is said.
    #[error("cannot listen on {1} ({0}): {2}")]
    Listen(&'static str, SocketAddr, io::Error),
    /// A certificate or its key does not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<RenewalError> for StartError {
    fn from(e: RenewalError) -> StartError {
        match e {
            RenewalError::Pki(e) => StartError::Pki(e),
            RenewalError::Tls(e) => StartError::Tls(e),
        }
    }
}

/// A running control plane.
pub struct Server {
    api: Arc<Api>,
    members: Members,
    papers: Arc<Papers>,
    address: SocketAddr,
    kubeconfig: PathBuf,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the state, makes keys and first objects, listens, and runs the controllers.
    pub async fn start(config: ServerConfig) -> Result<Server, StartError> {
        Server::start_on(config, |_| {}).await
    }

    /// With other values for the store than the usual ones, as tests have them.
    async fn start_on(config: ServerConfig, adjust: fn(&mut StoreOptions)) -> Result<Server, StartError> {
        private_dir(&config.data_dir)?;
        let dir = config.data_dir.join("server");
        private_dir(&dir)?;
        let state = dir.join("state");
        keys_of(&state, &dir.join("pki"))?;
        let joined = config.peer.as_ref().and_then(|p| p.joined.as_ref());
        let member = member_id(&dir, joined.map(|j| j.id))?;
        let (network, papers) = match &config.peer {
            None => (None, None),
            Some(_) => {
                let papers = open_papers(&dir)?;
                let own = papers.show(Paper::Peer(member), now())?;
                let tls = PeerTls::new(own, papers.pki().ca_pem()).map_err(StartError::Other)?;
                let known = joined.map(|j| j.members.clone()).unwrap_or_default();
                (Some(Network::new(member, tls, &known)), Some(papers))
            }
        };
        if let (Some(network), Some(_)) = (&network, joined) {
            catch_up(network, &state, member).await?;
        }
        // The store first: its lock keeps a second instance from touching anything.
        let mut options = StoreOptions::new(state, member);
        options.peers = network.clone().map(|n| Arc::new(n) as Arc<dyn Peers>);
        adjust(&mut options);
        let store = tokio::task::spawn_blocking(move || Store::open(options))
            .await
            .map_err(|e| StartError::Other(e.to_string()))??;
        let members = Members::new(store.clone(), network.clone());
        let (stop, stopping) = watch::channel(false);
        let mut tasks = Vec::new();
        if let (Some(peer), Some(network)) = (&config.peer, &network) {
            network.attach(store.clone(), members.clone());
            let taken = |e| StartError::Listen("--peer-port", peer.listen, e);
            let socket = TcpListener::bind(peer.listen).await.map_err(taken)?;
            tasks.push(tokio::spawn(peers::serve(socket, network.clone(), stopping.clone())));
        }
        let taken = |e| StartError::Listen("--api-port", config.api, e);
        let socket = TcpListener::bind(config.api).await.map_err(taken)?;
        let address = socket.local_addr().map_err(taken)?;

        let papers = match papers {
            Some(papers) => papers,
            None => open_papers(&dir)?,
        };
        let pki = papers.pki().clone();
        let kubeconfig = config.data_dir.join("kubeconfig");
        let (names, ips) = serving_names(address.ip(), config.peer.as_ref().map(|p| p.api.as_str()));
        let tokens = Tokens::new(&pki.signing_key("sa")?).map_err(StartError::Other)?;
        let sealer = Sealer::new(&pki.secret("seal")?);

        let registry = Registry::new(Kinds::shared(), RegistryConfig::new(sealer));
        let api = Api::new(store, registry, tokens, address.to_string());
        let images = dir.join("images");
        let opened = Images::open(images.clone(), api.store().clone(), network.clone());
        let images = opened.map_err(|e| StartError::Dir(images, e))?;
        if let Some(network) = &network {
            network.serve_images(images.clone());
        }
        api.serve_images(images.clone());
        tasks.push(tokio::spawn(images.forever(stopping.clone())));
        let kubelet_client =
            papers.show(Paper::Client { name: nodes::CREDENTIAL, user: KUBELET_CLIENT, groups: &[] }, now())?;
        api.reach_nodes(Nodes::new(kubelet_client, pki.ca_pem()).map_err(StartError::Other)?);
        let here = SocketAddr::new(config.advertise.unwrap_or(address.ip()), address.port());
        let advertised = config.peer.is_none().then_some(here);
        if api.store().is_sovereign() {
            // Whoever starts a cluster on a laptop finds everything there.
            let stopped = |e: Status| StartError::Other(e.message);
            bootstrap::run(&api, api.store().term(), &[here]).await.map_err(stopped)?;
            if let Some(peer) = &config.peer {
                // Before anybody can join: whoever does must know this server.
                members.announce(&peer.name, &peer.advertise, &peer.api).await.map_err(stopped)?;
            }
        } else if let Some(peer) = &config.peer {
            // Others must be there to write it down; until then it is tried again, and the API says that it is not ready.
            let (members, peer, mut stopping) = (members.clone(), peer.clone(), stopping.clone());
            tasks.push(tokio::spawn(async move {
                let announced = async {
                    while let Err(e) = members.announce(&peer.name, &peer.advertise, &peer.api).await {
                        tracing::info!("waiting for the other servers: {}", e.message);
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                };
                tokio::select! {
                    () = announced => {}
                    () = listener::stopped(&mut stopping) => {}
                }
            }));
        }
        // Only now: a server that is full must be able to start, for something to be deleted.
        api.store().set_quota(config.quota_bytes);

        if config.peer.is_some() {
            api.serve_members(members.clone());
        }
        let host = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
        let own = match &config.peer {
            Some(peer) => format!("https://{}", peer.api),
            None => format!("https://{}", SocketAddr::new(host, address.port())),
        };
        // One that listens everywhere and was not told its address can tell nobody.
        let known = config.peer.is_some() || !address.ip().is_unspecified();
        api.serve_joining(pki.clone(), if known { own.clone() } else { String::new() });
        let serving = papers.show(Paper::Serving { name: "apiserver", names, ips }, now())?;
        let renewal = Renewal::new(papers.clone(), api.clone(), kubeconfig.clone(), own)?;
        let tls = serving.server_config(Clients::Optional(pki.ca_pem()))?;
        tasks.push(tokio::spawn(listener::serve(socket, tls, api.clone(), config.connections, stopping.clone())));
        let leader = Leader {
            api: api.clone(),
            members: members.clone(),
            pki,
            balancer_pool: config.balancer_pool,
            advertised,
            stand_in: config.advertise,
        };
        tasks.push(tokio::spawn(leader.forever(stopping.clone())));
        tasks.push(tokio::spawn(renewal.forever(stopping)));
        Ok(Server { api, members, papers, address, kubeconfig, stop, tasks })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The servers of the cluster.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Returns when this server was taken out of the cluster.
    pub async fn removed(&self) {
        // A store that is gone says nothing any more.
        if self.api.store().role().wait_for(|r| r.removed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// TLS for the ingress where no Secret names a certificate: one of the cluster's CA for `localhost` and its subdomains,
    /// as other ingress controllers have a default certificate of their own.
    pub fn ingress_tls(&self) -> Result<Arc<rustls::ServerConfig>, StartError> {
        let names = ["localhost".to_string(), "*.localhost".to_string()];
        let paper = Paper::Serving { name: "ingress", names: names.into(), ips: vec![[127, 0, 0, 1].into()] };
        Ok(self.papers.show(paper, now())?.server_config(Clients::Unasked)?)
    }

    /// TLS for the API of the node `name` that listens at `listen`; clients may show a certificate of the cluster's CA.
    pub fn kubelet_tls(&self, name: &str, listen: IpAddr) -> Result<Arc<rustls::ServerConfig>, StartError> {
        let names = [name.to_string(), "localhost".to_string()];
        let mut ips = vec![IpAddr::from([127, 0, 0, 1])];
        if !listen.is_unspecified() && !ips.contains(&listen) {
            ips.push(listen);
        }
        let serving = self.papers.show(Paper::Serving { name: "kubelet", names: names.into(), ips }, now())?;
        Ok(serving.server_config(Clients::Optional(self.papers.pki().ca_pem()))?)
    }

    /// The certificates of the cluster's CA.
    pub fn ca(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::pem_slice_iter(self.papers.pki().ca_pem().as_bytes()).flatten().collect()
    }

    /// The API, for what runs in the same process.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// An in-process client of the node `name`, with the rights that a node has.
    pub fn node_client(&self, name: &str) -> Client {
        let user = UserInfo {
            name: format!("system:node:{name}"),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            ..UserInfo::default()
        };
        Client::new(Arc::new(InProcess::new(self.api.clone())), user, "kubelet")
    }

    /// An in-process client with every right.
    pub fn admin_client(&self, manager: &str) -> Client {
        client(&self.api, "kubernetes-admin", manager)
    }

    /// Stops listening, ends the controllers, writes a checkpoint.
    pub async fn stop(self) {
        // Whoever takes over does it while this server still answers.
        self.api.store().hand_over().await;
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
        if let Err(e) = self.api.store().close().await {
            // Nothing is lost: the log has everything, and the next start replays it.
            tracing::warn!("no checkpoint was written: {e}");
        }
    }
}

fn open_papers(dir: &Path) -> Result<Arc<Papers>, StartError> {
    Ok(Papers::new(Arc::new(Pki::open(&dir.join("pki"), now())?)))
}

/// A state needs the keys that it was made with: others would read none of its Secrets and lock every client out.
fn keys_of(state: &Path, pki: &Path) -> Result<(), StartError> {
    let Err(lost) = Pki::complete(pki) else { return Ok(()) };
    // A first start that was cut off has stored nothing yet, and may have made some keys and not others.
    let nothing = !offline::is_store(state) || offline::inspect(state).is_ok_and(|found| found.revision == 0);
    if nothing { Ok(()) } else { Err(StartError::KeysLost(lost)) }
}

fn client(api: &Arc<Api>, user: &str, manager: &str) -> Client {
    Client::new(Arc::new(InProcess::new(api.clone())), UserInfo::system(user), manager)
}

/// This server's raft id: what it was told when it joined, what is written since, or that of a first server.
fn member_id(dir: &Path, joined: Option<u64>) -> Result<u64, StartError> {
    let path = dir.join(MEMBER_FILE);
    match (std::fs::read_to_string(&path), joined) {
        (Ok(text), _) => {
            let damaged = || StartError::Other(format!("{} is damaged: it has no number", path.display()));
            text.trim().parse().ok().filter(|id| *id != 0).ok_or_else(damaged)
        }
        (Err(e), Some(id)) if e.kind() == io::ErrorKind::NotFound => {
            pki::write(&path, format!("{id}\n").as_bytes())?;
            Ok(id)
        }
        (Err(e), None) if e.kind() == io::ErrorKind::NotFound => Ok(FIRST),
        (Err(e), _) => Err(StartError::Dir(path, e)),
    }
}

/// Gets the state from another server before the store is opened for the first time: raft goes on from there.
async fn catch_up(network: &Network, state: &Path, member: u64) -> Result<(), StartError> {
    if offline::is_store(state) {
        return Ok(());
    }
    let deadline = tokio::time::Instant::now() + FETCH;
    let fetched = loop {
        match network.fetch_any().await {
            Ok(fetched) => break fetched,
            Err(why) if tokio::time::Instant::now() >= deadline => {
                return Err(StartError::Other(format!("no other server gives its state: {why}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let (meta, tables) = fetched;
    let state = state.to_path_buf();
    let made =
        tokio::task::spawn_blocking(move || offline::restore(&state, member, meta.members.clone(), &meta, &tables));
    Ok(made.await.map_err(|e| StartError::Other(e.to_string()))??)
}

fn private_dir(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| StartError::Dir(dir.into(), e))
}

/// What the API's certificate is good for: the names that clients in and outside of the cluster use, `host:port` that is
/// advertised to them among them.
fn serving_names(listen: IpAddr, advertised: Option<&str>) -> (Vec<String>, Vec<IpAddr>) {
    let service = "kubernetes.default.svc.cluster.local";
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", service].map(Into::into).into();
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim().to_lowercase();
        if copepod_model::kinds::names::subdomain(&host).is_ok() && !names.contains(&host) {
            names.push(host);
        }
    }
    let mut ips: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), "::1".parse().unwrap_or(listen), [10, 96, 0, 1].into()];
    if !listen.is_unspecified() && !ips.contains(&listen) {
        ips.push(listen);
    }
    if let Some((host, _)) = advertised.and_then(|a| a.rsplit_once(':')) {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if !ips.contains(&ip) => ips.push(ip),
            Err(_) if !names.iter().any(|n| n == host) => names.push(host.into()),
            _ => {}
        }
    }
    (names, ips)
}

#[cfg(test)]
mod tests;
