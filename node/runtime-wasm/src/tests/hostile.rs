//! Guests that mean ill: the container ends or is held back, and its neighbours go on.

use std::sync::Arc;
use std::time::Duration;

use copepod_node_plan::{ContainerSpec, Mount};
use http::StatusCode;

use super::fixture::{Node, Started, get};
use crate::{HandlerError, Module, Reason};

/// A node with a guest, and a neighbour that must not notice.
async fn beside(text: &str, change: impl FnOnce(&mut ContainerSpec)) -> (Node, Started, Started) {
    let node = Node::new();
    let neighbour = node.start("hello", |_| {}).await;
    let module: Arc<Module> = node.wat(text).await;
    let guest = node.start_module(module, change);
    (node, guest, neighbour)
}

async fn is_well(neighbour: &Started) {
    assert_eq!(neighbour.get("/").await.unwrap().status(), StatusCode::OK);
}

/// Has a guest go on beside a neighbour that must not notice, and ends it.
async fn goes_on(what: &str, guest: &mut Started, neighbour: &Started) {
    while guest.container.usage().cpu < Duration::from_millis(20) {
        is_well(neighbour).await;
        if !guest.is_running() {
            panic!("{what} has not lived long: {:?}", guest.exit().await);
        }
    }
    guest.container.kill();
    let exit = guest.exit().await;
    assert_eq!((exit.code, exit.reason), (137, Reason::Error), "{what}: {}", exit.message);
    is_well(neighbour).await;
}

#[tokio::test]
async fn a_memory_bomb() {
    let bomb = r#"(module (memory 1) (func (export "_start") (loop $l (drop (memory.grow (i32.const 1))) (br $l))))"#;
    let (_node, mut guest, neighbour) = beside(bomb, |spec| spec.memory_limit = Some(8 << 20)).await;
    let exit = guest.exit().await;
    assert_eq!((exit.code, exit.reason), (137, Reason::OomKilled));
    is_well(&neighbour).await;
}

#[tokio::test]
async fn a_table_bomb() {
    let bomb = r#"(module (table $t 0 funcref)
        (func (export "_start") (loop $l (drop (table.grow $t (ref.null func) (i32.const 100))) (br $l))))"#;
    let limit = crate::memory::PER_INSTANCE + (64 << 10);
    let (_node, mut guest, neighbour) = beside(bomb, |spec| spec.memory_limit = Some(limit)).await;
    assert_eq!(guest.exit().await.reason, Reason::OomKilled);
    is_well(&neighbour).await;
}

#[tokio::test]
async fn a_table_that_the_pool_does_not_grow_costs_nothing() {
    let bomb = r#"(module (table $t 0 funcref)
        (func (export "_start") (local i32) (loop $l
            (drop (table.grow $t (ref.null func) (i32.const 100000000)))
            (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))))"#;
    let (_node, mut guest, _neighbour) = beside(bomb, |spec| spec.memory_limit = Some(1 << 40)).await;
    assert_eq!(guest.exit().await.reason, Reason::Completed);
}

#[tokio::test]
async fn a_stack_bomb() {
    let bomb = r#"(module (func $f (export "_start") (call $f)))"#;
    let (_node, mut guest, neighbour) = beside(bomb, |_| {}).await;
    let exit = guest.exit().await;
    assert_eq!((exit.code, exit.reason), (134, Reason::Error));
    assert!(exit.message.contains("call stack exhausted"), "{}", exit.message);
    is_well(&neighbour).await;
}

/// A component that calls `body` with what `imports` lowers.
fn component(imports: &str, lowered: &str, core_imports: &str, body: &str) -> String {
    component_of(&["f"], imports, lowered, core_imports, body)
}

/// The same with several functions of the host.
fn component_of(functions: &[&str], imports: &str, lowered: &str, core_imports: &str, body: &str) -> String {
    let functions: String = functions.iter().map(|f| format!(r#"(export "{f}" (func ${f}))"#)).collect();
    format!(
        r#"(component {imports}
        (core module $libc (memory (export "memory") 40)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $libc (instantiate $libc))
        {lowered}
        (core module $m (memory (import "libc" "memory") 40) {core_imports}
            (func (export "run") (result i32) {body} (i32.const 0)))
        (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "host" (instance
            {functions}))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $out (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $out)))"#
    )
}

#[tokio::test]
async fn a_handle_bomb_is_out_of_memory() {
    let bomb = component(
        r#"(import "wasi:http/types@0.2.0" (instance $types (export "fields" (type $fields (sub resource)))
            (export "[constructor]fields" (func (result (own $fields))))))"#,
        r#"(core func $f (canon lower (func $types "[constructor]fields")))"#,
        r#"(func $f (import "host" "f") (result i32))"#,
        "(loop $l (drop (call $f)) (br $l))",
    );
    let (_node, mut guest, neighbour) = beside(&bomb, |spec| spec.memory_limit = Some(6 << 20)).await;
    let exit = guest.exit().await;
    assert_eq!((exit.code, exit.reason), (137, Reason::OomKilled), "{}", exit.message);
    is_well(&neighbour).await;
}

fn random(body: &str) -> String {
    component(
        r#"(import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
        r#"(core func $f (canon lower (func $random "get-random-bytes")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
        r#"(func $f (import "host" "f") (param i64 i32))"#,
        body,
    )
}

#[tokio::test]
async fn a_loop_in_a_long_host_call_dies_at_once() {
    let storm = random("(loop $l (call $f (i64.const 1000000) (i32.const 0)) (br $l))");
    let (_node, mut guest, neighbour) = beside(&storm, |_| {}).await;
    while guest.container.usage().cpu.is_zero() {
        is_well(&neighbour).await;
    }
    guest.container.kill();
    assert_eq!(guest.exit().await.code, 137);
    is_well(&neighbour).await;
}

#[tokio::test]
async fn a_huge_host_call_is_refused() {
    let huge = random("(call $f (i64.const 0x10000000000) (i32.const 0))");
    let (_node, mut guest, neighbour) = beside(&huge, |_| {}).await;
    let exit = guest.exit().await;
    assert_eq!(exit.reason, Reason::Error);
    assert!(exit.message.contains("exceeds limit"), "{}", exit.message);
    is_well(&neighbour).await;
}

#[tokio::test]
async fn a_storm_of_host_calls() {
    let storm = r#"(module (import "wasi_snapshot_preview1" "clock_time_get"
            (func $now (param i32 i64 i32) (result i32))) (memory (export "memory") 1)
        (func (export "_start") (loop $l (drop (call $now (i32.const 0) (i64.const 0) (i32.const 0))) (br $l))))"#;
    let (_node, mut guest, neighbour) = beside(storm, |_| {}).await;
    goes_on("a storm", &mut guest, &neighbour).await;
}

/// Those that stay below the limit and use what they have, for ever.
#[tokio::test]
async fn bombs_that_live_long() {
    let memory = r#"(module (memory 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 99)) (i32.const -1)) (then (unreachable)))
        (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 6553600)) (br $l))))"#;
    let stack = r#"(module
        (func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "_start") (loop $l (call $f (i32.const 2000)) (br $l))))"#;
    let table = r#"(module (table $t 0 funcref) (func $f (export "_start")
        (if (i32.eq (table.grow $t (ref.func $f) (i32.const 10000)) (i32.const -1)) (then (unreachable)))
        (loop $l (table.fill $t (i32.const 0) (ref.func $f) (i32.const 10000)) (br $l))))"#;
    let handles = component_of(
        &["f", "drop"],
        r#"(import "wasi:http/types@0.2.0" (instance $types (export "fields" (type $fields (sub resource)))
            (export "[constructor]fields" (func (result (own $fields))))))
        (alias export $types "fields" (type $fields))"#,
        r#"(core func $f (canon lower (func $types "[constructor]fields")))
        (core func $drop (canon resource.drop $fields))"#,
        r#"(func $f (import "host" "f") (result i32)) (func $drop (import "host" "drop") (param i32))"#,
        "(loop $l (call $drop (call $f)) (br $l))",
    );
    let node = Node::new();
    let neighbour = node.start("hello", |_| {}).await;
    for (what, text) in [("memory", memory), ("stack", stack), ("table", table), ("handles", handles.as_str())] {
        let module = node.wat(text).await;
        let mut guest = node.start_module(module, |spec| spec.memory_limit = Some(8 << 20));
        goes_on(what, &mut guest, &neighbour).await;
    }
}

#[tokio::test]
async fn sparse_files_take_what_is_written() {
    // A thousand pages, each a GiB from the next, and a length of a TiB, again and again.
    let sparse = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pwrite" (func $write (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $resize (param i32 i64) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "\40\00\00\00\04\00\00\00") (data (i32.const 64) "file")
        (func $ok (param i32) (if (local.get 0) (then (unreachable))))
        (func (export "_start") (local i64)
            (call $ok (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
                (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 8)))
            (loop $l
                (call $ok (call $write (i32.const 4) (i32.const 16) (i32.const 1)
                    (i64.mul (i64.rem_u (local.get 0) (i64.const 1000)) (i64.const 0x40000000)) (i32.const 8)))
                (call $ok (call $resize (i32.const 4) (i64.const 0x10000000000)))
                (local.set 0 (i64.add (local.get 0) (i64.const 1)))
                (br $l))))"#;
    let (dir, mount) = volume();
    let (_node, mut guest, neighbour) = beside(sparse, |spec| spec.mounts = vec![mount]).await;
    goes_on("a writer of sparse files", &mut guest, &neighbour).await;
    let file = dir.path().join("file").metadata().unwrap();
    let taken = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(file.len() == 1 << 40 && taken < 16 << 20, "{} bytes long, {taken} taken", file.len());
}

#[tokio::test]
async fn a_socket_flood() {
    const CODES: &str = r#""unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
        "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable"
        "address-in-use" "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
        "datagram-too-large" "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure""#;
    // It makes sockets until it gets an error, which it expects to be the eleventh code after ten of them.
    let flood = component(
        &format!(
            r#"(import "wasi:sockets/network@0.2.0" (instance $network
                (type $codes (enum {CODES})) (export "error-code" (type $code (eq $codes)))
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
                    (result (result (own $socket2) (error $code2)))))))"#
        ),
        r#"(core func $f (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))"#,
        r#"(func $f (import "host" "f") (param i32 i32))"#,
        "(local i32) (loop $l (call $f (i32.const 0) (i32.const 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1)))
            (br_if $l (i32.eqz (i32.load8_u (i32.const 0)))))
         (if (i32.ne (local.get 0) (i32.const 11)) (then unreachable))
         (if (i32.ne (i32.load8_u (i32.const 4)) (i32.const 10)) (then unreachable))",
    );
    let (_node, mut guest, neighbour) = beside(&flood, |spec| spec.limits.sockets = 10).await;
    let exit = guest.exit().await;
    assert_eq!(exit.reason, Reason::Completed, "{}", exit.message);
    is_well(&neighbour).await;
    while guest.container.usage().sockets > 0 {
        tokio::task::yield_now().await; // they go with the instance, if not at the same moment
    }
}

/// A folder with a file, mounted at `/data`.
fn volume() -> (tempfile::TempDir, Mount) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let (host, sub_path) = (dir.path().into(), String::new());
    let mount = Mount { path: "/data".into(), host, sub_path, read_only: false, memory: None };
    (dir, mount)
}

/// What a preview 1 module needs to open a file again and again: `$again` answers with the error number.
const OPENS: &str = r#"
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "file")
    (func $again (result i32)
        (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
            (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))
    (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then (unreachable))))
    (func $flood (result i32) (local i32)
        (block $full (loop $l
            (br_if $full (call $again))
            (local.set 0 (i32.add (local.get 0) (i32.const 1)))
            (br $l)))
        (local.get 0))"#;

#[tokio::test]
async fn a_flood_of_open_files() {
    let (_dir, mount) = volume();
    // Ten can be opened, then it is told why not; what is closed or replaced makes room for another.
    let flood = format!(
        r#"(module {OPENS} (func (export "_start")
            (call $is (call $flood) (i32.const 10))
            (call $is (call $again) (i32.const 33))
            (call $is (call $close (i32.const 7)) (i32.const 0))
            (call $is (call $again) (i32.const 0))
            (call $is (call $again) (i32.const 33))
            (call $is (call $renumber (i32.const 5) (i32.const 6)) (i32.const 0))
            (call $is (call $again) (i32.const 0))
            (call $is (call $again) (i32.const 33))
            (call $is (call $close (i32.const 6)) (i32.const 0))
            (call $is (call $close (i32.const 6)) (i32.const 8))
            (call $is (call $flood) (i32.const 1))))"#
    );
    let change = |spec: &mut ContainerSpec| {
        spec.limits.files = 10;
        spec.mounts = vec![mount];
    };
    let (_node, mut guest, neighbour) = beside(&flood, change).await;
    let exit = guest.exit().await;
    assert_eq!(exit.reason, Reason::Completed, "{}", exit.message);
    is_well(&neighbour).await;
    while guest.container.usage().files > 0 {
        tokio::task::yield_now().await; // they go with the instance, if not at the same moment
    }
}

#[tokio::test]
async fn a_component_floods_open_files() {
    let (_dir, mount) = volume();
    // The first handle of all is the mounted directory's. Six is the place of `quota` among the codes.
    let flood = component_of(
        &["dirs", "open", "stream", "close"],
        r#"(import "wasi:io/streams@0.2.0" (instance $streams (export "input-stream" (type (sub resource)))))
        (alias export $streams "input-stream" (type $stream))
        (import "wasi:filesystem/types@0.2.0" (instance $types
            (alias outer 1 $stream (type $s)) (export "input-stream" (type $stream2 (eq $s)))
            (export "descriptor" (type $descriptor (sub resource)))
            (type $codes (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
                "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
                "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
                "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty"
                "no-such-device" "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy"
                "cross-device"))
            (export "error-code" (type $code (eq $codes)))
            (type $paths (flags "symlink-follow")) (export "path-flags" (type $path (eq $paths)))
            (type $opens (flags "create" "directory" "exclusive" "truncate")) (export "open-flags" (type $open (eq $opens)))
            (type $all (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
                "mutate-directory"))
            (export "descriptor-flags" (type $flags (eq $all)))
            (export "[method]descriptor.open-at" (func (param "self" (borrow $descriptor)) (param "path-flags" $path)
                (param "path" string) (param "open-flags" $open) (param "flags" $flags)
                (result (result (own $descriptor) (error $code)))))
            (export "[method]descriptor.read-via-stream" (func (param "self" (borrow $descriptor)) (param "offset" u64)
                (result (result (own $stream2) (error $code)))))))
        (alias export $types "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer 1 $descriptor (type $d)) (export "descriptor" (type $descriptor2 (eq $d)))
            (export "get-directories" (func (result (list (tuple (own $descriptor2) string)))))))"#,
        r#"(core func $dirs (canon lower (func $preopens "get-directories")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $open (canon lower (func $types "[method]descriptor.open-at") (memory (core memory $libc "memory"))))
        (core func $stream (canon lower (func $types "[method]descriptor.read-via-stream")
            (memory (core memory $libc "memory"))))
        (core func $close (canon resource.drop $descriptor))"#,
        r#"(func $dirs (import "host" "dirs") (param i32))
        (func $open (import "host" "open") (param i32 i32 i32 i32 i32 i32 i32))
        (func $stream (import "host" "stream") (param i32 i64 i32))
        (func $close (import "host" "close") (param i32))
        (data (i32.const 64) "file")
        (func $again (result i32)
            (call $open (i32.const 1) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 0))
            (i32.load8_u (i32.const 0)))
        (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then (unreachable))))"#,
        "(local i32 i32) (call $dirs (i32.const 0))
         (block $full (loop $l
            (br_if $full (call $again))
            (local.set 1 (i32.load (i32.const 4)))
            (local.set 0 (i32.add (local.get 0) (i32.const 1)))
            (br $l)))
         (call $is (local.get 0) (i32.const 10))
         (call $is (i32.load8_u (i32.const 4)) (i32.const 6))
         (; what is closed makes room ;)
         (call $close (local.get 1)) (call $is (call $again) (i32.const 0)) (local.set 1 (i32.load (i32.const 4)))
         (; a stream keeps its file open ;)
         (call $stream (local.get 1) (i64.const 0) (i32.const 0)) (call $is (i32.load8_u (i32.const 0)) (i32.const 0))
         (call $close (local.get 1)) (call $is (call $again) (i32.const 1))",
    );
    let change = |spec: &mut ContainerSpec| {
        spec.limits.files = 10;
        spec.mounts = vec![mount];
    };
    let (_node, mut guest, neighbour) = beside(&flood, change).await;
    let exit = guest.exit().await;
    assert_eq!(exit.reason, Reason::Completed, "{}", exit.message);
    is_well(&neighbour).await;
    while guest.container.usage().files > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn all_guests_together_open_no_more_than_the_node_may() {
    let (_dir, mount) = volume();
    let node = Node::with(|config| config.files = 10);
    // The mounted directory is open for the container and for the module's own table, which leaves eight; it stays.
    let stays = format!(
        r#"(module {OPENS} (func (export "_start")
        (call $is (call $flood) (i32.const 8)) (call $is (call $again) (i32.const 33)) (loop $l (br $l))))"#
    );
    let module = node.wat(&stays).await;
    let mounts = |spec: &mut ContainerSpec| spec.mounts = vec![mount.clone()];
    let greedy = node.start_module(module.clone(), mounts);
    while greedy.container.usage().files < 8 {
        tokio::task::yield_now().await;
    }
    let exit = node.start_module(module.clone(), mounts).exit().await;
    assert_eq!(exit.reason, Reason::StartError);
    assert!(exit.message.contains("Too many open files"), "{}", exit.message);
    drop(greedy);
    // Room comes back when the guest is gone, which is not at the same moment.
    loop {
        let next = node.start_module(module.clone(), mounts);
        while next.container.usage().files < 8 && next.is_running() {
            tokio::task::yield_now().await;
        }
        if next.is_running() {
            break;
        }
    }
}

#[tokio::test]
async fn a_log_flood() {
    let flood = r#"(module (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32))) (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\05\00\00\00") (data (i32.const 16) "line\n")
        (func (export "_start") (local i32) (loop $l
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 50000))))))"#;
    let limits = |spec: &mut ContainerSpec| (spec.limits.log_rate, spec.limits.log_burst) = (1, 1000);
    let (_node, mut guest, neighbour) = beside(flood, limits).await;
    assert_eq!(guest.exit().await.reason, Reason::Completed);
    is_well(&neighbour).await;
    let logs = guest.logs.clone();
    drop(guest);
    logs.wait_for("dropped, more than 1 bytes a second").await;
    let text = logs.text();
    let lines = text.matches("out: line").count();
    assert!((200..1000).contains(&lines), "{lines}");
}

#[tokio::test]
async fn huge_headers_end_neither_the_guest_nor_the_host() {
    let node = Node::new();
    let hello = node.start("hello", |spec| spec.memory_limit = Some(16 << 20)).await;
    let mut request = get("/");
    for at in 0..1000 {
        let name = http::HeaderName::from_bytes(format!("x-{at}").as_bytes()).unwrap();
        request.headers_mut().insert(name, "x".repeat(1000).parse().unwrap());
    }
    let answer = hello.container.handler().unwrap().handle(request).await.map(|response| response.status());
    assert!(matches!(answer, Ok(StatusCode::OK)), "{answer:?}");
    is_well(&hello).await;
}

#[tokio::test]
async fn who_asks_for_more_gets_more() {
    let node = Node::with(|config| config.threads = Some(1));
    let spin = |request| {
        node.start("preview1", move |spec| {
            spec.args = vec!["spin".to_owned()];
            spec.limits.cpu_request_millis = request;
        })
    };
    let (large, small) = (spin(3000).await, spin(1000).await);
    while (large.container.usage().cpu + small.container.usage().cpu).as_millis() < 500 {
        tokio::task::yield_now().await;
    }
    let (large, small) = (large.container.usage().cpu, small.container.usage().cpu);
    assert!(large > small * 3 / 2, "{large:?} against {small:?}");
}

#[tokio::test]
async fn spinning_requests_on_the_serving_threads_do_not_stop_them() {
    let node = Node::with(|config| config.threads = Some(1));
    let spinning = node.start("hello", |_| {}).await;
    let other = node.start("hello", |_| {}).await;
    let serving = node.runtime.serving();
    let (handler, neighbour) = (spinning.container.handler().unwrap(), other.container.handler().unwrap());
    let spins: Vec<_> = (0..4)
        .map(|_| {
            let handler = handler.clone();
            serving.spawn(async move { handler.handle(get("/spin")).await.map(drop) })
        })
        .collect();
    while spinning.container.usage().cpu < Duration::from_millis(20) {
        let neighbour = neighbour.clone();
        let answer = serving.spawn(async move { neighbour.handle(get("/")).await.map(|r| r.status()) });
        assert_eq!(answer.await.unwrap(), Ok(StatusCode::OK));
    }
    spinning.container.kill();
    for spin in spins {
        assert_eq!(spin.await.unwrap(), Err(HandlerError::Stopped));
    }
}
