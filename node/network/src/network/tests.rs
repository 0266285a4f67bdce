use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_dns_zone as dns;
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use copepod_node_routes as routes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::body::{Body, empty, full};
use crate::http::{BoxError, ConnInfo, HttpOptions, HttpService, ServiceError};
use crate::{Dns, HttpError, NameServer, ServeGuard, Source};

mod families;

/// A name server that knows one name.
struct Fixed;

#[async_trait]
impl Upstream for Fixed {
    async fn lookup(&self, name: &str, _: IpAddr) -> Result<Vec<IpAddr>, NetError> {
        match name {
            "www.example.com" => Ok(vec![ip("192.0.2.7")]),
            "slow.example.com" => Err(NetError::TemporaryResolverFailure),
            _ => Err(NetError::NameUnresolvable),
        }
    }

    async fn lookup_on_host(&self, name: &str, _: IpAddr) -> Result<Vec<IpAddr>, NetError> {
        if name == "on-host" { Ok(vec![ip("198.51.100.1")]) } else { Err(NetError::NameUnresolvable) }
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn network() -> Network {
    Network::new(NetworkConfig { upstream: Arc::new(Fixed), ..NetworkConfig::default() })
}

pub(crate) fn attach(network: &Network, n: u8) -> Arc<PodHandle> {
    network.attach(Identity {
        uid: format!("uid-{n}").into(),
        namespace: "shop".into(),
        name: format!("pod-{n}").into(),
        service_account: "default".into(),
        ip: IpAddr::from([10, 244, 0, n]),
        second_ip: None,
        hostname: format!("pod-{n}"),
        dns: Dns { search: network.zone().search_list("shop"), ..Dns::default() },
        hosts: Vec::new(),
        host_ports: Vec::new(),
        interface: None,
    })
}

/// The same with an address of either family.
pub(crate) fn attach_dual(network: &Network, n: u8) -> Arc<PodHandle> {
    let like = attach(network, n).identity().clone();
    network.attach(Identity { second_ip: Some(networks::beside([10, 244, 0, n].into()).into()), ..like })
}

pub(crate) fn object(resource: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, "shop", name), 1, with_revision(&encode(&value), 1))
}

/// A Service `web` at 10.96.0.7, port 80 → 8080 (TCP) and 53 → 5353 (UDP), with these endpoints and readiness.
pub(crate) fn web(endpoints: &[(u8, bool)], extra: Value) -> (Vec<Object>, Vec<Object>) {
    let mut spec = json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80},
        {"name": "dns", "port": 53, "protocol": "UDP"}]});
    if let Some(app_protocol) = extra.get("appProtocol") {
        spec["ports"][0]["appProtocol"] = app_protocol.clone();
    }
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(n, ready)| json!({"addresses": [format!("10.244.0.{n}")], "conditions": {"ready": ready}}))
        .collect();
    let ports = json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]);
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": ports, "endpoints": endpoints});
    (vec![object("services", "web", json!({"spec": spec}))], vec![object("endpointslices", "web", slice)])
}

pub(crate) fn set_web(network: &Network, endpoints: &[(u8, bool)]) {
    let (services, slices) = web(endpoints, json!({}));
    let none: &[Object] = &[];
    network.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    let external =
        object("services", "ext", json!({"spec": {"type": "ExternalName", "externalName": "www.example.com"}}));
    let services: Vec<&Object> = services.iter().chain([&external]).collect();
    let slices: Vec<&Object> = slices.iter().collect();
    network.set_zone(Arc::new(Zone::build(Vec::new(), services, slices, dns::Config::default())));
}

/// Answers with what it was asked, and remembers who asked.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) name: String,
    pub(crate) seen: Mutex<Vec<(String, ConnInfo)>>,
    /// Takes no more requests.
    pub(crate) stopped: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl HttpService for Echo {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(ServiceError::Stopped(Box::new(request)));
        }
        Ok(self.answer(request).await?)
    }
}

impl Echo {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let info = *request.extensions().get::<ConnInfo>().ok_or("no ConnInfo")?;
        let (head, body) = request.into_parts();
        let host = head.headers.get("host").map_or("-", |h| h.to_str().unwrap_or("?")).to_string();
        let body = body.collect().await?.to_bytes();
        self.seen.lock().unwrap().push((host.clone(), info));
        if head.uri.path() == "/fail" {
            return Err("asked to fail".into());
        }
        let text = format!("{} {} {} {host} {}", self.name, head.method, head.uri, String::from_utf8_lossy(&body));
        let mut response = Response::new(full(text));
        response.headers_mut().insert("x-from", "echo".parse()?);
        Ok(response)
    }
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(empty()).unwrap()
}

#[tokio::test]
async fn two_pods_talk_through_memory() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let server = tokio::spawn(async move {
        let mut conn = listener.accept().await.unwrap();
        let mut got = Vec::new();
        conn.stream.read_to_end(&mut got).await.unwrap();
        conn.stream.write_all(&got).await.unwrap();
        (conn.local, conn.peer)
    });
    let mut conn = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    conn.stream.write_all(b"through memory").await.unwrap();
    conn.stream.shutdown().await.unwrap();
    let mut back = String::new();
    conn.stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "through memory");
    let (local, peer) = server.await.unwrap();
    assert_eq!((local, peer), (conn.peer, conn.local));
    assert_eq!(peer.ip(), a.ip());
    assert_eq!(a.tracker.len(), 1);
    drop(conn);
    assert_eq!((a.tracker.len(), b.tracker.len()), (0, 0), "closed streams are forgotten");
}

#[tokio::test]
async fn what_addresses_mean() {
    let net = network();
    let (a, _b) = (attach(&net, 1), attach(&net, 2));
    set_web(&net, &[(2, true)]);
    for (to, error) in [
        ("10.244.0.2:1", NetError::ConnectionRefused),
        ("10.244.9.9:80", NetError::RemoteUnreachable),
        ("10.96.0.7:81", NetError::ConnectionRefused),
        ("10.96.0.99:80", NetError::RemoteUnreachable),
        ("127.0.0.1:8080", NetError::ConnectionRefused),
        ("[::1]:8080", NetError::ConnectionRefused),
        ("[::ffff:127.0.0.1]:8080", NetError::ConnectionRefused),
        ("0.0.0.0:8080", NetError::ConnectionRefused),
        ("224.0.0.1:80", NetError::RemoteUnreachable),
        ("10.244.0.2:0", NetError::InvalidArgument),
    ] {
        assert_eq!(a.connect_tcp(at(to)).await.unwrap_err(), error, "{to}");
    }
    let closed = Network::new(NetworkConfig { egress: false, ..NetworkConfig::default() });
    assert_eq!(attach(&closed, 1).connect_tcp(at("192.0.2.1:80")).await.unwrap_err(), NetError::AccessDenied);
}

#[tokio::test]
async fn the_hosts_loopback_is_out_of_reach() {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let net = network();
    let a = attach(&net, 1);
    for to in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        assert_eq!(a.connect_tcp(at(&to)).await.unwrap_err(), NetError::ConnectionRefused, "{to}");
        assert!(net.connect(Source::Node, at(&to)).await.is_err(), "{to}");
    }
    // Nor through an endpoint that should not exist.
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}]});
    let (services, _) = web(&[], json!({}));
    let none: &[Object] = &[];
    let slices = [object("endpointslices", "web", slice)];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    assert_eq!(a.connect_tcp(at("10.96.0.7:80")).await.unwrap_err(), NetError::ConnectionRefused);
}

#[tokio::test]
async fn ports_of_a_pod() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let any = a.listen_tcp(at("0.0.0.0:80")).unwrap();
    for taken in ["0.0.0.0:80", "127.0.0.1:80", "10.244.0.1:80", "[::]:80"] {
        assert_eq!(a.listen_tcp(at(taken)).unwrap_err(), NetError::AddressInUse, "{taken}");
    }
    assert_eq!(a.listen_tcp(at("10.244.0.2:81")).unwrap_err(), NetError::AddressNotBindable);
    drop(any);
    let own = a.listen_tcp(at("127.0.0.1:80")).unwrap();
    assert_eq!(
        b.connect_tcp(at("10.244.0.1:80")).await.unwrap_err(),
        NetError::ConnectionRefused,
        "loopback is private"
    );
    let conn = a.connect_tcp(at("127.0.0.1:80")).await.unwrap();
    assert!(conn.local.ip().is_loopback());
    assert_eq!(own.try_accept().unwrap().unwrap().peer, conn.local);
    assert!(own.try_accept().unwrap().is_none());
    // The failed attempt at the unspecified address must not keep the pod's half of the port.
    assert_eq!(a.listen_tcp(at("0.0.0.0:80")).unwrap_err(), NetError::AddressInUse);
    assert!(a.listen_tcp(at("10.244.0.1:80")).is_ok());
    let (x, y) = (a.listen_tcp(at("0.0.0.0:0")).unwrap(), a.listen_tcp(at("0.0.0.0:0")).unwrap());
    assert!(x.local_addr().port() >= 32_768 && x.local_addr() != y.local_addr());
}

#[tokio::test]
async fn a_vip_leads_to_ready_endpoints_only() {
    let net = network();
    let pods: Vec<_> = (1..=4).map(|n| attach(&net, n)).collect();
    let listeners: Vec<_> = pods.iter().map(|p| p.listen_tcp(at("0.0.0.0:8080")).unwrap()).collect();
    set_web(&net, &[(2, true), (3, true), (4, false)]);
    let vip = at("10.96.0.7:80");
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(pods[0].connect_tcp(vip).await.unwrap());
    }
    assert!(open.iter().all(|conn| conn.peer == vip));
    let accepted = |i: usize| std::iter::from_fn(|| listeners[i].try_accept().unwrap()).count();
    assert_eq!((accepted(1), accepted(2), accepted(3)), (3, 3, 0));
    set_web(&net, &[(2, false), (3, false), (4, false)]);
    assert_eq!(pods[0].connect_tcp(vip).await.unwrap_err(), NetError::ConnectionRefused);
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_refuses() {
    let net = network();
    let pods: Vec<_> = (1..=3).map(|n| attach(&net, n)).collect();
    let listener = pods[2].listen_tcp(at("0.0.0.0:8080")).unwrap();
    // Pod 2 is said to be ready and does not listen; endpoint 9 is gone altogether.
    set_web(&net, &[(2, true), (3, true), (9, true)]);
    for _ in 0..3 {
        pods[0].connect_tcp(at("10.96.0.7:80")).await.unwrap();
        assert!(listener.try_accept().unwrap().is_some());
    }
}

#[tokio::test]
async fn detaching_cuts_everything() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let mut accepted_by = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    let _held = listener.accept().await.unwrap();
    let mut waiting = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    let socket = b.bind_udp(at("0.0.0.0:53")).unwrap();
    let reading = tokio::spawn(async move { accepted_by.stream.read(&mut [0; 1]).await });
    let idle = b.listen_tcp(at("0.0.0.0:9090")).unwrap();
    let accepting = tokio::spawn(async move { idle.accept().await });
    tokio::task::yield_now().await;
    net.detach("uid-2");
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(waiting.stream.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(accepting.await.unwrap().unwrap_err(), NetError::Detached);
    assert_eq!(socket.recv_from().await.unwrap_err(), NetError::Detached);
    assert_eq!(b.listen_tcp(at("0.0.0.0:1")).unwrap_err(), NetError::Detached);
    assert_eq!(a.connect_tcp(at("10.244.0.2:8080")).await.unwrap_err(), NetError::RemoteUnreachable);
    assert!(net.pod(b.ip()).is_none());
}

#[tokio::test]
async fn attaching_again() {
    let net = network();
    let a = attach(&net, 1);
    assert!(Arc::ptr_eq(&a, &attach(&net, 1)), "a container restart keeps its pod");
    let heir = net.attach(Identity { uid: "heir".into(), ..a.identity().clone() });
    assert!(a.listen_tcp(at("0.0.0.0:1")).is_err(), "the address has a new owner");
    net.detach("uid-1");
    assert!(Arc::ptr_eq(&net.pod(a.ip()).unwrap(), &heir));
    let moved = net.attach(Identity { ip: ip("10.244.0.77"), ..heir.identity().clone() });
    assert!(net.pod(a.ip()).is_none() && net.pod(moved.ip()).is_some());
}

#[tokio::test]
async fn an_egress_stream_is_cut_with_its_pod() {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let net = network();
    let a = attach(&net, 1);
    // The network itself would not connect to the host's loopback: make the stream by hand.
    let tcp = tokio::net::TcpStream::connect(host.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = host.accept().await.unwrap();
    let mut stream = crate::Stream::host(tcp, net.outgoing(1).unwrap()).tracked(&a.tracker);
    stream.write_all(b"hi").await.unwrap();
    let mut got = [0; 2];
    server.read_exact(&mut got).await.unwrap();
    server.write_all(&got).await.unwrap();
    stream.read_exact(&mut got).await.unwrap();
    let reading = tokio::spawn(async move { stream.read(&mut [0; 1]).await });
    tokio::task::yield_now().await;
    net.detach("uid-1");
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn sockets_to_the_world_outside_are_counted() {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let net = Network::new(NetworkConfig { outgoing: 2, ..NetworkConfig::default() });
    net.expose_host(at("10.244.0.0:6443"), host.local_addr().unwrap());
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let open =
        [a.connect_tcp(at("10.244.0.0:6443")).await.unwrap(), b.connect_tcp(at("10.244.0.0:6443")).await.unwrap()];
    assert_eq!(a.connect_tcp(at("10.244.0.0:6443")).await.unwrap_err(), NetError::NewSocketLimit);
    let udp = a.bind_udp(at("0.0.0.0:0")).unwrap();
    assert_eq!(udp.send_to(Bytes::from_static(b"x"), at("192.0.2.1:9")), Err(NetError::NewSocketLimit));
    drop(open);
    a.connect_tcp(at("10.244.0.0:6443")).await.unwrap();
}

#[tokio::test]
async fn a_request_to_a_service_is_a_function_call() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let echo = Arc::new(Echo::default());
    let guard = net.serve_http(b.ip(), 8080, echo.clone()).unwrap();
    assert_eq!(net.serve_http(b.ip(), 8080, echo.clone()).err(), Some(NetError::AddressInUse));
    set_web(&net, &[(2, true)]);
    let request = Request::post("http://web:80/x?y=1").body(full("body")).unwrap();
    let response = a.send_http(request, HttpOptions::default()).await.unwrap();
    assert_eq!(text(response).await, " POST /x?y=1 web:80 body");
    {
        let seen = echo.seen.lock().unwrap();
        assert_eq!((seen[0].1.local, seen[0].1.peer.ip()), (at("10.244.0.2:8080"), a.ip()));
    }
    assert_eq!((a.tracker.len(), b.tracker.len()), (0, 0), "no stream was opened");
    let head = Request::head("http://10.244.0.2:8080/").body(empty()).unwrap();
    assert_eq!(text(a.send_http(head, HttpOptions::default()).await.unwrap()).await, "");
    let failed = a.send_http(get("http://10.244.0.2:8080/fail"), HttpOptions::default()).await;
    assert!(matches!(failed, Err(HttpError::Service(_))));
    let probe = net.request(Source::Node, at("10.244.0.2:8080"), get("/probe"), HttpOptions::default()).await.unwrap();
    assert_eq!(text(probe).await, " GET /probe 10.244.0.2:8080 ");
    // Its own containers reach it over loopback.
    let own = b.send_http(get("http://localhost:8080/"), HttpOptions::default()).await.unwrap();
    assert_eq!(own.status(), StatusCode::OK);
    drop(guard);
    let gone = a.send_http(get("http://10.244.0.2:8080/"), HttpOptions::default()).await;
    assert!(matches!(gone, Err(HttpError::Connect(NetError::ConnectionRefused))));
}

#[tokio::test]
async fn plain_bytes_reach_a_service_as_well() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let _guard = net.serve_http(b.ip(), 8080, Arc::new(Echo::default())).unwrap();
    let mut conn = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    conn.stream.write_all(b"GET /raw HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut back = String::new();
    conn.stream.read_to_string(&mut back).await.unwrap();
    assert!(back.starts_with("HTTP/1.1 200 OK\r\n") && back.ends_with("\r\n\r\n GET /raw h "), "{back}");
    let mut conn = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    conn.stream.write_all(b"GET /fail HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    back.clear();
    conn.stream.read_to_string(&mut back).await.unwrap();
    assert!(back.starts_with("HTTP/1.1 500 "), "{back}");
}

/// A guest that serves HTTP over its own socket; says how many connections it took.
pub(crate) fn tcp_server(pod: &Arc<PodHandle>, h2: bool) -> Arc<AtomicU64> {
    let listener = pod.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            let io = hyper_util::rt::TokioIo::new(conn.stream);
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let (head, body) = request.into_parts();
                if head.uri.path() == "/silent" {
                    std::future::pending::<()>().await;
                }
                let forwarded = head.headers.get("x-forwarded-for").map_or("-", |v| v.to_str().unwrap()).to_string();
                let body = body.collect().await?.to_bytes();
                let text =
                    format!("{:?} {} {forwarded} {}", head.version, head.uri.path(), String::from_utf8_lossy(&body));
                Ok::<_, hyper::Error>(Response::new(http_body_util::Full::new(Bytes::from(text))))
            });
            tokio::spawn(async move {
                if h2 {
                    let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                    drop(server.serve_connection(io, service).await);
                } else {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                }
            });
        }
    });
    count
}

#[tokio::test]
async fn connections_to_tcp_guests_are_kept() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let count = tcp_server(&b, false);
    for i in 0..5 {
        let uri = format!("http://10.244.0.2:8080/{i}");
        let request = Request::post(uri).body(full("hello")).unwrap();
        let response = a.send_http(request, HttpOptions::default()).await.unwrap();
        assert_eq!(text(response).await, format!("HTTP/1.1 /{i} - hello"));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    // The server's end closes; the next request takes a new connection and nobody notices.
    net.detach("uid-2");
    let b = attach(&net, 2);
    let count = tcp_server(&b, false);
    let response = a.send_http(get("http://10.244.0.2:8080/again"), HttpOptions::default()).await.unwrap();
    assert_eq!(text(response).await, "HTTP/1.1 /again - ");
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn app_protocol_h2c_is_spoken() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let count = tcp_server(&b, true);
    let (services, slices) = web(&[(2, true)], json!({"appProtocol": "kubernetes.io/h2c"}));
    let none: &[Object] = &[];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    for _ in 0..2 {
        let response = a.send_http(get("http://10.96.0.7/x"), HttpOptions::default()).await.unwrap();
        assert_eq!(text(response).await, "HTTP/2.0 /x - ");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    tcp_server(&b, false);
    let options = HttpOptions { first_byte_timeout: Duration::from_secs(5), ..HttpOptions::default() };
    let result = a.send_http(get("http://10.244.0.2:8080/silent"), options).await;
    assert!(matches!(result, Err(HttpError::ResponseTimeout)));
}

#[tokio::test]
async fn https_with_the_clusters_own_ca() {
    let names = vec!["web.shop.svc.cluster.local".to_string()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.clone_key())
            .unwrap();
        server.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let tls = Arc::new(crate::client_config([cert.der().clone()]).unwrap());
        let net = Network::new(NetworkConfig { tls: Some(tls), upstream: Arc::new(Fixed), ..NetworkConfig::default() });
        set_web(&net, &[(2, true)]);
        let (a, b) = (attach(&net, 1), attach(&net, 2));
        let listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
        tokio::spawn(async move {
            while let Ok(conn) = listener.accept().await {
                let Ok(stream) = acceptor.accept(conn.stream).await else { continue };
                let info = ConnInfo { local: conn.local, peer: conn.peer };
                struct Front(Arc<Echo>, ConnInfo);
                impl crate::protocol::Handle for Front {
                    async fn handle(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
                        let version = request.version();
                        let mut request = request.map(crate::body::incoming);
                        request.extensions_mut().insert(self.1);
                        let mut response = self.0.handle(request).await.unwrap();
                        response.headers_mut().insert("x-version", format!("{version:?}").parse().unwrap());
                        response
                    }
                }
                let front = Arc::new(Front(Arc::new(Echo::default()), info));
                let limits = crate::protocol::Limits::default();
                tokio::spawn(async move {
                    drop(crate::protocol::serve(stream, front, &limits, std::future::pending()).await);
                });
            }
        });
        let options = HttpOptions { tls: true, ..HttpOptions::default() };
        let uri = "https://web.shop.svc.cluster.local:80/s";
        for _ in 0..2 {
            let response = a.send_http(get(uri), options.clone()).await.unwrap();
            let want = if alpn == b"h2" { "HTTP/2.0" } else { "HTTP/1.1" };
            assert_eq!(response.headers()["x-version"], want);
        }
        assert_eq!(a.tracker.len(), 1, "the connection is kept");
        let other = a.send_http(get("https://web.shop:80/s"), options).await;
        assert!(matches!(other, Err(HttpError::Tls(_))), "the certificate is for another name");
    }
}

#[tokio::test]
async fn an_exposed_host_address_is_an_endpoint() {
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let net = network();
    let a = attach(&net, 1);
    let alias = at("10.244.0.0:6443");
    assert_eq!(a.connect_tcp(alias).await.unwrap_err(), NetError::RemoteUnreachable);
    net.expose_host(alias, host.local_addr().unwrap());
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"name": "http", "port": 6443}],
        "endpoints": [{"addresses": ["10.244.0.0"]}]});
    let (services, _) = web(&[], json!({}));
    let none: &[Object] = &[];
    let slices = [object("endpointslices", "web", slice)];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    for to in [alias, at("10.96.0.7:80")] {
        let mut conn = a.connect_tcp(to).await.unwrap();
        assert_eq!((conn.peer, conn.local.ip()), (to, a.ip()));
        let (mut server, _) = host.accept().await.unwrap();
        conn.stream.write_all(b"hi").await.unwrap();
        conn.stream.shutdown().await.unwrap();
        let mut got = String::new();
        server.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hi");
    }
    assert_eq!(a.connect_tcp(at("10.244.0.0:6444")).await.unwrap_err(), NetError::RemoteUnreachable);
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let _guard = net.serve_http(b.ip(), 443, Arc::new(Echo::default())).unwrap();
    let options = HttpOptions { tls: true, ..HttpOptions::default() };
    let result = a.send_http(get("https://10.244.0.2/"), options).await;
    assert!(matches!(result, Err(HttpError::Tls(_))), "plain text is no TLS");
}

#[tokio::test]
async fn names() {
    let net = network();
    set_web(&net, &[(2, true)]);
    let a = attach(&net, 1);
    for (name, want) in [
        ("web", Ok("10.96.0.7")),
        ("WEB.shop", Ok("10.96.0.7")),
        ("web.shop.svc.cluster.local.", Ok("10.96.0.7")),
        ("ext", Ok("192.0.2.7")),
        ("www.example.com", Ok("192.0.2.7")),
        ("slow.example.com", Err(NetError::TemporaryResolverFailure)),
        ("missing", Err(NetError::NameUnresolvable)),
        ("web.", Err(NetError::NameUnresolvable)),
        ("", Err(NetError::NameUnresolvable)),
        ("a..b", Err(NetError::NameUnresolvable)),
        ("bad name", Err(NetError::NameUnresolvable)),
        ("pod-1", Ok("10.244.0.1")),
        ("localhost", Ok("127.0.0.1")),
        ("x.LocalHost.", Ok("127.0.0.1")),
        ("192.0.2.1", Ok("192.0.2.1")),
        ("[2001:db8::1]", Ok("2001:db8::1")),
    ] {
        let got = a.resolve(name).await;
        assert_eq!(got, want.map(|w| vec![ip(w)]), "{name}");
    }
}

/// Answers from a zone of another domain on a pod's UDP port, and refuses what is not in it.
fn serve_names(pod: &Arc<PodHandle>) {
    let db = object("services", "db", json!({"spec": {"clusterIP": "10.96.0.99"}}));
    let config = dns::Config { domain: "corp.example".into(), ..dns::Config::default() };
    let zone = Zone::build(Vec::new(), vec![&db], Vec::new(), config);
    let socket = pod.bind_udp(at("0.0.0.0:5353")).unwrap();
    tokio::spawn(async move {
        while let Ok(asked) = socket.recv_from().await {
            let dns::Reading::Question(question) = dns::Question::read(&asked.data) else { panic!() };
            let mut answer = Vec::new();
            if !zone.answer(&question, dns::Room { bytes: 512, recursion: false }, &mut answer) {
                answer = asked.data.to_vec();
                answer[2..4].copy_from_slice(&[0x80, 5]);
            }
            socket.send_to(answer, asked.from).unwrap();
        }
    });
}

#[tokio::test]
async fn pods_resolve_by_rules_of_their_own() {
    let net = network();
    set_web(&net, &[(2, true)]);
    serve_names(&attach(&net, 2));
    let pod = |n: u8, servers: &[NameServer], search: &[&str]| {
        let like = attach(&net, n).identity().clone();
        let search = search.iter().map(ToString::to_string).collect();
        net.attach(Identity { dns: Dns { servers: servers.to_vec(), search, ndots: 1 }, ..like })
    };
    // By the Service whose endpoint is the pod.
    let own = NameServer::At(ip("10.96.0.7"));
    let none = pod(3, &[own], &["shop.svc.corp.example"]);
    let both = pod(4, &[own, NameServer::Cluster], &[]);
    let host = pod(5, &[NameServer::Host], &[]);
    let (found, unknown) = (|w| Ok(vec![ip(w)]), || Err(NetError::NameUnresolvable));
    for (pod, name, want) in [
        (&none, "db", found("10.96.0.99")),
        (&none, "db.shop.svc.corp.example.", found("10.96.0.99")),
        (&none, "no.shop.svc.corp.example.", unknown()),
        (&none, "web.shop.svc.cluster.local", Err(NetError::TemporaryResolverFailure)),
        (&both, "web.shop.svc.cluster.local", found("10.96.0.7")),
        (&both, "no.shop.svc.cluster.local", unknown()),
        (&host, "web.shop.svc.cluster.local", unknown()),
        (&host, "on-host", found("198.51.100.1")),
        (&host, "localhost", found("127.0.0.1")),
    ] {
        assert_eq!(pod.resolve(name).await, want, "{name}");
    }
}

#[tokio::test]
async fn datagrams() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    set_web(&net, &[(2, true)]);
    let server = b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let client = a.bind_udp(at("0.0.0.0:0")).unwrap();
    client.send_to("direct", at("10.244.0.2:5353")).unwrap();
    let got = server.recv_from().await.unwrap();
    assert_eq!((got.from.ip(), &got.data[..]), (a.ip(), &b"direct"[..]));
    // Through a Service: the answer comes from whom was asked.
    client.send_to("by name", at("10.96.0.7:53")).unwrap();
    let got = server.recv_from().await.unwrap();
    server.send_to("answer", got.from).unwrap();
    assert_eq!(client.recv_from().await.unwrap().from, at("10.96.0.7:53"));
    assert_eq!(client.send_to("x", at("10.244.0.2:9")).unwrap_err(), NetError::ConnectionRefused);
    assert_eq!(client.send_to(vec![0; 65_508], at("10.244.0.2:5353")).unwrap_err(), NetError::DatagramTooLarge);
    // What nobody reads is dropped at some point, not kept.
    for _ in 0..1000 {
        client.send_to(vec![0; 1000], at("10.244.0.2:5353")).unwrap();
    }
    let kept = std::iter::from_fn(|| server.try_recv_from().unwrap()).count();
    assert!((100..300).contains(&kept), "{kept}");
    drop(server);
    assert!(b.bind_udp(at("0.0.0.0:5353")).is_ok());
}

/// A pod that serves `Echo` on port 8080.
fn echo_pod(net: &Network, n: u8) -> (Arc<PodHandle>, Arc<Echo>, ServeGuard) {
    let pod = attach(net, n);
    let echo = Arc::new(Echo { name: format!("e{n}"), ..Echo::default() });
    let guard = net.serve_http(pod.ip(), 8080, echo.clone()).unwrap();
    (pod, echo, guard)
}

async fn by_vip(pod: &Arc<PodHandle>) -> Result<String, HttpError> {
    Ok(text(pod.send_http(get("http://10.96.0.7/"), HttpOptions::default()).await?).await)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_meets_a_stopped_endpoint_goes_to_another_one() {
    let net = network();
    let client = attach(&net, 100);
    // More of them are gone than a connection outside would be tried.
    let all: Vec<u8> = (1..=9).collect();
    set_web(&net, &all.iter().map(|n| (*n, true)).collect::<Vec<_>>());
    let pods: Vec<_> = all.iter().map(|n| echo_pod(&net, *n)).collect();
    for (i, (pod, echo, _)) in pods[..8].iter().enumerate() {
        match i % 2 {
            0 => echo.stopped.store(true, Ordering::Relaxed),
            _ => net.detach(&pod.identity().uid),
        }
    }
    for _ in 0..18 {
        assert!(by_vip(&client).await.unwrap().starts_with("e9 "));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_only_endpoint_is_waited_for_but_not_for_ever() {
    let net = network();
    let client = attach(&net, 100);
    set_web(&net, &[(1, true)]);
    let (_pod, _echo, guard) = echo_pod(&net, 1);
    drop(guard);
    let asked = Instant::now();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { by_vip(&client).await })
        })
        .collect();
    let mut tcp = {
        let client = client.clone();
        tokio::spawn(async move { client.connect_tcp(at("10.96.0.7:80")).await })
    };
    assert!(tokio::time::timeout(net.0.config.hold / 2, &mut tcp).await.is_err(), "it waits");
    let (_pod, _echo, guard) = echo_pod(&net, 1);
    for request in waiting {
        assert!(request.await.unwrap().unwrap().starts_with("e1 "));
    }
    tcp.await.unwrap().unwrap();
    assert_eq!(net.0.waiting.load(Ordering::Relaxed), 0);
    // An endpoint that stays away, and one that is not ready, are waited for in vain.
    drop(guard);
    assert!(matches!(by_vip(&client).await, Err(HttpError::Connect(NetError::ConnectionRefused))));
    set_web(&net, &[(1, false)]);
    assert!(by_vip(&client).await.is_err());
    assert!(asked.elapsed() >= net.0.config.hold * 2);
    // Without endpoints there is nothing to wait for.
    set_web(&net, &[]);
    let asked = Instant::now();
    assert!(by_vip(&client).await.is_err());
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_kept_connection_to_a_service_outlives_its_endpoints() {
    let net = network();
    let client = attach(&net, 100);
    set_web(&net, &[(1, true)]);
    let one = echo_pod(&net, 1);
    let mut conn = client.connect_tcp(at("10.96.0.7:80")).await.unwrap();
    let mut ask = async |want: &str| {
        conn.stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
        let mut back = Vec::new();
        while !String::from_utf8_lossy(&back).contains(want) {
            back.push(conn.stream.read_u8().await.unwrap());
        }
    };
    ask("e1 GET / web").await;
    set_web(&net, &[(2, true)]);
    let _two = echo_pod(&net, 2);
    net.detach("uid-1");
    drop(one);
    ask("e2 GET / web").await;
}

#[tokio::test]
async fn a_new_stream_goes_where_fewer_are_open() {
    let net = network();
    let client = attach(&net, 100);
    set_web(&net, &[(1, true), (2, true)]);
    let servers = [1, 2].map(|n| attach(&net, n).listen_tcp(at("0.0.0.0:8080")).unwrap());
    let open = async || {
        let near = client.connect_tcp(at("10.96.0.7:80")).await.unwrap();
        tokio::select! {
            far = servers[0].accept() => (1, near, far.unwrap()),
            far = servers[1].accept() => (2, near, far.unwrap()),
        }
    };
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(open().await);
    }
    assert_eq!(all.iter().filter(|(to, ..)| *to == 1).count(), 5);
    all.retain(|(to, ..)| *to == 2);
    for _ in 0..5 {
        all.push(open().await);
        assert_eq!(all.last().unwrap().0, 1, "the other one has five more");
    }
}

#[tokio::test]
async fn clients_that_come_by_turns_reach_every_endpoint() {
    let net = network();
    let clients = [attach(&net, 100), attach(&net, 101)];
    set_web(&net, &[(1, true), (2, true)]);
    let _pods = [echo_pod(&net, 1), echo_pod(&net, 2)];
    let mut reached = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..64 {
        for (client, reached) in clients.iter().zip(&mut reached) {
            reached.insert(by_vip(client).await.unwrap()[..2].to_string());
        }
    }
    assert!(reached.iter().all(|reached| reached.len() == 2), "{reached:?}");
}

/// Fails, and counts.
#[derive(Default)]
struct Broken(std::sync::atomic::AtomicUsize);

#[async_trait]
impl HttpService for Broken {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(ServiceError::Failed("broken".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_again_and_again_is_passed_over_for_a_growing_time() {
    let net = network();
    let client = attach(&net, 100);
    set_web(&net, &[(1, true), (2, true)]);
    let _two = echo_pod(&net, 2);
    let one = attach(&net, 1);
    let broken = Arc::new(Broken::default());
    let guard = net.serve_http(one.ip(), 8080, broken.clone()).unwrap();
    let ask = async || {
        for _ in 0..40 {
            let before = broken.0.load(Ordering::Relaxed);
            let answered = by_vip(&client).await;
            assert_eq!(answered.is_err(), broken.0.load(Ordering::Relaxed) > before, "the other one answers");
        }
        broken.0.swap(0, Ordering::Relaxed)
    };
    assert_eq!(ask().await, 5);
    assert_eq!(ask().await, 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask().await, 5, "it gets another chance");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask().await, 0, "and is then out for longer");
    // Somebody new listens there: that one has failed nobody.
    drop(guard);
    let _one = echo_pod(&net, 1);
    let mut said = Vec::new();
    for _ in 0..64 {
        said.push(by_vip(&client).await.unwrap());
    }
    assert!(said.iter().any(|said| said.starts_with("e1 ")), "{said:?}");
}
