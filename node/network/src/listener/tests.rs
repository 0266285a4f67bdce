use std::io::ErrorKind;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::network::Network;
use crate::network::tests::{at, attach, network, set_web, text};
use crate::{HttpOptions, empty};

/// The Service's port 80, which leads to its pods' port 8080.
const VIP: &str = "10.96.0.7:80";

fn listen(pod: &Arc<PodHandle>) -> Listener {
    pod.listen_tcp(at("0.0.0.0:8080")).unwrap()
}

/// A connection from a pod that has sent something and waits.
async fn waiting(net: &Network, to: &str) -> Conn {
    let mut conn = attach(net, 9).connect_tcp(at(to)).await.unwrap();
    conn.stream.write_all(b"unread").await.unwrap();
    conn
}

/// Both ends talk: nothing of what was sent is lost.
async fn talk(client: &mut Conn, server: &mut Conn) {
    let mut bytes = [0; 6];
    server.stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"unread");
    server.stream.write_all(b"answer").await.unwrap();
    client.stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"answer");
}

#[tokio::test]
async fn who_waits_at_a_stopped_listener_goes_to_another_endpoint() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let (first, second) = (listen(&a), listen(&b));
    set_web(&net, &[(1, true)]);
    let mut accepted = waiting(&net, VIP).await;
    let mut held = first.accept().await.unwrap();
    let (mut client, mut direct) = (waiting(&net, VIP).await, waiting(&net, "10.244.0.1:8080").await);
    // The stop may come before the routes know of it: then the stopped one is offered the connection, and refuses.
    set_web(&net, &[(1, true), (2, true)]);
    first.stop();
    let mut server = second.accept().await.unwrap();
    assert_eq!((server.local, client.peer), (at("10.244.0.2:8080"), at(VIP)));
    talk(&mut client, &mut server).await;
    talk(&mut accepted, &mut held).await;
    let reset = direct.stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset, "to a pod's own address there is no other way");

    assert!(first.try_accept().unwrap().is_none(), "the guest sees no error, and nothing more");
    assert!(attach(&net, 9).connect_tcp(at("10.244.0.1:8080")).await.is_err());
    for _ in 0..3 {
        let (_client, _server) = (waiting(&net, VIP).await, second.accept().await.unwrap());
    }
    // It belongs to the new pod now: with that it is cut.
    net.detach("uid-1");
    client.stream.write_all(b"unread").await.unwrap();
    talk(&mut client, &mut server).await;
    net.detach("uid-2");
    assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn who_waits_for_a_pod_that_goes_is_taken_over() {
    let net = network();
    let (a, b) = (attach(&net, 1), attach(&net, 2));
    let _first = listen(&a);
    set_web(&net, &[(1, true)]);
    let mut client = waiting(&net, VIP).await;
    net.detach("uid-1");
    set_web(&net, &[(2, true)]);
    let mut server = listen(&b).accept().await.unwrap();
    talk(&mut client, &mut server).await;
}

#[tokio::test]
async fn who_waits_for_the_only_endpoint_waits_for_its_restart_or_is_reset() {
    let net = network();
    let a = attach(&net, 1);
    set_web(&net, &[(1, true)]);
    let first = listen(&a);
    let mut client = waiting(&net, VIP).await;
    drop(first);
    // The search for another endpoint has begun, in vain so far.
    tokio::task::yield_now().await;
    let again = listen(&a);
    let mut server = again.accept().await.unwrap();
    talk(&mut client, &mut server).await;
    let mut client = waiting(&net, VIP).await;
    set_web(&net, &[]);
    drop(again);
    assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_request_that_waits_to_be_accepted_is_answered_by_another_endpoint() {
    let net = network();
    let (a, b, client) = (attach(&net, 1), attach(&net, 2), attach(&net, 9));
    let (first, second) = (listen(&a), listen(&b));
    set_web(&net, &[(1, true)]);
    let send = |client: Arc<PodHandle>| {
        tokio::spawn(async move {
            let request = Request::get(format!("http://{VIP}/")).body(empty()).unwrap();
            text(client.send_http(request, HttpOptions::default()).await.unwrap()).await
        })
    };
    // Answers a request on a connection that would be kept, and tells when it is closed.
    let answer = async |conn: &mut Conn, body: &str| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(conn.stream.read_buf(&mut head).await.unwrap() > 0);
        }
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        conn.stream.write_all(response.as_bytes()).await.unwrap();
    };
    let request = send(client.clone());
    let mut kept = first.accept().await.unwrap();
    answer(&mut kept, "one").await;
    assert_eq!(request.await.unwrap(), "one");
    // A second pod has no kept connection: its request waits in the backlog.
    let request = send(attach(&net, 8));
    first.ready().await;
    set_web(&net, &[(2, true)]);
    first.stop();
    let mut conn = second.accept().await.unwrap();
    answer(&mut conn, "two").await;
    assert_eq!(request.await.unwrap(), "two");
    // Neither holds up whom it is connected to: the first went idle, the second is known by an address that is gone.
    assert_eq!(kept.stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(conn.stream.read(&mut [0; 1]).await.unwrap(), 0);
}
