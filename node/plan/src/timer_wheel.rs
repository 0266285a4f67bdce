//! Deadlines by key: a hierarchical timer wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987,
//! scheme 7).
//!
//! A deadline lies in a slot of the level whose digit, to the base of 64, is the first in which its tick differs from the
//! present one. A slot of the lowest level is one tick; one of a higher level is spread over the levels below when its time
//! comes, so that each deadline moves seven times at most, and setting, replacing and removing one costs the same however
//! many there are. A level's occupied slots are the bits of one word, which finds the next one. Time is an argument.

use std::collections::HashMap;
use std::hash::Hash;

use copepod_model::Time;

/// Nanoseconds of a tick. A deadline is due at the first tick that is not before it.
const TICK: u64 = 1_000_000;
/// Bits of a digit.
const BITS: u32 = 6;
/// Slots of a level.
const SLOTS: usize = 1 << BITS;
/// Every [`Time`] has its place: 2^64 ns are fewer than 2^45 ticks, and so many levels have 2^48.
const LEVELS: usize = 8;
/// The slot behind those of all levels, for deadlines that are over when they are set.
const OVER: usize = LEVELS * SLOTS;

/// At most one deadline for each key.
#[derive(Clone, Debug)]
pub struct TimerWheel<K> {
    /// The present tick: what was due up to it has been taken.
    tick: u64,
    /// Of each level, the slots in which there is something.
    occupied: [u64; LEVELS],
    /// Those of all levels, the lowest one's first, and [`OVER`].
    slots: Vec<Vec<(Time, K)>>,
    /// In which slot a key is, and where in it. Never iterated, so that its order means nothing.
    places: HashMap<K, (usize, usize)>,
}

impl<K> Default for TimerWheel<K> {
    fn default() -> TimerWheel<K> {
        let slots = std::iter::repeat_with(Vec::new).take(OVER + 1).collect();
        TimerWheel { tick: 0, occupied: [0; LEVELS], slots, places: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> TimerWheel<K> {
    /// Sets the deadline of a key, in place of the one that it has.
    pub fn insert(&mut self, key: K, at: Time) {
        self.remove(&key);
        self.place(at, key);
    }

    /// Takes a key's deadline away, if it has one.
    pub fn remove(&mut self, key: &K) {
        let Some((slot, position)) = self.places.remove(key) else { return };
        let here = &mut self.slots[slot];
        here.swap_remove(position);
        if let Some((_, moved)) = here.get(position)
            && let Some(place) = self.places.get_mut(moved)
        {
            place.1 = position;
        }
        if here.is_empty() && slot != OVER {
            self.occupied[slot / SLOTS] &= !(1u64 << (slot % SLOTS));
        }
    }

    /// The deadline of a key.
    pub fn get(&self, key: &K) -> Option<Time> {
        let (slot, position) = self.places.get(key)?;
        self.slots[*slot].get(*position).map(|(at, _)| *at)
    }

    /// When to call [`TimerWheel::take`] next, if nothing changes until then: when the first deadline is due. Where that is
    /// more than 64 ticks away it may be said earlier, to spread the slot in which it lies; after [`TimerWheel::take`] it is
    /// always later than what that was given.
    pub fn next_look(&self) -> Option<Time> {
        let over = self.slots[OVER].iter().map(|(at, _)| *at).min();
        over.or_else(|| self.first().map(|(_, begins)| Time(begins.saturating_mul(TICK))))
    }

    /// Takes the keys whose deadline is over: none before it, and each at the first tick (1 ms) that is not before it. They
    /// are ordered by deadline, and by key where deadlines are equal, as an ordered tree of both would give them out. The time
    /// may jump: ahead, which takes all that was jumped over, or back, in which what was not taken waits again.
    pub fn take(&mut self, now: Time) -> Vec<K> {
        let now = now.0 / TICK;
        if now < self.tick {
            self.turn_back(now);
        }
        let mut due = std::mem::take(&mut self.slots[OVER]);
        while let Some((slot, begins)) = self.first().filter(|(_, begins)| *begins <= now) {
            self.tick = begins;
            self.occupied[slot / SLOTS] &= !(1u64 << (slot % SLOTS));
            for (at, key) in std::mem::take(&mut self.slots[slot]) {
                if due_at(at) <= now {
                    due.push((at, key));
                } else {
                    self.place(at, key);
                }
            }
        }
        self.tick = now;
        due.sort_unstable();
        for (_, key) in &due {
            self.places.remove(key);
        }
        due.into_iter().map(|(_, key)| key).collect()
    }

    fn place(&mut self, at: Time, key: K) {
        let slot = self.slot(due_at(at));
        if slot != OVER {
            self.occupied[slot / SLOTS] |= 1u64 << (slot % SLOTS);
        }
        self.places.insert(key.clone(), (slot, self.slots[slot].len()));
        self.slots[slot].push((at, key));
    }

    /// The slot of a tick. On each level all that is occupied is ahead of the present tick's own slot.
    fn slot(&self, tick: u64) -> usize {
        if tick <= self.tick {
            return OVER;
        }
        let level = (tick ^ self.tick).ilog2() / BITS;
        let digit = (tick >> (level * BITS)) as usize % SLOTS;
        level as usize * SLOTS + digit
    }

    /// The first slot in which there is something, and the tick with which it begins. What is on a lower level comes before
    /// all that is on higher ones.
    fn first(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = level as u32 * BITS;
        let above = (self.tick >> (shift + BITS)) << BITS;
        Some((level * SLOTS + digit as usize, (above | u64::from(digit)) << shift))
    }

    /// The clock has been set back: everything is placed anew.
    fn turn_back(&mut self, tick: u64) {
        self.tick = tick;
        self.occupied = [0; LEVELS];
        let all: Vec<(Time, K)> = self.slots.iter_mut().flat_map(std::mem::take).collect();
        for (at, key) in all {
            self.place(at, key);
        }
    }
}

/// The first tick that is not before a deadline.
fn due_at(deadline: Time) -> u64 {
    deadline.0.div_ceil(TICK)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const START: Time = Time::from_secs(1_800_000_000);

    fn after(start: Time, nanos: u64) -> Time {
        Time(start.0 + nanos)
    }

    #[test]
    fn a_deadline_is_taken_at_the_first_tick_that_is_not_before_it() {
        let mut wheel = TimerWheel::default();
        assert_eq!((wheel.take(START), wheel.next_look()), (vec![], None));
        wheel.insert("on", after(START, 3 * TICK));
        wheel.insert("between", after(START, 3 * TICK + 1));
        assert_eq!(wheel.next_look(), Some(after(START, 3 * TICK)));
        assert_eq!(wheel.take(after(START, 3 * TICK - 1)), Vec::<&str>::new());
        assert_eq!(wheel.take(after(START, 3 * TICK + 1)), ["on"]);
        assert_eq!(wheel.next_look(), Some(after(START, 4 * TICK)));
        assert_eq!(wheel.take(after(START, 4 * TICK)), ["between"]);
        assert_eq!((wheel.next_look(), wheel.get(&"on")), (None, None));
    }

    #[test]
    fn equal_deadlines_come_in_the_order_of_their_keys() {
        let mut wheel = TimerWheel::default();
        wheel.take(START);
        // Together in their slots or not, set early or late.
        let (far, near) = (after(START, 5_000 * TICK), after(START, 2 * TICK));
        for key in ["d", "b", "a"] {
            wheel.insert(key, far);
        }
        wheel.insert("e", near);
        wheel.take(after(START, 4_990 * TICK));
        wheel.insert("c", far);
        wheel.insert("before", after(START, 5_000 * TICK - 5));
        assert_eq!(wheel.take(after(START, 6_000 * TICK)), ["before", "a", "b", "c", "d"]);
    }

    #[test]
    fn a_key_has_one_deadline_and_may_lose_it() {
        let mut wheel = TimerWheel::default();
        wheel.take(START);
        for second in [9, 1, 5] {
            wheel.insert('a', after(START, second * 1_000 * TICK));
        }
        wheel.insert('b', after(START, 5_000 * TICK));
        assert_eq!(wheel.get(&'a'), Some(after(START, 5_000 * TICK)));
        wheel.remove(&'a');
        wheel.remove(&'a');
        assert_eq!((wheel.get(&'a'), wheel.get(&'b')), (None, Some(after(START, 5_000 * TICK))));
        assert_eq!(wheel.take(after(START, 10_000 * TICK)), ['b']);
        assert!(wheel.occupied.iter().all(|slots| *slots == 0) && wheel.places.is_empty());
    }

    #[test]
    fn what_is_over_when_it_is_set_is_taken_next_and_waits_again_when_the_clock_is_set_back() {
        let mut wheel = TimerWheel::default();
        wheel.take(START);
        wheel.insert(1, Time(START.0 - 5 * TICK));
        wheel.insert(2, after(START, 7_000 * TICK));
        assert_eq!(wheel.next_look(), Some(Time(START.0 - 5 * TICK)));
        let hour = 3_600_000 * TICK;
        assert_eq!(wheel.take(Time(START.0 - hour)), Vec::<i32>::new());
        assert!(wheel.next_look().is_some_and(|look| look <= Time(START.0 - 5 * TICK)));
        assert_eq!(wheel.take(Time(START.0 - 5 * TICK)), [1]);
        assert_eq!(wheel.take(after(START, hour)), [2], "and ahead again");
    }

    #[test]
    fn never_is_never() {
        let mut wheel = TimerWheel::default();
        wheel.insert('a', Time(u64::MAX));
        assert_eq!(wheel.take(Time(u64::MAX - TICK)), Vec::<char>::new());
        assert_eq!(wheel.get(&'a'), Some(Time(u64::MAX)));
        assert!(wheel.next_look().is_some());
    }

    /// What the wheel replaces.
    #[derive(Default)]
    struct Tree {
        order: BTreeSet<(Time, u8)>,
        deadlines: BTreeMap<u8, Time>,
    }

    impl Tree {
        fn remove(&mut self, key: u8) {
            if let Some(at) = self.deadlines.remove(&key) {
                self.order.remove(&(at, key));
            }
        }

        fn insert(&mut self, key: u8, at: Time) {
            self.remove(key);
            self.deadlines.insert(key, at);
            self.order.insert((at, key));
        }

        fn take(&mut self, now: Time) -> Vec<u8> {
            let due: Vec<(Time, u8)> = self.order.iter().copied().take_while(|(at, _)| *at <= now).collect();
            due.iter().for_each(|(_, key)| self.remove(*key));
            due.into_iter().map(|(_, key)| key).collect()
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A key's deadline, so many nanoseconds ahead or, if so, behind.
        Insert(u8, u64, bool),
        Remove(u8),
        /// Time goes on.
        Pass(u64),
        /// The clock is set back.
        Back(u64),
        /// Until the wheel wants to be looked at.
        Look,
    }

    /// Of all magnitudes: from nanoseconds to more than a century.
    fn span() -> impl Strategy<Value = u64> {
        (any::<u64>(), 2u32..64).prop_map(|(nanos, shift)| nanos >> shift)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..24, span(), proptest::bool::weighted(0.1)).prop_map(|(k, d, behind)| Step::Insert(k, d, behind)),
            1 => (0u8..24).prop_map(Step::Remove),
            2 => span().prop_map(Step::Pass),
            1 => span().prop_map(Step::Back),
            2 => Just(Step::Look),
        ]
    }

    proptest! {
        /// At whole ticks the wheel does what the tree does that it replaces, in the same order; between two of them it does
        /// what the tree did at the first.
        #[test]
        fn the_wheel_is_a_tree_whose_deadlines_are_rounded_up_to_ticks(steps in proptest::collection::vec(step(), 0..80)) {
            let (mut wheel, mut tree, mut now) = (TimerWheel::default(), Tree::default(), START);
            wheel.take(now);
            for step in steps {
                match step {
                    Step::Insert(key, distance, behind) => {
                        let at = if behind { now.0.saturating_sub(distance) } else { (now.0 + distance).min(1 << 63) };
                        wheel.insert(key, Time(at));
                        tree.insert(key, Time(at));
                    }
                    Step::Remove(key) => {
                        wheel.remove(&key);
                        tree.remove(key);
                    }
                    Step::Pass(span) => now = Time((now.0 + span).min(1 << 63)),
                    Step::Back(span) => now = Time(now.0.saturating_sub(span)),
                    Step::Look => now = wheel.next_look().unwrap_or(now).max(now),
                }
                let first = tree.order.first().map(|(at, _)| due_at(*at) * TICK);
                if let (Some(look), Some(first)) = (wheel.next_look(), first) {
                    prop_assert!(look.0 <= first, "{look:?} comes after the first deadline, {first}");
                }
                prop_assert_eq!(wheel.next_look().is_some(), first.is_some());
                for key in 0..24 {
                    prop_assert_eq!(wheel.get(&key), tree.deadlines.get(&key).copied());
                }
                // What is set is not taken before somebody looks.
                if matches!(step, Step::Insert(..) | Step::Remove(_)) {
                    continue;
                }
                let taken = wheel.take(now);
                prop_assert_eq!(taken, tree.take(Time(now.0 / TICK * TICK)));
                let left = tree.order.first().map(|(at, _)| *at);
                prop_assert!(left.is_none_or(|at| now.0 < at.0 + TICK), "{left:?} is more than a tick late at {now:?}");
                prop_assert!(wheel.next_look().is_none_or(|look| look > now), "it would be looked at again at once");
            }
        }

        /// Who looks when it is asked to finds each deadline at its very tick, and looks few times in vain.
        #[test]
        fn looking_when_asked_to_finds_each_deadline_at_its_tick(spans in proptest::collection::vec(span(), 1..60)) {
            let mut wheel = TimerWheel::default();
            wheel.take(START);
            for (key, span) in spans.iter().enumerate() {
                wheel.insert(key, after(START, *span));
            }
            let (mut looks, mut found) = (0, 0);
            while let Some(now) = wheel.next_look() {
                looks += 1;
                for key in wheel.take(now) {
                    found += 1;
                    prop_assert_eq!(due_at(after(START, spans[key])) * TICK, now.0);
                }
            }
            prop_assert_eq!(found, spans.len());
            prop_assert!(looks <= spans.len() * LEVELS, "{looks} looks for {found} deadlines");
        }
    }
}
