//! The choice among a Service's endpoints by what a node has seen of them: the one of two with fewer open requests and
//! streams (Mitzenmacher's "power of two choices"), and one that fails again and again is passed over for a growing time, as
//! Envoy's outlier detection does it. Times are durations since any one fixed moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::service::Endpoint;

/// After so many failures in a row an endpoint is out (Envoy's `consecutive_5xx`).
const FAILURES: u32 = 5;
/// How long it is out the first time; each time in a row it is twice as long …
const FIRST: Duration = Duration::from_secs(1);
/// … up to this (Envoy's `max_ejection_time`).
const LONGEST: Duration = Duration::from_secs(300);
/// How many endpoints are remembered that nothing is open to. Beyond it those that are not out are forgotten.
const MAX: usize = 16_384;

/// What a node has seen of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Whose failures they are: what has the address later begins without.
    target: Option<Arc<str>>,
    /// Requests and streams that are open now.
    open: u32,
    /// Failures since the last success.
    failures: u32,
    /// How often in a row it was out.
    times: u32,
    /// Until when it is out, if it was ever.
    until: Duration,
}

impl Seen {
    fn is_out(&self, now: Duration) -> bool {
        now < self.until
    }

    /// Whether it was seen of somebody else. An endpoint that does not say who it is may be the same one.
    fn is_of_another(&self, target: Option<&Arc<str>>) -> bool {
        self.target.as_ref().zip(target).is_some_and(|(seen, now)| seen != now)
    }
}

/// How long an endpoint is out that was so `times` times in a row before.
fn penalty(times: u32) -> Duration {
    FIRST.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST)
}

/// Which endpoint is tried first, and which of them last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Place in the list.
    pub(crate) at: usize,
    /// Those that are out.
    pub(crate) out: Vec<SocketAddr>,
}

impl Choice {
    /// One place in a list of this length, with nobody out, as a random number has it.
    pub fn by(chance: u64, length: usize) -> Choice {
        Choice { at: usize::try_from(chance % length.max(1) as u64).unwrap_or(0), out: Vec::new() }
    }
}

/// What a node has seen of endpoints. It knows those only that something is open to or that have failed lately.
#[derive(Debug, Default)]
pub struct Balancer {
    seen: HashMap<SocketAddr, Seen>,
    /// When the last one of those that are out is back: from then on nobody has to look for them.
    latest: Duration,
}

impl Balancer {
    /// The choice for something new. With `first` (a client's affinity) it is that one; otherwise the one of two with less
    /// open, and `chance`, a random number, says which two. What is out is not among them and comes last: it is tried when
    /// nobody else takes it.
    pub fn choose(&self, list: &[Endpoint], first: Option<SocketAddr>, chance: u64, now: Duration) -> Choice {
        let mut choice = Choice::by(chance, list.len());
        if let Some(at) = first.and_then(|addr| list.iter().position(|e| e.addr == addr)) {
            choice.at = at;
        }
        if self.seen.is_empty() || list.len() < 2 {
            return choice;
        }
        if now < self.latest {
            choice.out = list.iter().filter(|e| self.is_out(e, now)).map(|e| e.addr).collect();
        }
        let left = list.len() - choice.out.len();
        if first.is_some() || left < 2 {
            return choice;
        }
        let is_in = |at: &usize| !choice.out.contains(&list[*at].addr);
        // The nth of those that are not out.
        let nth = |n: u64| {
            let n = usize::try_from(n % left as u64).unwrap_or(0);
            if choice.out.is_empty() { Some(n) } else { (0..list.len()).filter(is_in).nth(n) }
        };
        // Of two that differ: the second is so many places after the first.
        let apart = 1 + mix(chance) % (left as u64 - 1);
        if let (Some(one), Some(two)) = (nth(chance), nth((chance % left as u64).wrapping_add(apart))) {
            let open = |at: usize| self.seen.get(&list[at].addr).map_or(0, |s| s.open);
            choice.at = if open(two) < open(one) { two } else { one };
        }
        choice
    }

    /// A request or a stream goes to an endpoint.
    pub fn begin(&mut self, to: SocketAddr) {
        let seen = self.seen.entry(to).or_default();
        seen.open = seen.open.saturating_add(1);
    }

    /// It has ended.
    pub fn end(&mut self, to: SocketAddr) {
        if let Some(seen) = self.seen.get_mut(&to) {
            seen.open = seen.open.saturating_sub(1);
            self.forget(to);
        }
    }

    /// An endpoint of `list` has taken what came: it is well again. Only after it has been in for as long as it was out last is
    /// that forgotten.
    pub fn succeeded(&mut self, to: SocketAddr, now: Duration) {
        let Some(seen) = self.seen.get_mut(&to) else { return };
        seen.failures = 0;
        if seen.times > 0 && now >= seen.until + penalty(seen.times - 1) {
            seen.times = 0;
        }
        self.forget(to);
    }

    /// An endpoint of `list` has failed: refused, not answered, or broken off what came. It may be out from now on, but never
    /// so that more than half of the list are.
    pub fn failed(&mut self, to: SocketAddr, list: &[Endpoint], now: Duration) {
        if list.len() < 2 {
            return;
        }
        if self.seen.len() >= MAX && !self.seen.contains_key(&to) {
            self.seen.retain(|_, s| s.open > 0 || s.is_out(now));
        }
        let out = list.iter().filter(|e| e.addr != to && self.is_out(e, now)).count();
        let target = list.iter().find(|e| e.addr == to).and_then(|e| e.target.as_ref());
        let seen = self.seen.entry(to).or_default();
        if seen.is_of_another(target) {
            *seen = Seen { open: seen.open, ..Seen::default() };
        }
        seen.target = target.cloned().or(seen.target.take());
        seen.failures = seen.failures.saturating_add(1);
        if seen.failures < FAILURES || seen.is_out(now) || (out + 1) * 2 > list.len() {
            return;
        }
        seen.until = now + penalty(seen.times);
        seen.times = seen.times.saturating_add(1);
        seen.failures = 0;
        self.latest = self.latest.max(seen.until);
    }

    /// Somebody new answers at an address: what was seen there counts no more.
    pub fn renewed(&mut self, at: SocketAddr) {
        if let Some(seen) = self.seen.get_mut(&at) {
            *seen = Seen { open: seen.open, ..Seen::default() };
            self.forget(at);
        }
    }

    fn is_out(&self, endpoint: &Endpoint, now: Duration) -> bool {
        self.seen.get(&endpoint.addr).is_some_and(|s| s.is_out(now) && !s.is_of_another(endpoint.target.as_ref()))
    }

    /// Drops what is as if nothing had been seen. Who is out has been so once at least.
    fn forget(&mut self, addr: SocketAddr) {
        let blank = |s: &Seen| s.open == 0 && s.failures == 0 && s.times == 0;
        if self.seen.get(&addr).is_some_and(blank) {
            self.seen.remove(&addr);
        }
    }
}

/// A number that has nothing to do with those of other numbers (SplitMix64): whoever gets only some of a counter's, in
/// whichever order, gets random ones.
pub fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(n: u8) -> Vec<Endpoint> {
        (0..n).map(|i| Endpoint { addr: at(i), ready: true, terminating: false, node: None, target: None }).collect()
    }

    fn at(i: u8) -> SocketAddr {
        ([10, 244, 0, i], 80).into()
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn fail(balancer: &mut Balancer, i: u8, list: &[Endpoint], now: Duration) {
        (0..FAILURES).for_each(|_| balancer.failed(at(i), list, now));
    }

    #[test]
    fn with_nothing_open_it_goes_round() {
        let (balancer, list) = (Balancer::default(), endpoints(3));
        let places: Vec<usize> = (0..6).map(|seq| balancer.choose(&list, None, seq, S(0)).at).collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2]);
        assert_eq!(balancer.choose(&[], None, 7, S(0)), Choice::default());
    }

    #[test]
    fn what_is_slow_gets_less() {
        let (mut balancer, list) = (Balancer::default(), endpoints(4));
        // Nobody ends what goes to the first one; the others are done at once.
        let mut got = [0; 4];
        for seq in 0..400 {
            let to = balancer.choose(&list, None, seq, S(0)).at;
            got[to] += 1;
            balancer.begin(list[to].addr);
            if to != 0 {
                balancer.end(list[to].addr);
            }
        }
        assert_eq!(got[0], 1, "{got:?}: one who has something open loses against anybody who has not");
        assert!(got[1..].iter().all(|n| (80..200).contains(n)), "{got:?}");
        // Where everything stays open it is nearly even.
        let (mut balancer, mut got) = (Balancer::default(), [0u32; 4]);
        for seq in 0..400 {
            let to = balancer.choose(&list, None, mix(seq), S(0)).at;
            got[to] += 1;
            balancer.begin(list[to].addr);
        }
        assert!(got.iter().all(|n| n.abs_diff(100) <= 5), "{got:?}");
    }

    #[test]
    fn who_fails_in_a_row_is_out_for_a_growing_time() {
        let (mut balancer, list) = (Balancer::default(), endpoints(3));
        for _ in 1..FAILURES {
            balancer.failed(at(1), &list, S(10));
        }
        assert_eq!(balancer.choose(&list, None, 1, S(10)), Choice { at: 1, out: vec![] });
        balancer.succeeded(at(1), S(10));
        assert!(balancer.seen.is_empty(), "nothing is known of who is well");
        let mut now = S(20);
        for times in 0..12 {
            fail(&mut balancer, 1, &list, now);
            let until = now + penalty(times);
            assert_eq!(balancer.choose(&list, None, 1, until - S(1) / 1000).out, [at(1)], "{times}");
            assert!((0..9).all(|seq| balancer.choose(&list, None, seq, now).at != 1));
            assert!(balancer.choose(&list, None, 1, until).out.is_empty(), "it is back");
            now = until;
            balancer.succeeded(at(1), now);
        }
        assert_eq!((penalty(0), penalty(3), penalty(11), penalty(40)), (S(1), S(8), S(300), S(300)));
        balancer.succeeded(at(1), now + S(300));
        assert!(balancer.seen.is_empty(), "in for as long as it was out: that is forgotten");
    }

    #[test]
    fn never_more_than_half_are_out_and_what_is_out_is_tried_last() {
        for n in 1..=7 {
            let (mut balancer, list) = (Balancer::default(), endpoints(n));
            (0..n).for_each(|i| fail(&mut balancer, i, &list, S(0)));
            let out = balancer.choose(&list, None, 0, S(0)).out;
            assert_eq!(out.len(), usize::from(n) / 2, "of {n}");
        }
        // Out for the sake of a longer list, they may be all of a shorter one: it is served all the same.
        let (mut balancer, list) = (Balancer::default(), endpoints(4));
        (0..2).for_each(|i| fail(&mut balancer, i, &list, S(0)));
        assert_eq!(balancer.choose(&list[..2], None, 5, S(0)), Choice { at: 1, out: vec![at(0), at(1)] });
        // A client that is bound to one of them: it is asked last.
        assert_eq!(balancer.choose(&list, Some(at(1)), 5, S(0)), Choice { at: 1, out: vec![at(0), at(1)] });
        balancer.renewed(at(0));
        assert_eq!(balancer.choose(&list, None, 0, S(0)).out, [at(1)]);
    }

    #[test]
    fn who_is_new_at_an_address_begins_without_a_record() {
        let with = |uid: &str| {
            let mut list = endpoints(3);
            list[1].target = Some(uid.into());
            list
        };
        let (mut balancer, old, new) = (Balancer::default(), with("old"), with("new"));
        balancer.begin(at(1));
        fail(&mut balancer, 1, &old, S(0));
        fail(&mut balancer, 1, &old, S(1));
        assert_eq!(balancer.choose(&old, None, 0, S(2)).out, [at(1)]);
        assert!(balancer.choose(&new, None, 0, S(2)).out.is_empty());
        assert_eq!(balancer.choose(&endpoints(3), None, 0, S(2)).out, [at(1)], "where nobody says who it is");
        // The first one's failures count nothing against it, and are not what its own penalty grows from.
        (1..FAILURES).for_each(|_| balancer.failed(at(1), &new, S(2)));
        assert!(balancer.choose(&new, None, 0, S(2)).out.is_empty());
        balancer.failed(at(1), &new, S(2));
        assert_eq!(balancer.choose(&new, None, 0, S(2)).out, [at(1)]);
        assert!(balancer.choose(&new, None, 0, S(3)).out.is_empty());
        assert_eq!(balancer.seen[&at(1)].open, 1, "what is open there still counts");
    }

    #[test]
    fn clients_that_take_turns_do_not_fall_into_step() {
        // One of so many that share a counter asks each time with the next number but so many.
        for (clients, length) in (1..=12).flat_map(|clients| (2..=6u8).map(move |length| (clients, length))) {
            let (mut balancer, list) = (Balancer::default(), endpoints(length));
            for busy in [false, true] {
                let mut got = vec![0u32; list.len()];
                for n in 0..1000 {
                    got[balancer.choose(&list, None, mix(7 + n * clients), S(0)).at] += 1;
                }
                let even = 1000 / u32::from(length);
                let near = got.iter().all(|n| n.abs_diff(even) < even / 3);
                assert!(near, "{clients} clients, busy {busy}: {got:?}");
                // Everybody has as much open: then the choice among two is as it was.
                list.iter().for_each(|e| balancer.begin(e.addr));
            }
        }
    }
}
