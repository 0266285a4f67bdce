//! `cargo run -p sim -- --seed N` replays one seed; `--seeds A..B` runs a range and says what it found. With `--bug NAME`
//! in front a bug is put in; `--scenarios` runs the scenarios.

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--scenarios") {
        for (name, run) in sim::scenarios::ALL {
            println!("{name}");
            run();
        }
        return ExitCode::SUCCESS;
    }
    let mut bug = None;
    if args.len() > 2 && args[0] == "--bug" {
        bug = sim::bug::Bug::named(&args[1]);
        args.drain(..2);
    }
    let range = match args.as_slice() {
        [flag, seed] if flag == "--seed" => seed.parse::<u64>().ok().map(|s| s..s + 1),
        [flag, range] if flag == "--seeds" => range
            .split_once("..")
            .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?))
            .or_else(|| range.parse().ok().map(|n| 0..n)),
        [] => Some(0..100),
        _ => None,
    };
    let Some(range) = range else {
        eprintln!("usage: sim [--seed N | --seeds A..B]");
        return ExitCode::from(2);
    };
    let one = range.end - range.start == 1;
    let (from, started) = (range.start, Instant::now());
    let mut failed = 0;
    for seed in range.clone() {
        match sim::run_with(seed, bug) {
            Ok(report) if one => println!("seed {seed}: {report:#?}"),
            Ok(_) => {}
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
    let count = range.end - from;
    println!("seeds {from}..{}: {failed} failed; {:.0} seeds a minute", range.end, per_minute(count, started));
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn per_minute(count: u64, started: Instant) -> f64 {
    count as f64 * 60.0 / started.elapsed().as_secs_f64().max(0.001)
}
