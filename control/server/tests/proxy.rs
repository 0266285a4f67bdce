//! `pods/proxy` and `services/proxy` over HTTPS: what the pod's node gets of a client's request, and the client of its answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::tls::{Credential, Rotating};
use copepod_client::{Body, Client, Kubeconfig, body};
use copepod_model::request::PatchType;
use copepod_model::{Status, UserInfo};
use copepod_server::api::{InProcess, NodeApi};
use copepod_server::{Server, ServerConfig};
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const POD: &str = "/api/v1/namespaces/default/pods/p/proxy";
const SERVICE: &str = "/api/v1/namespaces/default/services/http:web:80/proxy";

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
}

/// A node whose pod answers what it has been asked.
struct Here;

#[async_trait]
impl NodeApi for Here {
    async fn request(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_string();
        let mut answer = Response::new(body(""));
        if path.ends_with("/echo") {
            if request.headers().contains_key(header::UPGRADE) {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                    tokio::io::copy(&mut from, &mut to).await.unwrap();
                    to.shutdown().await.unwrap();
                });
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                answer.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
                answer.headers_mut().insert(header::UPGRADE, "echo/1".parse().unwrap());
                return Ok(answer);
            }
            // What comes is sent back as it comes.
            return Ok(answer.map(|_| request.into_body()));
        }
        if path.ends_with("/away") {
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert(header::LOCATION, "/there?a=b".parse().unwrap());
            answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".parse().unwrap());
            return Ok(answer);
        }
        if request.method() == Method::HEAD {
            answer.headers_mut().insert(header::CONTENT_LENGTH, 5.into());
            return Ok(answer);
        }
        let (head, sent) = request.into_parts();
        let headers = head.headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().into()));
        let headers: serde_json::Map<String, Value> = headers.collect();
        let sent = sent.collect().await.unwrap().to_bytes();
        let (method, uri, sent) = (head.method.to_string(), head.uri.to_string(), String::from_utf8_lossy(&sent));
        let said = json!({"method": method, "uri": uri, "headers": headers, "sent": sent});
        answer.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        Ok(answer.map(|_| body(said.to_string())))
    }
}

struct Bench {
    server: Server,
    config: Kubeconfig,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A server with the pod `p` at 10.244.0.7 on the node `n`, behind the Service `web`.
    async fn start() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig {
            data_dir: dir.path().into(),
            api: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            peer: None,
            quota_bytes: 0,
            balancer_pool: Default::default(),
            connections: 1024,
        };
        let server = Server::start(config).await.unwrap();
        server.api().add_node("n", Arc::new(Here));
        let client = server.admin_client("test");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        client.create("nodes", "", node).await.unwrap();
        let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 8080}]});
        let spec = json!({"nodeName": "n", "containers": [container], "automountServiceAccountToken": false});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
        let made = async || client.create("pods", "default", pod.clone()).await;
        in_time(async {
            // Its service account is made by a controller.
            while made().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let status = json!({"status": {"podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}]}});
        client.patch("pods", "default", "p", "status", PatchType::Merge, status).await.unwrap();
        // Without a selector its endpoints are whoever writes them.
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
        client.create("services", "default", service).await.unwrap();
        let refers = json!({"kind": "Pod", "name": "p", "namespace": "default"});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.7"], "conditions": {"ready": true}, "targetRef": refers}]});
        client.create("endpointslices.discovery.k8s.io", "default", slice).await.unwrap();
        let config = Kubeconfig::read(server.kubeconfig()).unwrap();
        Bench { server, config, _dir: dir }
    }

    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        let text = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap();
        let own = Credential { cert: text(&self.config.cert_pem), key: text(&self.config.key_pem) };
        let mut tls = Rotating::new(&own).unwrap().client_config(&text(&self.config.ca_pem)).unwrap();
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
    }

    async fn http1(&self) -> http1::SendRequest<Body> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.connect("http/1.1").await)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn ask(&self, request: Request<Body>) -> Response<Incoming> {
        in_time(self.http1().await.send_request(request)).await.unwrap()
    }

    async fn said(&self, request: Request<Body>) -> Value {
        let answer = self.ask(request).await;
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:8001")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_pods_node_as_they_are() {
    let b = Bench::start().await;
    let at = "/podProxy/default/p/http/10.244.0.7/8080";
    for (method, verb) in
        [("POST", true), ("PUT", true), ("PATCH", true), ("DELETE", true), ("GET", false), ("OPTIONS", false)]
    {
        let sent = if verb { "hello" } else { "" };
        // The query is the pod's own, whatever it would mean to the API.
        let path = format!("{SERVICE}/a%2Fb/c/?limit=x&watch=1&dryRun=%zz&pretty=1");
        let asked = request(method, &path)
            .header("authorization", "Basic c2VjcmV0")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("user-agent", "curl/8")
            .header("accept", "text/x");
        let said = b.said(asked.body(body(sent)).unwrap()).await;
        assert_eq!((&said["method"], &said["sent"]), (&json!(method), &json!(sent)));
        assert_eq!(said["uri"], format!("{at}/a/b/c/?limit=x&watch=1&dryRun=%zz&pretty=1"));
        let headers = &said["headers"];
        assert_eq!((&headers["host"], &headers["accept"]), (&json!("localhost:8001"), &json!("text/x")));
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["x-forwarded-uri"], format!("{SERVICE}/a/b/c/"));
        assert_eq!((&headers["authorization"], &headers["x-hop"]), (&Value::Null, &Value::Null));
    }
    let said = b.said(request("GET", &format!("{POD}/x")).body(body("")).unwrap()).await;
    assert_eq!(said["uri"], format!("{at}/x"));
    b.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_as_the_pod_gives_them() {
    let b = Bench::start().await;
    let get = |path: &str| request("GET", path).header("user-agent", "curl/8").body(body("")).unwrap();
    let answer = b.ask(get(&format!("{SERVICE}/away"))).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (302, &*format!("{SERVICE}/there?a=b"))
    );
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let answer = b.ask(get(&format!("{POD}?a=b"))).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (301, &*format!("{POD}/?a=b"))
    );
    // To curl the API itself speaks in indented lines.
    let plain = b.ask(get(&format!("{POD}/"))).await.into_body().collect().await.unwrap().to_bytes();
    assert!(plain.starts_with(b"{\"") && !plain.contains(&b'\n'), "{plain:?}");
    let answer = b.ask(request("HEAD", &format!("{POD}/")).body(body("")).unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].to_str().unwrap()), (200, "5"));
    let gone = b.ask(get("/api/v1/namespaces/default/services/gone/proxy/")).await;
    assert_eq!(gone.status(), 404);
    b.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_at_once_and_upgrades_pass_through() {
    let b = Bench::start().await;
    let stream = b.connect("h2").await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (feed, fed) = mpsc::channel::<&'static str>(1);
    let pieces = stream::unfold(fed, async |mut fed| {
        let piece = fed.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))), fed))
    });
    let asked = Request::post(format!("https://localhost:8001{SERVICE}/echo"));
    let asked = asked.body(StreamBody::new(Box::pin(pieces))).unwrap();
    // The answer begins when the first piece is on the way, and each one comes back before the next one goes.
    feed.send("one").await.unwrap();
    let mut echoed = in_time(sender.send_request(asked)).await.unwrap().into_body();
    for (here, next) in [("one", "two"), ("two", "three"), ("three", "four")] {
        let frame = in_time(echoed.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), here);
        feed.send(next).await.unwrap();
    }
    let frame = in_time(echoed.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "four");
    drop(feed);
    assert_eq!(in_time(echoed.collect()).await.unwrap().to_bytes(), "");

    let upgrade = |path: &str| {
        let asked = request("GET", path).header("connection", "Upgrade").header("upgrade", "echo/1");
        asked.body(body("")).unwrap()
    };
    let mut answer = b.ask(upgrade(&format!("{SERVICE}/echo"))).await;
    assert_eq!(
        (answer.status(), answer.headers()["upgrade"].to_str().unwrap()),
        (StatusCode::SWITCHING_PROTOCOLS, "echo/1")
    );
    let mut stream = TokioIo::new(in_time(hyper::upgrade::on(&mut answer)).await.unwrap());
    stream.write_all(b"ahoy").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = String::new();
    in_time(stream.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "ahoy");
    let answer = b.ask(upgrade(&format!("{SERVICE}/other"))).await;
    let (code, said) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((code, &said["message"]), (500, &json!("invalid upgrade response: status code 200")));
    b.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_takes_its_verb_on_the_subresource() {
    let b = Bench::start().await;
    let admin = b.server.admin_client("test");
    let rules = json!([{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["create"],
        "resourceNames": ["http:web:80"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules});
    admin.create("roles.rbac.authorization.k8s.io", "default", role).await.unwrap();
    let subjects = json!([{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}]);
    let role = json!({"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
        "roleRef": role, "subjects": subjects});
    admin.create("rolebindings.rbac.authorization.k8s.io", "default", binding).await.unwrap();
    let ann = UserInfo { name: "ann".into(), ..UserInfo::default() };
    let ann = Client::new(Arc::new(InProcess::new(b.server.api().clone())), ann, "ann");
    let ask = async |method: &str, path: &str| {
        let answer = ann.raw(Request::builder().method(method).uri(path).body(Bytes::new()).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        (code, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    assert_eq!(ask("POST", &format!("{SERVICE}/")).await.0, 200);
    let (code, said) = ask("GET", &format!("{SERVICE}/")).await;
    let why = r#"User \"ann\" cannot get resource \"services/proxy\" in API group \"\" in the namespace \"default\""#;
    assert!(code == 403 && said.contains(why), "{code} {said}");
    // Upstream has no verb for it, so that a role must have all.
    assert_eq!(ask("OPTIONS", &format!("{SERVICE}/")).await.0, 403);
    assert_eq!(ask("POST", "/api/v1/namespaces/default/services/web:80/proxy/").await.0, 403);
    assert_eq!(ask("POST", &format!("{POD}/")).await.0, 403);
    b.server.stop().await;
}
