use proptest::prelude::*;

use super::*;
use crate::compiled::name_to_wire;
use crate::record::{Answer, RecordType};
use crate::zone::tests::example;
use crate::{Reading, udp_room};

fn message(id: u16, name: &str, rtype: u16, edns: Option<u16>) -> Vec<u8> {
    let mut m = Vec::new();
    for n in [id, RD, 1, 0, 0, u16::from(edns.is_some())] {
        m.extend(n.to_be_bytes());
    }
    m.extend(name_to_wire(name).unwrap());
    m.extend([rtype.to_be_bytes(), 1u16.to_be_bytes()].concat());
    if let Some(payload) = edns {
        m.extend([0, 0, 41]);
        m.extend(payload.to_be_bytes());
        m.extend([0; 6]);
    }
    m
}

/// The answer of the short way, if it has one.
fn quick(zone: &Zone, message: &[u8], recursion: bool) -> Option<Vec<u8>> {
    let Reading::Question(question) = Question::read(message) else { return None };
    let room = Room { bytes: udp_room(question.edns.map(|e| e.payload)), recursion };
    let mut out = vec![7; 3];
    zone.answer(&question, room, &mut out).then_some(out)
}

fn field(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

#[test]
fn one_answer_byte_by_byte() {
    let mut zone = example();
    zone.serial = 9;
    let asked = message(5, "WEB.shop.svc.cluster.local", 1, Some(4096));
    let question = &asked[HEADER..asked.len() - 11];
    let header = [0, 5, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 1];
    let address = [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 7];
    let opt = [0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0];
    assert_eq!(quick(&zone, &asked, true).unwrap(), [&header, question, &address, &opt].concat());

    let asked = message(6, "no.shop.svc.cluster.local", 28, None);
    let header = [0, 6, 0x85, 0x03, 0, 1, 0, 0, 0, 1, 0, 0];
    // The domain is behind the labels no, shop and svc.
    let domain = 12 + 3 + 5 + 4;
    let mut soa = vec![0xC0, domain, 0, 6, 0, 1, 0, 0, 0, 5, 0, 42];
    soa.extend([&b"\x02ns\x03dns\xC0"[..], &[domain], b"\x0Ahostmaster\xC0", &[domain]].concat());
    for n in [9u32, 7200, 1800, 86_400, 5] {
        soa.extend(n.to_be_bytes());
    }
    assert_eq!(quick(&zone, &asked, false).unwrap(), [&header, &asked[HEADER..], &soa].concat());
}

#[test]
fn addresses_take_turns() {
    let zone = example();
    let first = |id| {
        let answer = quick(&zone, &message(id, "db.shop.svc.cluster.local", 1, None), true).unwrap();
        answer[answer.len() - 17]
    };
    assert_eq!([first(0), first(1), first(2)], [6, 5, 6]);
}

#[test]
fn what_needs_more_than_copying_takes_the_long_way() {
    let zone = example();
    for (name, rtype) in [
        ("example.com", 1),
        ("ext.shop.svc.cluster.local", 1),
        ("ext.shop.svc.cluster.local", 16),
        ("cluster.local", 6),
        ("10-244-0-5.shop.pod.cluster.local", 1),
        ("99.0.244.10.in-addr.arpa", 12),
        ("notcluster.local", 1),
        ("xcluster.local", 1),
        ("local", 1),
    ] {
        assert_eq!(quick(&zone, &message(1, name, rtype, None), true), None, "{name} {rtype}");
    }
    assert!(quick(&zone, &message(1, "ext.shop.svc.cluster.local", 5, None), true).is_some());
}

#[test]
fn names_follow_the_changes() {
    let zone = example();
    let none: [copepod_model::Object; 0] = [];
    let without = zone.with_service("shop", "db", None, &none);
    let names = ["db.shop", "db-0.db.shop", "_tcp.db.shop", "_sql._tcp.db.shop"];
    for name in names.map(|n| format!("{n}.svc.cluster.local")) {
        let code = |zone| field(&quick(zone, &message(1, &name, 16, None), true).unwrap(), 2) & 15;
        assert_eq!((code(&zone), code(&without)), (0, 3), "{name}");
    }
    let pointer = message(1, "5.0.244.10.in-addr.arpa", 12, None);
    assert!(quick(&zone, &pointer, true).is_some() && quick(&without, &pointer, true).is_none());
    let all = ["web", "dual", "empty", "ext"].iter().fold(without, |z, name| z.with_service("shop", name, None, &none));
    let fresh = Zone::new(crate::Config::default());
    assert_eq!(all.names_len(), fresh.names_len(), "nothing is left behind");
}

/// Names of all kinds, those that are there more often than by chance.
fn names() -> impl Strategy<Value = String> {
    let label = "(_?[a-z0-9-]{1,9}|web|dual|db|empty|ext|shop|quiet|svc|pod|dns|ns|_sql|_http|_tcp|_udp|10-244-0-5|db-0|cluster)";
    let below = prop::collection::vec(label, 0..6)
        .prop_map(|labels| labels.into_iter().chain(["cluster.local".into()]).collect::<Vec<_>>().join("."));
    let reverse = (0u8..12, prop::sample::select(vec!["0.244.10", "0.96.10"]))
        .prop_map(|(last, rest)| format!("{last}.{rest}.in-addr.arpa"));
    prop_oneof![4 => below, 1 => reverse]
}

proptest! {
    /// The short way says what the long way says, in so far as it says anything.
    #[test]
    fn both_ways_agree(name in names(), rtype in prop_oneof![0u16..40, Just(255), any::<u16>()], id in any::<u16>()) {
        let zone = example();
        let Some(answer) = quick(&zone, &message(id, &name, rtype, Some(1232)), true) else { return Ok(()) };
        let (code, answers, authorities) = (field(&answer, 2) & 15, field(&answer, 6), field(&answer, 8));
        match zone.lookup(&name, RecordType::from(rtype)) {
            Answer::Records(r) => {
                prop_assert_eq!((code, usize::from(answers), authorities), (0, r.answers.len(), 0));
                prop_assert_eq!(usize::from(field(&answer, 10)), r.additional.len() + 1);
            }
            Answer::NoData => prop_assert_eq!((code, answers, authorities), (0, 0, 1)),
            Answer::NxDomain => prop_assert_eq!((code, answers, authorities), (3, 0, 1)),
            other => prop_assert!(false, "{} {}: {:?}", name, rtype, other),
        }
    }

    /// Whatever comes: no panic, no answer to a response, and none that is longer than the client takes.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes)?;
    }

    /// The same with questions of which some bytes were changed, cut or added.
    #[test]
    fn changed_questions_are_survived(
        name in names(),
        edns in prop::option::of(any::<u16>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = message(1, &name, 1, edns);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, |at| at.index(bytes.len() + 1)));
        bytes.extend(more);
        survives(&bytes)?;
    }
}

fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Some(answer) = quick(&example(), bytes, false) else { return Ok(()) };
    prop_assert_eq!(bytes[2] & 0x80, 0, "a response was answered");
    prop_assert_eq!(&answer[..2], &bytes[..2]);
    prop_assert_eq!(answer[2] & 0x80, 0x80);
    let Reading::Question(question) = Question::read(bytes) else { panic!() };
    let allowed = question.edns.map_or(512, |e| e.payload.clamp(512, 1232));
    prop_assert!(answer.len() <= usize::from(allowed));
    Ok(())
}
