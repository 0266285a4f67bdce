//! A request to a component of which nothing is in memory: its artifact is loaded from disk, an instance made and called.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use copepod_runtime_wasm as ours;
use http_body_util::BodyExt as _;

use crate::instantiate::{ToFile, artifacts, request, start};
use crate::{Error, ms, percentile};

const COMPONENTS: usize = 200;
/// How often each is asked for, by a new runtime each time.
const ROUNDS: usize = 5;

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    let dir = std::env::temp_dir().join(format!("copepod-bench-cold-{}", std::process::id()));
    let hello = std::fs::read("examples/hello/hello.wasm")?;
    let digests: Vec<String> = (0..COMPONENTS).map(|at| format!("sha256:{at:064x}")).collect();
    let config = ours::RuntimeConfig::new(&dir);
    {
        let runtime = ours::Runtime::new(&config)?;
        for (at, digest) in digests.iter().enumerate() {
            runtime.compile(digest, with_section(&hello, at).into()).await?;
        }
    }
    let nowhere = dir.join("no such file");
    let (mut load, mut all) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        forget(&dir)?;
        let runtime = Arc::new(ours::Runtime::new(&config)?);
        let log = ToFile::create(&dir)?;
        for digest in &digests {
            let begun = Instant::now();
            let module = runtime.compile_file(digest, &nowhere).await?;
            load.push(begun.elapsed());
            let container = start(&runtime, &module, 1, log.clone())?;
            let handler = container.handler().ok_or("not a wasi:http component")?;
            let call = runtime.serving().spawn(async move {
                let answer = handler.handle(request()).await?;
                Ok::<_, ours::HandlerError>(answer.into_body().collect().await)
            });
            drop(call.await??);
            all.push(begun.elapsed());
        }
    }
    load.sort();
    all.sort();
    println!(
        "\n## Cold request, {COMPONENTS} components {ROUNDS} times, artifacts on disk and not in the page cache, a log line each\n"
    );
    println!("| | p50 | p99 | most |\n|---|---|---|---|");
    for (name, all) in [("the artifact is loaded", &load), ("the request is answered", &all)] {
        let most = all.last().copied().unwrap_or_default();
        println!("| {name} | {} | {} | {} |", ms(percentile(all, 0.5)), ms(percentile(all, 0.99)), ms(most));
    }
    println!("\nAim: p99 below 5 ms.");
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}

/// Takes the artifacts out of the page cache.
fn forget(dir: &Path) -> Result<(), Error> {
    for path in artifacts(dir)? {
        let file = File::open(path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// The component with a custom section of its own, so that each is another one.
fn with_section(wasm: &[u8], at: usize) -> Vec<u8> {
    let mut wasm = wasm.to_vec();
    let number = format!("{at:08}");
    // Section 0: its size, the name's size, the name, the content.
    wasm.extend([0, 1 + 1 + 8, 1, b'n']);
    wasm.extend(number.bytes());
    wasm
}
