//! `cargo run -p sim -- --seed N` replays one seed; `--seeds A..B` runs a range and says what it found. With `--bug NAME`
//! in front a bug is put in; with `--shaped NAME` it is the run that is made for the bug, without it. `--scenarios` runs the
//! scenarios; `--bugs` prints for each bug the first seed that finds it, as `tests/sim/tests/bugs.txt` has them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use sim::bug::Bug;
use sim::counts;
use sim::{Run, go, search};

/// How many seeds a bug may need.
const WITHIN: Range<u64> = 0..100;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--scenarios"] => {
            for (name, run) in sim::scenarios::ALL {
                println!("{name}");
                run();
            }
            ExitCode::SUCCESS
        }
        ["--bugs"] => bugs(),
        [how @ ("--bug" | "--shaped"), name, seeds @ ..] => match (Bug::named(name), range(seeds)) {
            (Some(bug), Some(seeds)) => all(seeds, Some(bug), *how == "--bug"),
            (None, _) => usage(&format!("no bug is called {name}; there are {:?}", Bug::ALL)),
            _ => usage("which seeds?"),
        },
        seeds => match range(seeds) {
            Some(seeds) => all(seeds, None, false),
            None => usage("which seeds?"),
        },
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!(
        "{why}\nusage: sim [--bug NAME | --shaped NAME] [--seed N | --seeds N | --seeds A..B] | --bugs | --scenarios"
    );
    ExitCode::from(2)
}

fn range(args: &[&str]) -> Option<Range<u64>> {
    match args {
        ["--seed", seed] => seed.parse().ok().map(|s| s..s + 1),
        ["--seeds", range] => match range.split_once("..") {
            Some((a, b)) => Some(a.parse().ok()?..b.parse().ok()?),
            None => range.parse().ok().map(|n| 0..n),
        },
        [] => Some(0..100),
        _ => None,
    }
}

/// The table of bugs, each found by an invariant that is there for it.
fn bugs() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for bug in Bug::ALL {
        match search(bug, WITHIN) {
            Some(found) if bug.found_by().contains(&found.invariant) => {
                println!("{bug:?} {} {}", found.run.seed, found.invariant);
            }
            other => {
                eprintln!("{bug:?} is not found as it should be: {other:?}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Runs all of these.
fn all(range: Range<u64>, shaped: Option<Bug>, buggy: bool) -> ExitCode {
    let one = range.end.saturating_sub(range.start) == 1;
    let (from, started) = (range.start, Instant::now());
    let (mut failed, mut counted) = (0, BTreeMap::new());
    for seed in range.clone() {
        match go(Run { seed, shaped, buggy }) {
            Ok(report) if one => println!("seed {seed}: {report:#?}"),
            Ok(report) => counts::sum(&mut counted, &report.counts),
            Err(e) => {
                failed += 1;
                println!("{e}");
            }
        }
        let count = seed + 1 - from;
        if count.is_multiple_of(500) {
            println!("{count} seeds, {failed} failed, {:.0} a minute", per_minute(count, started));
        }
    }
    let count = range.end.saturating_sub(from);
    println!("seeds {from}..{}: {failed} failed; {:.0} seeds a minute", range.end, per_minute(count, started));
    if !one {
        println!("{}", counts::text(&counted));
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn per_minute(count: u64, started: Instant) -> f64 {
    count as f64 * 60.0 / started.elapsed().as_secs_f64().max(0.001)
}
