use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use copepod_node_routes::External;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::body::empty;
use crate::http::{HttpOptions, ServiceError};
use crate::network::tests::{Echo, at, attach, attach_dual, ip, network, set_web, text, web};
use crate::{HttpError, HttpService};

const DEADLINE: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

fn policy(name: &str, spec: Value) -> Object {
    let value = json!({ "spec": spec });
    Object::decode(Key::new("networkpolicies", "shop", name), 1, with_revision(&encode(&value), 1))
}

/// The pods 1 to 3 of `attach`, labelled `app: pod-N`, and these policies.
fn policies(specs: &[Value]) -> Arc<Policies> {
    let mut all = Policies::default();
    for n in 1..=3 {
        let name = format!("pod-{n}");
        let value = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{n}"), "labels": {"app": name}},
            "spec": {}, "status": {"phase": "Running", "podIP": format!("10.244.0.{n}")}});
        all.put_pod(&Object::decode(Key::new("pods", "shop", name.as_str()), 1, with_revision(&encode(&value), 1)));
    }
    for (i, spec) in specs.iter().enumerate() {
        all.put_policy(&policy(&format!("p{i}"), spec.clone()));
    }
    Arc::new(all)
}

fn app(n: u8) -> Value {
    json!({"matchLabels": {"app": format!("pod-{n}")}})
}

/// Nobody may come to a pod, or those may whom `from` says.
fn guarded(n: u8, from: Option<Value>) -> Value {
    let rules: Vec<Value> = from.into_iter().map(|from| json!({ "from": [from] })).collect();
    json!({"podSelector": app(n), "policyTypes": ["Ingress"], "ingress": rules})
}

/// A pod may go nowhere, or where `to` says.
fn confined(n: u8, to: Option<Value>) -> Value {
    let rules: Vec<Value> = to.into_iter().map(|to| json!({ "to": [to] })).collect();
    json!({"podSelector": app(n), "policyTypes": ["Egress"], "egress": rules})
}

async fn connects(pod: &Arc<PodHandle>, to: &str) -> Result<(), NetError> {
    soon(pod.connect_tcp(at(to))).await.map(drop)
}

async fn kind<T: std::fmt::Debug>(reading: impl Future<Output = io::Result<T>>) -> io::ErrorKind {
    soon(reading).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_stream_opens_where_both_ends_allow_it_and_is_cut_when_one_does_not_any_more() {
    let net = network();
    let (a, b, c) = (attach(&net, 1), attach(&net, 2), attach(&net, 3));
    let listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let mut early = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap();
    net.set_policies(policies(&[guarded(2, None)]));
    assert_eq!(kind(early.stream.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset, "it was never accepted");
    assert_eq!(connects(&a, "10.244.0.2:8080").await, Err(NetError::Forbidden));
    assert_eq!(connects(&b, "10.244.0.2:8080").await, Ok(()), "a pod reaches itself");
    assert_eq!(connects(&b, "127.0.0.1:8080").await, Ok(()));
    assert!(net.connect(Source::Node, at("10.244.0.2:8080")).await.is_ok(), "its node reaches a pod");
    // Whom a policy lets in, and no one else.
    net.set_policies(policies(&[guarded(2, Some(json!({"podSelector": app(1)})))]));
    assert_eq!(connects(&c, "10.244.0.2:8080").await, Err(NetError::Forbidden));
    while listener.try_accept().unwrap().is_some() {}
    let mut near = a.connect_tcp(at("10.244.0.2:8080")).await.unwrap().stream;
    let mut far = listener.accept().await.unwrap().stream;
    near.write_all(b"ask").await.unwrap();
    far.read_exact(&mut [0; 3]).await.unwrap();
    // What stays allowed stays open.
    net.set_policies(policies(&[guarded(2, Some(json!({"podSelector": app(1)}))), guarded(3, None)]));
    far.write_all(b"answer").await.unwrap();
    near.read_exact(&mut [0; 6]).await.unwrap();
    // The source's own policy cuts as well as the destination's.
    net.set_policies(policies(&[confined(1, None)]));
    assert_eq!(kind(near.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset);
    assert_eq!(kind(far.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset);
    assert_eq!(connects(&a, "10.244.0.2:8080").await, Err(NetError::Forbidden));
    assert_eq!(connects(&c, "10.244.0.2:8080").await, Ok(()));
    net.set_policies(policies(&[]));
    assert_eq!(connects(&a, "10.244.0.2:8080").await, Ok(()));
}

#[tokio::test]
async fn the_world_outside_is_addresses() {
    let net = network();
    let a = attach(&net, 1);
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    net.expose_host(at("192.0.2.7:81"), host.local_addr().unwrap());
    let block = |cidr: &str| confined(1, Some(json!({"ipBlock": {"cidr": cidr}})));
    net.set_policies(policies(&[block("198.51.100.0/24")]));
    assert_eq!(connects(&a, "192.0.2.7:81").await, Err(NetError::Forbidden));
    net.set_policies(policies(&[block("192.0.2.0/24")]));
    let mut near = a.connect_tcp(at("192.0.2.7:81")).await.unwrap().stream;
    net.set_policies(policies(&[confined(1, None)]));
    assert_eq!(kind(near.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset);
    // Who comes from there is an address too; the host's loopback is the node.
    let b = attach(&net, 2);
    let _listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    net.set_policies(policies(&[guarded(2, Some(json!({"ipBlock": {"cidr": "192.0.2.0/24"}})))]));
    for (client, want) in [
        ("192.0.2.1:9", Ok(())),
        ("198.51.100.1:9", Err(NetError::Forbidden)),
        // Nobody is a pod for saying so.
        ("10.244.0.2:9", Err(NetError::Forbidden)),
        ("127.0.0.1:9", Ok(())),
    ] {
        let target = Target::Pod(b.clone(), Scope::Pod);
        let opened = net.open(&Source::Client(at(client)), &target, at("10.244.0.2:8080"), None).await;
        assert_eq!(opened.map(drop), want, "{client}");
    }
}

#[tokio::test]
async fn blocks_of_ipv6_are_for_what_comes_by_it() {
    let net = network();
    let (a, b) = (attach_dual(&net, 1), attach_dual(&net, 2));
    let _listener = b.listen_tcp(at("[::]:8080")).unwrap();
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let (four, six) = ("10.244.0.2:8080", "[fd00:10:244::af4:2]:8080");
    net.set_policies(policies(&[guarded(2, Some(block("fd00:10:244::af4:1/128")))]));
    assert_eq!(connects(&a, six).await, Ok(()));
    assert_eq!(connects(&a, four).await, Err(NetError::Forbidden));
    net.set_policies(policies(&[confined(1, Some(block("10.244.0.0/16")))]));
    assert_eq!(connects(&a, six).await, Err(NetError::Forbidden));
    assert_eq!(connects(&a, four).await, Ok(()));
}

#[tokio::test]
async fn a_service_leads_to_the_endpoints_that_are_allowed() {
    let net = network();
    let (a, b, c) = (attach(&net, 1), attach(&net, 2), attach(&net, 3));
    let (refusing, taking) = (b.listen_tcp(at("0.0.0.0:8080")).unwrap(), c.listen_tcp(at("0.0.0.0:8080")).unwrap());
    set_web(&net, &[(2, true), (3, true)]);
    net.set_policies(policies(&[guarded(2, None)]));
    for _ in 0..4 {
        assert_eq!(connects(&a, "10.96.0.7:80").await, Ok(()));
    }
    assert!(refusing.try_accept().unwrap().is_none() && taking.try_accept().unwrap().is_some());
    net.set_policies(policies(&[guarded(2, None), guarded(3, None)]));
    assert_eq!(connects(&a, "10.96.0.7:80").await, Err(NetError::Forbidden));
    // One that waits for a pod that stops goes to no other that does not allow it.
    net.set_policies(policies(&[guarded(2, None)]));
    let mut waiting = a.connect_tcp(at("10.96.0.7:80")).await.unwrap();
    drop(taking);
    set_web(&net, &[(2, true)]);
    assert_eq!(kind(waiting.stream.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset);
    assert!(refusing.try_accept().unwrap().is_none());
}

#[tokio::test]
async fn a_pod_that_is_faster_than_news_of_it_is_waited_for() {
    let net = network();
    let (new, b) = (attach(&net, 9), attach(&net, 2));
    let _listener = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    let all = policies(&[confined(1, None)]);
    net.set_policies(all.clone());
    assert_eq!(connects(&new, "10.244.0.2:8080").await, Err(NetError::Forbidden), "any policy may be for it");
    tokio::time::pause();
    let mut connecting = tokio::spawn(async move { new.connect_tcp(at("10.244.0.2:8080")).await.map(drop) });
    let early = tokio::time::timeout(Duration::from_millis(900), &mut connecting).await;
    assert!(early.is_err(), "it is neither let through nor refused yet: {early:?}");
    let mut all = Policies::clone(&all);
    let value =
        json!({"metadata": {"name": "pod-9", "namespace": "shop", "uid": "uid-9"}, "status": {"podIP": "10.244.0.9"}});
    all.put_pod(&Object::decode(Key::new("pods", "shop", "pod-9"), 1, with_revision(&encode(&value), 1)));
    net.set_policies(Arc::new(all));
    assert_eq!(soon(connecting).await.unwrap(), Ok(()));
}

/// Answers at once, with a body that says one word and goes on.
struct Endless;

#[async_trait]
impl HttpService for Endless {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"word")))]);
        Ok(Response::new(BodyExt::boxed(StreamBody::new(first.chain(stream::pending())))))
    }
}

/// Never answers.
struct Silent(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

#[async_trait]
impl HttpService for Silent {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        if let Some(asked) = self.0.lock().unwrap().take() {
            let _ = asked.send(());
        }
        std::future::pending().await
    }
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(empty()).unwrap()
}

#[tokio::test]
async fn requests_are_streams_too() {
    let net = network();
    let (a, b, c) = (attach(&net, 1), attach(&net, 2), attach(&net, 3));
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let _guards = [
        net.serve_http(b.ip(), 8080, Arc::new(Echo::default())).unwrap(),
        net.serve_http(b.ip(), 8081, Arc::new(Endless)).unwrap(),
        net.serve_http(b.ip(), 8082, Arc::new(Silent(Mutex::new(Some(asked))))).unwrap(),
    ];
    set_web(&net, &[(2, true)]);
    let send = |pod: &Arc<PodHandle>, uri: &str| {
        let (pod, request) = (pod.clone(), get(uri));
        async move { soon(pod.send_http(request, Default::default())).await }
    };
    net.set_policies(policies(&[guarded(2, Some(json!({"podSelector": app(1)})))]));
    for uri in ["http://10.244.0.2:8080/", "http://10.96.0.7/"] {
        assert!(text(send(&a, uri).await.unwrap()).await.contains("GET / "), "{uri}");
        let refused = send(&c, uri).await;
        assert!(matches!(refused, Err(HttpError::Connect(NetError::Forbidden))), "{uri}: {refused:?}");
    }
    // A connection to the Service is refused like one to its endpoint.
    assert_eq!(connects(&c, "10.96.0.7:80").await, Err(NetError::Forbidden));
    let mut kept = a.connect_tcp(at("10.96.0.7:80")).await.unwrap().stream;
    let mut endless = send(&a, "http://10.244.0.2:8081/").await.unwrap().into_body();
    let word = soon(endless.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&word[..], b"word");
    let waiting = tokio::spawn(send(&a, "http://10.244.0.2:8082/"));
    soon(was_asked).await.unwrap();
    let own = net.request(Source::Node, at("10.244.0.2:8081"), get("/"), Default::default()).await.unwrap();
    net.set_policies(policies(&[guarded(2, None)]));
    assert_eq!(soon(endless.frame()).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(soon(endless.frame()).await.is_none());
    let cut = soon(waiting).await.unwrap();
    assert!(matches!(cut, Err(HttpError::Connect(NetError::ConnectionReset))), "{cut:?}");
    assert_eq!(kind(kept.read(&mut [0; 4])).await, io::ErrorKind::ConnectionReset);
    let word = soon(own.into_body().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&word[..], b"word", "what the node asks is not cut");
    drop(endless);
    // Nothing of it is remembered, once those who were cut have seen it.
    soon(async {
        while b.tracker.len() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Counts what it was asked, and never answers.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl HttpService for Counting {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_has_cut_is_no_fault_of_the_endpoint() {
    let net = network();
    let (a, b, c) = (attach(&net, 1), attach(&net, 2), attach(&net, 3));
    let [second, third] = [(); 2].map(|()| Arc::new(Counting::default()));
    let _guards =
        [(&b, &second), (&c, &third)].map(|(pod, service)| net.serve_http(pod.ip(), 8080, service.clone()).unwrap());
    set_web(&net, &[(2, true), (3, true)]);
    let count = |of: &Arc<Counting>| of.0.load(Ordering::Relaxed);
    // Sends ten requests and answers, once they have arrived, how many each pod has got by then.
    let ask = async || {
        let before = count(&second) + count(&third);
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let a = a.clone();
                tokio::spawn(async move { a.send_http(get("http://10.96.0.7/"), HttpOptions::default()).await })
            })
            .collect();
        soon(async {
            while count(&second) + count(&third) < before + 10 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        (asking, count(&second), count(&third))
    };
    let (cut, to_second, to_third) = ask().await;
    assert_eq!((to_second, to_third), (5, 5), "who has fewer open gets the next one");
    net.set_policies(policies(&[guarded(2, None)]));
    soon(async {
        while cut.iter().filter(|asking| asking.is_finished()).count() < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    net.set_policies(policies(&[]));
    let (_asking, to_second, to_third) = ask().await;
    assert!(matches!((to_second, to_third), (12, 8) | (13, 7)), "nothing is open there: {to_second} and {to_third}");
}

#[tokio::test]
async fn a_name_of_somebody_else_leads_the_ingress_to_no_guarded_pod() {
    let net = network();
    let b = attach(&net, 2);
    let _guard = net.serve_http(b.ip(), 8080, Arc::new(Echo::default())).unwrap();
    let (services, slices) = web(&[(2, true)], json!({}));
    set_web(&net, &[(2, true)]);
    let zone = copepod_dns_zone::Zone::build(Vec::new(), services.iter(), slices.iter(), Default::default());
    net.set_zone(Arc::new(zone));
    let to = External { name: "web.shop.svc.cluster.local".into(), port: 80, h2c: false };
    let ask = async || soon(net.send_to_name(&Source::Node, &to, get("/"), &HttpOptions::default())).await;
    net.set_policies(policies(&[guarded(1, None)]));
    assert!(text(ask().await.unwrap()).await.contains("GET / "), "nobody guards it");
    net.set_policies(policies(&[guarded(2, Some(json!({"podSelector": app(1)})))]));
    let refused = ask().await;
    assert!(matches!(refused, Err(HttpError::Connect(NetError::Forbidden))), "{refused:?}");
}

/// Answers with a word, and another one when it is told to.
struct Slow(Mutex<Option<tokio::sync::oneshot::Receiver<()>>>);

#[async_trait]
impl HttpService for Slow {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let told = self.0.lock().unwrap().take().expect("one request");
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"word, ")))]);
        let last = stream::once(async move {
            let _ = told.await;
            Ok(Frame::data(Bytes::from_static(b"last")))
        });
        Ok(Response::new(BodyExt::boxed(StreamBody::new(first.chain(last)))))
    }
}

#[tokio::test]
async fn what_a_pod_has_answered_arrives_when_it_has_gone() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let (tell, told) = tokio::sync::oneshot::channel();
    let _guard = net.serve_http(b.ip(), 8080, Arc::new(Slow(Mutex::new(Some(told))))).unwrap();
    let answer = soon(a.send_http(get("http://10.244.0.2:8080/"), Default::default())).await.unwrap();
    net.detach(&b.identity().uid);
    tell.send(()).unwrap();
    assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "word, last");
}

#[tokio::test]
async fn datagrams_may_go_where_a_stream_might_and_answers_may_come_back() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let asking = a.bind_udp(at("0.0.0.0:4000")).unwrap();
    let answering = b.bind_udp(at("0.0.0.0:5353")).unwrap();
    // Nobody may come to the one or go from the other, but for the port that is asked.
    let udp = json!({"podSelector": app(2), "policyTypes": ["Ingress", "Egress"], "ingress": [{"ports": [{"port": 5353, "protocol": "UDP"}]}]});
    net.set_policies(policies(&[guarded(1, None), udp]));
    let (there, back) = (at("10.244.0.2:5353"), at("10.244.0.1:4000"));
    assert_eq!(answering.send_to("first", back), Err(NetError::Forbidden), "nobody has asked");
    asking.send_to("ask", there).unwrap();
    let asked = soon(answering.recv_from()).await.unwrap();
    assert_eq!((&asked.data[..], asked.from), (&b"ask"[..], back));
    answering.send_to("answer", back).unwrap();
    assert_eq!(&soon(asking.recv_from()).await.unwrap().data[..], b"answer");
    assert_eq!(answering.send_to("more", at("10.244.0.1:4001")), Err(NetError::Forbidden), "it was not that one");
    let other = b.bind_udp(at("0.0.0.0:5354")).unwrap();
    assert_eq!(asking.send_to("ask", at("10.244.0.2:5354")), Err(NetError::Forbidden));
    drop(other);
    // The conversation is not allowed any more.
    net.set_policies(policies(&[guarded(2, None)]));
    assert_eq!(answering.send_to("answer", back), Err(NetError::Forbidden));
    assert_eq!(asking.send_to("ask", there), Err(NetError::Forbidden));
}

#[tokio::test]
async fn datagrams_to_a_service_go_to_endpoints_that_are_allowed() {
    let net = network();
    let (a, b, c) = (attach(&net, 1), attach(&net, 2), attach(&net, 3));
    let [second, third] = [&b, &c].map(|pod| pod.bind_udp(at("0.0.0.0:5353")).unwrap());
    set_web(&net, &[(2, true), (3, true)]);
    for (closed, open) in [(2, &third), (3, &second)] {
        net.set_policies(policies(&[guarded(closed, None)]));
        for _ in 0..4 {
            let client = a.bind_udp(at("0.0.0.0:0")).unwrap();
            client.send_to("ask", at("10.96.0.7:53")).unwrap();
            let asked = soon(open.recv_from()).await.unwrap();
            open.send_to("answer", asked.from).unwrap();
            assert_eq!(soon(client.recv_from()).await.unwrap().from, at("10.96.0.7:53"));
        }
    }
    net.set_policies(policies(&[guarded(2, None), guarded(3, None)]));
    let client = a.bind_udp(at("0.0.0.0:0")).unwrap();
    assert_eq!(client.send_to("ask", at("10.96.0.7:53")), Err(NetError::ConnectionRefused));
    assert!(second.try_recv_from().unwrap().is_none() && third.try_recv_from().unwrap().is_none());
}

#[tokio::test]
async fn names_are_looked_up_where_dns_may_be_asked() {
    let net = network();
    let a = attach(&net, 1);
    set_web(&net, &[(2, true)]);
    let dns = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
    let names = ["web", "www.example.com"];
    net.set_policies(policies(&[confined(1, None)]));
    for name in names {
        assert_eq!(a.resolve(name).await, Err(NetError::TemporaryResolverFailure), "{name}");
    }
    for (name, want) in
        [("localhost", "127.0.0.1"), ("pod-1", "10.244.0.1"), ("192.0.2.1", "192.0.2.1"), ("[::1]", "::1")]
    {
        assert_eq!(a.resolve(name).await, Ok(vec![ip(want)]), "{name}");
    }
    let sent = a.send_http(get("http://web/"), Default::default()).await;
    assert!(matches!(sent, Err(HttpError::Dns(_, NetError::TemporaryResolverFailure))), "{sent:?}");
    for spec in [confined(1, Some(dns)), guarded(1, None)] {
        net.set_policies(policies(&[spec]));
        for name in names {
            assert!(a.resolve(name).await.is_ok(), "{name}");
        }
    }
}
