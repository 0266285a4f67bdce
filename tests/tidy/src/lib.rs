//! What keeps the house in order: the floors of docs/ARCHITECTURE.md as data, for `tests/tidy.rs` to check.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate's folder and floor, in tenths so that 3a and 3b have a place. A crate may depend only on lower floors.
pub const FLOORS: &[(&str, u32)] = &[
    ("sdk/model", 0),
    ("sdk/machine", 10),
    ("control/state", 20),
    ("control/consensus", 20),
    ("control/registry", 21),
    ("control/controllers", 20),
    ("control/scheduler", 20),
    ("node/plan", 20),
    ("node/streams", 20),
    ("node/routes", 20),
    ("dns/zone", 20),
    ("sdk/client", 30),
    ("node/runtime-wasm", 30),
    ("node/images", 30),
    ("node/volumes", 30),
    ("node/network", 30),
    ("dns/server", 30),
    ("control/server", 35),
    ("node/agent", 35),
    ("cli", 40),
];

/// The floor at and below which a crate is pure: no runtime, no clock, no randomness, no I/O. (21 is the registry, which
/// writes transactions in control/state's words and is a decider like its neighbours.)
pub const PURE: u32 = 21;

/// What a pure crate may not depend on, directly.
pub const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "reqwest",
    "rand",
    "getrandom",
    "fastrand",
    "socket2",
    "mio",
    "async-std",
    "redb",
    "wasmtime",
    "chrono",
    "uuid",
    "tempfile",
    "time",
    "jiff",
];

/// What no line of a pure crate may say: clocks, randomness and I/O of what it may depend on.
pub const BANNED: &[&str] = &[
    "Instant::now(",
    "SystemTime::now(",
    // Of jiff, which comes along with k8s-openapi.
    "Timestamp::now(",
    "Zoned::now(",
    "TimeZone::system(",
    // Of ring, which seals.
    "SystemRandom",
    "ring::rand",
    "thread_rng",
    "std::net::Tcp",
    "std::fs::",
];

/// The one listed exception: raft draws its own election timeouts.
pub const EXCEPTIONS: &[(&str, &str)] = &[("control/consensus", "raft")];

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace's folder")
}

/// What `cargo metadata` says.
pub fn metadata(args: &[&str]) -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// Whether a line of code, and not only of a comment, says one of the words.
pub fn says<'w>(code: &str, words: &[&'w str]) -> Option<&'w str> {
    let lines = || code.lines().filter(|l| !l.trim_start().starts_with("//"));
    words.iter().copied().find(|word| lines().any(|l| has_word(l, word)))
}

/// Whether `word` stands in a text and is not the end of a longer one.
pub fn has_word(text: &str, word: &str) -> bool {
    let longer = |at: usize| text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| !longer(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(has_word("core::service::kind()", "service::"));
        assert!(!has_word("core::my_service::kind()", "service::"));
        assert!(has_word("a_b::x(b::y)", "b::"));
    }

    #[test]
    fn what_is_no_decision_is_found() {
        for (code, want) in [
            ("let now = jiff::Timestamp::now();", Some("Timestamp::now(")),
            ("use ring::rand::SecureRandom;", Some("ring::rand")),
            ("// std::fs::read is for shells", None),
            ("let x = MySystemRandom;", None),
            ("std::fs::read(path)", Some("std::fs::")),
        ] {
            assert_eq!(says(code, BANNED), want, "{code}");
        }
    }
}
