//! Answers of other name servers: those that a question was forwarded to, the cache of them, and those to guests' resolvers.

use std::net::Ipv4Addr;

use copepod_dns_server::fuzzing::{kept, upstream};
use copepod_dns_zone::{Reply, ask, reply};
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "dns_answer",
    run,
    seeds,
    words: &[
        "\u{3}www\u{7}example\u{3}com\0",
        "\0\u{1}\0\u{1}",
        "\0\u{5}\0\u{1}",
        "\0\0\0\u{14}",
        "\0\u{4}",
        "\0\0)",
        "\u{c}",
    ],
    room: Room { base: 2 << 20, each: 4096 },
};

const NAME: &str = "www.example.com";
const ID: u16 = 0x1234;

fn question() -> Message {
    let mut message = Message::query();
    message.metadata.id = ID;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("www.example.com.").unwrap_or_default(), RecordType::A));
    message
}

fn run(input: &[u8]) -> Outcome {
    let asked = ask(ID, NAME, false).unwrap_or_default();
    let small = reply(&asked, input);
    if let Some(Reply::Addresses(ips)) = &small {
        assert!(ips.len() <= input.len() / 14, "{} addresses in {} bytes", ips.len(), input.len());
    }
    let question = question();
    let Some(answer) = upstream(input, &question) else { return Outcome::refused("no answer").and(small.is_some()) };
    let known = kept(&question.queries[0], &answer);
    if let Some(known) = &known {
        assert_eq!(known.answers.len(), answer.answers.len(), "what is kept is what was said");
        let ips = |m: &Message| m.answers.iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>();
        assert_eq!(ips(known), ips(&answer));
        assert!(known.answers.iter().zip(&answer.answers).all(|(k, a)| k.ttl <= a.ttl), "it lives no longer");
    }
    let size = answer.answers.len() + answer.authorities.len();
    Outcome::taken(size).and((answer.metadata.response_code.low(), known.is_some(), small.is_some()))
}

fn seeds() -> Vec<Seed> {
    let name = |text: &str| Name::from_ascii(text).unwrap_or_default();
    let www = || name("www.example.com.");
    let answer = |records: Vec<Record>, code: ResponseCode| {
        let mut message = question();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = code;
        for record in records {
            message.add_answer(record);
        }
        message
    };
    let a = |owner, ttl| Record::from_rdata(owner, ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, 7))));
    let alias = Record::from_rdata(www(), 20, RData::CNAME(CNAME(name("a.example.com."))));
    let text = Record::from_rdata(www(), 20, RData::TXT(TXT::new(vec!["text".into()])));
    let mut none = answer(vec![], ResponseCode::NXDomain);
    let soa = SOA::new(name("example.com."), name("h.example.com."), 1, 2, 3, 4, 5);
    none.add_authority(Record::from_rdata(name("example.com."), 30, RData::SOA(soa)));
    let all = [
        ("address", answer(vec![a(www(), 20)], ResponseCode::NoError)),
        ("alias", answer(vec![alias, a(name("a.example.com."), 9)], ResponseCode::NoError)),
        ("text", answer(vec![text], ResponseCode::NoError)),
        ("none", none),
        ("failed", answer(vec![], ResponseCode::ServFail)),
    ];
    all.into_iter().map(|(name, message)| (name.to_string(), message.to_vec().unwrap_or_default())).collect()
}
