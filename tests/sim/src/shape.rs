//! What a seed runs: how many servers, which faults, which load.

use std::time::Duration;

use crate::bug::Bug;
use crate::chance::Chance;
use crate::faults::{Fault, silence};
use crate::invariants::evictions;
use crate::kv::Load;

/// The outline of a run.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Servers at the beginning.
    pub servers: u64,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// How long.
    pub chaos: Duration,
    /// The longest time between two faults, in milliseconds.
    pub pace: u64,
    /// What clients do to single keys.
    pub load: Load,
    /// The space quota in bytes, 0 for none.
    pub quota: u64,
    /// Whether controllers, agents and users are there too.
    pub cluster: bool,
    /// The node monitor grace period: how long nodes may be silent.
    pub grace: Duration,
    /// Whether addresses are set aside for load balancers; else they have the nodes'.
    pub pool: bool,
}

impl Shape {
    /// The shape of a seed. A bug gets the faults without which it does not show.
    pub fn draw(chance: &mut Chance, bug: Option<Bug>) -> Shape {
        let servers = [1, 3, 3, 3, 3, 5][chance.below(6) as usize];
        let mut faults: Vec<Fault> = Fault::SERVERS.into_iter().filter(|_| chance.one_in(2)).collect();
        if faults.is_empty() {
            faults.push(Fault::SERVERS[chance.below(Fault::SERVERS.len() as u64) as usize]);
        }
        let load = Load {
            clients: 2 + chance.below(5),
            keys: 1 + chance.below(4),
            bytes: [20, 200, 4000][chance.below(3) as usize],
            pause: [50, 200, 800][chance.below(3) as usize],
        };
        let quota = if chance.one_in(3) { 10_000 + chance.below(60_000) } else { 0 };
        let chaos = Duration::from_secs(5 + chance.below(25));
        let pace = [500, 1500, 6000][chance.below(3) as usize];
        let cluster = chance.one_in(4);
        if cluster {
            faults.extend(Fault::NODES.into_iter().filter(|_| chance.one_in(2)));
        }
        let pool = cluster && chance.one_in(2);
        let quota = if cluster { 0 } else { quota };
        let mut shape = Shape { servers, faults, chaos, pace, load, quota, cluster, grace: evictions::GRACE, pool };
        if bug.is_some() {
            shape.servers = 3;
            shape.faults = match bug {
                Some(Bug::WatchSkips | Bug::StaleRead) => vec![Fault::Partition],
                Some(Bug::Unfenced) => vec![Fault::Partition, Fault::HandOver],
                _ => vec![Fault::Power, Fault::Crash],
            };
            shape.pace = if bug == Some(Bug::WatchSkips) { 6000 } else { 1500 };
            shape.load.pause = 50;
            shape.cluster = matches!(bug, Some(Bug::Unfenced | Bug::TwoWriters));
            shape.quota = 0;
        }
        if shape.faults.contains(&Fault::Silence) {
            shape.grace = silence::GRACE;
            shape.chaos += silence::LONGER;
        }
        shape
    }
}
