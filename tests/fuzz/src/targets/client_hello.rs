//! What clients begin TLS with, for a name. The first byte of an input says in what pieces it comes.

use copepod_node_network::fuzzing::server_name;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "client_hello",
    run,
    seeds,
    words: &["\u{16}\u{3}\u{1}\0", "\u{1}\0\0", "\u{3}\u{3}", "\0\0\0\u{6}\0\u{4}\0\0\u{1}a", "\0\0", "\0"],
    room: Room { base: 256 << 10, each: 256 },
};

/// How long a hello may be.
const MOST: usize = 64 << 10;

fn run(input: &[u8]) -> Outcome {
    let Some((first, bytes)) = input.split_first() else { return Outcome::refused("nothing") };
    let said = server_name(bytes.chunks(usize::from(*first) + 1), MOST);
    assert_eq!(server_name([bytes].into_iter(), MOST), said, "it depends on how it is cut");
    assert!(server_name([bytes].into_iter(), 1).is_err(), "nothing is so short");
    match said {
        Err(why) => Outcome::refused(why),
        Ok(name) => {
            assert_eq!(server_name([bytes, &b"more"[..]].into_iter(), MOST), Ok(name.clone()), "what follows counts");
            let length = name.as_ref().map_or(0, String::len);
            assert!(name.as_ref().is_none_or(|n| n.is_ascii() && (1..=255).contains(&length)));
            Outcome::taken(length).and(name.is_some())
        }
    }
}

fn seeds() -> Vec<Seed> {
    let sized = |bytes: usize, content: &[u8]| {
        let length = content.len().to_be_bytes();
        [&length[length.len() - bytes..], content].concat()
    };
    let hello = |extensions: &[u8]| {
        let session = sized(1, &[9; 32]);
        let body = [&[3, 3][..], &[7; 32], &session, &sized(2, &[0x13, 1]), &sized(1, &[0]), extensions].concat();
        [&[1][..], &sized(3, &body)].concat()
    };
    let name = |name: &str| {
        let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
        [&[0, 0][..], &sized(2, &sized(2, &entry))].concat()
    };
    let records = |pieces: u8, message: &[u8], each: usize| {
        let all = message.chunks(each).flat_map(|part| [&[22, 3, 1][..], &sized(2, part)].concat());
        std::iter::once(pieces).chain(all).collect::<Vec<u8>>()
    };
    let other = [0, 16, 0, 5, 0, 3, 2, b'h', b'2'];
    vec![
        ("name".into(), records(255, &hello(&sized(2, &name("shop.test"))), 1000)),
        ("others".into(), records(0, &hello(&sized(2, &[&other[..], &name("a")].concat())), 1000)),
        ("none".into(), records(9, &hello(&[]), 1000)),
        ("records".into(), records(20, &hello(&sized(2, &name("a.test"))), 7)),
    ]
}
