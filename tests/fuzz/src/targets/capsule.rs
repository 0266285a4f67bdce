//! Capsules (RFC 9297) of another node. The first byte of an input says in what pieces they come.

use copepod_node_network::fuzzing::{capsule, datagrams};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "capsule",
    run,
    seeds,
    words: &["\0\0", "\0\u{1}x", "@A", "\u{17}\u{3}abc", "\0@@"],
    room: Room { base: 256 << 10, each: 256 },
};

fn run(input: &[u8]) -> Outcome {
    let Some((first, stream)) = input.split_first() else { return Outcome::refused("nothing") };
    let (got, long) = datagrams(stream.chunks(usize::from(*first) + 1));
    assert_eq!(datagrams([stream].into_iter()), (got.clone(), long), "it depends on how they are cut");
    let again: Vec<u8> = got.iter().flat_map(|d| capsule(d).to_vec()).collect();
    assert_eq!(datagrams([&again[..]].into_iter()), (got.clone(), false), "they are not what they were");
    let size: usize = got.iter().map(|d| d.len()).sum();
    assert!(size <= stream.len());
    let outcome = if long { Outcome::refused("too long") } else { Outcome::taken(size) };
    outcome.and(got.len().min(6))
}

fn seeds() -> Vec<Seed> {
    let of = |pieces: u8, sizes: &[usize]| {
        let all = sizes.iter().flat_map(|n| capsule(&vec![b'x'; *n]).to_vec());
        std::iter::once(pieces).chain(all).collect::<Vec<u8>>()
    };
    let mut unknown = vec![2, 0xc0, 0, 0, 0, 0, 0, 0, 0x17, 3, 1, 2, 3];
    unknown.extend(&of(0, &[4])[1..]);
    vec![
        ("one".into(), of(255, &[5])),
        ("several".into(), of(0, &[0, 1, 63, 64])),
        ("unknown".into(), unknown),
        ("long".into(), vec![9, 0, 0x80, 0, 0xff, 0xe4]),
    ]
}
