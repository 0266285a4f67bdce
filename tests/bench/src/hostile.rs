//! What a neighbour notices of guests that mean ill: its p99 with each of them, beside undisturbed, in the same run.

use std::time::{Duration, Instant};

use copepod_client::Client;
use copepod_model::request::DeleteOptions;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::cluster::Cluster;
use crate::{Error, ms, percentile};

/// How long each attack lasts, and how often the neighbour is asked meanwhile.
const LASTS: Duration = Duration::from_secs(8);
const EVERY: Duration = Duration::from_millis(4);

/// Attacks by a command of its own.
const ATTACKS: &[(&str, &str)] = &[
    ("while(true) in start", r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "_start")))"#),
    (
        "memory bomb",
        r#"(module (memory 1) (func (export "_start") (local i32) (loop $l
            (local.set 0 (memory.grow (i32.const 16)))
            (memory.fill (i32.mul (local.get 0) (i32.const 65536)) (i32.const 1) (i32.const 1048576)) (br $l))))"#,
    ),
    ("stack bomb", r#"(module (func $f (export "_start") (call $f)))"#),
    (
        "table bomb",
        r#"(module (table $t 0 funcref) (func (export "_start") (loop $l
            (drop (table.grow $t (ref.null func) (i32.const 100))) (br $l))))"#,
    ),
    (
        "log flood",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\00\10\00\00") (data (i32.const 1000) "\0a")
            (func (export "_start") (loop $l (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))"#,
    ),
    (
        "host-call storm",
        r#"(module (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start") (loop $l (drop (call $now (i32.const 0) (i64.const 0) (i32.const 0))) (br $l))))"#,
    ),
    (
        "long host calls",
        r#"(module (import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
            (memory (export "memory") 20)
            (func (export "_start") (loop $l (drop (call $r (i32.const 0) (i32.const 1000000))) (br $l))))"#,
    ),
];

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    let cluster = Cluster::up(&["examples/hello/hello.yaml"]).await?;
    let client = cluster.client()?;
    while crate::http::get(&cluster.ingress, "hello.localhost", "/").await.ok() != Some(200) {}
    println!(
        "\n## A neighbour of hostile guests: hello through the ingress, {:.0} requests/s\n",
        1.0 / EVERY.as_secs_f64()
    );
    println!("| | p50 | p99 | p99 beside undisturbed |\n|---|---|---|---|");
    let quiet = ask(&cluster.ingress).await?;
    row("undisturbed", &quiet, &quiet);
    let dir = std::env::temp_dir().join(format!("copepod-bench-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    for (at, (name, text)) in ATTACKS.iter().enumerate() {
        let path = dir.join(format!("{at}.wasm"));
        std::fs::write(&path, wat::parse_str(text)?)?;
        for copy in 0..4 {
            attacker(&client, &format!("bad-{at}-{copy}"), &path.display().to_string()).await?;
        }
        row(&format!("{name}, 4 pods"), &ask(&cluster.ingress).await?, &quiet);
        for copy in 0..4 {
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            client.delete("pods", "default", &format!("bad-{at}-{copy}"), options).await?;
        }
    }
    let hello = std::env::current_dir()?.join("examples/hello/hello.wasm");
    attacker(&client, "spinner", &hello.display().to_string()).await?;
    let pod = loop {
        let pod = client.get("pods", "default", "spinner").await?.value();
        if pod["status"]["phase"] == "Running" {
            break pod;
        }
    };
    let spin = format!("/fetch?url=http://{}/spin", pod["status"]["podIP"].as_str().unwrap_or_default());
    let spins: Vec<_> = (0..16)
        .map(|_| {
            let (at, spin) = (cluster.ingress.clone(), spin.clone());
            tokio::spawn(async move {
                let _ = crate::http::get(&at, "hello.localhost", &spin).await;
            })
        })
        .collect();
    row("while(true) in 16 requests", &ask(&cluster.ingress).await?, &quiet);
    spins.iter().for_each(tokio::task::JoinHandle::abort);
    println!("\nAim: twice at most.");
    cluster.stop().await;
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}

async fn attacker(client: &Client, name: &str, path: &str) -> Result<(), Error> {
    let container = json!({"name": "bad", "image": format!("file://{path}"), "ports": [{"containerPort": 80}],
        "resources": {"limits": {"memory": "64Mi"}}});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}});
    client.create("pods", "default", pod).await?;
    Ok(())
}

/// Asks the neighbour at a steady rate; latencies from when each request was due, sorted.
async fn ask(at: &str) -> Result<Vec<Duration>, Error> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (started, mut asked) = (Instant::now(), Vec::new());
    let mut client = crate::http::Kept::connect(at, "hello.localhost").await?;
    while started.elapsed() < LASTS {
        let due = ticks.tick().await;
        client.get("/").await?;
        asked.push(due.elapsed());
    }
    asked.sort();
    Ok(asked)
}

fn row(name: &str, asked: &[Duration], quiet: &[Duration]) {
    let p99 = percentile(asked, 0.99);
    let ratio = p99.as_secs_f64() / percentile(quiet, 0.99).as_secs_f64();
    println!("| {name} | {} | {} | {ratio:.2} × |", ms(percentile(asked, 0.5)), ms(p99));
}
