//! Compiled artifacts on disk: what was not stored by this node for this module is never loaded. An input is the tag and then
//! the content.

use copepod_runtime_wasm::fuzzing::{is_authentic, tag};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "artifact",
    run,
    seeds,
    words: &["!", "sha256:aa", "\0asm"],
    room: Room { base: 1 << 20, each: 64 },
};

const KEY: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [8; 32];
const LENGTH: usize = 32;
const DIGEST: &str = "sha256:aa";

fn run(input: &[u8]) -> Outcome {
    let (given, content) = input.split_at(input.len().min(LENGTH));
    let check = |tag: &[u8]| is_authentic(&KEY, 1, DIGEST, content, tag).unwrap_or_else(|e| panic!("{e}"));
    let own = tag(&KEY, 1, DIGEST, content);
    assert!(check(&own), "the node's own is refused");
    assert_eq!(check(given), given == own, "only the tag itself is one");
    for (foreign, what) in [
        (tag(&OTHER, 1, DIGEST, content), "another node's"),
        (tag(&KEY, 2, DIGEST, content), "another version's"),
        (tag(&KEY, 1, "sha256:bb", content), "another module's"),
        (tag(&KEY, 1, DIGEST, &[content, b"x"].concat()), "a longer one's"),
        (own[..LENGTH - 1].to_vec(), "a cut one"),
        (Vec::new(), "none"),
    ] {
        assert!(!check(&foreign), "{what}");
    }
    if given == own { Outcome::taken(content.len()) } else { Outcome::refused("another tag").and(content.len().min(8)) }
}

fn seeds() -> Vec<Seed> {
    let whole = |content: &[u8]| [&tag(&KEY, 1, DIGEST, content)[..], content].concat();
    vec![("stored".into(), whole(b"machine code")), ("empty".into(), whole(b"")), ("short".into(), vec![1, 2, 3])]
}
