//! Registries to pull from.

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use oci_client::client::{Client, ClientConfig, ClientProtocol, Config as OciConfig, ImageLayer};
use oci_client::secrets::RegistryAuth;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use super::*;

/// How a registry wants to know who asks.
#[derive(Clone)]
pub(super) enum Door {
    Basic(&'static str, &'static str),
    /// Tokens for this user; anonymous ones open nothing.
    Bearer(&'static str, &'static str),
}

#[derive(Default)]
struct State {
    host: String,
    content: Mutex<BTreeMap<String, Vec<u8>>>,
    door: Mutex<Option<Door>>,
    /// Blob answers break off after this many bytes.
    cut: Mutex<Option<usize>>,
    /// Whether a part of a blob may be asked for.
    no_ranges: AtomicBool,
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
        let (state, fail) =
            (Arc::new(State { host: host.clone(), ..State::default() }), Arc::new(AtomicBool::new(false)));
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

    pub(super) fn lock(&self, door: Door) {
        *self.state.door.lock().unwrap() = Some(door);
    }
    pub(super) fn cut(&self, after: Option<usize>, ranges: bool) {
        *self.state.cut.lock().unwrap() = after;
        self.state.no_ranges.store(!ranges, Ordering::SeqCst);
    }
    pub(super) fn count(&self, what: &str) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|r| r.contains(what)).count()
    }
    pub(super) fn requests(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }
    pub(super) fn blob_requests(&self) -> usize {
        self.count("/blobs/")
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

type Body = http_body_util::combinators::BoxBody<Bytes, io::Error>;

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

/// A body that breaks off.
fn broken(bytes: Vec<u8>) -> Body {
    let frames = futures_util::stream::unfold(Some(bytes), |bytes| async move {
        match bytes {
            Some(bytes) if !bytes.is_empty() => Some((Ok(Frame::data(Bytes::from(bytes))), Some(Vec::new()))),
            Some(_) => {
                tokio::task::yield_now().await; // what came before is on its way
                Some((Err(io::Error::other("cut")), None))
            }
            None => None,
        }
    });
    StreamBody::new(Box::pin(frames)).boxed()
}

async fn answer(
    state: Arc<State>,
    fail: Arc<AtomicBool>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_string();
    state.requests.lock().unwrap().push(format!("{} {path}", request.method()));
    state.arrived.notify_one();
    let gate = state.held.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let respond = |code: u16, kind: &str, body: Vec<u8>| {
        Response::builder().status(code).header("content-type", kind).body(full(body)).unwrap()
    };
    if fail.load(Ordering::SeqCst) {
        return Ok(respond(500, "text/plain", b"out of order".to_vec()));
    }
    let given = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_string());
    let basic = |u: &str, p: &str| crate::auth::basic(&Credential { username: u.into(), password: p.into() });
    let door = state.door.lock().unwrap().clone();
    if path == "/token" {
        let Some(Door::Bearer(user, password)) = door else { return Ok(respond(404, "text/plain", vec![])) };
        return Ok(match given {
            Some(given) if given != basic(user, password) => respond(
                401,
                "application/json",
                br#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#.to_vec(),
            ),
            Some(_) => respond(200, "application/json", br#"{"token":"open","expires_in":300}"#.to_vec()),
            None => respond(200, "application/json", br#"{"token":"nobody"}"#.to_vec()),
        });
    }
    let (challenge, want) = match &door {
        None => (String::new(), None),
        Some(Door::Basic(u, p)) => ("Basic realm=\"test\"".into(), Some(basic(u, p))),
        Some(Door::Bearer(..)) => {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", state.host);
            (realm, Some("Bearer open".to_string()))
        }
    };
    if want.is_some() && given != want {
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#.to_vec();
        let mut answer = respond(401, "application/json", body);
        answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return Ok(answer);
    }
    let Some(bytes) = state.content.lock().unwrap().get(&path).cloned() else {
        let body = json!({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]});
        return Ok(respond(404, "application/json", body.to_string().into_bytes()));
    };
    if !path.contains("/blobs/") {
        let mut answer = respond(200, "application/vnd.oci.image.manifest.v1+json", bytes.clone());
        // A digest in the path is what the client wants, true or not.
        answer.headers_mut().insert("docker-content-digest", digest(&bytes).parse().unwrap());
        return Ok(answer);
    }
    let range = request.headers().get("range").and_then(|r| r.to_str().unwrap().strip_prefix("bytes="));
    let from = range.and_then(|r| r.strip_suffix('-')).and_then(|n| n.parse::<usize>().ok());
    let from = from.filter(|_| !state.no_ranges.load(Ordering::SeqCst)).unwrap_or(0);
    let code = if from > 0 { 206 } else { 200 };
    let (rest, length) = (bytes[from.min(bytes.len())..].to_vec(), bytes.len());
    let cut = state.cut.lock().unwrap().filter(|n| *n < rest.len());
    let answer =
        Response::builder().status(code).header("content-range", format!("bytes {from}-{}/{length}", length - 1));
    Ok(match cut {
        Some(n) => answer.body(broken(rest[..n].to_vec())).unwrap(),
        None => answer.body(full(rest)).unwrap(),
    })
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
