use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use copepod_dns_zone::Config;
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn object(resource: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, "shop", name), 1, with_revision(&encode(&value), 1))
}

fn zone() -> Arc<Zone> {
    let service = |name: &str, spec: Value| object("services", name, json!({"spec": spec}));
    let services = [
        service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
        service("big", json!({"clusterIP": "None", "ports": [{"name": "x", "port": 1}]})),
        service("ext", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        service("inner", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
        service("circle", json!({"type": "ExternalName", "externalName": "circle.shop.svc.cluster.local"})),
    ];
    let many: Vec<Value> = (0..200).map(|i| json!({"addresses": [format!("10.244.1.{i}")]})).collect();
    let slices = [object(
        "endpointslices",
        "big",
        json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "big"}},
        "ports": [{"name": "x", "port": 1}], "endpoints": many}),
    )];
    Arc::new(Zone::build(&[], &services, &slices, Config::default()))
}

async fn start(upstream: Arc<dyn Upstream>) -> DnsServer {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let zone = zone();
    serve(udp, tcp, Arc::new(move || zone.clone()), upstream).unwrap()
}

fn nobody() -> Arc<dyn Upstream> {
    Arc::new(Forwarder::new(Vec::new()))
}

fn question(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

async fn exchange(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buf = vec![0; 65_536];
    let n = socket.recv(&mut buf).await.unwrap();
    assert!(n <= usize::from(message.edns.as_ref().map_or(512, Edns::max_payload)), "{n} bytes");
    let answer = Message::from_vec(&buf[..n]).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    answer
}

async fn exchange_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut tcp = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    tcp.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    tcp.write_all(&bytes).await.unwrap();
    let mut buf = vec![0; tcp.read_u16().await.unwrap().into()];
    tcp.read_exact(&mut buf).await.unwrap();
    Message::from_vec(&buf).unwrap()
}

fn show(message: &Message) -> String {
    let answers: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    format!("{:?} {}", message.metadata.response_code, answers.join(", "))
}

#[tokio::test]
async fn the_zone_over_udp_and_tcp() {
    let server = start(nobody()).await;
    for (name, rtype, want) in [
        ("web.shop.svc.cluster.local.", RecordType::A, "NoError 10.96.0.7"),
        ("Web.SHOP.svc.cluster.local.", RecordType::A, "NoError 10.96.0.7"),
        ("web.shop.svc.cluster.local.", RecordType::AAAA, "NoError "),
        ("web.shop.svc.cluster.local.", RecordType::MX, "NoError "),
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV, "NoError 0 100 80 web.shop.svc.cluster.local."),
        ("7.0.96.10.in-addr.arpa.", RecordType::PTR, "NoError web.shop.svc.cluster.local."),
        ("dns-version.cluster.local.", RecordType::TXT, "NoError 1.1.0"),
        ("missing.shop.svc.cluster.local.", RecordType::A, "NXDomain "),
        ("inner.shop.svc.cluster.local.", RecordType::A, "NoError web.shop.svc.cluster.local., 10.96.0.7"),
        ("circle.shop.svc.cluster.local.", RecordType::A, "ServFail "),
        ("www.example.com.", RecordType::A, "ServFail "),
        ("ext.shop.svc.cluster.local.", RecordType::A, "ServFail "),
        ("ext.shop.svc.cluster.local.", RecordType::CNAME, "NoError www.example.com."),
    ] {
        let message = question(name, rtype);
        let udp = exchange(server.udp_addr(), &message).await;
        assert_eq!(show(&udp), want, "{name} {rtype}");
        assert_eq!(show(&exchange_tcp(server.tcp_addr(), &message).await), want, "{name} {rtype} over TCP");
        let positive = !udp.answers.is_empty();
        let negative = udp.authorities.iter().any(|r| matches!(r.data, RData::SOA(_)));
        assert!(positive || negative || udp.metadata.response_code == ResponseCode::ServFail, "{name} says how long");
        if positive {
            assert_eq!(udp.answers[0].name.to_ascii(), name, "the letters come back as they were sent");
            assert!(udp.metadata.authoritative && udp.metadata.recursion_available && udp.metadata.recursion_desired);
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn locations_bring_addresses_along() {
    let server = start(nobody()).await;
    let mut message = question("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV);
    message.set_edns(Edns::new());
    let answer = exchange(server.udp_addr(), &message).await;
    assert_eq!(answer.additionals[0].data, RData::A(A("10.96.0.7".parse().unwrap())));
}

#[tokio::test]
async fn what_does_not_fit_is_truncated_and_whole_over_tcp() {
    let server = start(nobody()).await;
    let mut message = question("big.shop.svc.cluster.local.", RecordType::A);
    for size in [None, Some(512), Some(1232), Some(4096)] {
        message.edns = size.map(|size| {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            edns
        });
        let answer = exchange(server.udp_addr(), &message).await;
        assert!(answer.metadata.truncation && answer.answers.len() < 200, "{size:?}");
        assert_eq!(answer.edns.is_some(), size.is_some(), "EDNS is answered to those who speak it");
    }
    let whole = exchange_tcp(server.tcp_addr(), &message).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[tokio::test]
async fn addresses_take_turns() {
    let server = start(nobody()).await;
    let mut first = BTreeSet::new();
    for id in 0..16 {
        let mut message = question("big.shop.svc.cluster.local.", RecordType::A);
        message.metadata.id = id;
        first.insert(exchange(server.udp_addr(), &message).await.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 16);
}

#[tokio::test]
async fn what_is_not_a_question_for_us() {
    let server = start(nobody()).await;
    let name = "web.shop.svc.cluster.local.";
    let mut chaos = question(name, RecordType::A);
    chaos.queries[0].query_class = DNSClass::CH;
    let transfer = question("cluster.local.", RecordType::AXFR);
    let mut notify = question(name, RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    let mut none = question(name, RecordType::A);
    none.queries.clear();
    let mut two = question(name, RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut future = question(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    for (message, want) in [
        (chaos, ResponseCode::Refused),
        (transfer, ResponseCode::Refused),
        (notify, ResponseCode::NotImp),
        (none, ResponseCode::FormErr),
        (two, ResponseCode::FormErr),
        (future, ResponseCode::BADVERS),
    ] {
        // By number: 16 has two names.
        let code = exchange(server.udp_addr(), &message).await.metadata.response_code;
        assert_eq!(u16::from(code), u16::from(want), "{want:?}");
    }
}

/// A name server on loopback: answers by name, counts the questions.
async fn fake_upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(addr).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        let mut buf = vec![0; 4096];
        loop {
            let (n, peer) = udp.recv_from(&mut buf).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            // First an answer to another question, which must be passed over.
            let mut stray = reply(&buf[..n], false);
            stray.metadata.id = stray.metadata.id.wrapping_add(1);
            udp.send_to(&stray.to_vec().unwrap(), peer).await.unwrap();
            udp.send_to(&reply(&buf[..n], false).to_vec().unwrap(), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut buf = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut buf).await.unwrap();
            let bytes = reply(&buf, true).to_vec().unwrap();
            stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    (addr, count)
}

fn reply(bytes: &[u8], tcp: bool) -> Message {
    let asked = Message::from_vec(bytes).unwrap();
    let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    let query = asked.queries[0].clone();
    let name = query.name.clone();
    match name.to_ascii().as_str() {
        "www.example.com." => {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A("192.0.2.7".parse().unwrap()))));
        }
        "long.example.com." if tcp => {
            answer.add_answer(Record::from_rdata(name, 0, RData::TXT(TXT::new(vec!["a".repeat(250); 10]))));
        }
        "long.example.com." => answer.metadata.truncation = true,
        "broken.example.com." => answer.metadata.response_code = ResponseCode::ServFail,
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 60);
            answer.add_authority(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
        }
    }
    answer.add_query(query);
    answer
}

#[tokio::test]
async fn other_names_are_forwarded() {
    let (upstream, count) = fake_upstream().await;
    let server = start(Arc::new(Forwarder::new(vec![upstream]))).await;
    let ask = async |name: &str, rtype| exchange(server.udp_addr(), &question(name, rtype)).await;
    let www = ask("www.example.com.", RecordType::A).await;
    assert_eq!(show(&www), "NoError 192.0.2.7");
    assert!(!www.metadata.authoritative);
    assert_eq!(show(&ask("WWW.example.com.", RecordType::A).await), "NoError 192.0.2.7");
    assert_eq!(count.load(Ordering::Relaxed), 1, "kept");
    let ext = ask("ext.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(show(&ext), "NoError www.example.com., 192.0.2.7");
    assert_eq!(ext.answers[1].name.to_ascii(), "www.example.com.");
    assert_eq!(show(&ask("nobody.example.com.", RecordType::A).await), "NXDomain ");
    assert_eq!(show(&ask("broken.example.com.", RecordType::A).await), "ServFail ");
    let long = exchange_tcp(server.tcp_addr(), &question("long.example.com.", RecordType::TXT)).await;
    assert_eq!(long.answers.len(), 1, "what does not fit into UDP is fetched over TCP");
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    // Bound and dropped: the port answers with ICMP, if at all.
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (alive, _) = fake_upstream().await;
    let forwarder = Forwarder::new(vec![dead, alive]);
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    assert_eq!(show(&forwarder.forward(query.clone()).await.unwrap()), "NoError 192.0.2.7");
    let alone = Forwarder::new(vec![dead]);
    assert!(matches!(alone.forward(query).await, Err(ForwardError::Unreachable)));
}

#[tokio::test]
async fn answers_are_kept_for_their_time_only() {
    let cache = crate::cache::Cache::default();
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    let record = |ttl| Record::from_rdata(query.name.clone(), ttl, RData::A(A("192.0.2.7".parse().unwrap())));
    message.add_answer(record(20));
    tokio::time::pause();
    cache.put(&query, &message);
    tokio::time::advance(Duration::from_secs(8)).await;
    assert_eq!(cache.get(&query).unwrap().answers[0].ttl, 12);
    tokio::time::advance(Duration::from_secs(13)).await;
    assert!(cache.get(&query).is_none());
    message.answers = vec![record(0)];
    cache.put(&query, &message);
    assert!(cache.get(&query).is_none(), "a TTL of zero is not kept");
}

#[tokio::test]
async fn our_own_address_is_not_an_upstream() {
    let dir = std::env::temp_dir().join(format!("copepod-resolv-{}", std::process::id()));
    std::fs::write(&dir, "nameserver 192.0.2.1\n").unwrap();
    let own = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 53);
    let forwarder = Forwarder::from_resolv_conf(&dir, own);
    std::fs::remove_file(&dir).unwrap();
    let query = Query::query(Name::from_ascii("x.").unwrap(), RecordType::A);
    assert!(matches!(forwarder.forward(query).await, Err(ForwardError::NoServer)));
}

#[tokio::test]
async fn dig_understands_us() {
    if std::process::Command::new("dig").arg("-v").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have dig");
        println!("skipped: needs dig");
        return;
    }
    let server = start(nobody()).await;
    let port = server.udp_addr().port().to_string();
    let run = async |args: &[&str]| {
        let out = tokio::process::Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+tries=1"])
            .args(args)
            .output()
            .await
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(run(&["+short", "web.shop.svc.cluster.local"]).await, "10.96.0.7\n");
    assert_eq!(run(&["+short", "-x", "10.96.0.7"]).await, "web.shop.svc.cluster.local.\n");
    assert!(run(&["missing.shop.svc.cluster.local"]).await.contains("status: NXDOMAIN"));
    assert!(run(&["+ignore", "big.shop.svc.cluster.local"]).await.contains(" tc "), "truncated over UDP");
}
