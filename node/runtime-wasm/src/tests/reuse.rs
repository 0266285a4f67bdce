//! Instances that answer several requests.

use std::sync::Arc;

use futures_util::future::join_all;
use http::StatusCode;

use super::fixture::{Node, Started, text};

async fn hello(node: &Node, reuse: u32, memory: Option<u64>) -> Started {
    node.start("hello", |spec| {
        spec.limits.instance_reuse = reuse;
        spec.memory_limit = memory;
    })
    .await
}

/// Instances that wait in a container, once it has none at work.
async fn waiting(started: &Started) -> usize {
    while started.container.usage().requests > 0 {
        tokio::task::yield_now().await;
    }
    started.container.shared.idle.len()
}

#[tokio::test]
async fn an_instance_answers_as_often_as_the_pod_says() {
    let node = Node::new();
    let hello = hello(&node, 3, None).await;
    for kept in [1, 1, 0, 1] {
        assert_eq!(text(hello.get("/").await.unwrap()).await, "Hello from pod-1\n");
        assert_eq!(waiting(&hello).await, kept);
    }
    assert!(hello.container.usage().memory > 0, "what waits counts");
    hello.container.kill();
    assert_eq!(waiting(&hello).await, 0);
}

#[tokio::test]
async fn without_a_word_each_request_has_its_own() {
    let node = Node::new();
    let hello = hello(&node, 1, None).await;
    hello.get("/").await.unwrap();
    assert_eq!(waiting(&hello).await, 0);
}

#[tokio::test]
async fn requests_at_once_have_instances_of_their_own() {
    let node = Node::new();
    let hello = Arc::new(hello(&node, 1000, None).await);
    let answers = join_all((0..100).map(async |at| text(hello.get(&format!("/?n={at}")).await.unwrap()).await)).await;
    for (at, answer) in answers.iter().enumerate() {
        assert!(answer.ends_with(&format!("query: n={at}\n")), "{answer}");
    }
    assert!((1..=64).contains(&waiting(&hello).await));
}

#[tokio::test]
async fn what_failed_or_grew_is_not_used_again() {
    let node = Node::new();
    let first = hello(&node, 1000, Some(64 << 20)).await;
    first.get("/alloc?mb=20").await.unwrap();
    assert_eq!(waiting(&first).await, 0, "it grew");
    first.get("/trap").await.unwrap_err();
    assert_eq!(waiting(&first).await, 0, "it trapped");
}

#[tokio::test]
async fn what_waits_makes_room_for_what_comes() {
    let node = Node::new();
    // Room for two instances, and both may be kept.
    let hello = hello(&node, 1000, Some(4 << 20)).await;
    for _ in 0..3 {
        let answers = join_all((0..20).map(async |_| hello.get("/").await.map(|response| response.status()))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(StatusCode::OK)), "{answers:?}");
    }
    assert!(hello.container.usage().memory <= 4 << 20);
}
