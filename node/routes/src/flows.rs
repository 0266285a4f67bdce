//! Who talks to whom over UDP from outside: a bounded table of flows, as a kernel's connection tracking keeps them. Times
//! are durations since any one fixed moment.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a flow lasts after its last datagram (`nf_conntrack_udp_timeout`).
const SHORT: Duration = Duration::from_secs(30);
/// The same of one that goes both ways for a while (`nf_conntrack_udp_timeout_stream`).
const STREAM: Duration = Duration::from_secs(120);
/// How long that is.
const SETTLED: Duration = Duration::from_secs(2);
/// An end is not moved by less than this: flows may last so much shorter.
const GRAIN: Duration = Duration::from_secs(1);
/// How many other ports a client is shown with where its own would be mistaken for another client's.
const PORTS: u16 = 64;

/// A client, and the address of the host by which it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The client.
    pub client: SocketAddr,
    /// The host's address.
    pub at: SocketAddr,
}

/// What a client has begun.
#[derive(Clone, Debug)]
pub struct Flow<T> {
    /// The endpoint.
    pub to: SocketAddr,
    /// Whom the endpoint sees: the client, but for another port if need be.
    pub shown: SocketAddr,
    /// What belongs to it.
    pub via: T,
    class: usize,
    began: Duration,
    answered: bool,
    stream: bool,
    until: Duration,
}

/// The flows of a node, of several classes: one has no room that another one takes.
#[derive(Debug)]
pub struct Flows<T> {
    /// The most of each class.
    limits: Vec<usize>,
    flows: HashMap<FlowKey, Flow<T>>,
    /// By what an endpoint's answer shows: the endpoint, and whom it answers.
    answers: HashMap<(SocketAddr, SocketAddr), FlowKey>,
    /// When each is over, by class: those that are no streams, and those that are.
    ends: Vec<[BTreeSet<(Duration, FlowKey)>; 2]>,
}

impl<T> Flows<T> {
    /// None yet, and at most so many of each class.
    pub fn new(limits: &[usize]) -> Flows<T> {
        let ends = limits.iter().map(|_| Default::default()).collect();
        Flows { limits: limits.into(), flows: HashMap::new(), answers: HashMap::new(), ends }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// A client has sent something: its flow, if it has one.
    pub fn sent(&mut self, key: FlowKey, now: Duration) -> Option<&Flow<T>> {
        self.touch(key, false, now)
    }

    /// Whether one more of a class may begin.
    pub fn has_room(&mut self, class: usize, now: Duration) -> bool {
        self.sweep(now);
        !self.is_full(class) || !self.ends[class][0].is_empty()
    }

    fn is_full(&self, class: usize) -> bool {
        self.ends[class].iter().map(BTreeSet::len).sum::<usize>() >= self.limits[class]
    }

    /// Begins a flow of a class, instead of any that the client has. Answers whom the endpoint sees; `None` where there is
    /// no room.
    pub fn begin(
        &mut self,
        key: FlowKey,
        class: usize,
        (to, mut shown): (SocketAddr, SocketAddr),
        via: T,
        now: Duration,
    ) -> Option<SocketAddr> {
        self.end(key);
        self.sweep(now);
        if self.is_full(class) {
            // As the kernel does: what may be a conversation is kept, the oldest of the others gives way.
            let (_, oldest) = self.ends[class][0].first().copied()?;
            self.end(oldest);
        }
        for _ in 0..PORTS {
            if let Entry::Vacant(free) = self.answers.entry((to, shown)) {
                free.insert(key);
                let until = now + SHORT;
                self.ends[class][0].insert((until, key));
                let flow = Flow { to, shown, via, class, began: now, answered: false, stream: false, until };
                self.flows.insert(key, flow);
                return Some(shown);
            }
            shown.set_port(shown.port().checked_add(1).unwrap_or(1024));
        }
        None
    }

    /// An endpoint has sent something: the flow that it answers, if it does.
    pub fn answer(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> Option<(FlowKey, &Flow<T>)> {
        let key = *self.answers.get(&(from, to))?;
        self.answered(key, now).map(|flow| (key, flow))
    }

    /// The same of a flow that is known.
    pub fn answered(&mut self, key: FlowKey, now: Duration) -> Option<&Flow<T>> {
        self.touch(key, true, now)
    }

    /// Ends a flow.
    pub fn end(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.remove(&key) else { return };
        self.answers.remove(&(flow.to, flow.shown));
        self.ends[flow.class][usize::from(flow.stream)].remove(&(flow.until, key));
    }

    /// Ends those that come by an address of the host.
    pub fn close(&mut self, at: SocketAddr) {
        let all = self.ends.iter().flatten().flatten();
        let gone: Vec<FlowKey> = all.map(|(_, key)| *key).filter(|key| key.at == at).collect();
        gone.into_iter().for_each(|key| self.end(key));
    }

    /// Ends those that are over. Answers when the next one is.
    pub fn sweep(&mut self, now: Duration) -> Option<Duration> {
        for (class, kind) in (0..self.ends.len()).flat_map(|class| [(class, 0), (class, 1)]) {
            while let Some((_, key)) = self.ends[class][kind].first().copied().filter(|(until, _)| *until <= now) {
                self.end(key);
            }
        }
        self.ends.iter().flatten().filter_map(|ends| ends.first()).map(|(until, _)| *until).min()
    }

    fn touch(&mut self, key: FlowKey, answer: bool, now: Duration) -> Option<&Flow<T>> {
        if self.flows.get(&key)?.until <= now {
            self.end(key);
            return None;
        }
        let flow = self.flows.get_mut(&key)?;
        flow.answered |= answer;
        let stream = flow.answered && now.saturating_sub(flow.began) > SETTLED;
        let until = now + if stream { STREAM } else { SHORT };
        if stream != flow.stream || until.saturating_sub(flow.until) >= GRAIN {
            let ends = &mut self.ends[flow.class];
            ends[usize::from(flow.stream)].remove(&(flow.until, key));
            (flow.stream, flow.until) = (stream, until);
            ends[usize::from(stream)].insert((until, key));
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn key(port: u16) -> FlowKey {
        FlowKey { client: ([192, 0, 2, 9], port).into(), at: ([192, 0, 2, 1], 30053).into() }
    }

    fn pod(n: u8) -> SocketAddr {
        ([10, 244, 0, n], 53).into()
    }

    fn begin(flows: &mut Flows<()>, port: u16, now: u64) -> Option<SocketAddr> {
        flows.begin(key(port), 0, (pod(1), key(port).client), (), secs(now))
    }

    #[test]
    fn a_flow_lasts_as_long_as_the_kernels() {
        let mut flows = Flows::new(&[10]);
        begin(&mut flows, 1, 100).unwrap();
        assert_eq!(flows.sweep(secs(100)), Some(secs(130)));
        assert!(flows.sent(key(1), secs(129)).is_some());
        assert!(flows.sent(key(1), secs(158)).is_some(), "each datagram prolongs it");
        assert!(flows.sent(key(1), secs(188)).is_none());
        // A question and its answer at once are no stream.
        begin(&mut flows, 2, 200).unwrap();
        assert_eq!(flows.answer(pod(1), key(2).client, secs(201)).unwrap().0, key(2));
        assert_eq!(flows.sweep(secs(201)), Some(secs(231)));
        flows.sent(key(2), secs(203)).unwrap();
        assert_eq!(flows.sweep(secs(203)), Some(secs(323)), "but this is one");
        assert_eq!(flows.sweep(secs(323)), None);
        assert!(flows.is_empty() && flows.answers.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_keeps_conversations() {
        let mut flows = Flows::new(&[2]);
        begin(&mut flows, 1, 0).unwrap();
        flows.answered(key(1), secs(3)).unwrap();
        begin(&mut flows, 2, 4).unwrap();
        begin(&mut flows, 3, 5).unwrap();
        assert_eq!(flows.len(), 2);
        assert!(flows.sent(key(2), secs(5)).is_none(), "the one without an answer gave way");
        flows.answered(key(3), secs(8)).unwrap();
        assert_eq!(begin(&mut flows, 4, 9), None, "no conversation gives way");
        assert!(begin(&mut flows, 4, 200).is_some(), "what is over does");
        assert_eq!(flows.len(), 1);
    }

    #[test]
    fn one_class_takes_no_room_of_another_and_its_own_oldest_gives_way() {
        let mut flows = Flows::new(&[2, 1]);
        let other = |flows: &mut Flows<()>, port: u16, now: u64| {
            flows.begin(key(port), 1, (pod(2), key(port).client), (), secs(now))
        };
        begin(&mut flows, 1, 0).unwrap();
        other(&mut flows, 2, 1).unwrap();
        other(&mut flows, 3, 2).unwrap();
        assert!(flows.sent(key(1), secs(2)).is_some() && flows.sent(key(2), secs(2)).is_none());
        flows.answered(key(3), secs(5)).unwrap();
        assert!(!flows.has_room(1, secs(5)) && flows.has_room(0, secs(5)), "a conversation stays");
        assert_eq!(other(&mut flows, 4, 6), None);
        assert!(begin(&mut flows, 4, 6).is_some());
    }

    #[test]
    fn two_ways_to_one_endpoint_are_told_apart() {
        let mut flows = Flows::new(&[10]);
        let (a, b) = (key(1), FlowKey { at: ([192, 0, 2, 1], 53).into(), ..key(1) });
        let first = flows.begin(a, 0, (pod(1), a.client), 'a', secs(0)).unwrap();
        let second = flows.begin(b, 0, (pod(1), b.client), 'b', secs(0)).unwrap();
        assert_ne!(first, second);
        assert_eq!(flows.answer(pod(1), first, secs(0)).unwrap().1.via, 'a');
        assert_eq!(flows.answer(pod(1), second, secs(0)).unwrap().1.via, 'b');
        assert!(flows.answer(pod(2), first, secs(0)).is_none(), "another pod may not answer");
        flows.close(a.at);
        assert!(flows.answer(pod(1), first, secs(0)).is_none());
        assert!(flows.sent(b, secs(0)).is_some());
        // Another endpoint for the same client.
        flows.begin(b, 0, (pod(2), b.client), 'c', secs(0)).unwrap();
        assert_eq!((flows.len(), flows.sent(b, secs(0)).unwrap().to), (1, pod(2)));
        assert!(flows.answer(pod(1), second, secs(0)).is_none());
    }
}
