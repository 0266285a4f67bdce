use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use copepod_dns_zone::{Config, Zone};
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::*;
use crate::handler::{Client, Quick, Transport};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

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
    let zone = zone();
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    serve(sockets, Arc::new(move || Some(zone.clone())), upstream, Access::default(), 512).unwrap()
}

fn nobody() -> Arc<dyn Upstream> {
    Arc::new(Forwarder::new(Vec::new(), &[]))
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
        let udp = exchange(server.addr(), &message).await;
        assert_eq!(show(&udp), want, "{name} {rtype}");
        assert_eq!(show(&exchange_tcp(server.addr(), &message).await), want, "{name} {rtype} over TCP");
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
    let answer = exchange(server.addr(), &message).await;
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
        let answer = exchange(server.addr(), &message).await;
        assert!(answer.metadata.truncation && answer.answers.len() < 200, "{size:?}");
        assert_eq!(answer.edns.is_some(), size.is_some(), "EDNS is answered to those who speak it");
    }
    let whole = exchange_tcp(server.addr(), &message).await;
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
        first.insert(exchange(server.addr(), &message).await.answers[0].data.to_string());
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
        let code = exchange(server.addr(), &message).await.metadata.response_code;
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
            if Message::from_vec(&buf[..n]).unwrap().queries[0].name.to_ascii().starts_with("silent.") {
                continue;
            }
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
        "www.example.com." if query.query_type == RecordType::AAAA => {}
        "www.example.com." => {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A("192.0.2.7".parse().unwrap()))));
        }
        "long.example.com." if tcp => {
            answer.add_answer(Record::from_rdata(name, 0, RData::TXT(TXT::new(vec!["a".repeat(250); 10]))));
        }
        "long.example.com." => answer.metadata.truncation = true,
        "old.example.com." if asked.edns.is_some() => answer.metadata.response_code = ResponseCode::FormErr,
        "old.example.com." if query.query_type == RecordType::A => {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A("192.0.2.8".parse().unwrap()))));
        }
        "old.example.com." => {}
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
    let server = start(Arc::new(Forwarder::new(vec![upstream], &[]))).await;
    let ask = async |name: &str, rtype| exchange(server.addr(), &question(name, rtype)).await;
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
    let long = exchange_tcp(server.addr(), &question("long.example.com.", RecordType::TXT)).await;
    assert_eq!(long.answers.len(), 1, "what does not fit into UDP is fetched over TCP");
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    // Bound and dropped: the port answers with ICMP, if at all.
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (alive, _) = fake_upstream().await;
    let forwarder = Forwarder::new(vec![dead, alive], &[]);
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    assert_eq!(show(&forwarder.forward(query.clone(), HERE).await.unwrap()), "NoError 192.0.2.7");
    let alone = Forwarder::new(vec![dead], &[]);
    assert!(matches!(alone.forward(query, HERE).await, Err(ForwardError::Unreachable)));
}

#[tokio::test]
async fn stub_domains_have_servers_of_their_own() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (alive, _) = fake_upstream().await;
    let stub: StubDomain = format!("example.com={alive}").parse().unwrap();
    let forwarder = Forwarder::new(vec![dead], &[stub]);
    assert_eq!(forwarder.addresses("www.example.com", HERE).await, Found::Addresses(vec![[192, 0, 2, 7].into()]));
    assert_eq!(forwarder.addresses("nobody.example.com", HERE).await, Found::Nothing);
    assert_eq!(forwarder.addresses("broken.example.com", HERE).await, Found::Failed);
    assert_eq!(forwarder.addresses("www.example.org", HERE).await, Found::Failed);
    assert!(forwarder.is_stub("WWW.example.com") && !forwarder.is_stub("www.example.org"));
}

#[tokio::test]
async fn a_server_that_does_not_know_edns_is_asked_without() {
    let (old, count) = fake_upstream().await;
    let forwarder = Forwarder::new(vec![old], &[]);
    assert_eq!(forwarder.addresses("old.example.com", HERE).await, Found::Addresses(vec![[192, 0, 2, 8].into()]));
    assert_eq!(count.load(Ordering::Relaxed), 4, "both families, with EDNS and without");
}

#[tokio::test]
async fn what_is_ready_first_is_answered_first_on_a_connection() {
    let (upstream, _) = fake_upstream().await;
    let server = start(Arc::new(Forwarder::new(vec![upstream], &[]))).await;
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    // The first one is never answered by its server.
    for (id, name) in [(1, "silent.example.com."), (2, "web.shop.svc.cluster.local."), (3, "www.example.com.")] {
        let mut message = question(name, RecordType::A);
        message.metadata.id = id;
        let bytes = message.to_vec().unwrap();
        tcp.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).await.unwrap();
    }
    let mut next = async || {
        let mut buf = vec![0; tcp.read_u16().await.unwrap().into()];
        tcp.read_exact(&mut buf).await.unwrap();
        let answer = Message::from_vec(&buf).unwrap();
        (answer.metadata.id, show(&answer))
    };
    assert_eq!(next().await, (2, "NoError 10.96.0.7".into()));
    assert_eq!(next().await, (3, "NoError 192.0.2.7".into()));
    assert_eq!(next().await, (1, "ServFail ".into()));
}

#[tokio::test]
async fn a_stopped_server_leaves_its_port() {
    let server = start(nobody()).await;
    let addr = server.addr();
    exchange(addr, &question("web.shop.svc.cluster.local.", RecordType::A)).await;
    tokio::time::timeout(Duration::from_secs(4), server.shutdown()).await.expect("its threads end");
    drop(std::net::UdpSocket::bind(addr).expect("nobody has the port"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_not_shared() {
    let server = start(nobody()).await;
    assert!(Sockets::bind(server.addr()).await.is_err());
}

/// The long way's answer of a client from a stranger's address or a known one.
async fn answer_to(ip: IpAddr, upstream: Arc<dyn Upstream>, message: &Message) -> Message {
    let zone = zone();
    let known = ("192.0.2.0".parse().unwrap(), 24);
    let handler = Handler { zone: Arc::new(move || Some(zone.clone())), upstream, access: Access::new([known]) };
    let client = Client { ip, over: Transport::Udp };
    let bytes = handler.answer(&message.to_vec().unwrap(), client).await.unwrap();
    assert!(bytes.len() <= 1232);
    Message::from_vec(&bytes).unwrap()
}

#[tokio::test]
async fn strangers_are_told_of_the_cluster_and_of_nothing_else() {
    let (upstream, count) = fake_upstream().await;
    let upstream: Arc<dyn Upstream> = Arc::new(Forwarder::new(vec![upstream], &[]));
    let (stranger, known): (IpAddr, IpAddr) = ([198, 51, 100, 1].into(), [192, 0, 2, 9].into());
    let ask = async |ip, message: &Message| answer_to(ip, upstream.clone(), message).await;
    let outside = question("www.example.com.", RecordType::A);
    let refused = ask(stranger, &outside).await;
    assert_eq!((show(&refused), refused.metadata.recursion_available), ("Refused ".into(), false));
    let alias = ask(stranger, &question("ext.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(show(&alias), "NoError www.example.com.");
    let mut big = question("big.shop.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    big.set_edns(edns);
    let short = ask(stranger, &big).await;
    assert!(short.metadata.truncation && short.answers.len() < 40, "{}", short.answers.len());
    let mut unwished = outside.clone();
    unwished.metadata.recursion_desired = false;
    assert_eq!(show(&ask(known, &unwished).await), "Refused ");
    assert_eq!(count.load(Ordering::Relaxed), 0, "nobody was asked");
    let allowed = ask(known, &outside).await;
    assert_eq!((show(&allowed), allowed.metadata.recursion_available), ("NoError 192.0.2.7".into(), true));
    assert!(ask(known, &big).await.answers.len() > 40);
}

#[tokio::test]
async fn a_zone_that_is_not_known_yet_denies_nothing() {
    let handler = Handler { zone: Arc::new(|| None), upstream: nobody(), access: Access::default() };
    let client = Client { ip: HERE, over: Transport::Udp };
    let bytes = question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    assert_eq!(handler.quick(&bytes, client, &mut Vec::new()), Quick::Long);
    let answer = handler.answer(&bytes, client).await.unwrap();
    assert_eq!(show(&Message::from_vec(&answer).unwrap()), "ServFail ");
}

#[tokio::test]
async fn edns_is_answered_in_kind() {
    let server = start(nobody()).await;
    // The short way and the long way.
    for name in ["web.shop.svc.cluster.local.", "10-244-1-1.shop.pod.cluster.local."] {
        let mut message = question(name, RecordType::A);
        assert!(exchange(server.addr(), &message).await.edns.is_none());
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        let unknown = EdnsOption::Unknown(65_001, vec![1, 2, 3]);
        edns.options_mut().insert(unknown);
        message.set_edns(edns);
        let edns = exchange(server.addr(), &message).await.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, true), "{name}");
        assert_eq!(edns.options().as_ref().len(), 0, "{name}");
    }
}

fn both_ways(handler: &Handler, bytes: &[u8], client: Client) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut quick = Vec::new();
    let way = handler.quick(bytes, client, &mut quick);
    let long = runtime.block_on(handler.answer(bytes, client));
    assert_eq!(way == Quick::Noise, long.is_none());
    ((way == Quick::Answered).then_some(quick), long)
}

/// A message without the order of its records where that says nothing.
fn sorted(bytes: &[u8]) -> (Message, [Vec<String>; 3]) {
    let mut message = Message::from_vec(bytes).unwrap();
    let mut take = |section: fn(&mut Message) -> &mut Vec<Record>| {
        let mut lines: Vec<String> = section(&mut message).drain(..).map(|r| r.to_string()).collect();
        lines.sort();
        lines
    };
    let sections = [take(|m| &mut m.answers), take(|m| &mut m.authorities), take(|m| &mut m.additionals)];
    (message, sections)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// For all names and types, and all that may be said in a question: what the short way answers is what the long way does.
    #[test]
    fn both_ways_give_the_same_answer(
        labels in prop::collection::vec("([a-z]{1,3}|WEB|web|big|ext|inner|svc|pod|shop|_http|_x|_tcp|10-244-1-7)", 0..6),
        reverse in prop::option::of((0u8..20, prop::sample::select(vec!["1.244.10", "0.96.10"]))),
        rtype in prop_oneof![0u16..40, prop::sample::select(vec![41u16, 65, 251, 252, 255, 257]), any::<u16>()],
        flags in any::<(bool, bool, bool)>(),
        edns in prop::option::of((any::<u16>(), any::<bool>(), 0u8..10)),
        tcp in any::<bool>(),
        id in any::<u16>(),
        stranger in any::<bool>(),
    ) {
        let name = match reverse {
            Some((last, rest)) => format!("{last}.{rest}.in-addr.arpa."),
            None => labels.into_iter().chain(["cluster.local.".into()]).collect::<Vec<_>>().join("."),
        };
        let mut message = question(&name, rtype.into());
        message.metadata.id = id;
        (message.metadata.recursion_desired, message.metadata.checking_disabled, message.metadata.authentic_data) = flags;
        if let Some((payload, dnssec_ok, version)) = edns {
            let mut e = Edns::new();
            e.set_max_payload(payload).set_dnssec_ok(dnssec_ok).set_version(u8::from(version == 0));
            message.set_edns(e);
        }
        let zone = zone();
        let handler = Handler { zone: Arc::new(move || Some(zone.clone())), upstream: nobody(), access: Access::default() };
        let ip = if stranger { [192, 0, 2, 1].into() } else { HERE };
        let client = Client { ip, over: if tcp { Transport::Tcp } else { Transport::Udp } };
        let bytes = message.to_vec().unwrap();
        let (quick, long) = both_ways(&handler, &bytes, client);
        if let (Some(quick), Some(long)) = (quick, long) {
            prop_assert_eq!(sorted(&quick), sorted(&long));
            let order = |bytes: &[u8]| Message::from_vec(bytes).unwrap().answers.iter().map(|r| r.to_string()).collect::<Vec<_>>();
            prop_assert_eq!(order(&quick), order(&long), "in the same order");
        }
    }

    /// Whatever comes: no panic, nothing to a response, and no more than was asked for.
    #[test]
    fn any_message_is_survived(
        name in prop::sample::select(vec!["web.shop.svc.cluster.local.", "big.shop.svc.cluster.local.", "x.shop.svc.cluster.local."]),
        payload in prop::option::of(any::<u16>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        noise in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
    ) {
        let mut message = question(name, RecordType::A);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, |at| at.index(bytes.len() + 1)));
        let bytes = noise.unwrap_or(bytes);
        let zone = zone();
        let handler = Handler { zone: Arc::new(move || Some(zone.clone())), upstream: nobody(), access: Access::default() };
        let (quick, long) = both_ways(&handler, &bytes, Client { ip: HERE, over: Transport::Udp });
        let allowed = Message::from_vec(&bytes).map_or(512, |m| m.max_payload().clamp(512, 1232));
        for answer in quick.into_iter().chain(long) {
            prop_assert_eq!(bytes[2] & 0x80, 0, "a response was answered");
            prop_assert!(answer[2] & 0x80 != 0 && answer[..2] == bytes[..2]);
            prop_assert!(answer.len() <= usize::from(allowed), "{} of {}", answer.len(), allowed);
        }
    }
}

#[tokio::test]
async fn dig_understands_us() {
    if std::process::Command::new("dig").arg("-v").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have dig");
        println!("skipped: needs dig");
        return;
    }
    let server = start(nobody()).await;
    let port = server.addr().port().to_string();
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
