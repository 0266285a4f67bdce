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

/// The exit code of an attacker that has got what it should not.
const ESCAPED: i64 = 99;

/// Attacks by a command of its own, which has a volume at `/data`.
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
    (
        "descriptors",
        r#"(module (import "wasi_snapshot_preview1" "path_open"
                (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 64) "file")
            (func (export "_start") (loop $l
                (drop (call $o (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
                    (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8))) (br $l))))"#,
    ),
    (
        // A thousand pages, each a GiB from the next, again and again.
        "sparse files",
        r#"(module (import "wasi_snapshot_preview1" "path_open"
                (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_pwrite" (func $w (param i32 i32 i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $s (param i32 i64) (result i32)))
            (memory (export "memory") 1) (data (i32.const 16) "\40\00\00\00\01\00\00\00") (data (i32.const 64) "file")
            (func (export "_start") (local i64)
                (drop (call $o (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
                    (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 8)))
                (loop $l
                    (drop (call $w (i32.const 4) (i32.const 16) (i32.const 1)
                        (i64.mul (i64.rem_u (local.get 0) (i64.const 1000)) (i64.const 0x40000000)) (i32.const 8)))
                    (drop (call $s (i32.const 4) (i64.const 0x10000000000)))
                    (local.set 0 (i64.add (local.get 0) (i64.const 1))) (br $l))))"#,
    ),
    (
        "path escapes",
        r#"(module (import "wasi_snapshot_preview1" "path_open"
                (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_symlink" (func $s (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "../../../../../../../../../../etc/passwd") (data (i32.const 128) "link/etc/passwd")
            (func $try (param i32 i32)
                (if (i32.eqz (call $o (i32.const 3) (i32.const 1) (local.get 0) (local.get 1) (i32.const 0)
                        (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))
                    (then (call $exit (i32.const 99)))))
            (func (export "_start") (loop $l
                (; also by links: absolute ones, and relative ones that climb ;)
                (drop (call $s (i32.const 93) (i32.const 11) (i32.const 3) (i32.const 128) (i32.const 4)))
                (drop (call $s (i32.const 64) (i32.const 30) (i32.const 3) (i32.const 128) (i32.const 4)))
                (call $try (i32.const 64) (i32.const 40)) (call $try (i32.const 93) (i32.const 11))
                (call $try (i32.const 128) (i32.const 15)) (br $l))))"#,
    ),
    (
        "socket flood",
        r#"(component
            (import "wasi:sockets/network@0.2.0" (instance $network
                (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
                    "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
                    "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
                    "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
                    "permanent-resolver-failure"))
                (export "error-code" (type $code (eq $codes)))
                (type $families (enum "ipv4" "ipv6")) (export "ip-address-family" (type $family (eq $families)))))
            (alias export $network "error-code" (type $code))
            (alias export $network "ip-address-family" (type $family))
            (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
            (alias export $tcp "tcp-socket" (type $socket))
            (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
                (alias outer 1 $code (type $c)) (export "error-code" (type $code2 (eq $c)))
                (alias outer 1 $family (type $f)) (export "ip-address-family" (type $family2 (eq $f)))
                (alias outer 1 $socket (type $s)) (export "tcp-socket" (type $socket2 (eq $s)))
                (export "create-tcp-socket" (func (param "address-family" $family2)
                    (result (result (own $socket2) (error $code2)))))))
            (core module $libc (memory (export "memory") 1))
            (core instance $libc (instantiate $libc))
            (core func $f (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))
            (core module $m (import "host" "f" (func $f (param i32 i32)))
                (func (export "run") (result i32) (loop $l (call $f (i32.const 0) (i32.const 0)) (br $l)) (i32.const 0)))
            (core instance $i (instantiate $m (with "host" (instance (export "f" (func $f))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#,
    ),
    (
        // Sets of headers, each filled until it takes no more, and each kept.
        "huge headers",
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types (export "fields" (type $fields (sub resource)))
                (type $errors (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
                (export "header-error" (type $error (eq $errors)))
                (export "[constructor]fields" (func (result (own $fields))))
                (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
                    (param "value" (list u8)) (result (result (error $error)))))))
            (core module $libc (memory (export "memory") 2))
            (core instance $libc (instantiate $libc))
            (core func $new (canon lower (func $types "[constructor]fields")))
            (core func $append (canon lower (func $types "[method]fields.append") (memory (core memory $libc "memory"))))
            (core module $m (import "libc" "memory" (memory 2))
                (import "host" "new" (func $new (result i32)))
                (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
                (data (i32.const 64) "name")
                (func (export "run") (result i32) (local i32 i32)
                    (memory.fill (i32.const 1024) (i32.const 120) (i32.const 8192))
                    (loop $sets
                        (local.set 0 (call $new)) (local.set 1 (i32.const 0))
                        (loop $values
                            (call $append (local.get 0) (i32.const 64) (i32.const 4) (i32.const 1024) (i32.const 8192)
                                (i32.const 0))
                            (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                            (br_if $values (i32.lt_u (local.get 1) (i32.const 7))))
                        (br $sets))
                    (i32.const 0)))
            (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "host" (instance
                (export "new" (func $new)) (export "append" (func $append))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#,
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
            escaped(&client, &format!("bad-{at}-{copy}")).await?;
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
        "resources": {"limits": {"memory": "64Mi"}}, "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let spec = json!({"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    client.create("pods", "default", pod).await?;
    Ok(())
}

/// Fails if an attacker has got what it should not.
async fn escaped(client: &Client, name: &str) -> Result<(), Error> {
    let pod = client.get("pods", "default", name).await?.value();
    let status = &pod["status"]["containerStatuses"][0];
    let codes = [&status["state"], &status["lastState"]].map(|state| state["terminated"]["exitCode"].as_i64());
    if codes.contains(&Some(ESCAPED)) {
        return Err(format!("{name} has got out: {status}").into());
    }
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

#[cfg(test)]
mod tests {
    #[test]
    fn attacks_are_webassembly() {
        for (name, text) in super::ATTACKS {
            assert!(wat::parse_str(text).is_ok(), "{name}: {:?}", wat::parse_str(text));
        }
    }
}
