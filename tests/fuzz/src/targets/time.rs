//! Times (RFC 3339), and what of a log is asked for by them.

use copepod_model::Time;
use copepod_model::pod_log::PodLogOptions;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "time",
    run,
    seeds,
    words: &[
        "Z",
        "z",
        "T",
        "t",
        "+",
        "-",
        ":",
        ".",
        "1970-01-01T00:00:00Z",
        "2554",
        "9999",
        "23:59",
        "+00:00",
        "é",
        "02-29",
    ],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let options = PodLogOptions::read(|name| (name == "sinceTime").then_some(&*text));
    let Some(time) = Time::parse(&text) else {
        return Outcome::refused(options.err().unwrap_or_default());
    };
    assert_eq!(options.ok().and_then(|o| o.since_time), Some(time));
    for (printed, unit) in [(time.rfc3339(), 1_000_000_000), (time.rfc3339_micros(), 1000), (time.rfc3339_nanos(), 1)] {
        assert_eq!(Time::parse(&printed), Some(Time(time.0 - time.0 % unit)), "{text:?} {printed}");
    }
    Outcome::taken(time.secs() as usize).and(time.0 % 1_000_000_000 == 0)
}

fn seeds() -> Vec<Seed> {
    let all = [
        "1970-01-01T00:00:00Z",
        "2026-01-02T03:04:05.000006Z",
        "2024-02-29T23:59:59.123456789+23:59",
        "2554-07-21T23:34:33.709551615Z",
        "9999-12-31T23:59:59-00:01",
    ];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
