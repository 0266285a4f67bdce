//! The store as a process: killed under load, and measured.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use copepod_model::{Key, object};
use copepod_server::store::{CheckpointPolicy, Store, StoreOptions};
use copepod_state::{Op, Outcome, Txn};
use serde_json::json;

const CHILD: &str = "COPEPOD_TEST_STORE";
const WRITERS: u64 = 8;

fn open(dir: &Path) -> Store {
    // Checkpoints come often, so that some of the kills hit one.
    let checkpoint = CheckpointPolicy { bytes: 256 << 10, ..CheckpointPolicy::default() };
    Store::open(StoreOptions { checkpoint, ..StoreOptions::new(dir, 1) }).unwrap()
}

fn put(name: String, n: u64, size: usize) -> Op {
    let value = json!({"metadata": {"name": name}, "n": n, "data": {"text": "x".repeat(size)}});
    Op::Put { key: Key::new("configmaps", "d", name), body: object::encode(&value), revised: true }
}

fn pair(writer: u64, n: u64) -> Txn {
    let ops = ["left", "right"].map(|half| put(format!("{half}-{writer}"), n, 500)).to_vec();
    Txn { ops, ..Txn::default() }
}

/// Writes for ever, each writer its own pair of objects with growing numbers, and says what was acknowledged.
async fn child(dir: &Path, first: u64) {
    let store = open(dir);
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in first.. {
                    assert!(matches!(store.propose(pair(writer, n)).await, Ok(Outcome::Applied(_))));
                    let mut out = std::io::stdout().lock();
                    out.write_all(format!("\nacknowledged {writer} {n}\n").as_bytes()).unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    if let Ok(child_of) = std::env::var(CHILD) {
        let (first, dir) = child_of.split_once(' ').unwrap();
        return child(Path::new(dir), first.parse().unwrap()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut first = 1;
    for round in 0..6 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_9_loses_nothing_that_was_acknowledged", "--nocapture"])
            .env(CHILD, format!("{first} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let mut seen = 0;
        // At another moment each time; what was said before it died counts too.
        while let Some(Ok(line)) = lines.next() {
            if let Some((writer, n)) = line.strip_prefix("acknowledged ").and_then(|l| l.split_once(' ')) {
                acknowledged.insert(writer.parse().unwrap(), n.parse().unwrap());
                seen += 1;
                if seen == 300 + 701 * round {
                    process.kill().unwrap();
                }
            }
        }
        assert!(!process.wait().unwrap().success() && seen >= 300, "it was not killed: {seen} writes");

        let store = open(dir.path());
        let tables = store.snapshot();
        let number = |name: String| tables.find("configmaps", "d", &name).map(|o| o.value()["n"].as_u64().unwrap());
        for writer in 0..WRITERS {
            let (left, right) = (number(format!("left-{writer}")), number(format!("right-{writer}")));
            assert_eq!(left, right, "half a transaction of writer {writer} in round {round}");
            let least = acknowledged.get(&writer).copied();
            assert!(left >= least, "writer {writer} in round {round}: {left:?} after {least:?} was acknowledged");
            first = first.max(left.unwrap_or(0) + 1);
        }
        if round % 2 == 0 { store.close().await.unwrap() } else { store.abandon().await.unwrap() }
    }
}

/// Not a test: prints how many writes of 1 KiB per second a disk here takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; run it by name with --nocapture"]
async fn puts_per_second() {
    const PUTS: u64 = 40_000;
    let dir = tempfile::tempdir_in(std::env::var("CARGO_TARGET_TMPDIR").unwrap_or(".".into())).unwrap();
    for proposers in [1, 16, 64] {
        let store = Store::open(StoreOptions::new(dir.path().join(proposers.to_string()), 1)).unwrap();
        let before = store.stats();
        let puts = if proposers == 1 { PUTS / 8 } else { PUTS };
        let (start, next) = (Instant::now(), Arc::new(std::sync::atomic::AtomicU64::new(0)));
        let tasks: Vec<_> = (0..proposers)
            .map(|_| {
                let (store, next) = (store.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= puts {
                            return;
                        }
                        let ops = vec![put(format!("n{}", n % 5000), n, 1024)];
                        store.propose(Txn { ops, ..Txn::default() }).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let (time, after) = (start.elapsed(), store.stats());
        let rate = puts as f64 / time.as_secs_f64();
        let commits = after.commits - before.commits;
        println!("{proposers} proposers: {rate:.0} puts/s, {:.1} per commit, {after:?}", puts as f64 / commits as f64);
        store.close().await.unwrap();
        for file in std::fs::read_dir(dir.path().join(proposers.to_string())).unwrap() {
            let file = file.unwrap();
            println!("  {:?}: {} KiB", file.file_name(), file.metadata().unwrap().len() >> 10);
        }
        let start = Instant::now();
        let store = Store::open(StoreOptions::new(dir.path().join(proposers.to_string()), 1)).unwrap();
        println!("  opened again in {:?}", start.elapsed());
        store.close().await.unwrap();
    }
}
