//! `cargo run -p fuzz -- --target NAME --seed N --runs N` tries so many inputs (or `--seconds N`), of all targets without
//! `--target`. With `--target NAME FILE…` the files are replayed; `--seed-corpus` writes what targets begin with; `--list` says
//! which there are. `--corpus DIR` is another folder than the source's.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fuzz::targets::TARGETS;
use fuzz::{Limits, Target, attempt, corpus, on_a_stack};

const USAGE: &str =
    "usage: fuzz [--target NAME] [--seed N] [--runs N] [--seconds N] [--corpus DIR] [FILE…] | --seed-corpus | --list";

struct Options {
    target: Option<&'static Target>,
    seed: u64,
    limits: Limits,
    corpus: PathBuf,
    files: Vec<PathBuf>,
    seed_corpus: bool,
    list: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let mut out = Options {
            target: None,
            seed: 1,
            limits: Limits { runs: u64::MAX, time: forever },
            corpus: corpus::folder(),
            files: Vec::new(),
            seed_corpus: false,
            list: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| USAGE.to_string());
            let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
            match arg.as_str() {
                "--target" => {
                    let name = value()?;
                    out.target = Some(Target::named(&name).ok_or_else(|| format!("no target {name}; see --list"))?);
                }
                "--seed" => out.seed = number(value()?)?,
                "--runs" => out.limits.runs = number(value()?)?,
                "--seconds" => out.limits.time = Duration::from_secs(number(value()?)?),
                "--corpus" => out.corpus = value()?.into(),
                "--seed-corpus" => out.seed_corpus = true,
                "--list" => out.list = true,
                flag if flag.starts_with('-') => return Err(USAGE.into()),
                file => out.files.push(file.into()),
            }
        }
        if out.limits.runs == u64::MAX && out.limits.time == forever {
            out.limits.runs = 100_000;
        }
        Ok(out)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
fn run(options: Options) -> std::io::Result<bool> {
    if options.list {
        TARGETS.iter().for_each(|t| println!("{}", t.name));
        return Ok(true);
    }
    if options.seed_corpus {
        for target in TARGETS {
            println!("{}: {} seeds", target.name, corpus::write_seeds(&options.corpus, target)?);
        }
        return Ok(true);
    }
    if !options.files.is_empty() {
        let Some(target) = options.target else {
            eprintln!("which target is the file for? {USAGE}");
            return Ok(false);
        };
        return replay(target, &options.files);
    }
    let mut good = true;
    for target in TARGETS.iter().filter(|t| options.target.is_none_or(|only| only.name == t.name)) {
        let inputs = corpus::read(&options.corpus, target.name)?.into_iter().map(|(_, bytes)| bytes).collect();
        let folder = std::env::temp_dir().join("copepod-fuzz");
        match fuzz::fuzz(target, inputs, options.seed, options.limits, &folder) {
            Ok(report) => {
                let slow = folder.join(format!("{}-slowest", target.name));
                std::fs::write(&slow, &report.slowest.1)?;
                println!(
                    "{}: {} runs, {} taken, {} classes; the slowest took {:?}: {}",
                    target.name,
                    report.runs,
                    report.taken,
                    report.classes,
                    report.slowest.0,
                    slow.display()
                );
            }
            Err(found) => {
                good = false;
                println!("{found}");
            }
        }
    }
    Ok(good)
}

fn replay(target: &'static Target, files: &[PathBuf]) -> std::io::Result<bool> {
    let mut good = true;
    for file in files {
        let input = std::fs::read(file)?;
        match on_a_stack(|| attempt(target, &input)) {
            Ok(outcome) => println!("{}: {}", file.display(), if outcome.taken { "taken" } else { "refused" }),
            Err(failure) => {
                good = false;
                println!("{}: {} ({})", file.display(), failure.what, failure.at);
            }
        }
    }
    Ok(good)
}
