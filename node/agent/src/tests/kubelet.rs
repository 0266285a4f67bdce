//! The node's API over HTTPS, with real TLS and an API in memory that reviews.

use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::*;

/// Blocks on its standard input.
const WAIT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

/// A CA and what it issues.
struct Ca {
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Ca {
    fn new() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().der().clone();
        Ca { cert, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Shown {
        let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![cert], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        Arc::new(roots)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.issue("node", ExtendedKeyUsagePurpose::ServerAuth);
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).allow_unauthenticated();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Somebody who asks a node.
struct Asker<'a> {
    ca: &'a Ca,
    at: SocketAddr,
}

impl Asker<'_> {
    async fn connect(&self, user: Option<&str>, alpn: &str) -> TlsStream<TcpStream> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.ca.roots());
        let mut config = match user {
            Some(user) => {
                let (chain, key) = self.ca.issue(user, ExtendedKeyUsagePurpose::ClientAuth);
                config.with_client_auth_cert(chain, key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// (code, body) over HTTP/1.1.
    async fn get(&self, user: Option<&str>, token: &str, path: &str) -> (u16, String) {
        let stream = self.connect(user, "http/1.1").await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(sender.send_request(request.body(body("")).unwrap()).await.unwrap()).await
    }
}

async fn read(answer: Response<Incoming>) -> (u16, String) {
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_api_is_served_to_those_who_may() {
    let (dir, api, ca) = (tempfile::tempdir().unwrap(), Fake::new(), Ca::new());
    let listen = (SocketAddr::from(([127, 0, 0, 1], 0)), ca.server());
    let agent = start_with(&dir, &api, |config| config.kubelet = Some(listen)).await;
    let at = agent.kubelet_addr().unwrap();
    let b = Bench { dir, api, agent };
    let asker = Asker { ca: &ca, at };
    let port = |v: &Value| v["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == at.port();
    b.api.until(&Key::new("nodes", "", "n"), |v| v.is_some_and(port)).await;

    // Strangers.
    assert_eq!(asker.get(None, "", "/healthz").await, (401, "Unauthorized".into()));
    assert_eq!(asker.get(None, "bad", "/healthz").await, (401, "Unauthorized".into()));
    // The API in memory lets `bot` read metrics and `admin` do everything.
    let (code, metrics) = asker.get(None, "good", "/metrics/cadvisor").await;
    assert!(code == 200 && metrics.contains("\nmachine_cpu_cores{"), "{code} {metrics}");
    let refused = "Forbidden (user=bot, verb=get, resource=nodes, subresource(s)=[pods proxy])";
    assert_eq!(asker.get(None, "good", "/pods").await, (403, refused.into()));
    // Nothing else than what was asked for is answered.
    assert_eq!(asker.get(None, "good", "/metrics/../pods").await.0, 404);
    assert_eq!(asker.get(None, "good", "/%70ods").await, (403, refused.into()));
    let asked = b.api.reviews();
    assert_eq!(asker.get(None, "good", "/metrics").await.0, 200);
    assert_eq!(asker.get(None, "good", "/pods").await.0, 403);
    assert_eq!(b.api.reviews(), asked, "answers are remembered");
    let (code, pods) = asker.get(Some("admin"), "", "/pods").await;
    assert!(code == 200 && pods.contains("PodList"), "{code} {pods}");
    let (_, config) = asker.get(Some("admin"), "", "/configz").await;
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["kubeletconfig"]["port"], at.port());
    let refused = "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[stats])";
    assert_eq!(asker.get(Some("eve"), "", "/stats/summary").await, (403, refused.into()));

    let stream = asker.connect(Some("admin"), "h2").await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/healthz").body(body("")).unwrap();
    assert_eq!(read(sender.send_request(request).await.unwrap()).await, (200, "ok".into()));
    drop(sender);
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_over_a_websocket_to_the_node() {
    let (dir, api, ca) = (tempfile::tempdir().unwrap(), Fake::new(), Ca::new());
    let listen = (SocketAddr::from(([127, 0, 0, 1], 0)), ca.server());
    let agent = start_with(&dir, &api, |config| config.kubelet = Some(listen)).await;
    let asker = Asker { ca: &ca, at: agent.kubelet_addr().unwrap() };
    let b = Bench { dir, api, agent };
    let key = b.pod("p", &b.image("wait.wasm", WAIT), json!({}), json!({"stdin": true}));
    b.api.until(&key, phase("Running")).await;

    let stream = asker.connect(Some("admin"), "http/1.1").await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/exec/default/p/c?output=1&command=echo&command=ahoy")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v4.channel.k8s.io");
    let mut answer = sender.send_request(request.body(body("")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    let (mut out, mut status) = (Vec::new(), Vec::new());
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(bytes) = message else { continue };
            match bytes.first() {
                Some(1) => out.extend_from_slice(&bytes[1..]),
                Some(3) => status.extend_from_slice(&bytes[1..]),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the command ends");
    assert_eq!(String::from_utf8_lossy(&out), "ahoy\n");
    assert_eq!(serde_json::from_slice::<Value>(&status).unwrap()["status"], "Success");
    b.agent.shutdown().await;
}
