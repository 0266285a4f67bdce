//! Probes against servers in the pod network.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_node_network::{Identity, NetworkConfig, PodHandle, Stream, Upstream};
use futures_util::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;

const SECOND: Duration = Duration::from_secs(20);

/// `web.example` is the pod; about `slow.example` nobody ever answers.
struct Names;

#[async_trait]
impl Upstream for Names {
    async fn lookup(&self, name: &str, _: IpAddr) -> Result<Vec<IpAddr>, NetError> {
        match name {
            "web.example" => Ok(vec!["10.244.0.5".parse().unwrap()]),
            "slow.example" => std::future::pending().await,
            _ => Err(NetError::NameUnresolvable),
        }
    }
}

fn network() -> (Network, Arc<PodHandle>) {
    let network = Network::new(NetworkConfig { upstream: Arc::new(Names), ..NetworkConfig::default() });
    let pod = network.attach(Identity {
        uid: "u".into(),
        namespace: "d".into(),
        name: "p".into(),
        service_account: "default".into(),
        ip: "10.244.0.5".parse().unwrap(),
        second_ip: None,
        hostname: "p".into(),
        dns: Default::default(),
        hosts: Vec::new(),
        host_ports: Vec::new(),
        interface: None,
    });
    (network, pod)
}

async fn health(request: ::http::Request<Incoming>) -> Result<::http::Response<frames::Body>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["user-agent"], "kube-probe/1.35");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let status = if asked[..] == [0, 0, 0, 0, 0] { 1 } else { 2 };
    let mut trailers = ::http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(::http::Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

/// The type of a body made of given frames.
mod frames {
    pub type Frames = futures_util::stream::Iter<
        std::array::IntoIter<Result<hyper::body::Frame<bytes::Bytes>, std::convert::Infallible>, 2>,
    >;
    pub type Body = http_body_util::StreamBody<Frames>;
}

/// Serves what connects to a port of the pod.
fn serve<F>(pod: &Arc<PodHandle>, port: u16, serve: impl Fn(Stream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = pod.listen_tcp(SocketAddr::new("0.0.0.0".parse().unwrap(), port)).unwrap();
    tokio::spawn(async move {
        loop {
            while let Ok(Some(conn)) = listener.try_accept() {
                tokio::spawn(serve(conn.stream));
            }
            listener.ready().await;
        }
    });
}

#[tokio::test]
async fn grpc_health_is_asked_by_service() {
    let (network, pod) = network();
    serve(&pod, 50051, |stream| async {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service_fn(health)).await;
    });
    let ask = |port, service: &str| {
        let how = ProbeHow::Grpc { host: "10.244.0.5".into(), port, service: service.into() };
        let network = network.clone();
        async move { probe(&network, &how, SECOND).await }
    };
    assert_eq!(ask(50051, "").await, Ok(()));
    assert_eq!(ask(50051, "shop").await, Err("service unhealthy (responded with \"NOT_SERVING\")".into()));
    let refused =
        "error: failed to connect service at \"10.244.0.5:9\": dial tcp 10.244.0.5:9: connect: connection refused";
    assert_eq!(ask(9, "").await, Err(refused.into()));
}

/// `/` leads to `/there`, which leads to another host; `/bad` fails.
async fn redirecting(request: ::http::Request<Incoming>) -> Result<::http::Response<Full<Bytes>>, Infallible> {
    let agent = request.headers()["user-agent"].to_str().unwrap().to_string();
    let answer = ::http::Response::builder().header("x-agent", agent);
    let answer = match request.uri().path() {
        "/" => answer.status(302).header("location", "/there"),
        "/there" => answer.status(307).header("location", "http://elsewhere.example/"),
        "/round" => answer.status(302).header("location", "/round"),
        _ => answer.status(500),
    };
    Ok(answer.body(Full::default()).unwrap())
}

#[tokio::test]
async fn redirects_are_followed_on_the_host_only() {
    let (network, pod) = network();
    serve(&pod, 80, |stream| async {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(TokioIo::new(stream), service_fn(redirecting)).await;
    });
    let how = |path: &str| ProbeHow::Http {
        host: "10.244.0.5".into(),
        port: 80,
        path: path.into(),
        headers: Vec::new(),
        https: false,
    };
    assert_eq!(probe(&network, &how("/"), SECOND).await, Ok(()), "a redirect to another host counts as success");
    assert!(probe(&network, &how("/round"), SECOND).await.unwrap_err().contains("stopped after 10 redirects"));
    let bad = probe(&network, &how("/bad"), SECOND).await;
    assert_eq!(bad, Err("HTTP probe failed with statuscode: 500".into()));
    assert_eq!(hook(&network, &HookHow::Act(how("/bad")), SECOND).await, Ok(()), "a hook takes any answer");
}

/// Answers with the headers that it was sent, one a line; `/endless` sends a body that does not end, `/long` a long one, and
/// `/broken` one that breaks off.
async fn showing(request: ::http::Request<Incoming>) -> Result<::http::Response<BoxBody<Bytes, Broken>>, Infallible> {
    let shown: Vec<String> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let wanted = request.headers().get("x-want").map_or("", |v| v.to_str().unwrap());
    let missing = wanted.split(',').any(|line| !line.is_empty() && !shown.iter().any(|shown| shown == line));
    let frames: Vec<Result<Frame<Bytes>, Broken>> = match request.uri().path() {
        "/broken" => vec![Ok(Frame::data("x".into())), Err(Broken)],
        "/long" => vec![Ok(Frame::data(vec![b'x'; 20 << 10].into()))],
        _ => vec![Ok(Frame::data("x".into()))],
    };
    let rest = match request.uri().path() {
        "/endless" | "/long" => futures_util::stream::pending().left_stream(),
        _ => futures_util::stream::empty().right_stream(),
    };
    let body = StreamBody::new(futures_util::stream::iter(frames).chain(rest));
    let code = if missing { 418 } else { 200 };
    Ok(::http::Response::builder().status(code).body(BodyExt::boxed(body)).unwrap())
}

#[derive(Debug, thiserror::Error)]
#[error("broken")]
struct Broken;

async fn show(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(showing)).await;
}

/// A pod that shows what it was sent, in clear text on port 80 and over TLS with a certificate of its own making on 443.
fn shows() -> (Network, Arc<PodHandle>) {
    let (network, pod) = network();
    serve(&pod, 80, show);
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["nobody.example".to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    serve(&pod, 443, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                show(stream).await;
            }
        }
    });
    (network, pod)
}

fn get_with(host: &str, https: bool, path: &str, headers: &[(&str, &str)]) -> ProbeHow {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    ProbeHow::Http { host: host.into(), port: if https { 443 } else { 80 }, path: path.into(), headers, https }
}

#[tokio::test]
async fn http_headers_host_and_scheme() {
    let (network, _pod) = shows();
    for https in [false, true] {
        let port = if https { 443 } else { 80 };
        for (host, headers, wanted) in [
            ("10.244.0.5", vec![], vec![format!("host: 10.244.0.5:{port}"), "user-agent: kube-probe/1.35".into()]),
            ("10.244.0.5", vec![], vec!["accept: */*".into()]),
            ("web.example", vec![], vec![format!("host: web.example:{port}")]),
            (
                "10.244.0.5",
                vec![("Host", "shop.example"), ("X-A", "1")],
                vec!["host: shop.example".into(), "x-a: 1".into()],
            ),
            ("10.244.0.5", vec![("host", "")], vec![format!("host: 10.244.0.5:{port}")]),
            ("10.244.0.5", vec![("X-A", "1"), ("X-A", "2")], vec!["x-a: 1".into(), "x-a: 2".into()]),
            ("10.244.0.5", vec![("user-agent", "me"), ("Accept", "text/plain")], vec!["user-agent: me".into()]),
        ] {
            let wanted: String = wanted.join(",");
            let headers = [&headers[..], &[("x-want", wanted.as_str())]].concat();
            let how = get_with(host, https, "/", &headers);
            assert_eq!(probe(&network, &how, SECOND).await, Ok(()), "{https} {how:?}");
        }
        for gone in [("user-agent", "user-agent: kube-probe/1.35"), ("accept", "accept: */*")] {
            let how = get_with("10.244.0.5", https, "/", &[(gone.0, ""), ("x-want", gone.1)]);
            let failed = Err("HTTP probe failed with statuscode: 418".into());
            assert_eq!(probe(&network, &how, SECOND).await, failed, "an empty one takes it away: {how:?}");
        }
    }
    let clear =
        ProbeHow::Http { host: "10.244.0.5".into(), port: 443, path: "/".into(), headers: vec![], https: false };
    assert!(probe(&network, &clear, SECOND).await.is_err(), "HTTP is not HTTPS");
    let nowhere = probe(&network, &get_with("nowhere.example", false, "/", &[]), SECOND).await.unwrap_err();
    assert_eq!(nowhere, "Get \"http://nowhere.example:80/\": dial tcp nowhere.example:80: lookup: no such host");
}

#[tokio::test]
async fn of_a_body_the_beginning_counts() {
    let (network, _pod) = shows();
    for https in [false, true] {
        let ask = async |path: &str| probe(&network, &get_with("10.244.0.5", https, path, &[]), SECOND).await;
        assert_eq!(ask("/long").await, Ok(()), "more is not read");
        assert!(ask("/broken").await.is_err());
    }
}

#[tokio::test]
async fn a_tcp_probe_of_another_host() {
    let (network, _pod) = shows();
    let ask = async |host: &str, port| probe(&network, &ProbeHow::Tcp { host: host.into(), port }, SECOND).await;
    assert_eq!(ask("10.244.0.5", 80).await, Ok(()));
    assert_eq!(ask("web.example", 80).await, Ok(()));
    assert_eq!(ask("web.example", 9).await, Err("dial tcp web.example:9: connect: connection refused".into()));
}

#[tokio::test(start_paused = true)]
async fn a_hook_sleeps_or_connects() {
    let (network, pod) = network();
    let began = tokio::time::Instant::now();
    assert_eq!(hook(&network, &HookHow::Sleep(Duration::from_secs(7)), SECOND).await, Ok(()));
    assert_eq!(began.elapsed().as_secs(), 7);
    serve(&pod, 81, |stream| async { drop(stream) });
    let connect = async |host: &str, port| {
        let how = HookHow::Act(ProbeHow::Tcp { host: host.into(), port });
        hook(&network, &how, Duration::from_secs(3)).await
    };
    assert_eq!(connect("10.244.0.5", 81).await, Ok(()));
    assert_eq!(connect("10.244.0.5", 9).await, Err("dial tcp 10.244.0.5:9: connect: connection refused".into()));
    assert_eq!(connect("slow.example", 81).await, Err("dial tcp slow.example:81: i/o timeout".into()));
}

#[tokio::test(start_paused = true)]
async fn each_probe_has_its_timeout() {
    let (network, pod) = network();
    serve(&pod, 80, show);
    // They accept and say nothing.
    for port in [81, 443, 50051] {
        serve(&pod, port, |stream| async {
            let _stream = stream;
            std::future::pending::<()>().await;
        });
    }
    let host = || "10.244.0.5".to_string();
    let silent = ProbeHow::Http { host: host(), port: 81, path: "/".into(), headers: vec![], https: false };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    for (how, why) in [
        (silent, format!("Get \"http://10.244.0.5:81/\": {late}")),
        (get_with("10.244.0.5", true, "/x", &[]), format!("Get \"https://10.244.0.5:443/x\": {late}")),
        (get_with("10.244.0.5", false, "/endless", &[]), format!("Get \"http://10.244.0.5:80/endless\": {late}")),
        (
            ProbeHow::Grpc { host: host(), port: 50051, service: "shop".into() },
            "timeout: health rpc did not complete within 3s".into(),
        ),
        (ProbeHow::Tcp { host: "slow.example".into(), port: 80 }, "dial tcp slow.example:80: i/o timeout".into()),
    ] {
        let began = tokio::time::Instant::now();
        assert_eq!(probe(&network, &how, Duration::from_secs(3)).await, Err(why));
        assert_eq!(began.elapsed().as_secs(), 3, "{how:?}");
    }
}
