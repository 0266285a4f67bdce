//! Probes against servers in the pod network.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use copepod_node_network::{Identity, NetworkConfig, PodHandle};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

const SECOND: Duration = Duration::from_secs(20);

fn network() -> (Network, Arc<PodHandle>) {
    let network = Network::new(NetworkConfig::default());
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

#[tokio::test]
async fn grpc_health_is_asked_by_service() {
    let (network, pod) = network();
    let listener = pod.listen_tcp("0.0.0.0:50051".parse().unwrap()).unwrap();
    tokio::spawn(async move {
        loop {
            while let Ok(Some(conn)) = listener.try_accept() {
                let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(conn.stream), service_fn(health));
                tokio::spawn(serve);
            }
            listener.ready().await;
        }
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
    let listener = pod.listen_tcp("0.0.0.0:80".parse().unwrap()).unwrap();
    tokio::spawn(async move {
        loop {
            while let Ok(Some(conn)) = listener.try_accept() {
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(conn.stream), service_fn(redirecting));
                tokio::spawn(serve);
            }
            listener.ready().await;
        }
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
