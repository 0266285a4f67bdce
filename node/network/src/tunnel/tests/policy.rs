//! NetworkPolicies between nodes.

use copepod_node_routes::Policies;

use super::*;
use crate::pod::Scope;

/// Both nodes know both pods and these policies: (name, spec).
fn set(two: &Two, specs: &[Value]) {
    let mut all = Policies::default();
    for (name, address, node) in [("a", A, "d"), ("b", B, "e")] {
        let mut pod = pod_object(name, node).value();
        pod["metadata"]["labels"] = json!({ "app": name });
        pod["status"] = json!({"phase": "Running", "podIP": address});
        all.put_pod(&object("pods", "shop", name, pod));
    }
    for (i, spec) in specs.iter().enumerate() {
        all.put_policy(&object("networkpolicies", "shop", &format!("p{i}"), json!({ "spec": spec })));
    }
    let all = Arc::new(all);
    two.d.net.set_policies(all.clone());
    two.e.net.set_policies(all);
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// Only pods that are called `from` may come to `b`.
fn guarded(from: &str) -> Value {
    json!({"podSelector": app("b"), "ingress": [{"from": [{"podSelector": app(from)}]}]})
}

/// `a` may only go to pods that are called `to`.
fn confined(to: &str) -> Value {
    json!({"podSelector": app("a"), "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": app(to)}]}]})
}

#[tokio::test]
async fn each_node_asks_for_its_own_end_by_who_is_at_the_other() {
    let two = two().await;
    let listener = two.b.listen_tcp(at("0.0.0.0:7000")).unwrap();
    let connect = || async { soon(two.a.connect_tcp(to(7000))).await.map(drop) };
    for (specs, want) in [
        (vec![], Ok(())),
        (vec![guarded("a"), confined("b")], Ok(())),
        (vec![guarded("c")], Err(NetError::Forbidden)),
        (vec![guarded("a"), confined("c")], Err(NetError::Forbidden)),
    ] {
        set(&two, &specs);
        assert_eq!(connect().await, want, "{specs:?}");
        // The other node itself reaches every pod, as its probes and its ingress do.
        let node = two.d.net.connect(crate::Source::Node, to(7000));
        assert!(soon(node).await.is_ok(), "{specs:?}");
    }
    // What is open is cut by either end.
    for later in [guarded("c"), confined("c")] {
        set(&two, &[guarded("a"), confined("b")]);
        while listener.try_accept().unwrap().is_some() {}
        let mut near = soon(two.a.connect_tcp(to(7000))).await.unwrap().stream;
        let mut far = soon(listener.accept()).await.unwrap().stream;
        set(&two, &[later]);
        for end in [&mut near, &mut far] {
            let error = soon(end.read(&mut [0; 4])).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn requests_to_other_nodes_are_refused_and_cut_as_those_at_home() {
    let two = two().await;
    let _guard = two.e.net.serve_http(ip(B), 8080, Arc::new(Mirror)).unwrap();
    let send = |body: Body| {
        let request = Request::post(format!("http://{B}:8080/")).body(body).unwrap();
        soon(two.a.send_http(request, Default::default()))
    };
    for spec in [guarded("c"), confined("c")] {
        set(&two, &[spec]);
        let sent = send(full("body")).await;
        assert!(matches!(sent, Err(HttpError::Connect(NetError::Forbidden))), "{sent:?}");
    }
    for later in [guarded("c"), confined("c")] {
        set(&two, &[guarded("a"), confined("b")]);
        // A body that says one word and goes on.
        let word = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"word")))]);
        let body = BodyExt::boxed(StreamBody::new(word.chain(futures_util::stream::pending())));
        let mut answer = send(body).await.unwrap().into_body();
        assert_eq!(&soon(answer.frame()).await.unwrap().unwrap().into_data().unwrap()[..], b"word");
        set(&two, &[later]);
        assert!(soon(answer.frame()).await.is_some_and(|frame| frame.is_err()), "it is cut");
    }
}

#[tokio::test]
async fn datagrams_of_other_nodes_are_lost_where_they_are_not_allowed() {
    let two = two().await;
    let asking = two.a.bind_udp(at("0.0.0.0:4000")).unwrap();
    let answering = two.b.bind_udp(at("0.0.0.0:5353")).unwrap();
    let allowed = json!({"podSelector": app("b"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 5353, "protocol": "UDP"}]}]});
    // Nobody may begin to talk to `a`.
    set(&two, &[allowed.clone(), json!({"podSelector": app("a")})]);
    asking.send_to("one", to(5353)).unwrap();
    assert_eq!(&soon(answering.recv_from()).await.unwrap().data[..], b"one");
    let back = SocketAddr::new(ip(A), 4000);
    answering.send_to("answer", back).unwrap();
    assert_eq!(&soon(asking.recv_from()).await.unwrap().data[..], b"answer");
    // The conversation goes on as long as whoever has begun it may.
    let claim = Arc::new(format!("pod shop a uid-a till {back}").parse().unwrap());
    let taken = || two.b.udp(Scope::Pod, super::to(5353)).unwrap().may_receive(&two.b, 5353, &claim);
    assert!(taken());
    set(&two, &[json!({"podSelector": app("b")}), json!({"podSelector": app("a")})]);
    assert!(!taken());
    assert_eq!(answering.send_to("answer", back), Err(NetError::Forbidden));
    set(&two, &[allowed]);
    asking.send_to("two", to(5353)).unwrap();
    assert_eq!(&soon(answering.recv_from()).await.unwrap().data[..], b"two");
}
