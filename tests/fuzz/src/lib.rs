//! Fuzzing on a stable toolchain: mutated inputs for everything that decodes what others have written. A target is a file of
//! [`targets`]: one decoder, the properties that hold for whatever it is given, and small inputs to begin with. What is tried
//! depends on a seed alone, so a failure is found again by its number.

mod chance;
mod cluster;
pub mod corpus;
mod fuzzer;
mod guard;
mod memory;
mod mutate;
mod outcome;
mod patches;
mod samples;
mod shrink;
mod support;
pub mod targets;

pub use chance::Chance;
pub use fuzzer::{Found, Limits, Report, fuzz};
pub use guard::{Failure, attempt, on_a_stack};
pub use outcome::Outcome;
pub use shrink::shrink;

/// A decoder, and what must hold for it.
pub struct Target {
    /// Its name, which its file and the folder of its corpus have.
    pub name: &'static str,
    /// Decodes an input and panics when a property does not hold.
    pub run: fn(&[u8]) -> Outcome,
    /// Small inputs of real objects, each with a name.
    pub seeds: fn() -> Vec<Seed>,
    /// Words of the format, for inputs to be made of.
    pub words: &'static [&'static str],
    /// How much memory a run may take.
    pub room: Room,
}

/// An input to begin with: its name and its bytes.
pub type Seed = (String, Vec<u8>);

/// Memory, in bytes: what any input may take, and how much more for each of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// For any input.
    pub base: usize,
    /// For each byte.
    pub each: usize,
}

impl Room {
    /// What values in memory take that were read from text: many times the text, and in a few copies.
    pub const VALUES: Room = Room { base: 1 << 20, each: 2048 };
    /// What bytes and texts take.
    pub const BYTES: Room = Room { base: 64 << 10, each: 64 };

    /// For an input of this length.
    pub fn of(self, length: usize) -> usize {
        self.base + self.each * length
    }
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Target> {
        targets::TARGETS.iter().copied().find(|t| t.name == name)
    }
}
