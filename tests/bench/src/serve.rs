//! Hello through the whole ingress path beside `wasmtime serve` with and without reuse of instances, and beside nginx
//! proxying to hyper, in one run, loaded by wrk. Each request is a line in a log: the guest's own here and in `wasmtime serve`,
//! nginx' access log there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use copepod_model::request::PatchType;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::Error;
use crate::cluster::Cluster;
use crate::http::{LOGGED, SECONDS, get, nginx, plain_hyper, row};

/// How many requests an instance answers where they are reused, here and there.
const REUSE: &str = "1000000";

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    if Command::new("wrk").arg("-v").output().await.is_err() {
        println!("\n## Serving\n\nskipped: needs wrk");
        return Ok(());
    }
    println!("\n## Serving hello, a log line per request, wrk with 64 connections for {SECONDS} s\n");
    println!("| server | requests/s | p50 | p99 | server CPU/request |\n|---|---|---|---|---|");
    let log = std::env::temp_dir().join(format!("copepod-bench-serve-{}.log", std::process::id()));
    let hyper = plain_hyper().await?;
    let location = format!(
        "access_log {}; proxy_pass http://{hyper}; proxy_http_version 1.1; proxy_set_header Connection \"\";",
        log.display()
    );
    nginx("nginx → hyper (nginx' CPU alone)", &location, Some(hyper)).await?;
    match wasmtime().await {
        Some(wasmtime) => {
            peer(&wasmtime, "wasmtime serve, an instance per request", "1", &log).await?;
            peer(&wasmtime, "wasmtime serve, instances reused", REUSE, &log).await?;
        }
        None => println!("| wasmtime serve | skipped: needs wasmtime on the PATH or in ~/.cargo/bin | | | |"),
    }
    let _ = std::fs::remove_file(&log);
    let cluster = Cluster::up(&["examples/hello/hello.yaml"]).await?;
    while get(&cluster.ingress, "hello.localhost", "/").await.ok() != Some(200) {}
    let url = format!("http://{}{LOGGED}", cluster.ingress);
    row("ingress → hello, an instance per request", &url, "hello.localhost", cluster.pid()).await?;
    let client = cluster.client()?;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"copepod.dev/instance-reuse": REUSE}}}}});
    let patched = client.patch("deployments.apps", "default", "hello", "", PatchType::Merge, template).await?;
    let generation = patched.value()["metadata"]["generation"].clone();
    loop {
        let status = client.get("deployments.apps", "default", "hello").await?.value()["status"].take();
        let replicas = |field: &str| status[field].as_u64().unwrap_or(0);
        if status["observedGeneration"] == generation
            && replicas("updatedReplicas") == replicas("availableReplicas")
            && replicas("replicas") == 2
        {
            break;
        }
    }
    row("ingress → hello, instances reused", &url, "hello.localhost", cluster.pid()).await?;
    cluster.stop().await;
    Ok(())
}

async fn wasmtime() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin/wasmtime"));
    for path in [Some(PathBuf::from("wasmtime")), home].into_iter().flatten() {
        if Command::new(&path).arg("--version").output().await.is_ok() {
            return Some(path);
        }
    }
    None
}

async fn peer(wasmtime: &Path, name: &str, reuse: &str, log: &Path) -> Result<(), Error> {
    // Asked by using it: a build without clap's help has none to look at.
    let asked = ["serve", "--max-instance-reuse-count", "1", "/nonexistent.wasm"];
    let asked = Command::new(wasmtime).args(asked).stdin(Stdio::null()).output().await?;
    let knows = !String::from_utf8_lossy(&asked.stderr).contains("unexpected argument");
    let at = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port());
    let mut command = Command::new(wasmtime);
    command.args(["serve", "--addr", &at, "-O", "pooling-allocator=y", "-S", "cli=y,inherit-env=y"]);
    if knows {
        command.args(["--max-instance-reuse-count", reuse]);
    } else if reuse != "1" {
        println!("| {name} | skipped: this wasmtime has no --max-instance-reuse-count | | | |");
        return Ok(());
    }
    let log = std::fs::File::create(log)?;
    command.arg("examples/hello/hello.wasm").stdout(log).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    while get(&at, "localhost", "/").await.is_err() {
        if let Some(status) = child.try_wait()? {
            println!("| {name} | skipped: wasmtime serve ended with {status} | | | |");
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    row(name, &format!("http://{at}{LOGGED}"), "localhost", child.id().unwrap_or(0)).await?;
    child.kill().await?;
    Ok(())
}
