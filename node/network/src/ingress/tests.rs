use std::sync::atomic::Ordering;

use copepod_model::Object;
use copepod_node_routes as routes;
use copepod_node_routes::RouteTable;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::network::tests::{Echo, attach, network, object, tcp_server, web};
use crate::{Network, NetworkConfig, PodHandle};

mod access;
mod gateway;
mod streams;

struct World {
    network: Network,
    addr: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

fn routes(network: &Network, endpoints: &[(u8, bool)], app_protocol: Value) {
    let (services, slices) = web(endpoints, json!({"appProtocol": app_protocol}));
    let path = |path: &str, name: &str| json!({"pathType": "Prefix", "path": path, "backend": {"service": {"name": name, "port": {"number": 80}}}});
    let spec = json!({"rules": [{"host": "shop.test", "http": {"paths": [path("/", "web"), path("/gone", "gone")]}}]});
    let ingresses = [object("ingresses", "shop", json!({"spec": spec}))];
    let none: &[Object] = &[];
    let table = RouteTable::build(&services, &slices, &ingresses, none, routes::Config::default());
    network.set_routes(Arc::new(table));
}

async fn world(endpoints: &[(u8, bool)], config: IngressConfig) -> World {
    let network = network();
    routes(&network, endpoints, Value::Null);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = Ingress::serve(listener, network.clone(), config, async { drop(stopped.await) });
    World { network, addr, stop: Some(stop), served: tokio::spawn(serving) }
}

fn echo(network: &Network, n: u8) -> (Arc<PodHandle>, Arc<Echo>, crate::ServeGuard) {
    let pod = attach(network, n);
    let echo = Arc::new(Echo { name: format!("e{n}"), ..Echo::default() });
    let guard = network.serve_http(pod.ip(), 8080, echo.clone()).unwrap();
    (pod, echo, guard)
}

/// Sends bytes and reads until the server closes.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(world.addr).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    // A server that closes with our bytes unread resets the connection after its answer.
    let _ = tcp.read_to_end(&mut back).await;
    String::from_utf8_lossy(&back).into_owned()
}

async fn get(world: &World, host: &str, target: &str) -> String {
    raw(world, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn requests_go_where_the_rules_say() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let (_pod, echo, _guard) = echo(&w.network, 1);
    let ok = get(&w, "Shop.Test:8080", "/a?b=c").await;
    assert!(ok.starts_with("HTTP/1.1 200 OK\r\n") && ok.ends_with("e1 GET /a?b=c Shop.Test:8080 "), "{ok}");
    assert!(echo.seen.lock().unwrap()[0].1.peer.ip().is_loopback(), "the service learns who asks");
    let absolute = get(&w, "other", "http://shop.test/a").await;
    assert!(absolute.ends_with("e1 GET /a shop.test "), "the target's authority counts: {absolute}");
    let missing = get(&w, "other.test", "/").await;
    assert!(status(&missing) == "404" && missing.ends_with("default backend - 404"), "{missing}");
    for (request, want) in [
        ("GET /gone HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", "503"),
        ("GET /fail HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", "502"),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400"),
        ("CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", "405"),
        ("GET / HTTP/1.0\r\n\r\n", "404"),
        ("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        assert_eq!(status(&raw(&w, request.as_bytes()).await), want, "{request}");
    }
    let head = raw(&w, b"HEAD / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(status(&head) == "200" && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn all_listeners_share_the_room_for_connections() {
    let network = Network::new(NetworkConfig { incoming: 1, ..NetworkConfig::default() });
    routes(&network, &[(1, true)], Value::Null);
    let _echo = echo(&network, 1);
    let mut doors = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        doors.push(listener.local_addr().unwrap());
        tokio::spawn(Ingress::serve(listener, network.clone(), IngressConfig::default(), std::future::pending()));
    }
    async fn ask(tcp: &mut TcpStream) {
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        tcp.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    // That nobody comes to the other doors keeps nothing from this one.
    let mut first = TcpStream::connect(doors[0]).await.unwrap();
    ask(&mut first).await;
    assert_eq!(network.0.incoming.available_permits(), 0);
    let mut second = TcpStream::connect(doors[1]).await.unwrap();
    let asking = tokio::spawn(async move { ask(&mut second).await });
    let mut third = TcpStream::connect(doors[0]).await.unwrap();
    drop(first);
    asking.await.unwrap();
    ask(&mut third).await;
}

#[tokio::test]
async fn an_external_name_is_resolved_and_asked_by_the_clients_host() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let _one = echo(&w.network, 1);
    let (mut services, slices) = web(&[(1, true)], json!({}));
    let named = |name: &str, external: &str, port: u16| {
        let spec = json!({"type": "ExternalName", "externalName": external, "ports": [{"port": port}]});
        object("services", name, json!({"spec": spec}))
    };
    services.extend([
        named("own", "web.shop.svc.cluster.local", 80),
        named("out", "www.example.com", 81),
        named("host", "localhost", w.addr.port()),
        named("lost", "nobody.example.com", 80),
        named("loop", "www.example.com", 82),
    ]);
    let rule = |name: &str, port: u16| {
        let backend = json!({"service": {"name": name, "port": {"number": port}}});
        json!({"host": name, "http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": backend}]}})
    };
    let rules = [rule("own", 80), rule("out", 81), rule("host", w.addr.port()), rule("lost", 80), rule("loop", 82)];
    let ingresses = [object("ingresses", "x", json!({"spec": {"rules": rules}}))];
    let none: &[Object] = &[];
    let table = RouteTable::build(&services, &slices, &ingresses, none, routes::Config::default());
    w.network.set_routes(Arc::new(table));
    let zone = copepod_dns_zone::Zone::build(Vec::new(), services.iter(), slices.iter(), Default::default());
    w.network.set_zone(Arc::new(zone));

    let own = get(&w, "own", "/a").await;
    assert!(status(&own) == "200" && own.ends_with("e1 GET /a own "), "a name of the cluster leads into it: {own}");

    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    w.network.expose_host("192.0.2.7:81".parse().unwrap(), outside.local_addr().unwrap());
    let answers = tokio::spawn(async move {
        let (mut tcp, _) = outside.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let claims = "X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Proto: wss\r\nX-Forwarded-Port: 6666\r\n";
    let request = format!("GET /b HTTP/1.1\r\nHost: out\r\n{claims}Connection: close\r\n\r\n");
    let out = raw(&w, request.as_bytes()).await;
    assert!(status(&out) == "200" && out.ends_with("hi"), "{out}");
    let head = answers.await.unwrap();
    assert!(head.starts_with("get /b http/1.1\r\n") && head.contains("\r\nhost: out\r\n"), "{head}");
    let port = w.addr.port().to_string();
    for (name, value) in [
        ("forwarded", "for=127.0.0.1;proto=http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "out"),
        ("x-forwarded-port", port.as_str()),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        let said: Vec<&str> = head.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).collect();
        assert_eq!(said, [value], "{name}, whatever the client says: {head}");
    }

    w.network.expose_host("192.0.2.7:82".parse().unwrap(), w.addr);
    assert_eq!(status(&get(&w, "loop", "/").await), "508", "it leads back here");
    assert_eq!(status(&get(&w, "lost", "/").await), "502", "no such name");
    assert_eq!(status(&get(&w, "host", "/").await), "502", "the host's loopback is out of reach");
}

#[tokio::test]
async fn no_ready_endpoint_is_503_and_a_dead_one_is_passed_over() {
    let w = world(&[(1, false)], IngressConfig::default()).await;
    let _one = echo(&w.network, 1);
    assert_eq!(status(&get(&w, "shop.test", "/").await), "503");
    routes(&w.network, &[(1, true), (2, true)], Value::Null);
    for _ in 0..4 {
        assert_eq!(status(&get(&w, "shop.test", "/").await), "200");
    }
    w.network.detach("uid-1");
    assert_eq!(status(&get(&w, "shop.test", "/").await), "502");
}

#[tokio::test]
async fn bodies_reach_tcp_guests_over_kept_connections() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    let count = tcp_server(&pod, false);
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    for _ in 0..3 {
        tcp.write_all(
            b"POST /p HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await
        .unwrap();
        let mut back = vec![0; 1024];
        let mut n = 0;
        while !String::from_utf8_lossy(&back[..n]).contains("abc") {
            n += tcp.read(&mut back[n..]).await.unwrap();
        }
        let back = String::from_utf8_lossy(&back[..n]).into_owned();
        assert!(back.ends_with("HTTP/1.1 /p 127.0.0.1 abc"), "the client cannot say who it is: {back}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    routes(&w.network, &[(1, true)], json!("kubernetes.io/h2c"));
    w.network.detach("uid-1");
    let pod = attach(&w.network, 1);
    tcp_server(&pod, true);
    assert!(get(&w, "shop.test", "/h2").await.ends_with("HTTP/2.0 /h2 127.0.0.1 "));
}

#[tokio::test]
async fn a_client_may_wait_to_be_told_to_continue() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let _one = echo(&w.network, 1);
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    let head =
        b"POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    tcp.write_all(head).await.unwrap();
    let mut first = [0; 25];
    tcp.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"ok").await.unwrap();
    let mut back = String::new();
    tcp.read_to_string(&mut back).await.unwrap();
    assert!(back.ends_with("e1 POST / shop.test ok"), "{back}");
}

#[tokio::test]
async fn http2_with_prior_knowledge() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let _one = echo(&w.network, 1);
    let tcp = TcpStream::connect(w.addr).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://shop.test/two").body(Full::new(bytes::Bytes::from("x"))).unwrap();
    let response: Response<Incoming> = sender.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"e1 POST /two shop.test x");
}

#[tokio::test]
async fn limits_on_what_a_client_sends() {
    let config = IngressConfig { max_header_bytes: 8192, max_body_bytes: 1000, ..IngressConfig::default() };
    let w = world(&[(1, true), (2, true)], config).await;
    let _one = echo(&w.network, 1);
    let pod = attach(&w.network, 2);
    tcp_server(&pod, false);
    let long = format!("GET / HTTP/1.1\r\nHost: shop.test\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(status(&raw(&w, long.as_bytes()).await), "431");
    let many = format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{}\r\n", "A: b\r\n".repeat(200));
    assert_eq!(status(&raw(&w, many.as_bytes()).await), "431");
    let declared = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1001\r\n\r\n";
    assert_eq!(status(&raw(&w, declared).await), "413");
    let chunk = format!("400\r\n{}\r\n0\r\n\r\n", "a".repeat(1024));
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}");
    // One endpoint is called and fails, the other one is connected to: it is the client's doing both times.
    for _ in 0..16 {
        assert_eq!(status(&raw(&w, chunked.as_bytes()).await), "413");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_not_waited_for() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    tcp_server(&pod, false);
    for (sent, answer) in [
        // Says nothing, says half a preface, says half a head, stays after its answer.
        (&b""[..], "none"),
        (b"PRI * HTTP/2", "none"),
        (b"GET / HTTP/1.1\r\nHost: sh", "none"),
        (b"GET /idle HTTP/1.1\r\nHost: shop.test\r\n\r\n", "200"),
        (b"GET /silent HTTP/1.1\r\nHost: shop.test\r\n\r\n", "504"),
        (b"POST /slow HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nabc", "408"),
    ] {
        let started = tokio::time::Instant::now();
        let response = raw(&w, sent).await;
        assert_eq!(status(&response), answer, "{}", String::from_utf8_lossy(sent));
        assert!(started.elapsed() >= Duration::from_secs(60), "virtual time passed");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ingress_has_limits_of_its_own() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    tcp_server(&pod, false);
    let (services, slices) = web(&[(1, true)], Value::Null);
    let spec = json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}});
    let annotations = json!({"nginx.ingress.kubernetes.io/proxy-body-size": "1k",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "5", "copepod.dev/proxy-send-timeout": "7"});
    let ingress = object("ingresses", "shop", json!({"metadata": {"annotations": annotations}, "spec": spec}));
    let none: &[Object] = &[];
    let table = RouteTable::build(&services, &slices, &[ingress], none, routes::Config::default());
    w.network.set_routes(Arc::new(table));
    for (sent, answer, seconds) in [
        (&b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1025\r\n\r\n"[..], "413", 0),
        (b"GET /silent HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n", "504", 5),
        (b"POST /slow HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc", "408", 7),
    ] {
        let started = tokio::time::Instant::now();
        let response = raw(&w, sent).await;
        assert_eq!(status(&response), answer, "{}", String::from_utf8_lossy(sent));
        assert_eq!(started.elapsed().as_secs(), seconds, "{answer}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes() {
    let w = world(&[(1, true)], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    let listener = pod.listen_tcp("0.0.0.0:8080".parse().unwrap()).unwrap();
    tokio::spawn(async move {
        let mut conn = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(conn.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        conn.stream.write_all(answer).await.unwrap();
        let (mut r, mut w) = tokio::io::split(conn.stream);
        let _ = tokio::io::copy(&mut r, &mut w).await;
    });
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    let request =
        b"GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    tcp.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    tcp.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

#[tokio::test]
async fn shutdown_finishes_what_was_begun() {
    let mut w = world(&[(1, true)], IngressConfig::default()).await;
    let _one = echo(&w.network, 1);
    let mut idle = TcpStream::connect(w.addr).await.unwrap();
    let mut busy = TcpStream::connect(w.addr).await.unwrap();
    busy.write_all(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    // A third request shows that both connections were accepted before.
    assert_eq!(status(&get(&w, "shop.test", "/").await), "200");
    drop(w.stop.take());
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    busy.write_all(b"cd").await.unwrap();
    let mut back = String::new();
    busy.read_to_string(&mut back).await.unwrap();
    assert!(back.ends_with("abcd"), "{back}");
    w.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(w.addr).await.is_err());
}
