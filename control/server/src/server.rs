//! The control plane as one value: starts in order, stops in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Client, Kubeconfig};
use copepod_model::kinds::Kinds;
use copepod_model::{Status, UserInfo};
use copepod_registry::{Config as RegistryConfig, Registry, Sealer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{Api, InProcess};
use crate::auth::token::Tokens;
use crate::images::Images;
use crate::pki::{self, Pki, PkiError};
use crate::store::{OpenError, Store, StoreOptions};
use crate::{bootstrap, listener, now, run};

/// The raft id of the first server.
const MEMBER: u64 = 1;

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the API listens; port 0 takes any free one.
    pub api: SocketAddr,
    /// The address by which pods reach the API, as the endpoint of the Service `kubernetes`: where it listens, unless
    /// that is the host's alone.
    pub advertise: Option<IpAddr>,
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
    /// The port cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A running control plane.
pub struct Server {
    api: Arc<Api>,
    pki: Pki,
    address: SocketAddr,
    kubeconfig: PathBuf,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the state, makes keys and first objects, listens, and runs the controllers.
    pub async fn start(config: ServerConfig) -> Result<Server, StartError> {
        private_dir(&config.data_dir)?;
        let dir = config.data_dir.join("server");
        private_dir(&dir)?;
        // The store first: its lock keeps a second instance from touching anything.
        let options = StoreOptions::new(dir.join("state"), MEMBER);
        let store = tokio::task::spawn_blocking(move || Store::open(options))
            .await
            .map_err(|e| StartError::Other(e.to_string()))??;
        let socket = TcpListener::bind(config.api).await.map_err(|e| StartError::Listen(config.api, e))?;
        let address = socket.local_addr().map_err(|e| StartError::Listen(config.api, e))?;

        let pki = Pki::open(&dir.join("pki"), now())?;
        let (names, ips) = serving_names(address.ip());
        let serving = pki.serving("apiserver", &names, &ips, now())?;
        let admin = pki.client("admin", "kubernetes-admin", &["system:masters"], now())?;
        let tokens = Tokens::new(&pki.signing_key("sa")?).map_err(StartError::Other)?;
        let sealer = Sealer::new(&pki.secret("seal")?);

        let registry = Registry::new(Arc::new(Kinds::builtin()), RegistryConfig::new(sealer));
        let api = Api::new(store, registry, tokens, address.to_string());
        let images = dir.join("images");
        let opened = Images::open(images.clone()).map_err(|e| StartError::Dir(images, e))?;
        api.serve_images(opened);
        let stopped = |e: Status| StartError::Other(e.message);
        let advertised = SocketAddr::new(config.advertise.unwrap_or(address.ip()), address.port());
        bootstrap::run(&api, advertised).await.map_err(stopped)?;

        let tls = listener::tls(&serving, pki.ca_pem()).map_err(StartError::Other)?;
        let (stop, stopping) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(listener::serve(socket, tls, api.clone(), stopping.clone()))];
        let controllers = client(&api, "system:kube-controller-manager", "kube-controller-manager");
        tasks.push(tokio::spawn(run::controllers::forever(
            api.store().clone(),
            controllers,
            pki.ca_pem().to_string(),
            stopping.clone(),
        )));
        let scheduler = client(&api, "system:kube-scheduler", "kube-scheduler");
        tasks.push(tokio::spawn(run::scheduler::forever(api.store().clone(), scheduler, stopping)));

        let kubeconfig = config.data_dir.join("kubeconfig");
        let host = if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
        let text = Kubeconfig {
            server: format!("https://{host}:{}", address.port()),
            ca_pem: pki.ca_pem().into(),
            cert_pem: admin.cert.into(),
            key_pem: admin.key.into(),
            ..Kubeconfig::default()
        }
        .to_yaml("copepod");
        pki::write(&kubeconfig, text.as_bytes())?;
        Ok(Server { api, pki, address, kubeconfig, stop, tasks })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// TLS for the ingress where no Secret names a certificate: one of the cluster's CA for `localhost` and its subdomains,
    /// as other ingress controllers have a default certificate of their own.
    pub fn ingress_tls(&self) -> Result<Arc<rustls::ServerConfig>, StartError> {
        let names = ["localhost".to_string(), "*.localhost".to_string()];
        let serving = self.pki.serving("ingress", &names, &[[127, 0, 0, 1].into()], now())?;
        listener::server_tls(&serving).map_err(StartError::Other)
    }

    /// The certificates of the cluster's CA.
    pub fn ca(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::pem_slice_iter(self.pki.ca_pem().as_bytes()).flatten().collect()
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
        Client::new(Arc::new(InProcess(self.api.clone())), user, "kubelet")
    }

    /// An in-process client with every right.
    pub fn admin_client(&self, manager: &str) -> Client {
        client(&self.api, "kubernetes-admin", manager)
    }

    /// Stops listening, ends the controllers, writes a checkpoint.
    pub async fn stop(self) {
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

fn client(api: &Arc<Api>, user: &str, manager: &str) -> Client {
    Client::new(Arc::new(InProcess(api.clone())), UserInfo::system(user), manager)
}

fn private_dir(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| StartError::Dir(dir.into(), e))
}

/// What the API's certificate is good for: the names that clients in and outside of the cluster use.
fn serving_names(listen: IpAddr) -> (Vec<String>, Vec<IpAddr>) {
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
    (names, ips)
}
