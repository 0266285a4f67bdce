//! What is planted is found, and found again: a test of what tests.

use std::path::PathBuf;
use std::time::Duration;

use fuzz::{Limits, Outcome, Room, Seed, Target, attempt, fuzz, shrink};

const LIMITS: Limits = Limits { runs: 200_000, time: Duration::from_secs(60) };

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("copepod-fuzz-tester-{}", std::process::id()))
}

fn no_seeds() -> Vec<Seed> {
    Vec::new()
}

const fn target(name: &'static str, run: fn(&[u8]) -> Outcome) -> Target {
    Target { name, run, seeds: no_seeds, words: &["RED", "GREEN"], room: Room::BYTES }
}

/// A decoder of records, each a length and so many bytes, that trusts the length of those of kind 3.
fn trusting(input: &[u8]) -> Outcome {
    let mut rest = input;
    let mut records = 0;
    while let [kind, length, more @ ..] = rest {
        let length = usize::from(*length);
        if *kind > 3 {
            return Outcome::refused("kind");
        }
        if *kind != 3 && more.len() < length {
            return Outcome::refused("cut off");
        }
        rest = &more[length..];
        records += 1;
    }
    Outcome::taken(records)
}

static TRUSTING: Target = target("trusting", trusting);

#[test]
fn a_length_that_is_trusted_is_found_by_its_seed_and_made_short() {
    let corpus = vec![vec![1, 2, b'a', b'b', 2, 1, b'c', 0, 0]];
    let find = |seed| fuzz(&TRUSTING, corpus.clone(), seed, LIMITS, &folder()).expect_err("it is there");
    let found = find(1);
    assert!(found.failure.what.contains("out of range"), "{found}");
    assert!(found.failure.at.contains("tester.rs"), "{found}");
    assert_eq!(found.input.len(), 2, "{:?}", found.input);
    assert_eq!(std::fs::read(&found.file).ok().as_ref(), Some(&found.input), "it is written down");
    assert!(found.to_string().contains("--target trusting"), "{found}");
    assert_eq!(attempt(&TRUSTING, &found.input), Err(found.failure.clone()), "it fails again");
    let again = find(1);
    assert_eq!((again.run, &again.input), (found.run, &found.input), "the seed is all");
    assert_ne!(find(2).run, found.run);
    let _ = std::fs::remove_dir_all(folder());
}

/// Goes one step further for each word that is right; nobody says all of them by chance.
fn steps(input: &[u8]) -> Outcome {
    let words = [&b"GREEN"[..], b"RED", b"RED", b"GREEN", b"GREEN", b"RED"];
    let mut rest = input;
    for (i, word) in words.iter().enumerate() {
        match rest.strip_prefix(*word) {
            Some(more) => rest = more,
            None => return Outcome::refused("").and(i),
        }
    }
    panic!("all words");
}

static STEPS: Target = target("steps", steps);

#[test]
fn what_goes_further_is_kept() {
    let found = fuzz(&STEPS, Vec::new(), 1, LIMITS, &folder()).expect_err("it is there");
    assert_eq!(found.failure.what, "all words");
    assert_eq!(found.input, b"GREENREDREDGREENGREENRED");
}

/// Makes a great many bytes of a few.
fn bomb(input: &[u8]) -> Outcome {
    let times = input.iter().filter(|b| **b == b'R').count();
    Outcome::taken(std::hint::black_box(vec![1u8; 1000 << times.min(12)]).len().min(1))
}

static BOMB: Target = target("bomb", bomb);

#[test]
fn memory_counts() {
    let found = fuzz(&BOMB, vec![b"R".to_vec()], 1, LIMITS, &folder()).expect_err("it is there");
    assert!(found.failure.what.contains("bytes of memory"), "{found}");
    assert!(shrink(&BOMB, &found.input).iter().all(|b| *b == b'R'));
}

/// Looks at its input and finds nothing wrong.
fn good(input: &[u8]) -> Outcome {
    Outcome::taken(input.len())
}

static GOOD: Target = target("good", good);

#[test]
fn what_is_right_is_not_found() {
    let limits = Limits { runs: 500, ..LIMITS };
    let report = fuzz(&GOOD, Vec::new(), 1, limits, &folder()).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!((report.runs, report.taken), (500, 500));
    let no_time = Limits { time: Duration::ZERO, ..limits };
    let report = fuzz(&GOOD, Vec::new(), 1, no_time, &folder()).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(report.runs, 0, "time ends it");
}
