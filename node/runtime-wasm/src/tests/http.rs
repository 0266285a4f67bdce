//! `wasi:http` components: the example `hello`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};

use super::fixture::{Node, get, text};
use crate::{HandlerError, Kind, Reason};

#[tokio::test]
async fn hello_answers() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    let response = hello.get("/").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    // Complete when it comes, so that hyper need not send it in chunks.
    assert_eq!(response.body().size_hint().exact(), Some(17));
    assert_eq!(text(response).await, "Hello from pod-1\n");
    let all = text(hello.get("/a/b?c=d").await.unwrap()).await;
    assert_eq!(all, "Hello from pod-1\npath: /a/b\nquery: c=d\n");
    assert!(text(hello.get("/env").await.unwrap()).await.contains("GREETING=ahoy\n"));
}

#[tokio::test]
async fn many_requests_at_once() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    let answers = join_all((0..200).map(async |at| text(hello.get(&format!("/?n={at}")).await.unwrap()).await)).await;
    for (at, answer) in answers.iter().enumerate() {
        assert!(answer.ends_with(&format!("query: n={at}\n")), "{answer}");
    }
    let usage = hello.container.usage();
    assert!(usage.cpu > Duration::ZERO);
}

#[tokio::test]
async fn requests_that_do_not_fit_into_the_limit_wait_for_each_other() {
    let node = Node::new();
    let hello = node.start("hello", |spec| spec.memory_limit = Some(4 << 20)).await;
    let answers = join_all((0..50).map(async |_| hello.get("/").await.map(|response| response.status()))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(StatusCode::OK)), "{answers:?}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    let chunk = vec![b'x'; 100_000];
    let frames = (0..20).map(move |_| Ok(Frame::data(chunk.clone().into())));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("/echo").header("host", "h").body(BodyExt::boxed(body)).unwrap();
    let response = hello.container.handler().unwrap().handle(request).await.unwrap();
    assert_eq!(text(response).await.len(), 2_000_000);
}

#[tokio::test]
async fn a_request_without_a_host_is_answered() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    let mut request = get("/");
    request.headers_mut().clear();
    let response = hello.container.handler().unwrap().handle(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_trap_answers_500_and_ends_the_container() {
    let node = Node::new();
    let mut hello = node.start("hello", |_| {}).await;
    let error = hello.get("/trap").await.unwrap_err();
    assert!(matches!(&error, HandlerError::Failed(why) if why.contains("unreachable")), "{error:?}");
    assert_eq!(error.into_response().status(), StatusCode::INTERNAL_SERVER_ERROR);
    let exit = hello.exit().await;
    assert_eq!((exit.code, exit.reason), (134, Reason::Error));
    assert!(exit.message.contains("wasm backtrace:") && exit.message.contains("handle"), "{}", exit.message);
    assert!(hello.logs.text().contains("asked to trap"), "{}", hello.logs.text());
    assert_eq!(hello.get("/").await.unwrap_err(), HandlerError::Stopped);
}

#[tokio::test]
async fn too_much_memory_is_oom_killed() {
    let node = Node::new();
    let mut hello = node.start("hello", |spec| spec.memory_limit = Some(16 << 20)).await;
    assert_eq!(text(hello.get("/alloc?mb=4").await.unwrap()).await, "4 MiB, 1024 pages\n");
    assert!(matches!(hello.get("/alloc?mb=64").await, Err(HandlerError::Failed(_))));
    let exit = hello.exit().await;
    assert_eq!((exit.code, exit.reason), (137, Reason::OomKilled));
    assert!(exit.message.contains("16777216 bytes"), "{}", exit.message);
    while hello.container.usage().memory > 0 {
        tokio::task::yield_now().await; // everything is given back, if not at the same moment
    }
}

#[tokio::test]
async fn spinning_requests_leave_room_and_die_at_once() {
    let node = Node::new();
    let mut spinning = node.start("hello", |_| {}).await;
    let other = node.start("hello", |_| {}).await;
    let handler = spinning.container.handler().unwrap();
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let handler = handler.clone();
            tokio::spawn(async move { handler.handle(get("/spin")).await.map(drop) })
        })
        .collect();
    while spinning.container.usage().cpu < Duration::from_millis(20) {
        assert_eq!(other.get("/").await.unwrap().status(), StatusCode::OK);
    }
    spinning.container.kill();
    assert_eq!(spinning.exit().await.code, 137);
    for request in requests {
        assert_eq!(request.await.unwrap(), Err(HandlerError::Stopped));
    }
}

#[tokio::test]
async fn a_request_given_up_by_its_client_ends() {
    let node = Node::new();
    let mut hello = node.start("hello", |_| {}).await;
    let handler = hello.container.handler().unwrap();
    let request = tokio::spawn(async move { handler.handle(get("/spin")).await.map(drop) });
    while hello.container.usage().cpu.is_zero() {
        tokio::task::yield_now().await;
    }
    request.abort();
    // Draining succeeds only because the spinning guest is gone.
    hello.container.stop(Duration::from_secs(3600)).await;
    assert_eq!(hello.exit().await.reason, Reason::Completed);
}

/// A body that is still on its way.
struct Chunks(tokio::sync::mpsc::Receiver<&'static str>);

impl hyper::body::Body for Chunks {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}

#[tokio::test]
async fn stopping_lets_requests_finish_within_the_grace() {
    let node = Node::new();
    let mut hello = node.start("hello", |_| {}).await;
    let handler = hello.container.handler().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<&str>(1);
    let body = Chunks(receiver).boxed();
    let request = Request::post("/echo").header("host", "h").body(body).unwrap();
    let answer = tokio::spawn(async move { text(handler.handle(request).await.unwrap()).await });
    sender.send("first ").await.unwrap();
    while hello.container.usage().requests == 0 {
        tokio::task::yield_now().await;
    }
    let stop = hello.container.stop(Duration::from_secs(3600));
    let finish = async {
        sender.send("second").await.unwrap();
        drop(sender);
        answer.await.unwrap()
    };
    let ((), answer) = tokio::join!(stop, finish);
    assert_eq!(answer, "first second");
    let exit = hello.exit().await;
    assert_eq!((exit.code, exit.reason), (0, Reason::Completed));
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_killed() {
    let node = Node::new();
    let mut hello = node.start("hello", |_| {}).await;
    let handler = hello.container.handler().unwrap();
    let request = tokio::spawn(async move { handler.handle(get("/spin")).await.map(drop) });
    while hello.container.usage().cpu.is_zero() {
        tokio::task::yield_now().await;
    }
    hello.container.stop(Duration::ZERO).await;
    assert_eq!(hello.exit().await.code, 137);
    assert_eq!(request.await.unwrap(), Err(HandlerError::Stopped));
}

#[tokio::test]
async fn a_deadline_ends_a_request_and_not_the_container() {
    let deadline = Duration::from_millis(50);
    let node = Node::new();
    let hello = node.start("hello", |spec| spec.limits.request_deadline = Some(deadline)).await;
    let error = hello.get("/spin").await.unwrap_err();
    assert_eq!(error, HandlerError::DeadlineExceeded(deadline));
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    hello.logs.wait_for("err: DeadlineExceeded: GET /spin took longer than 50ms\n").await;
    assert_eq!(hello.get("/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn outgoing_requests_go_to_the_pods_network() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    let fetched = text(hello.get("/fetch?url=http://web.default:81/x?y=z").await.unwrap()).await;
    assert_eq!(fetched, "200 GET http://web.default:81/x?y=z tls=false");
    let fetched = text(hello.get("/fetch?url=https://web/").await.unwrap()).await;
    assert_eq!(fetched, "200 GET https://web/ tls=true");
    let refused = hello.get("/fetch?url=http://nowhere/").await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert!(text(refused).await.contains("ConnectionRefused"));
}

#[tokio::test]
async fn output_of_a_request_is_logged() {
    let node = Node::new();
    let hello = node.start("hello", |_| {}).await;
    hello.get("/log?text=a%20line").await.unwrap();
    hello.logs.wait_for("out: a line\n").await;
}

#[tokio::test]
async fn the_module_must_be_the_specs() {
    let node = Node::new();
    let module = node.module("hello").await;
    assert_eq!(module.kind(), Kind::Http);
    let hello = node.start_module(module.clone(), |_| {});
    let spec = super::fixture::spec("sha256:other");
    let error = node.runtime.start(
        hello.container.id().clone(),
        &spec,
        &super::fixture::pod(),
        module,
        std::sync::Arc::new(hello.net.clone()),
        hello.logs.clone(),
        |_| {},
    );
    assert!(error.is_err());
}
