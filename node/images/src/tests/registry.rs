//! Registries to pull from.

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use oci_client::client::{Client, ClientConfig, ClientProtocol, Config as OciConfig, ImageLayer};
use oci_client::secrets::RegistryAuth;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use super::*;

#[derive(Default)]
struct State {
    content: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<Vec<String>>,
    held: Mutex<Option<Arc<Semaphore>>>,
    arrived: Notify,
}

/// Serves manifests and blobs on a free port of this machine.
pub(super) struct TestRegistry {
    pub(super) host: String,
    /// Whether every answer is a 500.
    pub(super) fail: Arc<AtomicBool>,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl TestRegistry {
    pub(super) async fn start() -> TestRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (state, fail) = (Arc::new(State::default()), Arc::new(AtomicBool::new(false)));
        let (shared, failing) = (state.clone(), fail.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, fail) = (shared.clone(), failing.clone());
                let answer = service_fn(move |request| answer(state.clone(), fail.clone(), request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        TestRegistry { host, fail, state, task }
    }

    /// Frees the port and says what it was.
    pub(super) fn stop(self) -> String {
        self.task.abort();
        self.host
    }

    pub(super) fn put(&self, path: &str, bytes: &[u8]) {
        self.state.content.lock().unwrap().insert(path.into(), bytes.to_vec());
    }
    pub(super) fn blob(&self, name: &str, bytes: &[u8]) {
        self.put(&format!("/v2/{name}/blobs/{}", digest(bytes)), bytes);
    }
    /// Returns the manifest's digest.
    pub(super) fn manifest(&self, name: &str, tag: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        for reference in [tag, &digest] {
            self.put(&format!("/v2/{name}/manifests/{reference}"), bytes);
        }
        digest
    }

    pub(super) fn requests(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }
    pub(super) fn blob_requests(&self) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|r| r.contains("/blobs/")).count()
    }

    /// Lets nobody have an answer without a permit.
    pub(super) fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.state.held.lock().unwrap() = Some(gate.clone());
        gate
    }
    /// Waits for a request.
    pub(super) async fn arrived(&self) {
        self.state.arrived.notified().await;
    }
}

async fn answer(
    state: Arc<State>,
    fail: Arc<AtomicBool>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_string();
    state.requests.lock().unwrap().push(path.clone());
    state.arrived.notify_one();
    let gate = state.held.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let respond = |code: u16, kind: &str, body: Vec<u8>| {
        Ok(Response::builder().status(code).header("content-type", kind).body(Full::new(body.into())).unwrap())
    };
    if fail.load(Ordering::SeqCst) {
        return respond(500, "text/plain", b"out of order".to_vec());
    }
    if path == "/v2/" {
        return respond(200, "application/json", b"{}".to_vec());
    }
    match state.content.lock().unwrap().get(&path) {
        Some(bytes) => respond(200, "application/vnd.oci.image.manifest.v1+json", bytes.clone()),
        None => {
            let body = json!({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]});
            respond(404, "application/json", body.to_string().into_bytes())
        }
    }
}

/// Debian's docker-registry as a child process.
pub(super) struct Debian {
    pub(super) host: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Debian {
    /// `None` where it is not installed.
    pub(super) async fn start() -> Option<Debian> {
        let dir = tempfile::tempdir().unwrap();
        // It cannot be asked for any free port, so one is taken and given back; should another take it, try again.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
            let host = format!("127.0.0.1:{port}");
            let config = dir.path().join("config.yml");
            let data = dir.path().join("data");
            let text = format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
                data.display()
            );
            std::fs::write(&config, text).unwrap();
            let child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let mut child = match child {
                Ok(child) => child,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
                Err(e) => panic!("docker-registry: {e}"),
            };
            loop {
                if tokio::net::TcpStream::connect(&host).await.is_ok() {
                    return Some(Debian { host, child, _dir: dir });
                }
                if child.try_wait().unwrap().is_some() {
                    break; // it could not have its port
                }
                tokio::task::yield_now().await;
            }
        }
        panic!("docker-registry does not start");
    }

    /// Pushes a wasm artifact; returns its manifest's digest.
    pub(super) async fn push(&self, name: &str, tag: &str, wasm: &[u8]) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::try_from(config).unwrap();
        let image: oci_client::Reference = format!("{}/{name}:{tag}", self.host).parse().unwrap();
        let layer = ImageLayer::new(wasm.to_vec(), "application/wasm".into(), None);
        let config = OciConfig::new(b"{}".to_vec(), "application/vnd.wasm.config.v0+json".into(), None);
        client.push(&image, &[layer], config, &RegistryAuth::Anonymous, None).await.unwrap();
        client.fetch_manifest_digest(&image, &RegistryAuth::Anonymous).await.unwrap()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
