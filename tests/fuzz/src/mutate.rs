//! Inputs that are a little different.

use crate::Chance;

/// The longest input in bytes.
pub(crate) const LONGEST: usize = 16 << 10;
/// Numbers at the edges of types and of usual limits.
const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    7,
    16,
    63,
    64,
    127,
    128,
    255,
    256,
    999,
    1000,
    4095,
    4096,
    32_767,
    65_535,
    65_536,
    i32::MAX as u64,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX,
];
/// Numbers as people write them.
const DECIMALS: [&str; 14] = [
    "0",
    "-1",
    "1e9",
    "0.1",
    "1.5",
    "-0",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "0000000001",
    "99999999999999999999999999999999999999999",
];

/// A mutation of one of `pool`, with parts of the others and of `words`.
pub(crate) fn mutate(chance: &mut Chance, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    // What was found last is looked at closely.
    let at = match chance.one_in(2) {
        true => pool.len() - 1 - chance.below(pool.len().min(16)),
        false => chance.below(pool.len()),
    };
    let mut input = pool[at].clone();
    let most = 1 << chance.below(4);
    for _ in 0..1 + chance.below(most) {
        let other = &pool[chance.below(pool.len())];
        change(chance, &mut input, other, words);
    }
    input.truncate(LONGEST);
    input
}

fn change(chance: &mut Chance, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let at = chance.below(input.len() + 1);
    match chance.below(12) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = chance.draw() as u8;
            }
        }
        2 => {
            let count = 1 + chance.below(4);
            let new: Vec<u8> = (0..count).map(|_| chance.draw() as u8).collect();
            insert(input, at, &new);
        }
        3 => drop(input.drain(at..(at + 1 + block(chance)).min(input.len()))),
        4 => {
            let from = chance.below(input.len() + 1);
            let copy = input[from..(from + block(chance)).min(input.len())].to_vec();
            insert(input, at, &copy);
        }
        // The beginning of one and the end of another, as whole ones or as a part.
        5 => {
            let from = chance.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        6 => {
            let from = chance.below(other.len() + 1);
            insert(input, at, &other[from..(from + block(chance)).min(other.len())]);
        }
        7 | 8 => {
            let Some(word) = chance.pick(words) else { return };
            put(chance, input, at, word.as_bytes());
        }
        9 => {
            let bytes = number(chance);
            put(chance, input, at, &bytes);
        }
        10 => decimal(chance, input, at),
        _ => {
            // Deep and long ones: a short part, many times.
            let part = input[at..(at + 1 + chance.below(8)).min(input.len())].to_vec();
            let times = 1 << chance.below(11);
            insert(input, at, &part.repeat(times));
        }
    }
}

/// Lengths of parts: short ones most of the time.
fn block(chance: &mut Chance) -> usize {
    let most = 1 << (2 + chance.below(8));
    1 + chance.below(most)
}

fn insert(input: &mut Vec<u8>, at: usize, new: &[u8]) {
    if input.len() + new.len() <= LONGEST {
        drop(input.splice(at..at, new.iter().copied()));
    }
}

/// Inserts bytes, or writes them over what is there.
fn put(chance: &mut Chance, input: &mut Vec<u8>, at: usize, new: &[u8]) {
    match chance.one_in(2) {
        true => insert(input, at, new),
        false => drop(input.splice(at..(at + new.len()).min(input.len()), new.iter().copied())),
    }
}

/// A number at an edge, as wires have it.
fn number(chance: &mut Chance) -> Vec<u8> {
    let n = chance.pick(&NUMBERS).copied().unwrap_or_default();
    match chance.below(7) {
        0 => vec![n as u8],
        1 => (n as u16).to_be_bytes().to_vec(),
        2 => (n as u16).to_le_bytes().to_vec(),
        3 => (n as u32).to_be_bytes().to_vec(),
        4 => (n as u32).to_le_bytes().to_vec(),
        5 => n.to_le_bytes().to_vec(),
        _ => {
            let (mut out, mut n) = (Vec::new(), n);
            while n >= 0x80 {
                out.push(n as u8 | 0x80);
                n >>= 7;
            }
            out.push(n as u8);
            out
        }
    }
}

/// Another number in place of the next one that is written out.
fn decimal(chance: &mut Chance, input: &mut Vec<u8>, at: usize) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let length = input[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let new = chance.pick(&DECIMALS).copied().unwrap_or_default();
    drop(input.splice(start..start + length, new.bytes()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mutations_differ_are_bounded_and_depend_on_the_seed_alone() {
        let pool = [b"{\"a\":1}".to_vec(), Vec::new(), vec![b'['; LONGEST]];
        let made = |seed| {
            let mut chance = Chance::new(seed);
            (0..2000).map(|_| mutate(&mut chance, &pool, &["null"])).collect::<Vec<_>>()
        };
        let one = made(1);
        assert_eq!(one, made(1));
        assert_ne!(one, made(2));
        assert!(one.iter().all(|i| i.len() <= LONGEST));
        assert!(one.iter().collect::<BTreeSet<_>>().len() > 1000);
    }
}
