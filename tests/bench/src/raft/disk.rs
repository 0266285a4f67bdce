//! What the disk can do: one writer that waits for each write to be durable. Nothing that keeps its promises can answer one
//! client faster.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Found;
use crate::{Error, ms, percentile};

/// How much is written at a time.
const WRITTEN: usize = 1 << 10;
/// The length of the file that exists before the writes, as that of a log's segment does.
const SEGMENT: u64 = 64 << 20;

/// Prints the table.
pub async fn run(dir: &Path, lasts: Duration, found: &mut Found) -> Result<(), Error> {
    println!("\n### The disk: one writer, fdatasync after each KiB\n\n| | writes/s | p50 | p99 |\n|---|---|---|---|");
    for (name, allocated) in [("appended to a file", 0), ("over a file that has its length", SEGMENT)] {
        let path = dir.join("disk");
        let took = tokio::task::spawn_blocking(move || writes(&path, lasts, allocated)).await??;
        let per_second = took.len() as f64 / took.iter().sum::<Duration>().as_secs_f64();
        println!("| {name} | {per_second:.0} | {} | {} |", ms(percentile(&took, 0.5)), ms(percentile(&took, 0.99)));
        found.disk.get_or_insert(per_second);
    }
    Ok(())
}

/// How long each write took, sorted.
fn writes(path: &Path, lasts: Duration, allocated: u64) -> std::io::Result<Vec<Duration>> {
    let file = File::create(path)?;
    let block = [b'x'; WRITTEN];
    // Written, and not only given its length: blocks without data would be allocated by the writes.
    for at in (0..allocated).step_by(WRITTEN) {
        file.write_all_at(&block, at)?;
    }
    file.sync_all()?;
    let (begun, mut took, mut at) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < lasts {
        let one = Instant::now();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        took.push(one.elapsed());
        at += WRITTEN as u64;
        if allocated > 0 {
            at %= allocated;
        }
    }
    std::fs::remove_file(path)?;
    took.sort_unstable();
    Ok(took)
}
