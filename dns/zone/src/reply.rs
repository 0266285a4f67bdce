//! The resolver's side of the wire: a question for addresses, and what an answer says of them.

use std::net::IpAddr;

use crate::compiled::name_to_wire;
use crate::question::{HEADER, RD};

/// What a message says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses of the name, or of what it is an alias of; none if it has none of the family or does not exist.
    Addresses(Vec<IpAddr>),
    /// The server cannot say.
    Failed,
}

/// A question for the IPv4 (A) or IPv6 addresses (AAAA) of an absolute name; none if the text is no name.
pub fn ask(id: u16, name: &str, v6: bool) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    for n in [id, RD, 1, 0, 0, 0] {
        message.extend(n.to_be_bytes());
    }
    message.extend(name_to_wire(name)?);
    message.extend(rtype(v6).to_be_bytes());
    message.extend(1u16.to_be_bytes());
    Some(message)
}

fn rtype(v6: bool) -> u16 {
    if v6 { 28 } else { 1 }
}

/// What `message` says to `question`, which [`ask`] has made; none if it is no answer to it.
pub fn reply(question: &[u8], message: &[u8]) -> Option<Reply> {
    let be = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let flags = be(2)?;
    let same = question.get(..2)? == message.get(..2)?
        && flags & 0x8000 != 0
        && message.get(HEADER..question.len())?.eq_ignore_ascii_case(question.get(HEADER..)?);
    if !same || be(4)? != 1 {
        return None;
    }
    let wanted = question.get(question.len().checked_sub(4)?..)?;
    match flags & 15 {
        0 => {}
        3 => return Some(Reply::Addresses(Vec::new())),
        _ => return Some(Reply::Failed),
    }
    let (mut ips, mut at) = (Vec::new(), question.len());
    for _ in 0..be(6)? {
        let Some((next, ip)) = record(message, at, wanted) else { return Some(Reply::Failed) };
        at = next;
        ips.extend(ip);
    }
    // Of what was cut some is better than nothing.
    let cut = flags & 0x0200 != 0;
    Some(if cut && ips.is_empty() { Reply::Failed } else { Reply::Addresses(ips) })
}

/// Where the record at `at` ends, and the address in it if it is one of the type and class that are wanted.
fn record(message: &[u8], mut at: usize, wanted: &[u8]) -> Option<(usize, Option<IpAddr>)> {
    loop {
        match *message.get(at)? {
            0 => {
                at += 1;
                break;
            }
            pointer if pointer & 0xC0 == 0xC0 => {
                at += 2;
                break;
            }
            length if length & 0xC0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let fixed = message.get(at..at + 10)?;
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let data = message.get(at + 10..at + 10 + length)?;
    let ip = match fixed[..4] == *wanted {
        true => match length {
            4 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => return None,
        },
        false => None,
    };
    Some((at + 10 + length, ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::tests::example;
    use crate::{Question, Reading, Room};
    use proptest::prelude::*;

    fn answered(question: &[u8]) -> Vec<u8> {
        let Reading::Question(read) = Question::read(question) else { panic!() };
        let mut out = Vec::new();
        assert!(example().answer(&read, Room { bytes: 512, recursion: true }, &mut out));
        out
    }

    #[test]
    fn addresses_come_back() {
        for (name, v6, want) in [
            ("web.shop.svc.cluster.local", false, vec!["10.96.0.7"]),
            ("web.shop.svc.cluster.local", true, vec![]),
            ("dual.shop.svc.cluster.local", true, vec!["fd00::8"]),
            ("db.shop.svc.cluster.local", false, vec!["10.244.0.5", "10.244.0.6"]),
            ("no.shop.svc.cluster.local", false, vec![]),
        ] {
            let question = ask(7, name, v6).unwrap();
            let want: Vec<IpAddr> = want.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(reply(&question, &answered(&question)), Some(Reply::Addresses(want)), "{name}");
        }
        assert_eq!(ask(7, "a..b", false), None);
    }

    #[test]
    fn what_answers_something_else_is_passed_over() {
        let question = ask(7, "web.shop.svc.cluster.local", false).unwrap();
        let answer = answered(&question);
        for at in [1, 2, 13, question.len() - 3] {
            let mut other = answer.clone();
            other[at] ^= 0x80;
            assert_eq!(reply(&question, &other), None, "{at}");
        }
        let mut failed = answer.clone();
        failed[3] |= 2;
        assert_eq!(reply(&question, &failed), Some(Reply::Failed));
        assert_eq!(reply(&question, &answer[..answer.len() - 1]), Some(Reply::Failed));
        // An alias before the address is passed over.
        let mut alias = answer[..question.len()].to_vec();
        alias[7] = 2;
        alias.extend([0xC0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xC0, 12]);
        alias.extend(&answer[question.len()..]);
        assert_eq!(reply(&question, &alias), Some(Reply::Addresses(vec![[10, 96, 0, 7].into()])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100), whole in any::<bool>()) {
            let question = ask(7, "db.shop.svc.cluster.local", false).unwrap();
            let mut message = answered(&question);
            let at = if whole { 0 } else { question.len() };
            message.truncate(at);
            message.extend(bytes);
            let _ = reply(&question, &message);
        }
    }
}
