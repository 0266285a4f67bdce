//! `wasi:sockets` on a network in memory: the example `tcp-echo`, which knows only `std::net`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::fixture::Node;
use super::memnet::{CLIENT, POD};

const SERVER: SocketAddr = SocketAddr::new(POD, 7000);

/// A line there and one back.
async fn ask(stream: &mut BufReader<DuplexStream>, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
}

#[tokio::test]
async fn a_std_net_server_answers_with_no_socket_open() {
    let node = Node::new();
    let mut echo = node.start("tcp-echo", |_| {}).await;
    for round in 0..3 {
        let mut stream = BufReader::new(echo.net.connect(SERVER).await);
        assert_eq!(ask(&mut stream, "hello").await, "hello");
        assert_eq!(ask(&mut stream, "again").await, "again", "round {round}");
    }
    let log = echo.logs.text();
    assert!(log.contains("out: listening on 10.244.0.5:7000\n"), "{log}");
    assert!(log.contains(&format!("out: {CLIENT} connected\n")), "{log}");
    echo.container.kill();
    echo.exit().await;
    echo.net.closed(SERVER).await;
}

#[tokio::test]
async fn the_end_of_input_is_seen_and_a_long_line_comes_back_whole() {
    let node = Node::new();
    let echo = node.start("tcp-echo", |_| {}).await;
    let stream = echo.net.connect(SERVER).await;
    let (mut read, mut write) = tokio::io::split(stream);
    // Much more than fits into the pipe, so that both sides have to wait for each other.
    let line = vec![b'x'; 1 << 20];
    let send = async {
        write.write_all(&line).await.unwrap();
        write.write_all(b"\n").await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, received) = tokio::join!(send, read.read_to_end(&mut back));
    assert_eq!(received.unwrap(), line.len() + 1);
    echo.logs.wait_for("sent 1 lines").await;
}

#[tokio::test]
async fn it_connects_out_by_name() {
    let node = Node::new();
    let echo = node.start("tcp-echo", |_| {}).await;
    let other: SocketAddr = "10.96.0.7:81".parse().unwrap();
    echo.net.name("web", other.ip());
    let mut listener = echo.net.listen(other);
    let serve = async {
        let conn = listener.accept().await;
        let mut stream = BufReader::new(conn.stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        stream.write_all(format!("you are {}: {line}", conn.peer).as_bytes()).await.unwrap();
        conn.peer
    };
    let mut stream = BufReader::new(echo.net.connect(SERVER).await);
    let (answer, peer) = tokio::join!(ask(&mut stream, "connect web:81"), serve);
    assert_eq!(peer.ip(), POD);
    assert_eq!(answer, format!("{other} says: you are {peer}: hello from {peer}"));
}

#[tokio::test]
async fn failures_have_the_errors_that_std_knows() {
    let node = Node::new();
    let echo = node.start("tcp-echo", |_| {}).await;
    let mut stream = BufReader::new(echo.net.connect(SERVER).await);
    let refused = ask(&mut stream, "connect 10.96.0.8:1").await;
    assert!(refused.contains("onnection refused"), "{refused}");
    let unknown = ask(&mut stream, "connect nobody:1").await;
    assert!(unknown.starts_with("error: "), "{unknown}");
    assert_eq!(ask(&mut stream, "still here").await, "still here");
}

#[tokio::test]
async fn a_port_is_taken_once() {
    let node = Node::new();
    let mut first = node.start("tcp-echo", |_| {}).await;
    first.net.connect(SERVER).await;
    // The same pod's second container: it shares the network.
    let module = node.module("tcp-echo").await;
    let mut second = node.start_on(module, first.net.clone());
    let exit = second.exit().await;
    assert_eq!(exit.code, 1, "{exit:?}");
    assert!(second.logs.text().contains("in use"), "{}", second.logs.text());
    first.container.kill();
    first.exit().await;
}

#[tokio::test]
async fn udp_goes_both_ways() {
    let node = Node::new();
    let echo = node.start("tcp-echo", |_| {}).await;
    let service: SocketAddr = "10.96.0.9:53".parse().unwrap();
    echo.net.name("dns", service.ip());
    echo.net.udp_service(service, |data, from| format!("{from} sent {}", data.len()).into_bytes());
    let mut stream = BufReader::new(echo.net.connect(SERVER).await);
    let answer = ask(&mut stream, "udp dns:53").await;
    let (from, rest) = answer.strip_prefix("10.96.0.9:53 says: ").unwrap().split_once(' ').unwrap();
    assert_eq!(from.parse::<SocketAddr>().unwrap().ip(), POD);
    assert_eq!(rest, format!("sent {}", format!("hello from {from}").len()));
}

#[tokio::test]
async fn stopping_lets_open_connections_finish_within_the_grace() {
    let node = Node::new();
    let mut echo = node.start("tcp-echo", |_| {}).await;
    let mut stream = BufReader::new(echo.net.connect(SERVER).await);
    assert_eq!(ask(&mut stream, "before").await, "before");
    let stop = echo.container.stop(Duration::from_secs(3600));
    let finish = async {
        echo.net.closed(SERVER).await;
        assert_eq!(ask(&mut stream, "after").await, "after");
        drop(stream);
    };
    tokio::join!(stop, finish);
    assert_eq!(echo.exit().await.code, 143);
    assert!(echo.logs.text().contains("sent 2 lines"), "{}", echo.logs.text());

    let mut idle = node.start("tcp-echo", |_| {}).await;
    drop(idle.net.connect(SERVER).await);
    idle.logs.wait_for("sent 0 lines").await;
    idle.container.stop(Duration::from_secs(3600)).await;
    assert_eq!(idle.exit().await.code, 143, "nothing is open: it ends at once");

    let mut busy = node.start("tcp-echo", |_| {}).await;
    let mut stream = BufReader::new(busy.net.connect(SERVER).await);
    assert_eq!(ask(&mut stream, "before").await, "before");
    busy.container.stop(Duration::from_millis(1)).await;
    assert_eq!(busy.exit().await.code, 137, "the grace is over");
}
