//! Questions to the cluster's DNS: the short way and the long way say the same, and no more than there is room for.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use copepod_dns_server::Access;
use copepod_dns_server::fuzzing::Answerer;
use copepod_dns_zone::{Config, SMALLEST_UDP, Zone};
use copepod_model::object::{encode, with_revision};
use copepod_model::{Key, Object};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use serde_json::{Value, json};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "dns_question",
    run,
    seeds,
    words: &[
        "\u{3}web\u{4}shop\u{3}svc\u{7}cluster\u{5}local\0",
        "\u{5}_http",
        "\u{4}_tcp",
        "\u{3}big",
        "\u{3}ext",
        "\u{8}10-1-2-3",
        "\u{3}pod",
        "\0\0)",
        "\u{1}\0",
        "\0\u{1}\0\u{1}",
        "\0\u{1c}",
        "\0!",
        "\0\u{c}",
        "\0\u{ff}",
    ],
    room: Room { base: 2 << 20, each: 512 },
};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OPT: u16 = 41;

fn run(input: &[u8]) -> Outcome {
    let dns = answerer();
    let mut outcome = Outcome::refused("");
    for (ip, udp) in [(HOME, true), (STRANGER, true), (HOME, false)] {
        let quick = dns.quick(input, ip, udp);
        let long = dns.long(input, ip, udp);
        let Some(quick) = quick else {
            assert_eq!(long, None, "what is no question gets no answer");
            return Outcome::refused("noise");
        };
        let room = match (udp, ip == HOME) {
            (false, _) => usize::from(u16::MAX),
            (true, true) => 1232,
            (true, false) => SMALLEST_UDP,
        };
        let long = long.unwrap_or_else(|| panic!("a question is always answered"));
        for answer in quick.iter().chain([&long]) {
            assert!(answer.len() <= room, "{} bytes, room for {room}", answer.len());
            assert_eq!(answer[..2], input[..2], "the number is the question's");
            assert!(answer[2] & 0x80 != 0, "it is a response");
        }
        let read = |bytes: &[u8]| Message::from_vec(bytes).unwrap_or_else(|e| panic!("{bytes:?} cannot be read: {e}"));
        let slow = read(&long);
        outcome = outcome.and((slow.metadata.response_code.low(), slow.answers.len().min(4), quick.is_some()));
        if let Some(quick) = quick {
            let fast = read(&quick);
            assert_eq!(shown(&fast), shown(&slow), "the ways differ");
            outcome.taken = true;
        }
    }
    outcome
}

/// What an answer says, but for the order of its records.
fn shown(message: &Message) -> String {
    let m = &message.metadata;
    let flags = [m.authoritative, m.truncation, m.recursion_desired, m.recursion_available, message.edns.is_some()];
    let records = |all: &[Record]| {
        let records = all.iter().filter(|r| u16::from(r.record_type()) != OPT);
        let mut out: Vec<String> = records.map(|r| r.to_string().to_ascii_lowercase()).collect();
        out.sort();
        out
    };
    let Message { queries, answers, authorities, additionals, .. } = message;
    let (answers, authorities, additionals) = (records(answers), records(authorities), records(additionals));
    format!("{:?} {flags:?} {queries:?} {answers:?} {authorities:?} {additionals:?}", m.response_code)
}

fn object(resource: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, "shop", name), 1, with_revision(&encode(&value), 1))
}

fn answerer() -> &'static Answerer {
    static MADE: OnceLock<Answerer> = OnceLock::new();
    MADE.get_or_init(|| {
        let service = |name: &str, spec: Value| object("services", name, json!({"spec": spec}));
        let services = [
            service("web", json!({"clusterIPs": ["10.96.0.7", "fd00::7"], "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]})),
            service("big", json!({"clusterIP": "None", "ports": [{"name": "x", "port": 1}]})),
            service("ext", json!({"type": "ExternalName", "externalName": "www.example.com"})),
            service("inner", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
            service("circle", json!({"type": "ExternalName", "externalName": "circle.shop.svc.cluster.local"})),
        ];
        let ends: Vec<Value> = (0..60).map(|i| json!({"addresses": [format!("10.244.1.{i}")], "hostname": format!("h{i}")})).collect();
        let labels = json!({"labels": {"kubernetes.io/service-name": "big"}});
        let slice = json!({"metadata": labels, "addressType": "IPv4", "ports": [{"name": "x", "port": 1}], "endpoints": ends});
        let slices = [object("endpointslices.discovery.k8s.io", "big", slice)];
        let zone = Zone::build(&[], &services, &slices, Config { dns_ip: Some([10, 96, 0, 10].into()), ..Config::default() });
        let mut others = Message::new(0, MessageType::Response, OpCode::Query);
        others.metadata.response_code = ResponseCode::NXDomain;
        Answerer::new(Arc::new(zone), others, Access::default())
    })
}

fn seeds() -> Vec<Seed> {
    let question = |name: &str, rtype: RecordType, edns: bool| {
        let mut message = Message::query();
        message.metadata.id = 0x1234;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap_or_default(), rtype));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.set_edns(edns);
        }
        message.to_vec().unwrap_or_default()
    };
    let all = [
        ("a", "web.shop.svc.cluster.local.", RecordType::A, false),
        ("aaaa", "Web.Shop.svc.cluster.local.", RecordType::AAAA, true),
        ("srv", "_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV, true),
        ("many", "big.shop.svc.cluster.local.", RecordType::A, true),
        ("host", "h1.big.shop.svc.cluster.local.", RecordType::A, false),
        ("alias", "inner.shop.svc.cluster.local.", RecordType::A, false),
        ("circle", "circle.shop.svc.cluster.local.", RecordType::A, false),
        ("outside", "ext.shop.svc.cluster.local.", RecordType::CNAME, false),
        ("pod", "10-1-2-3.shop.pod.cluster.local.", RecordType::A, false),
        ("reverse", "7.0.96.10.in-addr.arpa.", RecordType::PTR, false),
        ("apex", "cluster.local.", RecordType::SOA, true),
        ("version", "dns-version.cluster.local.", RecordType::TXT, false),
        ("missing", "no.shop.svc.cluster.local.", RecordType::A, true),
        ("any", "web.shop.svc.cluster.local.", RecordType::ANY, false),
    ];
    all.map(|(name, asked, rtype, edns)| (name.to_string(), question(asked, rtype, edns))).into()
}
