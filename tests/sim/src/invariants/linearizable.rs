//! Linearizability of each key by itself (Herlihy and Wing; the search is Wing and Gong's, with the memory of Lowe's):
//! there is an order of all operations, each between its call and its answer, in which every answer is right. An
//! operation without an answer may have happened at any time after its call, or never.

use std::collections::{BTreeMap, HashSet};

use super::Broken;

/// What was asked of a key. Every value is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Its value, none where it has none.
    Read(Option<u64>),
    /// A value, or none to delete it.
    Write(Option<u64>),
    /// A value in the place of another; whether that was there.
    Swap(Option<u64>, u64, bool),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    op: Op,
    from: u64,
    /// None while there is no answer.
    to: Option<u64>,
}

/// The most states that a search looks at.
const BUDGET: usize = 400_000;

/// The history of all keys.
#[derive(Default)]
pub struct History {
    clock: u64,
    keys: BTreeMap<String, Vec<Call>>,
    /// Searches that were given up.
    pub undecided: usize,
}

/// A call, until it is answered.
#[derive(Clone, Debug)]
pub struct Token(String, usize);

impl History {
    /// Something is asked; of a read the answer is given later.
    pub fn call(&mut self, key: &str, op: Op) -> Token {
        self.clock += 1;
        let calls = self.keys.entry(key.into()).or_default();
        calls.push(Call { op, from: self.clock, to: None });
        Token(key.into(), calls.len() - 1)
    }

    /// It is answered, and what is known of it now.
    pub fn answer(&mut self, token: &Token, op: Op) {
        self.clock += 1;
        if let Some(call) = self.keys.get_mut(&token.0).and_then(|calls| calls.get_mut(token.1)) {
            (call.op, call.to) = (op, Some(self.clock));
        }
    }

    /// It has certainly not happened, and never will.
    pub fn never(&mut self, token: &Token) {
        if let Some(call) = self.keys.get_mut(&token.0).and_then(|calls| calls.get_mut(token.1)) {
            (call.op, call.to) = (Op::Read(None), None);
        }
    }

    /// How many calls a key has had.
    pub fn len(&self, key: &str) -> usize {
        self.keys.get(key).map_or(0, Vec::len)
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Looks for an order of each key.
    pub fn check(&mut self) -> Result<(), Broken> {
        for (key, calls) in &self.keys {
            // A read that nobody answered says nothing.
            let calls: Vec<Call> =
                calls.iter().filter(|c| c.to.is_some() || !matches!(c.op, Op::Read(_))).copied().collect();
            match order(&calls) {
                Some(true) => {}
                Some(false) => return Err(("linearizable", format!("{key} has no order: {calls:?}"))),
                None => self.undecided += 1,
            }
        }
        Ok(())
    }
}

/// Whether there is an order; none if that takes too long to find out.
fn order(calls: &[Call]) -> Option<bool> {
    if calls.len() > 128 {
        return None;
    }
    let answered: u128 = calls.iter().enumerate().filter(|(_, c)| c.to.is_some()).map(|(i, _)| 1u128 << i).sum();
    let mut seen: HashSet<(u128, Option<u64>)> = HashSet::new();
    let mut stack = vec![(0u128, None)];
    while let Some((done, value)) = stack.pop() {
        if done & answered == answered {
            return Some(true);
        }
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > BUDGET {
            return None;
        }
        // Nothing may come before a call whose answer came before it was asked.
        let left = || calls.iter().enumerate().filter(|(i, _)| done & 1 << i == 0);
        let horizon = left().filter_map(|(_, c)| c.to).min().unwrap_or(u64::MAX);
        // Calls with an answer are tried first: they come last onto the stack.
        let mut next: Vec<_> = left().filter(|(_, c)| c.from < horizon).collect();
        next.sort_by_key(|(_, c)| c.to.is_some());
        // What changes nothing and can come now may as well: whatever order has it later has one with it here, too.
        let still = |op: Op| match op {
            Op::Read(v) => v == value,
            Op::Swap(old, _, false) => old != value,
            _ => false,
        };
        if let Some(&(i, _)) = next.iter().find(|(_, c)| still(c.op)) {
            stack.push((done | 1 << i, value));
            continue;
        }
        for (i, call) in next {
            let after = match call.op {
                Op::Read(v) => (v == value).then_some(value),
                Op::Write(v) => Some(v),
                Op::Swap(old, new, true) => (old == value).then_some(Some(new)),
                Op::Swap(old, _, false) => (old != value).then_some(value),
            };
            if let Some(after) = after {
                stack.push((done | 1 << i, after));
            }
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(calls: &[(Op, u64, Option<u64>)]) -> bool {
        order(&calls.iter().map(|(op, from, to)| Call { op: *op, from: *from, to: *to }).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_stale_read_has_no_order_and_a_concurrent_one_has() {
        let (one, two) = (Op::Write(Some(1)), Op::Write(Some(2)));
        assert!(check(&[(one, 1, Some(2)), (two, 3, Some(6)), (Op::Read(Some(1)), 4, Some(5))]));
        assert!(!check(&[(one, 1, Some(2)), (two, 3, Some(4)), (Op::Read(Some(1)), 5, Some(6))]));
        assert!(!check(&[(one, 1, Some(2)), (Op::Read(None), 3, Some(4))]));
    }

    #[test]
    fn what_nobody_answered_may_have_happened_or_not_but_stays_so() {
        let unknown = (Op::Write(Some(1)), 1, None);
        let read = |v, from| (Op::Read(v), from, Some(from + 1));
        assert!(check(&[unknown, read(None, 2), read(Some(1), 4), read(Some(1), 6)]));
        assert!(check(&[unknown, read(None, 2), read(None, 4)]));
        assert!(!check(&[unknown, read(Some(1), 2), read(None, 4)]));
        assert!(!check(&[unknown, read(Some(2), 2)]));
    }

    #[test]
    fn reads_at_the_same_time_do_not_tangle_a_history() {
        let mut calls: Vec<_> = (1..=10).map(|n| (Op::Write(Some(n)), n, None)).collect();
        calls.push((Op::Write(Some(100)), 11, Some(12)));
        calls.extend((0..12).map(|n| (Op::Read(Some(100)), 13 + n, Some(40 + n))));
        assert!(check(&calls));
        calls.push((Op::Read(Some(999)), 60, Some(61)));
        assert!(!check(&calls));
    }

    #[test]
    fn a_swap_says_what_was_there() {
        let write = (Op::Write(Some(1)), 1, Some(2));
        assert!(check(&[write, (Op::Swap(Some(1), 2, true), 3, Some(4)), (Op::Read(Some(2)), 5, Some(6))]));
        assert!(!check(&[write, (Op::Swap(Some(7), 2, true), 3, Some(4))]));
        assert!(!check(&[write, (Op::Swap(Some(1), 2, false), 3, Some(4))]));
        assert!(!check(&[write, (Op::Swap(Some(1), 2, true), 3, Some(4)), (Op::Swap(Some(1), 3, true), 5, Some(6))]));
    }
}
