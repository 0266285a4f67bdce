//! How much of the cluster is lost, and what may be begun on account of it (upstream's zone states). Where nobody is heard
//! of, it is this server that is cut off; where most of a zone is, something is wrong that no eviction mends.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_machine::View;
use copepod_model::{Object, Time};

use crate::support::node_addresses::{NODES, is_ready};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `--unhealthy-zone-threshold`, in percent, of more than [`FEW`] nodes.
const UNHEALTHY: usize = 55;
/// Upstream's own constant: so many lost nodes are no disruption of a zone, however small it is.
const FEW: usize = 2;
/// `--large-cluster-size-threshold`: a zone of so many nodes is small, and nothing is begun while it is disrupted.
const SMALL: usize = 50;
/// `--secondary-node-eviction-rate` (0.01 a second): one node each so often, in a large one.
const SECONDARY: Duration = Duration::from_secs(100);

/// What may be done to the pods of nodes that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evictions {
    /// They are evicted.
    Go,
    /// No node is newly emptied, until the state of things changes or this time has passed.
    Wait(Option<Duration>),
    /// None are: what was begun is called off.
    Off,
}

/// A zone's nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Nodes {
    ready: usize,
    lost: usize,
}

/// How a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

impl Nodes {
    fn state(self) -> State {
        match self {
            Nodes { ready: 0, lost: 1.. } => State::Full,
            Nodes { ready, lost } if lost > FEW && lost * 100 >= (ready + lost) * UNHEALTHY => State::Partial,
            _ => State::Normal,
        }
    }
}

/// All zones by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones(BTreeMap<String, Nodes>);

impl Zones {
    /// As a view shows them, but for `node`, whose state is just judged.
    pub(super) fn of(view: &dyn View, node: Option<(&Object, bool)>) -> Zones {
        let mut zones: BTreeMap<String, Nodes> = BTreeMap::new();
        for one in view.list(NODES, None) {
            let judged = node.filter(|(n, _)| n.key == one.key).map(|(_, ready)| ready);
            let nodes = zones.entry(zone(&one)).or_default();
            match judged.unwrap_or_else(|| is_ready(&one)) {
                true => nodes.ready += 1,
                false => nodes.lost += 1,
            }
        }
        Zones(zones)
    }

    /// Whether nobody at all is heard of.
    fn everywhere(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|n| n.state() == State::Full)
    }
}

/// What the controller remembers of it; all times are the steady clock's.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The states of the zones when that was last told to those who wait for it.
    told: BTreeMap<String, State>,
    /// Whether nobody was heard of, and since when somebody is again.
    everywhere: bool,
    again: Option<Time>,
    /// When the last node of a disrupted zone was emptied.
    last: BTreeMap<String, Time>,
}

impl Memory {
    /// What may be done to the pods of `node`; `begun` says that it is being emptied already, or has nothing to be begun.
    pub(super) fn judge(
        &mut self,
        view: &dyn View,
        node: &Object,
        ready: bool,
        begun: bool,
        steady: Time,
    ) -> Evictions {
        if ready && !self.everywhere {
            return Evictions::Go;
        }
        let zones = Zones::of(view, Some((node, ready)));
        let before = std::mem::replace(&mut self.everywhere, zones.everywhere());
        if self.everywhere {
            return Evictions::Off;
        }
        if before {
            self.again = Some(steady);
            self.last.clear();
        }
        let zone = zone(node);
        let nodes = zones.0.get(&zone).copied().unwrap_or_default();
        if nodes.state() != State::Partial || begun {
            return Evictions::Go;
        }
        if nodes.ready + nodes.lost <= SMALL {
            return Evictions::Wait(None);
        }
        let left = self.last.get(&zone).map_or(Duration::ZERO, |last| (*last + SECONDARY).since(steady));
        if !left.is_zero() {
            return Evictions::Wait(Some(left));
        }
        self.last.insert(zone, steady);
        Evictions::Go
    }

    /// When the evictions of everybody began anew, if they did.
    pub(super) fn again(&self) -> Option<Time> {
        self.again
    }

    /// Whether the state of a zone is another one than when this was last asked.
    pub(super) fn has_changed(&mut self, view: &dyn View) -> bool {
        let states = Zones::of(view, None).0.into_iter().map(|(zone, nodes)| (zone, nodes.state())).collect();
        let before = std::mem::replace(&mut self.told, states);
        before != self.told
    }
}

fn zone(node: &Object) -> String {
    let label = |key: &str| node.meta.labels.get(key).map_or("", |value| &**value);
    format!("{}/{}", label(REGION), label(ZONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_disrupted_by_most_of_its_nodes_and_more_than_two() {
        for (ready, lost, want) in [
            (0, 0, State::Normal),
            (3, 0, State::Normal),
            (1, 2, State::Normal),
            (2, 3, State::Partial),
            (3, 3, State::Normal),
            (9, 11, State::Partial),
            (46, 54, State::Normal),
            (45, 55, State::Partial),
            (0, 1, State::Full),
            (0, 9, State::Full),
        ] {
            assert_eq!(Nodes { ready, lost }.state(), want, "{ready} ready, {lost} lost");
        }
    }

    #[test]
    fn everywhere_is_every_zone() {
        let zones = |all: &[(usize, usize)]| {
            let one =
                |(i, (ready, lost)): (usize, &(usize, usize))| (i.to_string(), Nodes { ready: *ready, lost: *lost });
            Zones(all.iter().enumerate().map(one).collect())
        };
        assert!(zones(&[(0, 1)]).everywhere() && zones(&[(0, 1), (0, 4)]).everywhere());
        assert!(!zones(&[]).everywhere() && !zones(&[(0, 4), (1, 9)]).everywhere());
    }
}
