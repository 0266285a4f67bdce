//! TLSRoutes and TCPRoutes, from a client's socket to a pod.

use copepod_model::gateway::{HTTP_ROUTES, TCP_ROUTES, TLS_ROUTES};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::access::Kept;
use super::gateway::{Shows, backend, follow_all};
use super::*;
use crate::network::tests::at;
use crate::{HostListeners, Listener};

/// TLS of a server with these names, and of a client that trusts it alone.
fn tls(names: &[&str]) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key);
    let mut server = server.unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

/// An ingress over TLS.
async fn secure(tls: Arc<ServerConfig>) -> World {
    world(&[], IngressConfig { tls: Some(tls), ..IngressConfig::default() }).await
}

async fn connect(w: &World, tls: &Arc<ClientConfig>, name: &str) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(w.addr).await?;
    TlsConnector::from(tls.clone()).connect(ServerName::try_from(name.to_string()).unwrap(), tcp).await
}

fn listener(name: &str, host: Option<&str>, mode: &str) -> Value {
    let certificates = if mode == "Terminate" { json!([{"name": "c"}]) } else { json!([]) };
    let tls = json!({"mode": mode, "certificateRefs": certificates});
    json!({"name": name, "port": 443, "protocol": "TLS", "hostname": host, "tls": tls})
}

fn to(hosts: &[&str], backends: &[(&str, u32)]) -> Value {
    let backends: Vec<Value> = backends.iter().map(|(name, weight)| backend(name, *weight)).collect();
    json!({"hostnames": hosts, "rules": [{ "backendRefs": backends }]})
}

/// The port of pod N to which the Services lead.
fn listen(w: &World, n: u8) -> Listener {
    attach(&w.network, n).listen_tcp(at("0.0.0.0:8080")).unwrap()
}

#[tokio::test]
async fn tls_is_passed_on_by_its_name() {
    let ((ingress, _), (theirs, trusting)) = (tls(&["ingress.test"]), tls(&["a.test", "gone.test"]));
    let w = secure(ingress).await;
    let pod = listen(&w, 1);
    let routes = [(TLS_ROUTES, to(&["a.test"], &[("one", 1)])), (TLS_ROUTES, to(&["gone.test"], &[("two", 1)]))];
    follow_all(&w.network, json!([listener("pass", None, "Passthrough")]), &routes);
    let server = tokio::spawn(async move {
        let conn = pod.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(theirs).accept(conn.stream).await.unwrap();
        let mut got = String::new();
        tls.read_to_string(&mut got).await.unwrap();
        tls.write_all(format!("got {got}").as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
        (pod, conn.peer)
    });
    let mut there = connect(&w, &trusting, "a.test").await.unwrap();
    let own = there.get_ref().0.local_addr().unwrap();
    there.write_all(b"asked").await.unwrap();
    // One direction is closed, the other one goes on.
    there.shutdown().await.unwrap();
    let mut back = String::new();
    there.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "got asked");
    let (_pod, seen) = server.await.unwrap();
    assert_eq!(seen, own, "the pod sees the client");

    let error = connect(&w, &trusting, "z.test").await.unwrap_err();
    let alert = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    assert_eq!(alert, Some(&rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)));
    let error = connect(&w, &trusting, "gone.test").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "nobody is there");
}

#[tokio::test]
async fn tls_that_ends_here_leads_to_bytes_or_to_requests() {
    let (ingress, trusting) = tls(&["ends.test", "web.test"]);
    let w = secure(ingress).await;
    let (one, two) = (listen(&w, 1), attach(&w.network, 2));
    let _two = w.network.serve_http(two.ip(), 8080, Arc::new(Shows("two"))).unwrap();
    let https = json!({"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "web.test",
        "tls": {"certificateRefs": [{"name": "c"}]}});
    follow_all(
        &w.network,
        json!([listener("ends", Some("ends.test"), "Terminate"), https]),
        &[(TLS_ROUTES, to(&["ends.test"], &[("one", 1)])), (HTTP_ROUTES, to(&[], &[("two", 1)]))],
    );
    // What the client speaks inside is its own business.
    let mut speaks = ClientConfig::clone(&trusting);
    speaks.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut there = connect(&w, &Arc::new(speaks), "ends.test").await.unwrap();
    there.write_all(b"asked").await.unwrap();
    let mut conn = one.accept().await.unwrap();
    let mut got = [0; 5];
    conn.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"asked", "in clear text");
    conn.stream.write_all(b"answered").await.unwrap();
    drop(conn);
    let mut back = String::new();
    there.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "answered");

    let mut there = connect(&w, &trusting, "web.test").await.unwrap();
    there.write_all(b"GET /x HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut back = String::new();
    there.read_to_string(&mut back).await.unwrap();
    assert!(back.ends_with("two /x web.test  "), "{back}");
}

/// A port that is free, or was a moment ago, with a listener of a Gateway for bytes.
async fn opened(w: &World, routes: &[(&str, Value)]) -> (u16, HostListeners, Value) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = json!([{"name": "tcp", "port": port, "protocol": "TCP"}]);
    follow_all(&w.network, listener.clone(), routes);
    let mut listeners = HostListeners::new(w.network.clone(), vec!["127.0.0.1".parse().unwrap()]);
    // The ingress, which such ports are served by, has yet to come in.
    let come = async {
        while listeners.addresses().next().is_none() {
            tokio::task::yield_now().await;
            assert_eq!(listeners.apply().await, []);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), come).await.unwrap();
    assert_eq!(listeners.addresses().map(|at| at.addr.port()).collect::<Vec<_>>(), [port]);
    (port, listeners, listener)
}

#[tokio::test]
async fn bytes_are_carried_and_broken_off_as_either_side_does() {
    let w = world(&[], IngressConfig::default()).await;
    let pod = listen(&w, 1);
    let (port, _listeners, listener) = opened(&w, &[(TCP_ROUTES, to(&[], &[("one", 1)]))]).await;
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let mut tcp = connect().await.unwrap();
    tcp.write_all(b"asked").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut conn = pod.accept().await.unwrap();
    assert_eq!(conn.peer, tcp.local_addr().unwrap(), "the pod sees the client");
    let mut got = String::new();
    conn.stream.read_to_string(&mut got).await.unwrap();
    conn.stream.write_all(b"answered").await.unwrap();
    drop(conn);
    let mut back = String::new();
    tcp.read_to_string(&mut back).await.unwrap();
    assert_eq!((got.as_str(), back.as_str()), ("asked", "answered"));

    let mut tcp = connect().await.unwrap();
    pod.accept().await.unwrap().stream.reset();
    assert_eq!(tcp.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let tcp = connect().await.unwrap();
    let mut conn = pod.accept().await.unwrap();
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(tcp);
    assert_eq!(conn.stream.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    // The listener is there, and no route is any more.
    follow_all(&w.network, listener, &[]);
    let mut tcp = connect().await.unwrap();
    assert_eq!(tcp.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn weights_split_streams_and_what_leads_nowhere_is_reset() {
    let w = world(&[], IngressConfig::default()).await;
    let (one, two) = (listen(&w, 1), listen(&w, 2));
    let backends = json!([backend("one", 2), backend("two", 1), {"name": "b", "kind": "Bucket", "port": 80}]);
    let (port, _listeners, _) = opened(&w, &[(TCP_ROUTES, json!({"rules": [{ "backendRefs": backends }]}))]).await;
    for pod in [(one, "one"), (two, "two")] {
        tokio::spawn(async move {
            while let Ok(mut conn) = pod.0.accept().await {
                conn.stream.write_all(pod.1.as_bytes()).await.unwrap();
            }
        });
    }
    let mut counts = [0; 3];
    for _ in 0..40 {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut back = String::new();
        match tcp.read_to_string(&mut back).await {
            Ok(_) => counts[usize::from(back == "two")] += 1,
            Err(_) => counts[2] += 1,
        }
    }
    assert!((17..=23).contains(&counts[0]) && (7..=13).contains(&counts[1]), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hello_has_as_long_as_a_head() {
    let w = secure(tls(&["ingress.test"]).0).await;
    follow_all(&w.network, json!([listener("pass", None, "Passthrough")]), &[]);
    let started = tokio::time::Instant::now();
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    tcp.write_all(&[22, 3, 1]).await.unwrap();
    assert!(!tcp.read(&mut [0; 1]).await.is_ok_and(|n| n > 0), "it is closed");
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_for_a_moment_when_the_ingress_stops() {
    let mut w = world(&[], IngressConfig::default()).await;
    let pod = listen(&w, 1);
    let (port, _listeners, _) = opened(&w, &[(TCP_ROUTES, to(&[], &[("one", 1)]))]).await;
    let _tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut conn = pod.accept().await.unwrap();
    let started = tokio::time::Instant::now();
    w.stop.take().unwrap().send(()).unwrap();
    assert_eq!(conn.stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn each_stream_has_its_line_in_the_access_log() {
    let (kept, log) = Kept::log();
    let w = world(&[], IngressConfig { access_log: Some(log.clone()), ..IngressConfig::default() }).await;
    let pod = listen(&w, 1);
    let (port, _listeners, _) = opened(&w, &[(TCP_ROUTES, to(&[], &[("one", 1)]))]).await;
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(b"asked").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut conn = pod.accept().await.unwrap();
    conn.stream.read_to_string(&mut String::new()).await.unwrap();
    conn.stream.write_all(b"answered").await.unwrap();
    drop(conn);
    tcp.read_to_string(&mut String::new()).await.unwrap();
    let line = kept.line(&log, 0).await;
    for (field, want) in [
        ("client", json!("127.0.0.1")),
        ("scheme", json!("tcp")),
        ("port", json!(port)),
        ("name", Value::Null),
        ("receivedBytes", json!(5)),
        ("sentBytes", json!(8)),
        ("complete", json!(true)),
        ("service", json!("shop/one:80")),
    ] {
        assert_eq!(line[field], want, "{field}: {line}");
    }
    let time = line["time"].as_str().and_then(copepod_model::Time::parse);
    assert!(time.is_some() && line["duration"].is_number(), "{line}");

    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(b"ask").await.unwrap();
    let mut conn = pod.accept().await.unwrap();
    conn.stream.read_exact(&mut [0; 3]).await.unwrap();
    conn.stream.reset();
    let line = kept.line(&log, 1).await;
    assert_eq!((&line["receivedBytes"], &line["sentBytes"], &line["complete"]), (&json!(3), &json!(0), &json!(false)));
}

#[tokio::test]
async fn the_line_of_a_stream_over_tls_has_its_name_even_if_it_leads_nowhere() {
    let (kept, log) = Kept::log();
    let ((ingress, _), (theirs, trusting)) = (tls(&["ingress.test"]), tls(&["a.test", "gone.test"]));
    let config = IngressConfig { tls: Some(ingress), access_log: Some(log.clone()), ..IngressConfig::default() };
    let w = world(&[], config).await;
    let pod = listen(&w, 1);
    let routes = [(TLS_ROUTES, to(&["a.test"], &[("one", 1)])), (TLS_ROUTES, to(&["gone.test"], &[("two", 1)]))];
    follow_all(&w.network, json!([listener("pass", None, "Passthrough")]), &routes);
    let server = tokio::spawn(async move {
        let conn = pod.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(theirs).accept(conn.stream).await.unwrap();
        tls.read_to_string(&mut String::new()).await.unwrap();
        tls.shutdown().await.unwrap();
    });
    let mut there = connect(&w, &trusting, "a.test").await.unwrap();
    there.write_all(b"asked").await.unwrap();
    there.shutdown().await.unwrap();
    there.read_to_string(&mut String::new()).await.unwrap();
    server.await.unwrap();
    let line = kept.line(&log, 0).await;
    let told = |line: &Value| ["scheme", "name", "port", "service", "complete"].map(|field| line[field].clone());
    let want = |name: &str, service: &str, complete: bool| {
        [json!("tls"), json!(name), json!(w.addr.port()), json!(service), json!(complete)]
    };
    assert_eq!(told(&line), want("a.test", "shop/one:80", true), "{line}");
    let bytes = |line: &Value, field: &str| line[field].as_u64().unwrap();
    assert!(bytes(&line, "receivedBytes") > 100 && bytes(&line, "sentBytes") > 100, "TLS itself counts: {line}");

    connect(&w, &trusting, "gone.test").await.unwrap_err();
    let line = kept.line(&log, 1).await;
    assert_eq!(told(&line), want("gone.test", "shop/two:80", false), "{line}");
    assert_eq!((bytes(&line, "receivedBytes"), bytes(&line, "sentBytes")), (0, 0));
    // What no route is for was never a stream.
    connect(&w, &trusting, "z.test").await.unwrap_err();
    log.flush().await;
    assert_eq!(log.written(), 2);
}
