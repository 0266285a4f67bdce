//! Lines of containers' logs, of outputs of any bytes, and what a gRPC probe is answered.

use copepod_agent::fuzzing::{grpc_health, log_line, log_lines};
use copepod_model::Time;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "log_line",
    run,
    seeds,
    words: &[
        "2026-01-02T03:04:05.000000006Z",
        " stdout",
        " stderr",
        " F ",
        " P ",
        "\n",
        "\r\n",
        "\0\0\0\0\u{2}\u{8}\u{1}",
    ],
    room: Room { base: 1 << 20, each: 256 },
};

/// What the runtime passes on in one piece of a longer line.
const PART: usize = 16 * 1024;

fn run(input: &[u8]) -> Outcome {
    let health = grpc_health(input);
    // Whatever is said comes back, with the end of its last line.
    let at = Time(1_800_000_000_000_000_007);
    let written = log_lines(at, "stdout", input);
    let mut said = Vec::new();
    for line in written.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or_else(|| panic!("a line without an end"));
        let (stamp, part, text) = log_line(line).unwrap_or_else(|| panic!("no line: {line:?}"));
        assert_eq!(Time::parse(stamp), Some(at));
        said.extend_from_slice(text);
        if !part {
            said.push(b'\n');
        }
    }
    let mut want = input.to_vec();
    if !input.is_empty()
        && !input.ends_with(b"\n")
        && input.split(|b| *b == b'\n').next_back().map(<[u8]>::len) != Some(PART)
    {
        want.push(b'\n');
    }
    assert!(said == want, "{:?} comes back as {:?}", String::from_utf8_lossy(input), String::from_utf8_lossy(&said));
    // And any bytes are a line or none.
    match log_line(input) {
        Some((stamp, part, text)) => {
            assert!(stamp.len() + text.len() < input.len());
            Outcome::taken(text.len()).and((part, health))
        }
        None => Outcome::refused("no line").and(health.is_some()),
    }
}

fn seeds() -> Vec<Seed> {
    vec![
        ("line".into(), b"2026-01-02T03:04:05.000000006Z stdout F some text".to_vec()),
        ("part".into(), b"2026-01-02T03:04:05.000000006Z stderr P ".to_vec()),
        ("output".into(), b"one\n\ntwo \xff\r\nlast words".to_vec()),
        ("health".into(), vec![0, 0, 0, 0, 5, 18, 1, 9, 8, 2]),
    ]
}
