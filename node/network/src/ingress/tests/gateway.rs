//! Routes of Gateways, from a client's socket to a pod.

use async_trait::async_trait;
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::gateway::{GATEWAY_CLASSES, GATEWAYS, GRPC_ROUTES, HTTP_ROUTES};
use copepod_node_routes::GatewayObjects;
use futures_util::StreamExt;
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Frame;

use super::*;
use crate::body::{Body, full};
use crate::http::{HttpService, ServiceError};
use crate::{HostListeners, ServeGuard};

/// Answers with its name, the target, the host, what begins with `x-` and the body.
pub(super) struct Shows(pub(super) &'static str);

#[async_trait]
impl HttpService for Shows {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let (head, body) = request.into_parts();
        let own = |n: &str| n.starts_with("x-") && !n.starts_with("x-forwarded") && n != "x-real-ip";
        let mut headers: Vec<String> = head
            .headers
            .iter()
            .filter(|(n, _)| own(n.as_str()))
            .map(|(n, v)| format!("{n}={}", v.to_str().unwrap_or("?")))
            .collect();
        headers.sort();
        let host = head.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or("-").to_string();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let text = format!("{} {} {host} {} {}", self.0, head.uri, headers.join(","), String::from_utf8_lossy(&body));
        let mut response = Response::new(full(text));
        response.headers_mut().insert("x-from", http::HeaderValue::from_static(self.0));
        Ok(response)
    }
}

/// A Service of one pod, `10.244.0.N`.
fn service(name: &str, n: u8) -> (Object, Object) {
    let spec = json!({"clusterIP": format!("10.96.0.{n}"), "ports": [{"name": "http", "port": 80}]});
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: name}}, "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [format!("10.244.0.{n}")], "conditions": {"ready": true}}]});
    (object("services", name, json!({"spec": spec})), object("endpointslices", name, slice))
}

/// The table of a Gateway with one listener, of these routes, and of the Services `one` and `two`.
fn follow(network: &Network, port: u16, routes: &[(&str, Value)]) {
    follow_all(network, json!([{"name": "http", "port": port, "protocol": "HTTP"}]), routes);
}

/// The same with these listeners.
pub(super) fn follow_all(network: &Network, listeners: Value, routes: &[(&str, Value)]) {
    let classes = [object(
        GATEWAY_CLASSES,
        "copepod",
        json!({"spec": {"controllerName": copepod_model::gateway::GATEWAY_CONTROLLER}}),
    )];
    let gateway = json!({"spec": {"gatewayClassName": "copepod", "listeners": listeners}});
    let gateways = [object(GATEWAYS, "g", gateway)];
    let route = |(i, (resource, spec)): (usize, &(&str, Value))| {
        let mut spec = spec.clone();
        spec["parentRefs"] = json!([{"name": "g"}]);
        object(resource, &format!("r{i}"), json!({ "spec": spec }))
    };
    let routes: Vec<Object> = routes.iter().enumerate().map(route).collect();
    let ((one, one_slice), (two, two_slice)) = (service("one", 1), service("two", 2));
    let none: &[Object] = &[];
    let table = RouteTable::build(&[one, two], &[one_slice, two_slice], none, none, routes::Config::default());
    network.set_routes(Arc::new(table.with_gateways(&GatewayObjects {
        classes: classes.iter().collect(),
        gateways: gateways.iter().collect(),
        routes: routes.iter().collect(),
        ..GatewayObjects::default()
    })));
}

fn pods(network: &Network) -> [(Arc<PodHandle>, ServeGuard); 2] {
    [(1, "one"), (2, "two")].map(|(n, name)| {
        let pod = attach(network, n);
        let guard = network.serve_http(pod.ip(), 8080, Arc::new(Shows(name))).unwrap();
        (pod, guard)
    })
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, b)| b)
}

pub(super) fn backend(name: &str, weight: u32) -> Value {
    json!({"name": name, "port": 80, "weight": weight})
}

#[tokio::test]
async fn weights_split_and_what_leads_nowhere_is_500() {
    let w = world(&[], IngressConfig::default()).await;
    let _pods = pods(&w.network);
    let rules = |host: &str, backends: Value| {
        (HTTP_ROUTES, json!({"hostnames": [host], "rules": [{ "backendRefs": backends }]}))
    };
    follow(
        &w.network,
        80,
        &[
            rules("split.test", json!([backend("one", 3), backend("two", 1)])),
            rules("zero.test", json!([backend("one", 0)])),
            rules("lost.test", json!([{"name": "one", "namespace": "other", "port": 80}])),
            rules("gone.test", json!([backend("nobody", 1)])),
            rules("half.test", json!([backend("one", 1), {"name": "b", "kind": "Bucket", "port": 80, "weight": 1}])),
        ],
    );
    let (mut one, mut errors) = (0, 0);
    for _ in 0..40 {
        one += usize::from(body(&get(&w, "split.test", "/").await).starts_with("one "));
        errors += usize::from(status(&get(&w, "half.test", "/").await) == "500");
    }
    assert!((27..=33).contains(&one) && (15..=25).contains(&errors), "{one} {errors}");
    for (host, want) in [("zero.test", "500"), ("lost.test", "500"), ("gone.test", "503"), ("other.test", "404")] {
        assert_eq!(status(&get(&w, host, "/").await), want, "{host}");
    }
}

#[tokio::test]
async fn requests_and_responses_are_changed_on_the_way() {
    let w = world(&[], IngressConfig::default()).await;
    let _pods = pods(&w.network);
    let request = json!({"type": "RequestHeaderModifier", "requestHeaderModifier":
        {"set": [{"name": "X-A", "value": "set"}], "add": [{"name": "X-B", "value": "added"}], "remove": ["X-C"]}});
    let response = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier":
        {"add": [{"name": "X-Served", "value": "yes"}], "remove": ["X-From"]}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite":
        {"hostname": "in.test", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}});
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}});
    let matched = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let own = json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-backend", "value": "1"}]}});
    let mut to = backend("one", 1);
    to["filters"] = json!([own]);
    follow(
        &w.network,
        80,
        &[(
            HTTP_ROUTES,
            json!({"rules": [
                {"matches": matched("/v1"), "filters": [request, response, rewrite], "backendRefs": [to]},
                {"matches": matched("/old"), "filters": [redirect]},
                {"matches": matched("/odd"), "filters": [{"type": "ExtensionRef"}], "backendRefs": [backend("one", 1)]},
            ]}),
        )],
    );
    let head = "GET /v1/x?q=1 HTTP/1.1\r\nHost: out.test\r\nX-A: client\r\nX-B: client\r\nX-C: client\r\nConnection: close\r\n\r\n";
    let back = raw(&w, head.as_bytes()).await;
    assert_eq!(body(&back), "one /v2/x?q=1 in.test x-a=set,x-b=added,x-b=client,x-backend=1 ");
    let lower = back.to_lowercase();
    assert!(lower.contains("\r\nx-served: yes\r\n") && !lower.contains("x-from"), "{back}");
    let back = get(&w, "out.test:8080", "/old/x?q=1").await;
    assert!(status(&back) == "301" && back.contains("\r\nlocation: https://out.test/old/x?q=1\r\n"), "{back}");
    assert_eq!(status(&get(&w, "out.test", "/odd").await), "500", "a filter that cannot be is not passed over");
}

#[tokio::test]
async fn a_mirror_gets_a_copy_of_the_body_too() {
    let w = world(&[], IngressConfig::default()).await;
    let [(_one, _first), _] = pods(&w.network);
    let copied = Arc::new(Echo { name: "copy".into(), ..Echo::default() });
    let pod = attach(&w.network, 2);
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let _second = w.network.serve_http(pod.ip(), 8080, Arc::new(Told(copied, seen))).unwrap();
    let filter = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "two", "port": 80}}});
    let rules = json!([{"filters": [filter], "backendRefs": [backend("one", 1)]}]);
    follow(&w.network, 80, &[(HTTP_ROUTES, json!({ "rules": rules }))]);
    let back = raw(&w, b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
    assert_eq!(body(&back), "one /p h  hello");
    let told = timeout(Duration::from_secs(10), arrived.recv()).await.unwrap().unwrap();
    assert_eq!(told, "copy POST /p h hello");
}

/// Tells what it has answered.
struct Told(Arc<Echo>, tokio::sync::mpsc::UnboundedSender<String>);

#[async_trait]
impl HttpService for Told {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let answer = self.0.handle(request).await?;
        let text = answer.into_body().collect().await.map_err(|e| ServiceError::Failed(e.into()))?.to_bytes();
        let _ = self.1.send(String::from_utf8_lossy(&text).into_owned());
        Ok(Response::new(full("")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_has_as_long_as_the_rule_says() {
    let w = world(&[], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    tcp_server(&pod, false);
    let rule = |host: &str, timeouts: Value| {
        (
            HTTP_ROUTES,
            json!({"hostnames": [host], "rules": [{"backendRefs": [backend("one", 1)], "timeouts": timeouts}]}),
        )
    };
    follow(
        &w.network,
        80,
        &[
            rule("short.test", json!({"request": "2s"})),
            rule("attempt.test", json!({"request": "90s", "backendRequest": "3s"})),
            rule("long.test", json!({"request": "90s"})),
        ],
    );
    for (host, seconds) in [("short.test", 2), ("attempt.test", 3), ("long.test", 90)] {
        let started = tokio::time::Instant::now();
        assert_eq!(status(&get(&w, host, "/silent").await), "504", "{host}");
        assert_eq!(started.elapsed().as_secs(), seconds, "{host}");
    }
}

#[tokio::test]
async fn a_call_speaks_http2_to_its_backend_and_is_refused_in_its_own_words() {
    let w = world(&[], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    tcp_server(&pod, true);
    let rules = json!([{"matches": [{"method": {"service": "a.B"}}], "backendRefs": [backend("one", 1)]}]);
    follow(&w.network, 80, &[(GRPC_ROUTES, json!({ "rules": rules }))]);
    assert!(get(&w, "h", "/a.B/Get").await.ends_with("HTTP/2.0 /a.B/Get 127.0.0.1 "));
    let head = b"POST /other/Get HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let back = raw(&w, head).await;
    assert!(status(&back) == "200" && back.contains("\r\ngrpc-status: 12\r\n"), "{back}");
}

/// A guest that serves gRPC: it answers at once, sends back what comes as it comes, and ends well.
fn grpc_server(pod: &Arc<PodHandle>) {
    let listener = pod.listen_tcp("0.0.0.0:8080".parse().unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok(conn) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let end = futures_util::stream::iter([Ok(Frame::trailers(trailers))]);
                let mut response = Response::new(StreamBody::new(StreamExt::chain(BodyStream::new(body), end)));
                if let Some(te) = head.headers.get("te") {
                    response.headers_mut().insert("x-te", te.clone());
                }
                Ok::<_, hyper::Error>(response)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let serving = server.serve_connection(TokioIo::new(conn.stream), service);
            tokio::spawn(async move { drop(serving.await) });
        }
    });
}

#[tokio::test]
async fn a_call_streams_both_ways_and_its_trailers_reach_the_client() {
    const SOON: Duration = Duration::from_secs(10);
    let w = world(&[], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    grpc_server(&pod);
    let rules = json!([{"matches": [{"method": {"service": "a.B"}}], "backendRefs": [backend("one", 1)]}]);
    follow(&w.network, 80, &[(GRPC_ROUTES, json!({ "rules": rules }))]);
    let tcp = TcpStream::connect(w.addr).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let (more, pieces) = tokio::sync::mpsc::unbounded_channel::<bytes::Bytes>();
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
        let next = pieces.recv().await?;
        Some((Ok(Frame::data(next)), pieces))
    });
    let body: Body = BodyExt::boxed(StreamBody::new(frames));
    let request = Request::post("http://h/a.B/Both").header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    more.send(bytes::Bytes::from_static(b"first")).unwrap();
    let response: Response<Incoming> = timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-te"], "trailers", "what a gRPC server asks for");
    let mut answer = response.into_body();
    // The other half is not sent before the first one has come back.
    let mut got = Vec::new();
    while got.len() < 5 {
        let frame: Frame<bytes::Bytes> = timeout(SOON, answer.frame()).await.unwrap().unwrap().unwrap();
        got.extend_from_slice(frame.data_ref().unwrap());
    }
    assert_eq!(got, b"first");
    more.send(bytes::Bytes::from_static(b"last")).unwrap();
    drop(more);
    let rest = timeout(SOON, answer.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(rest.to_bytes(), "last");
}

#[tokio::test]
async fn a_listeners_own_port_is_open_while_there_is_an_ingress() {
    let w = world(&[], IngressConfig::default()).await;
    let _pods = pods(&w.network);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rules = json!([{"backendRefs": [backend("one", 1)]}]);
    follow(&w.network, port, &[(HTTP_ROUTES, json!({ "rules": rules }))]);
    assert_eq!(status(&get(&w, "h", "/").await), "404", "the ingress stands for port 80 only");
    let mut listeners = HostListeners::new(w.network.clone(), vec!["127.0.0.1".parse().unwrap()]);
    assert_eq!(listeners.apply().await, []);
    let opened: Vec<u16> = listeners.addresses().map(|at| at.addr.port()).collect();
    assert_eq!(opened, [port]);
    let there = World { addr: ([127, 0, 0, 1], port).into(), ..w };
    assert_eq!(body(&get(&there, "h", "/x").await), "one /x h  ");
    // The ingress' own port needs no other listener.
    let own = world(&[], IngressConfig::default()).await;
    let _pods = pods(&own.network);
    follow(&own.network, own.addr.port(), &[(HTTP_ROUTES, json!({"rules": [{"backendRefs": [backend("two", 1)]}]}))]);
    assert_eq!(body(&get(&own, "h", "/x").await), "two /x h  ");
    let mut listeners = HostListeners::new(own.network.clone(), vec!["127.0.0.1".parse().unwrap()]);
    assert_eq!(listeners.apply().await, []);
    assert_eq!(listeners.addresses().count(), 0);
}

#[tokio::test]
async fn a_new_table_drops_no_request() {
    let w = world(&[], IngressConfig::default()).await;
    let _pods = pods(&w.network);
    let to = |name: &str| vec![(HTTP_ROUTES, json!({"rules": [{"backendRefs": [backend(name, 1)]}]}))];
    follow(&w.network, 80, &to("one"));
    let mut tcp = TcpStream::connect(w.addr).await.unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    // Another client's answer shows that the first request was read and has its backend, or will find one.
    assert_eq!(status(&get(&w, "h", "/").await), "200");
    follow(&w.network, 80, &to("two"));
    assert!(body(&get(&w, "h", "/").await).starts_with("two "));
    tcp.write_all(b"cd").await.unwrap();
    let mut back = vec![0; 1024];
    let mut n = 0;
    while !String::from_utf8_lossy(&back[..n]).contains("abcd") {
        let more = tcp.read(&mut back[n..]).await.unwrap();
        assert!(more > 0, "{}", String::from_utf8_lossy(&back[..n]));
        n += more;
    }
}

/// Fails so often before it answers.
struct Fails(std::sync::atomic::AtomicUsize);

#[async_trait]
impl HttpService for Fails {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let fails = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        let mut response = Response::new(full("there"));
        if fails {
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        }
        Ok(response)
    }
}

#[tokio::test]
async fn a_request_without_a_body_is_sent_again_as_often_as_the_rule_says() {
    let w = world(&[], IngressConfig::default()).await;
    let pod = attach(&w.network, 1);
    let service = Arc::new(Fails(std::sync::atomic::AtomicUsize::new(2)));
    let _guard = w.network.serve_http(pod.ip(), 8080, service.clone()).unwrap();
    let retry = json!({"attempts": 2, "codes": [503], "backoff": "1ms"});
    let rules = json!([{"backendRefs": [backend("one", 1)], "retry": retry}]);
    follow(&w.network, 80, &[(HTTP_ROUTES, json!({ "rules": rules }))]);
    assert_eq!(status(&get(&w, "h", "/").await), "200");
    service.0.store(3, Ordering::SeqCst);
    assert_eq!(status(&get(&w, "h", "/").await), "503");
    service.0.store(1, Ordering::SeqCst);
    let post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert_eq!(status(&raw(&w, post).await), "503", "its body is gone");
}
