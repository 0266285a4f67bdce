//! Commands, beyond what the contract asks of every runtime.

use super::fixture::Node;
use crate::{Kind, Reason};

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
