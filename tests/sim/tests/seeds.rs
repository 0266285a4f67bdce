//! A block of seeds in CI, and that a seed is a seed.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::counts::{self, Event};

/// How many seeds a block has; another number by the environment variable `COPEPOD_SEEDS`.
const SEEDS: u64 = 120;

/// Of so many keys one may have a history that is too tangled to be searched to its end.
const UNDECIDED: usize = 100;

/// Seeds that fail and are not explained yet: each is a defect of the product or of the simulation. One that holds again must go
/// from here.
const OPEN: [u64; 0] = [];

/// What the runs of a block came to.
#[derive(Default)]
struct Came {
    failed: Vec<String>,
    keys: usize,
    undecided: usize,
    counts: BTreeMap<Event, u64>,
}

impl Came {
    fn of(&mut self, seed: u64) {
        match (sim::run(seed), OPEN.contains(&seed)) {
            (Ok(report), false) => {
                self.keys += report.keys;
                self.undecided += report.undecided;
                counts::sum(&mut self.counts, &report.counts);
            }
            (Ok(_), true) => self.failed.push(format!("seed {seed} holds, and is still among the open ones")),
            (Err(e), false) => self.failed.push(e.to_string()),
            (Err(e), true) => println!("seed {seed} is open: {e}"),
        }
    }

    fn and(mut self, other: Came) -> Came {
        self.failed.extend(other.failed);
        self.keys += other.keys;
        self.undecided += other.undecided;
        counts::sum(&mut self.counts, &other.counts);
        self
    }
}

#[test]
fn a_block_of_seeds_holds() {
    let seeds = std::env::var("COPEPOD_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let run = || {
        let mut came = Came::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return came;
            }
            came.of(seed);
        }
    };
    // A run is one thread; two of them are two runs.
    let came = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        run().and(other.join().unwrap())
    });
    println!("seeds 0..{seeds}, {:.0} a minute", seeds as f64 * 60.0 / started.elapsed().as_secs_f64());
    println!("{}", counts::text(&came.counts));
    println!("{} of {} keys were given up before an order of their calls was found", came.undecided, came.keys);
    assert!(came.failed.is_empty(), "{}", came.failed.join("\n"));
    assert!(came.undecided * UNDECIDED <= came.keys, "too many to say that they are linearizable");
    // Fewer seeds need not see everything.
    let missing = if seeds < SEEDS { Vec::new() } else { counts::missing(&came.counts) };
    assert!(missing.is_empty(), "a block that never sees {missing:?} proves nothing about it");
}

#[test]
fn a_seed_is_the_same_run_each_time_and_in_every_process() {
    // One of a group alone, one of a whole cluster.
    let mut kinds = [None, None];
    for seed in 0.. {
        let report = sim::run(seed).unwrap();
        kinds[usize::from(report.shape.contains("cluster: true"))].get_or_insert((seed, report));
        if kinds.iter().all(Option::is_some) {
            break;
        }
    }
    let kinds = kinds.map(Option::unwrap);
    assert_ne!(kinds[0].1.trace, kinds[1].1.trace);
    for (seed, report) in kinds {
        assert_eq!(sim::run(seed).as_ref(), Ok(&report));
        let other = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--seed", &seed.to_string()]).output().unwrap();
        let told = String::from_utf8(other.stdout).unwrap();
        assert!(told.contains(&format!("trace: {},", report.trace)), "seed {seed} is {report:?} here and there {told}");
    }
}
