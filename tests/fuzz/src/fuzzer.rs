//! The loop: mutate, try, and keep what took a way that none before it took.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mutate::mutate;
use crate::{Chance, Failure, Target, attempt, on_a_stack, shrink};

/// How many inputs are kept to be mutated.
const POOL: usize = 4096;

/// When to stop. Whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many inputs.
    pub runs: u64,
    /// So much time.
    pub time: Duration,
}

/// What was tried without a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Inputs that were tried.
    pub runs: u64,
    /// Those of them that the decoder took.
    pub taken: u64,
    /// Ways that they took.
    pub classes: usize,
    /// The one that took longest, and how long.
    pub slowest: (Duration, Vec<u8>),
}

/// An input that fails.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of which target.
    pub target: &'static str,
    /// By which seed.
    pub seed: u64,
    /// The how-many-th input it was; none for one of the corpus.
    pub run: Option<u64>,
    /// What is wrong.
    pub failure: Failure,
    /// The input, made short.
    pub input: Vec<u8>,
    /// The file that it was written to.
    pub file: PathBuf,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { target, seed, failure, file, .. } = self;
        match self.run {
            Some(run) => writeln!(f, "target {target}, seed {seed}, run {run}: {} ({})", failure.what, failure.at)?,
            None => writeln!(f, "target {target}, an input of its corpus: {} ({})", failure.what, failure.at)?,
        }
        writeln!(f, "the input: {:?}", String::from_utf8_lossy(&self.input))?;
        write!(f, "again: cargo run -p fuzz -- --target {target} {}", file.display())
    }
}

/// The input that is being tried, in a file: one that ends the process is found there.
struct Trying {
    file: Option<File>,
    path: PathBuf,
}

impl Trying {
    fn new(path: PathBuf) -> Trying {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        Trying { file: File::create(&path).ok(), path }
    }

    fn note(&self, input: &[u8]) {
        if let Some(file) = &self.file {
            let _ = file.set_len(input.len() as u64).and_then(|()| file.write_all_at(input, 0));
        }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Tries the corpus and then mutations of it. Failures and what is tried last are written into `folder`.
pub fn fuzz(
    target: &'static Target,
    corpus: Vec<Vec<u8>>,
    seed: u64,
    limits: Limits,
    folder: &Path,
) -> Result<Report, Box<Found>> {
    let trying = Trying::new(folder.join(format!("{}-{seed}-{}.trying", target.name, std::process::id())));
    println!("{}: seed {seed}; an input that ends the process is left in {}", target.name, trying.path.display());
    on_a_stack(|| {
        let found = |run: Option<u64>, failure, input: &[u8]| {
            let input = shrink(target, input);
            let failure = attempt(target, &input).err().unwrap_or(failure);
            let name = run.map_or_else(|| "corpus".into(), |run| run.to_string());
            let file = folder.join(format!("{}-{seed}-{name}", target.name));
            let _ = std::fs::write(&file, &input);
            Box::new(Found { target: target.name, seed, run, failure, input, file })
        };
        let (mut report, mut seen, mut pool) = (Report::default(), BTreeSet::new(), Vec::new());
        for input in corpus {
            trying.note(&input);
            let outcome = attempt(target, &input).map_err(|failure| found(None, failure, &input))?;
            seen.insert(outcome.class);
            pool.push(input);
        }
        pool.push(Vec::new());
        let (mut chance, began) = (Chance::new(seed), Instant::now());
        while report.runs < limits.runs {
            let before = Instant::now();
            if before - began >= limits.time {
                break;
            }
            let input = mutate(&mut chance, &pool, target.words);
            trying.note(&input);
            let outcome = attempt(target, &input).map_err(|failure| found(Some(report.runs), failure, &input))?;
            let took = before.elapsed();
            report.runs += 1;
            report.taken += u64::from(outcome.taken);
            if seen.insert(outcome.class) && pool.len() < POOL {
                pool.push(input.clone());
            }
            if took > report.slowest.0 {
                report.slowest = (took, input);
            }
        }
        report.classes = seen.len();
        Ok(report)
    })
}
