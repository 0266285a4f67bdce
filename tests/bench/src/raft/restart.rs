//! A server with a GiB of state is killed and started again: how long until it is ready, and until the first linearizable
//! read.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::etcd::{self, Etcd, Gets, Puts};
use super::grpc::Connection;
use super::process::pause;
use super::servers::{self, Api, Does, Servers};
use super::{Found, Run, ratio};
use crate::cluster::{cpu_of, rss_of};
use crate::load::{self, Client as _, Until, share};
use crate::{Error, ms};

/// How many clients and connections fill the state.
const FILLERS: (usize, usize) = (64, 4);

/// What a start was like.
struct Start {
    ready: Duration,
    read: Duration,
    cpu: Duration,
    rss: u64,
}

/// Prints the table.
pub async fn run(run: &Run, found: &mut Found) -> Result<(), Error> {
    let (keys, bytes) = (run.size.objects, run.size.object_bytes);
    let dir = run.dir.join("restart");
    println!("\n### Restart after SIGKILL with {} MiB of state, {keys} × {bytes} bytes\n", (keys * bytes) >> 20);
    println!("| | filled in | on disk | ready | first linearizable read | beside etcd | CPU until then | RSS |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut beside = None;
    match &run.etcd {
        Ok(program) => {
            let dir = dir.join("etcd");
            let mut etcd = Etcd::start(program, &dir, 1).await?;
            let open = etcd::connections(&etcd.endpoints().await?, FILLERS.1).await?;
            let puts = share(&open, FILLERS.0, |connection| Puts { connection, keys, bytes });
            let filled = load::run(puts, Until::Count(keys), &[]).await?.elapsed;
            etcd.kill(0)?;
            let begun = etcd.again(0).await?;
            let start = etcd_starts(&mut etcd, begun, keys).await?;
            line("etcd", filled, &dir, &start, None);
            beside = Some(start.read);
        }
        Err(why) => println!("| etcd | {why} | | | | | | |"),
    }
    let dir = dir.join("ours");
    let mut ours = Servers::up(&dir).await?;
    let open = servers::connections(&ours.endpoints().await?, FILLERS.1).await?;
    let creates = share(&open, FILLERS.0, |client| Api { client, does: Does::Fill, keys, bytes });
    let filled = load::run(creates, Until::Count(keys), &[]).await?.elapsed;
    ours.kill(0)?;
    let begun = ours.again(0).await?;
    let start = ours_starts(&mut ours, begun, keys, bytes).await?;
    line("ours, ConfigMaps in `copepod up`", filled, &dir, &start, beside);
    found.restart = Some(start.read);
    Ok(())
}

fn line(name: &str, filled: Duration, dir: &Path, start: &Start, beside: Option<Duration>) {
    println!(
        "| {name} | {:.1} s | {} MiB | {} | {} | {} | {} | {} MiB |",
        filled.as_secs_f64(),
        on_disk(dir) >> 20,
        ms(start.ready),
        ms(start.read),
        ratio(start.read, beside),
        ms(start.cpu),
        start.rss >> 20
    );
}

/// Waits for `/health`, which is etcd's word for being ready, and reads.
async fn etcd_starts(etcd: &mut Etcd, begun: Instant, keys: usize) -> Result<Start, Error> {
    let (at, pid) = (etcd.at(0).to_string(), etcd.pids()[0]);
    while crate::http::get(&at, "localhost", "/health").await.ok() != Some(200) {
        etcd.alive()?;
        pause("/health answers 200", begun).await?;
    }
    let ready = begun.elapsed();
    Gets { connection: Connection::open(&at).await?, keys, serializable: false }.once(0).await?;
    Ok(Start { ready, read: begun.elapsed(), cpu: cpu_of(pid), rss: rss_of(pid) })
}

/// Waits for `/readyz` and reads.
async fn ours_starts(ours: &mut Servers, begun: Instant, keys: usize, bytes: usize) -> Result<Start, Error> {
    let pid = ours.pids()[0];
    ours.ready().await?;
    let ready = begun.elapsed();
    Api { client: servers::connect(ours.config(0))?, does: Does::Get, keys, bytes }.once(0).await?;
    Ok(Start { ready, read: begun.elapsed(), cpu: cpu_of(pid), rss: rss_of(pid) })
}

/// Bytes of the blocks that a folder's files have.
fn on_disk(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // A file may go while it is looked at.
        match entry.metadata() {
            Ok(found) if found.is_dir() => sum += on_disk(&entry.path()),
            Ok(found) => sum += found.blocks() * 512,
            Err(_) => {}
        }
    }
    sum
}
