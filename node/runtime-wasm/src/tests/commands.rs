//! Commands, beyond what the contract asks of every runtime.

use tokio::sync::mpsc;

use super::fixture::{Node, Started};
use crate::{Exit, Kind, Process, Reason, Stdin};

#[tokio::test]
async fn a_trap_is_told_with_its_backtrace() {
    let node = Node::new();
    let mut container = node.start("preview1", |spec| spec.args = vec!["trap".to_owned()]).await;
    let exit = container.exit().await;
    assert_eq!((exit.code, exit.reason), (134, Reason::Error));
    assert!(exit.message.starts_with("wasm trap: wasm `unreachable` instruction executed"), "{}", exit.message);
    assert!(exit.message.contains("wasm backtrace:"), "{}", exit.message);
    assert!(exit.message.contains("preview1"), "function names are in it: {}", exit.message);
    let log = container.logs.text();
    assert!(log.contains("asked to trap"), "what the guest said itself: {log}");
    assert!(log.contains("wasm backtrace:"), "{log}");
}

#[tokio::test]
async fn arguments_follow_the_containers_name() {
    let node = Node::new();
    let mut container = node.start("preview1", |spec| spec.args = vec!["exit".to_owned(), "7".to_owned()]).await;
    assert_eq!(container.exit().await.code, 7);
    let mut container = node.start("preview1", |_| {}).await;
    container.exit().await;
    assert!(container.logs.text().contains("out: arg 0: main\n"), "{}", container.logs.text());
}

#[tokio::test]
async fn of_two_values_of_a_variable_the_later_wins() {
    let node = Node::new();
    let again = ("GREETING".to_owned(), "hello".to_owned());
    let mut container = node.start("preview1", |spec| spec.env.push(again)).await;
    container.exit().await;
    let log = container.logs.text();
    assert!(log.contains("GREETING=hello\n") && !log.contains("ahoy"), "{log}");
}

#[tokio::test]
async fn lines_arrive_while_the_command_runs() {
    let node = Node::new();
    let container = node.start("preview1", |spec| spec.args = vec!["loop".to_owned()]).await;
    container.logs.wait_for("out: tick 2\n").await;
    assert!(container.container.usage().memory > 0);
    assert!(container.container.handler().is_none());
}

#[tokio::test]
async fn a_container_that_is_dropped_dies() {
    let node = Node::new();
    let mut container = node.start("preview1", |spec| spec.args = vec!["spin".to_owned()]).await;
    let other = node.start("preview1", |_| {}).await;
    drop(std::mem::replace(&mut container.container, other.container));
    assert_eq!(container.exit().await.code, 137);
}

#[tokio::test]
async fn a_start_function_that_spins_can_be_killed_too() {
    let node = Node::new();
    let module = node.wat(r#"(module (func $start (loop $l (br $l))) (start $start) (func (export "_start")))"#).await;
    assert_eq!(module.kind(), Kind::Preview1);
    let mut container = node.start_module(module, |_| {});
    container.container.kill();
    assert_eq!(container.exit().await.code, 137);
}

#[tokio::test]
async fn a_guest_may_be_refused_by_its_own_maximum() {
    let node = Node::new();
    // Growing beyond the module's own maximum answers -1, which it may handle; it does by exiting normally.
    let module = node
        .wat(
            r#"(module (memory 1 2) (func (export "_start")
            (if (i32.ne (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))))"#,
        )
        .await;
    assert_eq!(node.start_module(module, |_| {}).exit().await.reason, Reason::Completed);
}

#[tokio::test]
async fn a_cpu_limit_is_kept() {
    let node = Node::new();
    let limited = node
        .start("preview1", |spec| {
            spec.args = vec!["spin".to_owned()];
            spec.cpu_limit_millis = Some(100);
        })
        .await;
    let free = node.start("preview1", |spec| spec.args = vec!["spin".to_owned()]).await;
    // A tenth of the time that passes, give or take a slice, however much of it the machine gives to the other one.
    let started = std::time::Instant::now();
    while free.container.usage().cpu.as_millis() < 500 || limited.container.usage().throttling.throttled < 3 {
        tokio::task::yield_now().await;
    }
    let (limited, passed) = (limited.container.usage().cpu, started.elapsed());
    assert!(limited * 3 < passed, "{limited:?} in {passed:?}");
}

/// Runs an exported command of a container's module, or its own program; how it ended.
async fn exec(node: &Node, beside: &Started, wat: &str, export: Option<&str>) -> Exit {
    let (output, _said) = mpsc::channel(1);
    let args = vec!["x".to_owned()];
    let process = Process { export: export.map(str::to_owned), args, stdin: Stdin::closed(), output, tty: false };
    node.runtime.exec(&beside.container, node.wat(wat).await, process).exit().await
}

/// A component that is served (in name, its handler is no real one) and exports commands besides.
const SERVED: &str = r#"(component
    (core module $m
        (func (export "ok") (result i32) (i32.const 0))
        (func (export "bad") (result i32) (i32.const 1))
        (func (export "trap") (result i32) unreachable)
        (func (export "one") (param i32) (result i32) (i32.const 0)))
    (core instance $i (instantiate $m))
    (func $ok (result (result)) (canon lift (core func $i "ok")))
    (func $bad (result (result)) (canon lift (core func $i "bad")))
    (func $trap (result (result)) (canon lift (core func $i "trap")))
    (func $one (param "n" u32) (result (result)) (canon lift (core func $i "one")))
    (func $number (result u32) (canon lift (core func $i "ok")))
    (instance $handler (export "handle" (func $ok)))
    (instance $run (export "run" (func $ok)))
    (instance $migrate (export "run" (func $bad)))
    (instance $other (export "walk" (func $ok)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler))
    (export "wasi:cli/run@0.2.3" (instance $run))
    (export "acme:shop/migrate@1.0.0" (instance $migrate))
    (export "acme:shop/other" (instance $other))
    (export "boom" (func $trap))
    (export "one" (func $one))
    (export "number" (func $number)))"#;

#[tokio::test]
async fn a_served_component_runs_its_commands_beside() {
    let node = Node::new();
    let module = node.wat(SERVED).await;
    assert_eq!((module.kind(), module.has_command()), (Kind::Http, true));
    for name in ["run", "wasi:cli/run", "migrate", "acme:shop/migrate@1.0.0", "boom"] {
        assert!(module.exports(name), "{name}");
    }
    for name in ["other", "one", "number", "incoming-handler", "handle", "walk"] {
        assert!(!module.exports(name), "{name}");
    }
    let container = node.start_module(module, |_| {});
    let code = async |export| exec(&node, &container, SERVED, export).await.code;
    assert_eq!((code(None).await, code(Some("run")).await, code(Some("migrate")).await), (0, 0, 1));
    let trap = exec(&node, &container, SERVED, Some("boom")).await;
    assert_eq!((trap.code, trap.message.contains("unreachable")), (134, true), "{trap:?}");
    assert!(container.container.handler().is_some(), "it goes on being served");
}

#[tokio::test]
async fn what_is_only_served_has_no_command() {
    let module = Node::new().module("hello").await;
    assert_eq!((module.has_command(), module.exports("run")), (false, false));
}

#[tokio::test]
async fn a_command_component_has_others_too() {
    let node = Node::new();
    let wat = SERVED.replace("wasi:http/incoming-handler@0.2.0", "acme:web/handler");
    let module = node.wat(&wat).await;
    assert_eq!(module.kind(), Kind::Command);
    let container = node.start("preview1", |spec| spec.args = vec!["loop".to_owned()]).await;
    let code = async |export| exec(&node, &container, &wat, export).await.code;
    assert_eq!((code(None).await, code(Some("run")).await, code(Some("migrate")).await), (0, 0, 1));
}

#[tokio::test]
async fn a_core_module_runs_its_exported_functions() {
    let node = Node::new();
    let wat = r#"(module
        (func (export "_start")) (func (export "__wasm_call_ctors"))
        (func (export "seven") (result i32) (i32.const 7))
        (func (export "quiet"))
        (func (export "boom") unreachable)
        (func (export "one") (param i32))
        (func (export "wide") (result i64) (i64.const 0))
        (memory (export "memory") 1))"#;
    let module = node.wat(wat).await;
    for (name, is) in [("seven", true), ("quiet", true), ("boom", true)]
        .into_iter()
        .chain(["_start", "__wasm_call_ctors", "one", "wide", "memory", "none"].map(|name| (name, false)))
    {
        assert_eq!(module.exports(name), is, "{name}");
    }
    let container = node.start("preview1", |spec| spec.args = vec!["loop".to_owned()]).await;
    let code = async |export| exec(&node, &container, wat, export).await.code;
    assert_eq!([code(None).await, code(Some("seven")).await, code(Some("quiet")).await], [0, 7, 0]);
    assert_eq!(code(Some("boom")).await, 134);
}
