//! Nodes that are fakes behind real TLS: what arrives there, and what clients get of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::tls::Clients;
use copepod_client::{Body, body};
use copepod_model::request::PatchType;
use copepod_model::{Key, object};
use copepod_registry::KUBELET_CLIENT;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::api::{AnswerWithin, respond};
use crate::pki::Pki;
use crate::{Server, ServerConfig, now};

const DEADLINE: Duration = Duration::from_secs(30);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

/// A node that says what it has been asked, and by whom.
struct Fake {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    async fn listen(tls: Arc<rustls::ServerConfig>) -> Fake {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake { at: socket.local_addr().unwrap(), connections: Arc::default() };
        let connections = fake.connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let (acceptor, connections) = (TlsAcceptor::from(tls.clone()), connections.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
                    let user = certificate.and_then(|c| copepod_client::certificate::user(c));
                    let user = user.map(|u| u.name).unwrap_or_default();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let user = user.clone();
                        async move {
                            if request.uri().path() == "/never" {
                                std::future::pending::<()>().await;
                            }
                            Ok::<_, Infallible>(answer(request, &user))
                        }
                    });
                    let served = hyper::server::conn::http1::Builder::new();
                    let _ = served.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        fake
    }

    fn node(&self, name: &str) -> Object {
        node(name, self.at)
    }
}

fn answer(mut request: Request<Incoming>, user: &str) -> Response<Body> {
    let path = request.uri().path().to_string();
    let mut answer = Response::new(body(format!("{} {} by {user}", request.method(), request.uri())));
    if path == "/back" {
        let host = request.headers()[header::HOST].clone();
        answer = Response::new(request.into_body().map_err(std::io::Error::other).boxed());
        answer.headers_mut().insert("asked", host);
        return answer;
    }
    if path == "/missing" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    }
    if path == "/echo" && request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            // It goes on to speak after the client has ended.
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.write_all(b" bye").await.unwrap();
            to.shutdown().await.unwrap();
        });
        answer = Response::new(body(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "echo/1")] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    answer
}

fn node(name: &str, at: SocketAddr) -> Object {
    let value = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status(at)});
    Object::decode(Key::new("nodes", "", name), 1, object::with_revision(&object::encode(&value), 1))
}

fn status(at: SocketAddr) -> Value {
    json!({
        "addresses": [{"type": "Hostname", "address": "nowhere.invalid"},
            {"type": "InternalIP", "address": at.ip().to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": at.port()}},
    })
}

fn pki(dir: &Path) -> Pki {
    Pki::open(dir, now()).unwrap()
}

/// TLS of a node whose certificate is for these.
fn serving(pki: &Pki, names: &[&str], ips: &[[u8; 4]]) -> Arc<rustls::ServerConfig> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let ips: Vec<_> = ips.iter().map(|ip| (*ip).into()).collect();
    let own = Rotating::new(&pki.serving("kubelet", &names, &ips, now()).unwrap()).unwrap();
    own.server_config(Clients::Optional(pki.ca_pem())).unwrap()
}

fn nodes(pki: &Pki) -> Nodes {
    let own = Rotating::new(&pki.client(CREDENTIAL, KUBELET_CLIENT, &[], now()).unwrap()).unwrap();
    Nodes::new(own, pki.ca_pem()).unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(body("")).unwrap()
}

async fn text(answer: Response<Body>) -> (u16, String) {
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

/// A port that nobody listens on.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn requests_come_with_the_servers_certificate_over_kept_connections() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let fake = Fake::listen(serving(&pki, &["n"], &[[127, 0, 0, 1]])).await;
    let nodes = nodes(&pki);
    for path in ["/pods?limit=1", "/missing", "/metrics"] {
        let answer = in_time(nodes.node(&fake.node("n")).unwrap().request(get(path))).await.unwrap();
        let (code, said) = text(answer).await;
        let want = if path == "/missing" { 404 } else { 200 };
        assert_eq!((code, said), (want, format!("GET {path} by kube-apiserver-kubelet-client")));
        let kept = async {
            while !nodes.known.lock().unwrap()["n"].has_connections() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time(kept).await;
    }
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
    // A node that has moved is asked where it is now.
    let other = Fake::listen(serving(&pki, &["n"], &[[127, 0, 0, 1]])).await;
    in_time(nodes.node(&other.node("n")).unwrap().request(get("/pods"))).await.unwrap();
    assert_eq!(other.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_goes_along_with_its_request_and_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let fake = Fake::listen(serving(&pki, &["n"], &[[127, 0, 0, 1]])).await;
    let nodes = nodes(&pki);
    for sent in ["one", "more", ""] {
        let mut asked = Request::post("/back").header("host", "web").body(body(sent)).unwrap();
        asked.extensions_mut().insert(AnswerWithin(DEADLINE));
        let answer = in_time(nodes.node(&fake.node("n")).unwrap().request(asked)).await.unwrap();
        assert_eq!(answer.headers()["asked"], "web");
        assert_eq!(text(answer).await, (200, sent.to_string()));
        let kept = async {
            while !nodes.known.lock().unwrap()["n"].has_connections() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time(kept).await;
    }
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
    // A node that is too late.
    let mut asked = Request::post("/never").body(body("x")).unwrap();
    asked.extensions_mut().insert(AnswerWithin(Duration::from_millis(1)));
    let error = in_time(nodes.node(&fake.node("n")).unwrap().request(asked)).await.unwrap_err();
    let want = "error trying to reach service: net/http: timeout awaiting response headers";
    assert_eq!((error.code, error.message.as_str()), (503, want));
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_told_in_upstreams_words() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let at = dead().await;
    let there = nodes(&pki).node(&node("n", at)).unwrap();
    let error = in_time(there.request(get("/pods"))).await.unwrap_err();
    let refused = format!("dial tcp {at}: connect: connection refused");
    let want = (503, "ServiceUnavailable", format!("error trying to reach service: {refused}"));
    assert_eq!((error.code, error.reason, error.message), want);
    let error = in_time(there.request(get("/containerLogs/ns/p/c?follow=true"))).await.unwrap_err();
    let want = (500, "", format!("Get \"https://{at}/containerLogs/ns/p/c?follow=true\": {refused}"));
    assert_eq!((error.code, error.reason, error.message), want);
}

#[tokio::test]
async fn a_node_must_have_a_certificate_of_the_ca_for_its_name_or_address() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (pki(dir.path()), pki(elsewhere.path()));
    for (pki, names, ips, good) in [
        (&ours, &["n"][..], &[][..], true),
        (&ours, &["other"], &[[127, 0, 0, 1]], true),
        (&ours, &["other"], &[[192, 0, 2, 1]], false),
        (&theirs, &["n"], &[[127, 0, 0, 1]], false),
    ] {
        let fake = Fake::listen(serving(pki, names, ips)).await;
        let answer = in_time(nodes(&ours).node(&fake.node("n")).unwrap().request(get("/pods"))).await;
        match answer {
            Ok(_) => assert!(good, "{names:?} {ips:?}"),
            Err(e) => {
                let why = "error trying to reach service: tls: failed to verify certificate: ";
                assert!(!good && e.code == 503 && e.message.starts_with(why), "{names:?} {ips:?}: {}", e.message);
            }
        }
    }
}

/// A client whose requests are handed on to a node, as the API does it with its clients'.
async fn client_of(node: Arc<dyn NodeApi>) -> SendRequest<Body> {
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let node = node.clone();
            async move {
                let answer = node.request(request.map(|_| body(""))).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|e| respond::status(&e)))
            }
        });
        let server = hyper::server::conn::http1::Builder::new();
        let _ = server.serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

fn upgrade(path: &str) -> Request<Body> {
    let request = Request::post(path).header("host", "api").header("connection", "Upgrade").header("upgrade", "echo/1");
    request.body(body("")).unwrap()
}

#[tokio::test]
async fn a_stream_goes_through_both_ways_and_ends_one_side_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let fake = Fake::listen(serving(&pki, &["n"], &[])).await;
    let nodes = nodes(&pki);
    let mut client = client_of(nodes.node(&fake.node("n")).unwrap()).await;
    let mut answer = in_time(client.send_request(upgrade("/echo"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "echo/1");
    let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let (mut from, mut to) = tokio::io::split(stream);
    // More than all buffers on the way hold.
    let sent: Vec<u8> = (0..4 << 20).map(|i: u32| (i % 251) as u8).collect();
    let all = sent.clone();
    let writing = tokio::spawn(async move {
        to.write_all(&all).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    in_time(from.read_to_end(&mut got)).await.unwrap();
    in_time(writing).await.unwrap();
    assert!(got.len() == sent.len() + 4 && got.starts_with(&sent) && got.ends_with(b" bye"), "{} bytes", got.len());

    // What the node does not upgrade is its answer; a node that is not there gets an error.
    let mut client = client_of(nodes.node(&fake.node("n")).unwrap()).await;
    let answer = in_time(client.send_request(upgrade("/missing"))).await.unwrap();
    let (code, said) = text(answer.map(|b| b.map_err(std::io::Error::other).boxed())).await;
    assert_eq!((code, said.as_str()), (404, "POST /missing by kube-apiserver-kubelet-client"));
    let at = dead().await;
    let mut client = client_of(nodes.node(&node("dead", at)).unwrap()).await;
    let answer = in_time(client.send_request(upgrade("/echo"))).await.unwrap();
    let (code, said) = text(answer.map(|b| b.map_err(std::io::Error::other).boxed())).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let want = format!("error dialing backend: dial tcp {at}: connect: connection refused");
    assert_eq!((code, &said["message"]), (500, &json!(want)));
}

/// A node of this process.
struct Here;

#[async_trait]
impl NodeApi for Here {
    async fn request(&self, _: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(body("here")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_nodes_elsewhere_over_the_network_and_its_own_directly() {
    let dir = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        data_dir: dir.path().join("data"),
        api: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        peer: None,
        quota_bytes: 0,
        balancer_pool: Default::default(),
        connections: 1024,
    };
    let server = Server::start(config).await.unwrap();
    let client = server.admin_client("test");
    let ask = async |path: &str| {
        let request = Request::get(format!("/api/v1/nodes/{path}")).body(Bytes::new()).unwrap();
        text(in_time(client.raw(request)).await.unwrap()).await
    };
    client.create("nodes", "", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "far"}})).await.unwrap();
    let (code, said) = ask("far/proxy/pods").await;
    assert!(code == 500 && said.contains("no preferred addresses found; known addresses: []"), "{code} {said}");
    let fake = Fake::listen(server.kubelet_tls("far", [127, 0, 0, 1].into()).unwrap()).await;
    let patch = json!({"status": status(fake.at)});
    client.patch("nodes", "", "far", "status", PatchType::Merge, patch).await.unwrap();
    let want = (200, "GET /pods?limit=1 by kube-apiserver-kubelet-client".to_string());
    assert_eq!(ask("far/proxy/pods?limit=1").await, want);
    assert_eq!(ask(&format!("far:{}/proxy/pods?limit=1", fake.at.port())).await, want);
    assert_eq!(ask("nobody/proxy/pods").await.0, 404);
    server.api().add_node("far", Arc::new(Here));
    assert_eq!(ask("far/proxy/pods").await, (200, "here".into()));
    server.stop().await;
}
