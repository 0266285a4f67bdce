//! What keeps the house in order: the floors of docs/ARCHITECTURE.md as data, for `tests/tidy.rs` to check.

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
];

/// The one listed exception: raft draws its own election timeouts.
pub const EXCEPTIONS: &[(&str, &str)] = &[("control/consensus", "raft")];
