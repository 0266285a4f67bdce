//! Seeded chance, split into independent streams so that one part drawing more does not change what another sees.

use copepod_machine::{Ids, SeededIds};

/// A stream of chance.
pub struct Chance(SeededIds);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Chance {
        // Neighbouring seeds begin far apart: SplitMix's states are one constant apart from each other.
        let mixed = (seed ^ 0x5eed).wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Chance(SeededIds((mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)))
    }
    /// Another stream.
    pub fn split(&mut self) -> Chance {
        Chance::new(self.draw())
    }
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        let mut b = [0; 8];
        self.0.fill(&mut b);
        u64::from_le_bytes(b)
    }
    /// A number below `n`, 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.draw() % n }
    }
    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Ids for Chance {
    fn fill(&mut self, buf: &mut [u8]) {
        self.0.fill(buf);
    }
}
