//! A cluster in one thread: the API (registry and state machine), the controllers, the scheduler and a node's plan, with
//! virtual time and a seeded order of everything. First chaos, then heal: after healing the cluster converges and goes
//! quiet. A failure names its seed; `cargo run -p sim -- --seed N` replays it exactly.

pub mod api;
pub mod chance;
pub mod client;
pub mod control;
pub mod fault;
pub mod invariants;
pub mod node;

use std::time::Duration;

use api::Api;
use chance::Chance;
use client::Client;
use control::Control;
use copepod_model::Time;
use fault::Fault;
use invariants::Invariants;
use node::Node;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Steps taken.
    pub steps: u64,
    /// The last revision.
    pub revision: u64,
    /// A digest of every change in order: two runs of a seed must agree on it.
    pub digest: u64,
}

/// How long the chaos lasts, in steps.
const CHAOS: u64 = 1500;
/// Steps after which a healed cluster that still has work to do has failed to converge.
const HEAL: u64 = 60_000;
/// Virtual time that a converged cluster must stay quiet for.
const QUIET: Duration = Duration::from_secs(600);

/// Runs one seed to its end; the error says which invariant broke, with the replay command.
pub fn run(seed: u64) -> Result<Report, String> {
    run_with(seed, None)
}

/// The same with a fault that the invariants should find.
pub fn run_with(seed: u64, fault: Option<Fault>) -> Result<Report, String> {
    simulate(seed, fault).map_err(|e| format!("seed {seed}: {e}\nreplay: cargo run -p sim -- --seed {seed}"))
}

fn simulate(seed: u64, fault: Option<Fault>) -> Result<Report, String> {
    let mut chance = Chance::new(seed);
    let mut api = Api::new(chance.split());
    let mut invariants = Invariants::new(chance.split());
    let overlooks = (fault == Some(Fault::Overlooked)).then_some(10);
    let mut control = Control::new(&api, chance.split()).overlooking(overlooks);
    let mut client = Client::new(chance.split());
    let mut nodes = vec![Node::new("n1", 1, chance.split()), Node::new("n2", 2, chance.split())];
    for node in &mut nodes {
        node.register(&mut api)?;
    }
    let mut steps = 0;
    while steps < CHAOS {
        steps += 1;
        match chance.below(1200) {
            // The leader's process ends, or a node's.
            0..5 => control = Control::new(&api, chance.split()).overlooking(overlooks),
            5..10 => {
                let at = chance.below(nodes.len() as u64) as usize;
                nodes[at].restart();
            }
            10..100 => client.step(&mut api)?,
            100..700 => drop(control.step(&mut api, true)?),
            700..1100 => {
                let at = chance.below(nodes.len() as u64) as usize;
                nodes[at].step(&mut api, true)?;
            }
            _ => api.advance(Duration::from_millis(chance.below(3000))),
        }
        if let Some(fault) = fault {
            fault.step(&mut api, &mut chance);
        }
        invariants.check(&api)?;
    }
    // Heal: whatever can act acts; time passes only when nothing can.
    let mut idle_since = api.now();
    let mut last = api.revision();
    let end = steps + HEAL;
    loop {
        steps += 1;
        if steps > end {
            return Err(format!("still busy {HEAL} steps after healing; last: {}", api.last_change()));
        }
        let mut acted = control.step(&mut api, false)?;
        for node in &mut nodes {
            acted |= node.step(&mut api, false)?;
        }
        invariants.check(&api)?;
        if api.spoken() != last {
            last = api.spoken();
            idle_since = api.now();
        }
        if acted {
            continue;
        }
        if api.now().since(idle_since) >= QUIET {
            break;
        }
        let next = [control.next_due(), nodes.iter().filter_map(Node::next_due).min()].into_iter().flatten().min();
        let limit = idle_since + QUIET;
        api.advance_to(next.map_or(limit, |t| t.min(limit)).max(api.now() + Duration::from_millis(1)));
    }
    invariants.converged(&api)?;
    Ok(Report { steps, revision: api.revision(), digest: api.digest() })
}

/// The start of virtual time.
pub const START: Time = Time::from_secs(1_800_000_000);
