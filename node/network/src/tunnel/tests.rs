//! Two nodes in one process, with real TLS on loopback.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::tls::{Clients, Credential, Rotating};
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::join_token::AGENT_KEY;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object, networks};
use copepod_node_routes::{Config, DATA_PORT, Neighbours, RouteTable};
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::body::{Body, empty, full};
use crate::http::server;
use crate::network::tests::{Echo, at, ip, text};
use crate::{
    ConnInfo, HostListeners, HttpError, HttpService, Identity, NetError, Network, NetworkConfig, PodHandle,
    ServiceError, Source,
};

mod policy;

const DEADLINE: Duration = Duration::from_secs(30);
/// How long a node waits for news.
const HOLD: Duration = Duration::from_millis(200);

/// A CA, and TLS of nodes by it.
struct Pki {
    ca: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        Pki { ca: ca.der().clone(), pem: ca.pem(), issuer: Issuer::new(params, key) }
    }

    /// A new certificate of the node `name`, and the same with its key.
    fn credential(&self, name: &str) -> (CertificateDer<'static>, Credential) {
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.der().clone(), Credential { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// For the node `name`, whose certificates are for `user`.
    fn tunnel(&self, name: &str, user: &str, timing: TunnelTiming) -> TunnelConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server = server.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        let mut server = server.with_single_cert(chain.clone(), key.clone_key()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots);
        let mut client = client.with_client_auth_cert(chain, key).unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        TunnelConfig { client: Arc::new(client), server: Arc::new(server), node_of, timing }
    }
}

/// Names here have one letter.
fn node_of(certificate: &CertificateDer<'_>) -> Option<String> {
    const PREFIX: &[u8] = b"system:node:";
    let found = certificate.windows(PREFIX.len() + 1).find(|w| w.starts_with(PREFIX))?;
    Some(char::from(*found.last()?).to_string())
}

struct Node {
    net: Network,
    at: SocketAddr,
    serving: JoinHandle<()>,
}

fn serve(net: &Network, listener: TcpListener) -> JoinHandle<()> {
    let net = net.clone();
    tokio::spawn(async move { net.serve_tunnel(listener, std::future::pending(), Duration::ZERO).await })
}

async fn node(tunnel: TunnelConfig, own: &str, hold: Duration) -> Node {
    let node_ip = ip(own);
    let net = Network::new(NetworkConfig { tunnel: Some(tunnel), node_ip, hold, ..NetworkConfig::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serving = serve(&net, listener);
    Node { net, at, serving }
}

fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

fn node_object(name: &str, at: SocketAddr, part: &str) -> Object {
    let value = json!({"metadata": {"name": name, "annotations": {DATA_PORT: at.port().to_string(), AGENT_KEY: "key"}},
        "spec": {"podCIDR": part}, "status": {"addresses": [{"type": "InternalIP", "address": at.ip()}]}});
    object("nodes", "", name, value)
}

fn pod_object(name: &str, node: &str) -> Object {
    let value = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"nodeName": node, "serviceAccountName": "till"}});
    object("pods", "shop", name, value)
}

fn attach(net: &Network, name: &str, address: &str) -> Arc<PodHandle> {
    net.attach(Identity {
        uid: format!("uid-{name}").into(),
        namespace: "shop".into(),
        name: name.into(),
        service_account: "till".into(),
        ip: ip(address),
        second_ip: None,
        hostname: name.into(),
        dns: crate::Dns::default(),
        hosts: Vec::new(),
        host_ports: Vec::new(),
        interface: None,
    })
}

const A: &str = "10.244.240.2";
const B: &str = "10.244.224.2";

/// The nodes `d`, with the pod `a`, and `e`, with the pod `b`. Each knows all.
struct Two {
    d: Node,
    e: Node,
    a: Arc<PodHandle>,
    b: Arc<PodHandle>,
}

/// Tells both nodes where both are.
fn introduce(d: &Node, e: &Node) {
    for (own, node) in [("d", d), ("e", e)] {
        let mut all = Neighbours::new(own);
        all.put_node(&node_object("d", d.at, "10.244.240.0/20"));
        all.put_node(&node_object("e", e.at, "10.244.224.0/20"));
        all.put_pod(&pod_object("a", "d"));
        all.put_pod(&pod_object("b", "e"));
        node.net.set_neighbours(Arc::new(all), true);
    }
}

async fn two_with(timing: TunnelTiming, hold: Duration) -> Two {
    let pki = Pki::new();
    let d = node(pki.tunnel("d", "system:node:d", timing), "10.244.240.0", hold).await;
    let e = node(pki.tunnel("e", "system:node:e", timing), "10.244.224.0", hold).await;
    introduce(&d, &e);
    let (a, b) = (attach(&d.net, "a", A), attach(&e.net, "b", B));
    Two { d, e, a, b }
}

async fn two() -> Two {
    two_with(TunnelTiming::default(), HOLD).await
}

fn to(port: u16) -> SocketAddr {
    SocketAddr::new(ip(B), port)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_both_ways_and_each_way_ends_by_itself() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let server = tokio::spawn(async move {
        let mut conn = listener.accept().await.unwrap();
        let mut all = Vec::new();
        // Ends by the client's half-close, with the other way still open.
        conn.stream.read_to_end(&mut all).await.unwrap();
        conn.stream.write_all(&all).await.unwrap();
        conn.stream.shutdown().await.unwrap();
        (conn.local, conn.peer)
    });
    let mut conn = two.a.connect_tcp(to(7000)).await.unwrap();
    let sent = pattern(3_000_000);
    conn.stream.write_all(&sent).await.unwrap();
    conn.stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    soon(conn.stream.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent);
    assert_eq!(soon(server).await.unwrap(), (to(7000), conn.local), "the pod sees the other pod");
    assert_eq!((conn.local.ip(), conn.peer), (ip(A), to(7000)));
    assert_eq!((two.d.net.sessions(), two.e.net.sessions()), (1, 0));
}

#[tokio::test]
async fn streams_of_ipv6_go_between_nodes_as_well() {
    let two = two().await;
    for (own, node) in [("d", &two.d), ("e", &two.e)] {
        let mut all = Neighbours::clone(&node.net.neighbours());
        for (name, at, part) in [("d", two.d.at, [10u8, 244, 240, 0]), ("e", two.e.at, [10, 244, 224, 0])] {
            let (v6, bits) = networks::part_beside(part.into(), 20);
            let mut object = node_object(name, at, "").value();
            object["spec"]["podCIDRs"] = json!([format!("{}/20", IpAddr::from(part)), format!("{v6}/{bits}")]);
            assert_eq!(all.put_node(&self::object("nodes", "", name, object)), name != own);
        }
        node.net.set_neighbours(Arc::new(all), true);
    }
    let second = |address: &str| Some(IpAddr::from(networks::beside(address.parse().unwrap())));
    let dual = |net: &Network, of: &PodHandle, address: &str| {
        net.attach(Identity { second_ip: second(address), ..of.identity().clone() })
    };
    let (a, b) = (dual(&two.d.net, two.a.as_ref(), A), dual(&two.e.net, two.b.as_ref(), B));
    let listener = b.listen_tcp(at("[::]:7000")).unwrap();
    let to = SocketAddr::new(second(B).unwrap(), 7000);
    let conn = soon(a.connect_tcp(to)).await.unwrap();
    let taken = soon(listener.accept()).await.unwrap();
    assert_eq!((conn.local.ip(), taken.peer, taken.local), (second(A).unwrap(), conn.local, to));
    let (x, y) = (a.bind_udp(at("[::]:0")).unwrap(), b.bind_udp(at("[::]:5353")).unwrap());
    x.send_to(&b"ask"[..], SocketAddr::new(to.ip(), 5353)).unwrap();
    let asked = soon(y.recv_from()).await.unwrap();
    assert_eq!((&asked.data[..], asked.from.ip()), (&b"ask"[..], second(A).unwrap()));
    // A node whose part is of IPv4 alone speaks for nobody at another address.
    let mut all = Neighbours::clone(&two.e.net.neighbours());
    all.put_node(&node_object("d", two.d.at, "10.244.240.0/20"));
    two.e.net.set_neighbours(Arc::new(all), true);
    assert_eq!(soon(a.connect_tcp(to)).await.unwrap_err(), NetError::AccessDenied);
}

#[tokio::test]
async fn resets_go_through_both_ways() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    for by_server in [true, false] {
        let near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
        let far = listener.accept().await.unwrap().stream;
        let (cut, mut other) = if by_server { (far, near) } else { (near, far) };
        cut.reset();
        let error = soon(other.read(&mut [0; 4])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "by the server: {by_server}");
    }
    // A pod that leaves cuts what it has.
    let mut near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
    let _far = listener.accept().await.unwrap();
    two.e.net.detach("uid-b");
    assert_eq!(soon(near.read(&mut [0; 4])).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_holds_up_its_own_writer_only() {
    const LENGTH: usize = 8 << 20;
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let mut slow = two.a.connect_tcp(to(7000)).await.unwrap().stream;
    let mut unread = listener.accept().await.unwrap().stream;
    let writer = tokio::spawn(async move {
        slow.write_all(&pattern(LENGTH)).await.unwrap();
        slow.shutdown().await.unwrap();
    });
    let mut near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
    let mut far = listener.accept().await.unwrap().stream;
    let echo = tokio::spawn(async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        far.write_all(&all).await.unwrap();
    });
    near.write_all(&pattern(LENGTH)).await.unwrap();
    near.shutdown().await.unwrap();
    let mut got = Vec::new();
    soon(near.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), LENGTH);
    assert!(!writer.is_finished(), "nobody has read what it writes");
    soon(echo).await.unwrap();
    got.clear();
    soon(unread.read_to_end(&mut got)).await.unwrap();
    assert!(got == pattern(LENGTH));
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn who_is_not_there_refuses_as_at_home() {
    let two = two().await;
    let connect = |to: SocketAddr| {
        let a = two.a.clone();
        async move { soon(a.connect_tcp(to)).await.map(drop) }
    };
    assert_eq!(connect(to(7000)).await, Err(NetError::ConnectionRefused));
    assert_eq!(connect(at("10.244.224.9:7000")).await, Err(NetError::RemoteUnreachable), "no such pod");
    assert_eq!(connect(at("10.244.208.9:7000")).await, Err(NetError::RemoteUnreachable), "no such node");
    let get = Request::get("http://10.244.224.2:8080/").body(empty()).unwrap();
    let sent = two.a.send_http(get, Default::default()).await;
    assert!(matches!(sent, Err(HttpError::Connect(NetError::ConnectionRefused))), "{sent:?}");
    let _listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    assert_eq!(connect(to(7000)).await, Ok(()));
}

#[tokio::test]
async fn a_node_that_speaks_for_a_pod_of_another_one_is_refused() {
    let two = two().await;
    let _listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    // Of its own part, but nobody has told `e` of such a pod on `d`.
    let forged = attach(&two.d.net, "c", "10.244.240.3");
    assert_eq!(soon(forged.connect_tcp(to(7000))).await.map(drop), Err(NetError::AccessDenied));
    // `b` is on `e`.
    two.d.net.detach("uid-c");
    let forged = attach(&two.d.net, "b", "10.244.240.3");
    assert_eq!(soon(forged.connect_tcp(to(7000))).await.map(drop), Err(NetError::AccessDenied));
}

#[tokio::test]
async fn news_of_a_pod_may_be_slower_than_the_pod() {
    let two = two_with(TunnelTiming::default(), DEADLINE).await;
    let _listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let late = attach(&two.d.net, "late", "10.244.240.4");
    let mut connecting = tokio::spawn(async move { late.connect_tcp(to(7000)).await.map(drop) });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut connecting).await;
    assert!(early.is_err(), "it is neither taken nor refused yet: {early:?}");
    let mut all = Neighbours::clone(&two.e.net.neighbours());
    assert!(all.put_pod(&pod_object("late", "d")));
    two.e.net.set_neighbours(Arc::new(all), false);
    assert_eq!(soon(connecting).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn only_the_node_itself_is_taken_for_it_on_either_side() {
    let (pki, timing) = (Pki::new(), TunnelTiming::default());
    // One whose certificate names a user and no node, and one at whose address somebody else answers.
    let d = node(pki.tunnel("d", "somebody", timing), "10.244.240.0", HOLD).await;
    let e = node(pki.tunnel("e", "system:node:e", timing), "10.244.224.0", HOLD).await;
    introduce(&d, &e);
    let (a, b) = (attach(&d.net, "a", A), attach(&e.net, "b", B));
    let _listener = b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    assert_eq!(soon(a.connect_tcp(to(7000))).await.map(drop), Err(NetError::RemoteUnreachable));
    let f = node(pki.tunnel("f", "system:node:f", timing), "10.244.208.0", HOLD).await;
    introduce(&Node { net: d.net.clone(), at: f.at, serving: f.serving }, &e);
    assert_eq!(soon(b.connect_tcp(SocketAddr::new(ip(A), 7000))).await.map(drop), Err(NetError::RemoteUnreachable));
}

/// Sends a request's body back as it comes, with its trailers.
struct Mirror;

#[async_trait]
impl HttpService for Mirror {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let (head, body) = request.into_parts();
        let mut response = Response::new(body);
        for (name, value) in &head.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        Ok(response)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_streams_both_ways_with_trailers_and_no_second_connection() {
    const PIECES: usize = 512;
    let two = two().await;
    let _guard = two.e.net.serve_http(ip(B), 8080, Arc::new(Mirror)).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let pieces = (0..PIECES).map(|n| Ok(Frame::data(Bytes::from(vec![n as u8; 64 * 1024]))));
    let frames = futures_util::stream::iter(pieces.chain([Ok(Frame::trailers(trailers.clone()))]));
    let body = BodyExt::boxed(StreamBody::new(frames));
    let request = Request::post("http://10.244.224.2:8080/m?x=1").header("host", "shop.example").body(body).unwrap();
    let response = soon(two.a.send_http(request, Default::default())).await.unwrap();
    assert_eq!(response.headers()["host"], "shop.example");
    assert!(!response.headers().keys().any(|k| k.as_str().starts_with("copepod-")), "{:?}", response.headers());
    let got = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(got.trailers(), Some(&trailers));
    let got = got.to_bytes();
    assert_eq!(got.len(), PIECES * 64 * 1024);
    assert!(got.chunks(64 * 1024).zip(0..).all(|(piece, n)| piece.iter().all(|b| usize::from(*b) == n % 256)));
    assert_eq!((two.a.tracker.len(), two.b.tracker.len()), (0, 0), "no byte stream of either pod");
}

/// Answers with a status that is no answer, and a body.
struct Early;

#[async_trait]
impl HttpService for Early {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        Ok(Response::builder().status(103).body(full("early")).unwrap())
    }
}

#[tokio::test]
async fn a_pod_that_answers_what_http_2_does_not_take_cuts_nobody_else() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let _guard = two.e.net.serve_http(ip(B), 8080, Arc::new(Early)).unwrap();
    let mut conn = soon(two.a.connect_tcp(to(7000))).await.unwrap();
    let mut far = soon(listener.accept()).await.unwrap();
    let request = Request::get("http://10.244.224.2:8080/").body(full("")).unwrap();
    assert!(soon(two.a.send_http(request, Default::default())).await.is_err());
    conn.stream.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    soon(far.stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"still here");
}

#[tokio::test]
async fn a_service_learns_who_asks_and_a_guest_cannot_say_it() {
    let two = two().await;
    let echo = Arc::new(Echo { name: "b".into(), ..Echo::default() });
    let _guard = two.e.net.serve_http(ip(B), 8080, echo.clone()).unwrap();
    let ask = |method: &str, path: &str| {
        let uri = format!("http://10.244.224.2:8080{path}");
        let request = Request::builder().method(method).uri(uri).header("copepod-peer", "1.2.3.4:5");
        let request = request.header("copepod-source", "client 1.2.3.4:5").body(full("hi")).unwrap();
        soon(two.a.send_http(request, Default::default()))
    };
    assert_eq!(text(ask("POST", "/x").await.unwrap()).await, "b POST /x 10.244.224.2:8080 hi");
    assert_eq!(text(ask("HEAD", "/y").await.unwrap()).await, "");
    let failed = ask("POST", "/fail").await;
    assert!(matches!(&failed, Err(HttpError::Service(why)) if why == "asked to fail"), "{failed:?}");
    let seen = echo.seen.lock().unwrap().iter().map(|(_, info)| *info).collect::<Vec<_>>();
    let want = ConnInfo { local: to(8080), peer: SocketAddr::new(ip(A), 0) };
    assert_eq!(seen, [want; 3]);
}

/// A Service `web` at 10.96.0.7:80 with these endpoints at 8080.
fn routes(endpoints: &[&str]) -> Arc<RouteTable> {
    let endpoints: Vec<Value> =
        endpoints.iter().map(|e| json!({"addresses": [e], "conditions": {"ready": true}})).collect();
    let service = json!({"spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}});
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"port": 8080}],
        "endpoints": endpoints});
    let services = [object("services", "shop", "web", service)];
    let slices = [object("endpointslices", "shop", "web", slice)];
    let none: &[Object] = &[];
    Arc::new(RouteTable::build(&services, &slices, none, none, Config::default()))
}

#[tokio::test]
async fn a_service_has_endpoints_on_all_nodes_and_passes_over_those_that_stop() {
    let two = two().await;
    let (far, near) =
        (Arc::new(Echo { name: "b".into(), ..Echo::default() }), Echo { name: "n".into(), ..Echo::default() });
    let _far = two.e.net.serve_http(ip(B), 8080, far.clone()).unwrap();
    let near_pod = attach(&two.d.net, "n", "10.244.240.9");
    let near_guard = two.d.net.serve_http(near_pod.ip(), 8080, Arc::new(near)).unwrap();
    two.d.net.set_routes(routes(&[B, "10.244.240.9"]));
    let body = String::from_utf8(vec![b'x'; 300_000]).unwrap();
    let ask = async || {
        let request = Request::post("http://10.96.0.7/").body(full(body.clone())).unwrap();
        let said = text(soon(two.a.send_http(request, Default::default())).await.unwrap()).await;
        assert!(said.ends_with(&body), "the body arrives whole");
        said[..1].to_string()
    };
    let mut said = std::collections::BTreeSet::new();
    for _ in 0..64 {
        said.insert(ask().await);
    }
    assert!(said.iter().eq(["b", "n"]), "both are asked: {said:?}");
    far.stopped.store(true, Ordering::Relaxed);
    // Not so often that it would be passed over.
    let four = async || [ask().await, ask().await, ask().await, ask().await];
    assert_eq!(four().await, ["n"; 4], "a request that was not taken is sent elsewhere");
    far.stopped.store(false, Ordering::Relaxed);
    drop(near_guard);
    assert_eq!(four().await, ["b"; 4]);
    let mut conn = two.a.connect_tcp(at("10.96.0.7:80")).await.unwrap();
    conn.stream.write_all(b"GET /t HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(conn.stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("b GET /t web "), "plain TCP to the same Service: {answer}");
    // Each request of a connection finds its own endpoint, whichever the connection has found.
    let near = Echo { name: "n".into(), ..Echo::default() };
    let _near = two.d.net.serve_http(near_pod.ip(), 8080, Arc::new(near)).unwrap();
    for _ in 0..2 {
        let mut conn = two.a.connect_tcp(at("10.96.0.7:80")).await.unwrap();
        let first = "GET /1 HTTP/1.1\r\nHost: web\r\n\r\n".repeat(63);
        let last = "GET /2 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
        conn.stream.write_all(format!("{first}{last}").as_bytes()).await.unwrap();
        let mut answers = String::new();
        soon(conn.stream.read_to_string(&mut answers)).await.unwrap();
        assert!(answers.contains("b GET") && answers.contains("n GET"), "{answers}");
    }
    assert!(far.seen.lock().unwrap().iter().all(|(_, info)| info.local == to(8080)), "nobody else has asked it");
}

#[tokio::test]
async fn a_pod_that_speaks_http_itself_is_reached_by_a_stream() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let echo = Arc::new(Echo { name: "b".into(), ..Echo::default() });
    let service = echo.clone();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            let info = ConnInfo { local: conn.local, peer: conn.peer };
            tokio::spawn(server::serve(conn.stream, service.clone(), info));
        }
    });
    for n in 0..2 {
        let request = Request::post(format!("http://10.244.224.2:8080/{n}")).body(full("hi")).unwrap();
        let said = text(soon(two.a.send_http(request, Default::default())).await.unwrap()).await;
        assert_eq!(said, format!("b POST /{n} 10.244.224.2:8080 hi"));
    }
    assert!(two.d.net.0.tunnel.is_streams_only(to(8080)), "it is asked once");
    assert_eq!(two.b.tracker.len(), 1, "the connection is kept");
    let peers: Vec<IpAddr> = echo.seen.lock().unwrap().iter().map(|(_, info)| info.peer.ip()).collect();
    assert_eq!(peers, [ip(A), ip(A)]);
}

#[tokio::test]
async fn datagrams_go_there_and_back_also_by_a_service() {
    let two = two().await;
    let service = json!({"spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 53, "protocol": "UDP"}]}});
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"port": 5353, "protocol": "UDP"}],
        "endpoints": [{"addresses": [B], "conditions": {"ready": true}}]});
    let services = [object("services", "shop", "web", service)];
    let slices = [object("endpointslices", "shop", "web", slice)];
    let none: &[Object] = &[];
    two.d.net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, Config::default())));
    let server = two.b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let client = two.a.bind_udp(at("0.0.0.0:0")).unwrap();
    let own = SocketAddr::new(ip(A), client.local_addr().port());
    for (asked, length) in [(to(5353), 5), (at("10.96.0.7:53"), 0), (at("10.96.0.7:53"), 60_000)] {
        client.send_to(pattern(length), asked).unwrap();
        let got = soon(server.recv_from()).await.unwrap();
        assert_eq!((got.from, got.data.len()), (own, length));
        server.send_to(got.data, got.from).unwrap();
        let back = soon(client.recv_from()).await.unwrap();
        assert!(back.data == pattern(length));
        // A Service that was asked is who has answered, from then on.
        let by_service = asked != to(5353);
        assert_eq!(back.from, if by_service { asked } else { to(5353) });
    }
    assert_eq!(two.d.net.sessions() + two.e.net.sessions(), 2, "one connection each way");
    // Nobody has bound that port: it is lost, and nothing else is.
    client.send_to(pattern(1), to(9)).unwrap();
    client.send_to(pattern(2), to(5353)).unwrap();
    assert_eq!(soon(server.recv_from()).await.unwrap().data.len(), 2);
}

#[tokio::test]
async fn a_node_port_over_udp_leads_to_pods_of_other_nodes() {
    let two = two().await;
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = json!([{"port": 53, "protocol": "UDP", "nodePort": port}]);
    let service = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": ports}});
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"port": 5353, "protocol": "UDP"}],
        "endpoints": [{"addresses": [B], "conditions": {"ready": true}}]});
    let services = [object("services", "shop", "web", service)];
    let slices = [object("endpointslices", "shop", "web", slice)];
    let none: &[Object] = &[];
    two.d.net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, Config::default())));
    let mut listeners = HostListeners::new(two.d.net.clone(), vec![ip("127.0.0.1")]);
    assert_eq!(listeners.apply().await, []);
    let server = two.b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Connected: an answer from anywhere else would not be seen.
        client.connect(("127.0.0.1", port)).await.unwrap();
        clients.push(client);
    }
    let mut buffer = vec![0; 65_536];
    for length in [5, 0, 60_000] {
        for client in &clients {
            client.send(&pattern(length)).await.unwrap();
            let got = soon(server.recv_from()).await.unwrap();
            let shown = SocketAddr::new(ip("10.244.240.0"), client.local_addr().unwrap().port());
            assert_eq!((got.from, got.data.len()), (shown, length), "a client on the loopback shows as its node");
            server.send_to(got.data, got.from).unwrap();
            let n = soon(client.recv(&mut buffer)).await.unwrap();
            assert!(buffer[..n] == pattern(length));
        }
    }
    assert_eq!(two.e.net.sessions(), 0, "answers go back by the way that the questions came");
    assert_eq!((two.d.net.flow_count(), two.e.net.flow_count()), (2, 2), "a flow for each client");
    drop(listeners);
    soon(async {
        while two.e.net.flow_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(two.d.net.flow_count(), 0, "they end with the node port");
}

#[tokio::test]
async fn a_client_outside_is_shown_to_a_pod_of_another_node_as_it_is() {
    let two = two().await;
    let server = two.b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let node = two.d.net.neighbours().of(ip(B)).cloned().unwrap();
    let client = at("192.0.2.9:4000");
    let (tx, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let take = move |data| drop(tx.send(data));
    let stream = two.d.net.carry_datagrams(node, &Source::Client(client), client, to(5353), take).unwrap();
    stream.try_send(Bytes::from_static(b"ask")).unwrap();
    let got = soon(server.recv_from()).await.unwrap();
    assert_eq!((got.from, &got.data[..]), (client, &b"ask"[..]));
    // Answers may be many, and later.
    for answer in ["one", "two"] {
        server.send_to(answer, client).unwrap();
        assert_eq!(soon(answers.recv()).await.unwrap(), answer);
    }
    drop(stream);
    assert_eq!(soon(answers.recv()).await, None, "the stream has ended");
}

#[tokio::test]
async fn a_node_that_dies_cuts_its_streams_and_is_reached_again_when_it_is_back() {
    let mut two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let mut near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
    let _far = listener.accept().await.unwrap();
    two.e.serving.abort();
    assert!((&mut two.e.serving).await.unwrap_err().is_cancelled());
    assert_eq!(soon(near.read(&mut [0; 4])).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(soon(two.a.connect_tcp(to(7000))).await.map(drop), Err(NetError::RemoteUnreachable));
    let again = TcpListener::bind(two.e.at).await.unwrap();
    two.e.serving = serve(&two.e.net, again);
    soon(async {
        while two.a.connect_tcp(to(7000)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(two.d.net.sessions(), 1);
}

#[tokio::test]
async fn a_node_that_does_not_answer_any_more_counts_as_dead() {
    let quick = TunnelTiming {
        ping: Duration::from_millis(20),
        patience: Duration::from_millis(500),
        ..TunnelTiming::default()
    };
    let two = two_with(quick, HOLD).await;
    // Bytes go through somebody who stops to pass them on.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (through, target) = (relay.local_addr().unwrap(), two.e.at);
    let relaying = tokio::spawn(async move {
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = stopped => {}
            }
            (near, far)
        });
        (stop, task)
    });
    let e = Node { net: two.e.net.clone(), at: through, serving: two.e.serving };
    introduce(&two.d, &e);
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let mut near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
    let _far = listener.accept().await.unwrap();
    let (stop, task) = relaying.await.unwrap();
    stop.send(()).unwrap();
    // Both of its connections stay open.
    let _open = task.await.unwrap();
    assert_eq!(soon(near.read(&mut [0; 4])).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn nobody_waits_for_a_node_that_is_silent() {
    let timing = TunnelTiming {
        ping: Duration::from_millis(20),
        patience: Duration::from_millis(200),
        connect: Duration::from_secs(3600),
        ..TunnelTiming::default()
    };
    let two = two_with(timing, HOLD).await;
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let e = Node { net: two.e.net.clone(), at: relay.local_addr().unwrap(), serving: two.e.serving };
    introduce(&two.d, &e);
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let (near, through) = tokio::join!(two.a.connect_tcp(to(7000)), async {
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(two.e.at).await.unwrap();
        // As long as it takes to open the stream; then nothing goes through, and everything stays open.
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = listener.accept() => {}
        }
        (near, far)
    });
    // The answer to it may have been stopped on its way.
    if let Ok(mut near) = near {
        assert!(soon(near.stream.read(&mut [0; 4])).await.is_err());
    }
    let refused = async || soon(two.a.connect_tcp(to(7000))).await.map(drop);
    // Somebody tries again, and is not answered either; nobody waits for that.
    let again = soon(async {
        tokio::select! {
            again = relay.accept() => again.unwrap(),
            () = async {
                loop {
                    assert_eq!(refused().await, Err(NetError::RemoteUnreachable));
                    tokio::task::yield_now().await;
                }
            } => unreachable!(),
        }
    })
    .await;
    assert_eq!(refused().await, Err(NetError::RemoteUnreachable));
    drop((through, again));
}

#[tokio::test]
async fn a_connection_without_streams_is_closed_and_made_anew() {
    let (ping, idle) = (Duration::from_millis(10), Duration::from_millis(10));
    let two = two_with(TunnelTiming { ping, idle, ..TunnelTiming::default() }, HOLD).await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let near = two.a.connect_tcp(to(7000)).await.unwrap();
    let far = listener.accept().await.unwrap();
    assert_eq!(two.d.net.sessions(), 1);
    drop((near, far));
    soon(async {
        while two.d.net.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(two.a.connect_tcp(to(7000)).await.is_ok());
}

/// Bytes go through a stream both ways.
async fn carries(near: &mut crate::Stream, far: &mut crate::Stream) {
    let mut got = [0; 5];
    near.write_all(b"there").await.unwrap();
    soon(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"there");
    far.write_all(b"backs").await.unwrap();
    soon(near.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"backs");
}

#[tokio::test]
async fn an_old_connection_keeps_its_streams_and_gets_no_more() {
    let two = two_with(TunnelTiming { retire: Duration::ZERO, ..TunnelTiming::default() }, HOLD).await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let mut ends = Vec::new();
    for _ in 0..2 {
        let near = two.a.connect_tcp(to(7000)).await.unwrap().stream;
        ends.push((near, listener.accept().await.unwrap().stream));
    }
    for (near, far) in &mut ends {
        carries(near, far).await;
    }
    assert_eq!(two.d.net.sessions(), 1, "the older one is known to its streams only");
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_open_streams_go_on() {
    /// What either side was shown, in the order in which it was seen.
    static SHOWN: Mutex<Vec<CertificateDer<'static>>> = Mutex::new(Vec::new());
    fn noted(certificate: &CertificateDer<'_>) -> Option<String> {
        lock(&SHOWN).push(certificate.clone().into_owned());
        node_of(certificate)
    }
    /// That it was these two and nothing else; forgets it.
    fn shown(d: &CertificateDer<'static>, e: &CertificateDer<'static>) -> bool {
        let all = std::mem::take(&mut *lock(&SHOWN));
        all.len() == 2 && all.contains(d) && all.contains(e)
    }
    let pki = Pki::new();
    let [(d_first, d_own), (e_first, e_own)] = ["d", "e"].map(|name| pki.credential(name));
    let (d_rotates, e_rotates) = (Rotating::new(&d_own).unwrap(), Rotating::new(&e_own).unwrap());
    let tunnel = |rotates: &Arc<Rotating>| {
        let mut client = rotates.client_config(&pki.pem).unwrap();
        client.alpn_protocols = vec![b"h2".to_vec()];
        // As a node does: a resumed session would not show the certificate again.
        client.resumption = rustls::client::Resumption::disabled();
        let server = rotates.server_config(Clients::Required(&pki.pem)).unwrap();
        // Every connection is an old one at once.
        let timing = TunnelTiming { retire: Duration::ZERO, ..TunnelTiming::default() };
        TunnelConfig { client: Arc::new(client), server, node_of: noted, timing }
    };
    let d = node(tunnel(&d_rotates), "10.244.240.0", HOLD).await;
    let e = node(tunnel(&e_rotates), "10.244.224.0", HOLD).await;
    introduce(&d, &e);
    let (a, b) = (attach(&d.net, "a", A), attach(&e.net, "b", B));
    let listener = b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let open = async || {
        let near = soon(a.connect_tcp(to(7000))).await.unwrap().stream;
        (near, soon(listener.accept()).await.unwrap().stream)
    };
    let (mut near, mut far) = open().await;
    carries(&mut near, &mut far).await;
    assert!(shown(&d_first, &e_first));

    let [(d_next, d_own), (e_next, e_own)] = ["d", "e"].map(|name| pki.credential(name));
    d_rotates.set(&d_own).unwrap();
    e_rotates.set(&e_own).unwrap();
    carries(&mut near, &mut far).await;
    assert!(lock(&SHOWN).is_empty(), "what is open is not asked again");
    let (mut later, mut other) = open().await;
    carries(&mut later, &mut other).await;
    assert!(shown(&d_next, &e_next));
    carries(&mut near, &mut far).await;
}

#[tokio::test]
async fn more_streams_than_one_connection_takes_go_over_another_one() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let open = async || {
        let near = soon(two.a.connect_tcp(to(7000))).await.unwrap().stream;
        (near, soon(listener.accept()).await.unwrap().stream)
    };
    let mut ends = Vec::new();
    for _ in 0..STREAMS {
        ends.push(open().await);
    }
    assert_eq!(two.d.net.sessions(), 1);
    ends.push(open().await);
    assert_eq!(two.d.net.sessions(), 2);
    for i in [0, ends.len() - 2, ends.len() - 1] {
        let (near, far) = &mut ends[i];
        carries(near, far).await;
    }
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_ends_at_the_other_node() {
    /// Never answers; says when it is dropped.
    struct Silent(tokio::sync::mpsc::UnboundedSender<&'static str>);
    struct Dropped(tokio::sync::mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    #[async_trait]
    impl HttpService for Silent {
        async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
            let _dropped = Dropped(self.0.clone());
            let _ = self.0.send("begun");
            std::future::pending().await
        }
    }
    let two = two().await;
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let _guard = two.e.net.serve_http(ip(B), 8080, Arc::new(Silent(tx))).unwrap();
    let a = two.a.clone();
    // Its body never ends either.
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::pending().map(Ok::<Frame<Bytes>, _>)));
    let request = Request::post("http://10.244.224.2:8080/").body(body).unwrap();
    let asking = tokio::spawn(async move { a.send_http(request, Default::default()).await.map(drop) });
    assert_eq!(soon(rx.recv()).await, Some("begun"));
    asking.abort();
    assert_eq!(soon(rx.recv()).await, Some("dropped"));
}

/// Answers at once, and reads on.
struct Hasty(tokio::sync::mpsc::UnboundedSender<Bytes>);

#[async_trait]
impl HttpService for Hasty {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let all = self.0.clone();
        tokio::spawn(async move {
            if let Ok(body) = request.into_body().collect().await {
                let _ = all.send(body.to_bytes());
            }
        });
        Ok(Response::new(full("taken")))
    }
}

#[tokio::test]
async fn a_service_may_read_on_when_it_has_answered() {
    let two = two().await;
    let (read, mut all) = tokio::sync::mpsc::unbounded_channel();
    let _guard = two.e.net.serve_http(ip(B), 8080, Arc::new(Hasty(read))).unwrap();
    let (rest, body) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::unfold(body, |mut body| async {
        let next = body.recv().await?;
        Some((Ok(Frame::data(next)), body))
    });
    let request = Request::post("http://10.244.224.2:8080/").body(BodyExt::boxed(StreamBody::new(frames))).unwrap();
    rest.send(Bytes::from_static(b"first, ")).unwrap();
    let response = soon(two.a.send_http(request, Default::default())).await.unwrap();
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "taken");
    rest.send(Bytes::from_static(b"last")).unwrap();
    drop(rest);
    assert_eq!(soon(all.recv()).await.unwrap(), "first, last");
}

#[tokio::test]
async fn a_pods_datagrams_have_a_share_of_the_flows_and_end_with_it() {
    let two = two().await;
    let other = attach(&two.d.net, "c", "10.244.240.3");
    let mut all = Neighbours::new("e");
    all.put_node(&node_object("d", two.d.at, "10.244.240.0/20"));
    for (name, node) in [("a", "d"), ("b", "e"), ("c", "d")] {
        all.put_pod(&pod_object(name, node));
    }
    two.e.net.set_neighbours(Arc::new(all), true);
    let server = two.b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let flood = two.a.bind_udp(at("0.0.0.0:0")).unwrap();
    for port in 10_000..12_000 {
        flood.send_to(vec![1], to(port)).unwrap();
    }
    let flows = |uid: &str| lock(&two.d.net.0.tunnel.flows).of(uid);
    assert!((1..=512).contains(&flows("uid-a")), "{}", flows("uid-a"));
    let client = other.bind_udp(at("0.0.0.0:0")).unwrap();
    client.send_to(vec![2; 2], to(5353)).unwrap();
    assert_eq!(soon(server.recv_from()).await.unwrap().data.len(), 2);
    two.d.net.detach("uid-c");
    assert_eq!(flows("uid-c"), 0);
    // Nobody listens at those ports, so the flows are refused, rest for a while and make room.
    soon(async {
        loop {
            flood.send_to(vec![1; 3], to(5353)).unwrap();
            tokio::select! {
                got = server.recv_from() => return assert_eq!(got.unwrap().data.len(), 3),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_not_retired_by_its_client_is_by_the_other_side() {
    let pki = Pki::new();
    // The client looks after its connections often, and would not let them go for an hour.
    let often = TunnelTiming { ping: Duration::from_millis(10), ..TunnelTiming::default() };
    let short = TunnelTiming { retire: Duration::ZERO, patience: Duration::from_millis(10), ..TunnelTiming::default() };
    let d = node(pki.tunnel("d", "system:node:d", often), "10.244.240.0", HOLD).await;
    let e = node(pki.tunnel("e", "system:node:e", short), "10.244.224.0", HOLD).await;
    introduce(&d, &e);
    let (a, b) = (attach(&d.net, "a", A), attach(&e.net, "b", B));
    let listener = b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let mut first = soon(a.connect_tcp(to(7000))).await.unwrap().stream;
    let mut far = soon(listener.accept()).await.unwrap().stream;
    let made = d.net.last_made();
    soon(async {
        while d.net.last_made() == made {
            let (near, accepted) = tokio::join!(a.connect_tcp(to(7000)), listener.accept());
            drop((near.unwrap(), accepted));
        }
    })
    .await;
    // The client has looked after the older one by now.
    tokio::time::sleep(4 * often.ping).await;
    first.write_all(b"there").await.unwrap();
    let mut got = [0; 5];
    soon(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"there", "what was open goes on");
}
