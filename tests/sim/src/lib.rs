//! Whole clusters in one thread, in virtual time and in an order that a seed decides: servers (the real raft machine, the
//! real apply, the real registry), controllers, scheduler, agents (the real plan over a simulated data plane), clients.
//! First chaos, then heal: after healing everything converges and goes quiet. A failure names its seed; `cargo run -p sim
//! -- --seed N` replays it exactly, in any process.

pub mod bug;
mod caught;
pub mod chance;
pub mod cluster;
pub mod counts;
pub mod exec;
pub mod faults;
pub mod group;
pub mod invariants;
pub mod kv;
#[cfg(test)]
mod made;
pub mod scenario;
pub mod scenarios;
pub mod shape;
pub mod trace;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bug::Bug;
use caught::caught;
use chance::Chance;
use cluster::Cluster;
use copepod_model::Time;
use copepod_state::{Op, Tables, Txn};
use counts::Event;
use group::{Group, Origin};
use shape::Shape;

/// The start of virtual time.
pub const START: Time = Time::from_secs(1_800_000_000);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was run.
    pub shape: String,
    /// Events.
    pub steps: u64,
    /// Virtual time in milliseconds.
    pub millis: u64,
    /// The last revision.
    pub revision: u64,
    /// Transactions that were acknowledged.
    pub acknowledged: usize,
    /// The last term.
    pub term: u64,
    /// Keys whose order was looked for, and those of them for which that was given up.
    pub keys: usize,
    /// See there.
    pub undecided: usize,
    /// How often what happened.
    pub counts: BTreeMap<Event, u64>,
    /// A digest of everything that happened in order: two runs of a seed must agree on it.
    pub trace: u64,
}

/// Which run: the same on every machine and in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The bug for which it is made, if for one.
    pub shaped: Option<Bug>,
    /// Whether that is put in.
    pub buggy: bool,
}

/// What the simulation's binary is to be told for it.
impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(bug) = self.shaped {
            write!(f, "--{} {bug:?} ", if self.buggy { "bug" } else { "shaped" })?;
        }
        write!(f, "--seed {}", self.seed)
    }
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub run: Run,
    /// Which invariant broke; `panic` where something of the product or of the simulation did.
    pub invariant: &'static str,
    /// How.
    pub how: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { run, invariant, how } = self;
        write!(f, "seed {}: {invariant}: {how}\nreplay: cargo run -p sim -- {run}", run.seed)
    }
}

/// Runs one seed to its end.
pub fn run(seed: u64) -> Result<Report, Failure> {
    go(Run { seed, shaped: None, buggy: false })
}

/// Runs a seed with a bug that the invariants should find.
pub fn run_with(seed: u64, bug: Bug) -> Result<Report, Failure> {
    go(Run { seed, shaped: Some(bug), buggy: true })
}

/// The run in which [`run_with`] looks for a bug, without the bug.
pub fn run_shaped(seed: u64, bug: Bug) -> Result<Report, Failure> {
    go(Run { seed, shaped: Some(bug), buggy: false })
}

/// The first of some seeds that finds a bug, and how.
pub fn search(bug: Bug, mut seeds: Range<u64>) -> Option<Failure> {
    seeds.find_map(|seed| run_with(seed, bug).err())
}

/// Runs exactly this.
pub fn go(run: Run) -> Result<Report, Failure> {
    let mut chance = Chance::new(run.seed);
    let shape = Shape::draw(&mut chance, run.shaped);
    let failed = |invariant, how| Failure { run, invariant, how: format!("{how} ({shape:?})") };
    let bug = run.shaped.filter(|_| run.buggy);
    caught(|| simulate(&shape, bug, chance))
        .unwrap_or_else(|text| Err(("panic", text)))
        .map_err(|(invariant, how)| failed(invariant, how))
}

/// Events after which a run that is not over never will be.
const MOST: u64 = 20_000_000;

fn simulate(shape: &Shape, bug: Option<Bug>, mut chance: Chance) -> Result<Report, (&'static str, String)> {
    let first = if shape.cluster { cluster::first() } else { Tables::default() };
    let group = Group::new(shape.servers, first, shape.quota, bug, chance.split());
    let done = Rc::new(Cell::new(false));
    {
        let (g, shape, done) = (group.clone(), shape.clone(), done.clone());
        group.exec.spawn(kv::OUTSIDE, async move {
            direct(&g, &shape, chance).await;
            done.set(true);
        });
    }
    let ended = caught(|| until_done(&group, &done));
    // Tasks hold the group, and the group holds the tasks.
    group.exec.end();
    // What panics may do so because of what an invariant has seen before.
    let broken = |text: String| group.failure.take().unwrap_or(("panic", format!("at {:?}: {text}", group.elapsed())));
    let steps = ended.map_err(broken)??;
    let invariants = group.invariants.borrow();
    Ok(Report {
        shape: format!("{shape:?}"),
        steps,
        millis: group.elapsed().as_millis() as u64,
        revision: invariants.canon.tables.revision(),
        acknowledged: invariants.acknowledged(),
        term: group.leader().and_then(|l| group.ask(l, |p| p.role.term)).unwrap_or(0),
        keys: invariants.history.keys(),
        undecided: invariants.history.undecided,
        counts: group.counts.get(),
        trace: group.trace.borrow().0 ^ invariants.canon.digest,
    })
}

/// Lets everything happen until the run is over, or something broke: how many events that were.
fn until_done(group: &Group, done: &Cell<bool>) -> Result<u64, (&'static str, String)> {
    let mut steps = 0;
    loop {
        if let Some(broken) = group.failure.take() {
            return Err(broken);
        }
        if done.get() {
            return Ok(steps);
        }
        steps += 1;
        if !group.exec.step() || steps > MOST {
            return Err(("progress", format!("the run does not end: {steps} events, {:?}", group.elapsed())));
        }
    }
}

/// What happens in a run.
async fn direct(group: &Rc<Group>, shape: &Shape, mut chance: Chance) {
    let over = Rc::new(Cell::new(false));
    let cluster = shape.cluster.then(|| Cluster::start(group, shape, &over, chance.split()));
    kv::start(group, shape.load, &over, chance.split());
    faults::chaos(group, shape, chance.split()).await;
    // A healed group works, for everybody, within the time that an election takes.
    group.exec.sleep(Duration::from_secs(8)).await;
    over.set(true);
    // Those who were asked before answer, or have had their time.
    group.exec.sleep(Duration::from_secs(27)).await;
    if let Some(cluster) = cluster {
        cluster.rest().await;
    }
    if let Err(how) = works(group).await {
        return group.broke("progress", how);
    }
    let all = group.members();
    let Some(last) = group.leader().and_then(|id| group.read_revision(id)) else {
        return group.broke("progress", "nobody leads a healed group".into());
    };
    for id in &all {
        for _ in 0..200 {
            if group.read_revision(*id).is_some_and(|r| r >= last) {
                break;
            }
            group.exec.sleep(Duration::from_millis(50)).await;
        }
    }
    let servers: Vec<(u64, Tables)> = all.iter().filter_map(|id| Some((*id, group.snapshot(*id)?))).collect();
    group.check(|all| all.settled(&servers));
}

/// Whether every member takes a write and a read.
async fn works(group: &Rc<Group>) -> Result<(), String> {
    let members = group.members();
    if members.is_empty() {
        return Err(format!("nobody leads a healed group; {}", group.describe()));
    }
    for id in members {
        let key = copepod_model::Key::new("_counts", "", "probe");
        let txn = Txn { ops: vec![Op::CheckedAdd { key, delta: 1, max: i64::MAX }], ..Txn::default() };
        if let Err((e, _)) = group.propose(id, Origin::of("probe"), &txn).await {
            return Err(format!("server {id} of a healed group takes no write: {e:?}; {}", group.describe()));
        }
        if group.read_index(id).await.is_none() {
            return Err(format!("server {id} of a healed group proves no read; {}", group.describe()));
        }
    }
    Ok(())
}
