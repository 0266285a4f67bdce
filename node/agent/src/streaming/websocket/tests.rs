use super::*;
use crate::streaming::remote;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const V5: &str = "v5.channel.k8s.io";

/// A server whose guest has said `hi` and ended, and the client's end of the connection.
async fn serve() -> (DuplexStream, remote::Session, JoinHandle<()>) {
    let (server, client) = tokio::io::duplex(64 << 10);
    let (session, transport) = remote::session();
    for out in [Out::Stdout("hi".into()), Out::Done(serde_json::json!({"status": "Success"}))] {
        session.output.send(out).await.unwrap();
    }
    let wants = Wants { stdin: true, stdout: true, ..Wants::default() };
    let protocol = channel::remote_command(V5).unwrap();
    let serving = tokio::spawn(async move { remote_command(server, protocol, &wants, transport).await });
    (client, session, serving)
}

async fn client(io: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// All that a client gets, pings as they are.
async fn all(socket: &mut WebSocketStream<DuplexStream>) -> Vec<String> {
    let mut got = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Ping(_) => got.push("ping".to_owned()),
            Message::Binary(bytes) => got.push(format!("{} {}", bytes[0], String::from_utf8_lossy(&bytes[1..]))),
            _ => {}
        }
    }
    got
}

const TOLD: [&str; 3] = ["1 ", "1 hi", "3 {\"status\":\"Success\"}"];

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_the_client_has_answered_and_had_its_turn() {
    let (io, _session, serving) = serve().await;
    let (mut socket, began) = (client(io).await, Instant::now());
    assert!(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
    assert_eq!(began.elapsed(), Duration::ZERO);
    // A client answers when it reads on.
    assert!(matches!(socket.next().await, Some(Ok(Message::Binary(bytes))) if bytes[..] == [channel::STDOUT]));
    assert!((TURN..LISTEN).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(all(&mut socket).await, TOLD[1..]);
    serving.await.unwrap();
}

#[tokio::test]
async fn who_speaks_first_is_listening_and_is_heard() {
    let (io, mut session, serving) = serve().await;
    let mut socket = client(io).await;
    socket.send(Message::Binary(Bytes::from_static(b"\0typed"))).await.unwrap();
    let got = all(&mut socket).await;
    assert_eq!(got, [&["ping"][..], &TOLD].concat());
    let Some(In::Stdin(typed)) = session.input.recv().await else { panic!("nothing was typed") };
    assert_eq!(typed, "typed");
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_told_all_the_same() {
    let (mut io, _session, _serving) = serve().await;
    let (mut got, began) = ([0; 5], Instant::now());
    // A ping, and after a while an empty message for standard output.
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [0x89, 0, 0x82, 1, channel::STDOUT]);
    assert!(began.elapsed() >= LISTEN);
}
