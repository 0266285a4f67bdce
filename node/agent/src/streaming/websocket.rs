//! The WebSocket side: Kubernetes' channels, and the tunnel that carries SPDY.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use copepod_node_streams::channel::{self, Protocol};
use copepod_node_streams::status;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::Wants;
use super::forward::{self, Target};
use super::remote::{In, Out, Transport};

/// Longest message of a client in bytes; kubectl sends 32 KiB.
const MESSAGE: usize = 1 << 20;
/// How long a client may take to hang up after the end.
const HANG_UP: Duration = Duration::from_secs(5);
/// Before it is told anything a client is asked whether it listens, and has so much time when it has answered: client-go
/// before 1.34 begins to read and makes its streams beside, and drops what comes for one that is not there yet
/// (`tools/remotecommand/websocket.go`). An answer says only that it reads; this is longer than its other thread is usually
/// kept from going on.
const TURN: Duration = Duration::from_millis(20);
/// How long all of that may take; a client that does not answer is told all the same then.
const LISTEN: Duration = Duration::from_secs(1);

/// A client's stream of bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What comes from a client.
trait Messages: futures_util::Stream<Item = Result<Message, Error>> {}
impl<T: futures_util::Stream<Item = Result<Message, Error>>> Messages for T {}

async fn open<S: Stream>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The next message's channel and bytes; `None` at the end of the connection.
async fn next(from: &mut (impl Messages + Unpin), base64: bool) -> Option<(u8, Bytes)> {
    loop {
        let bytes = match from.next().await? {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => continue,
        };
        if !bytes.is_empty() {
            return channel::split(bytes, base64);
        }
    }
}

/// Waits until a client listens to all of its streams, as far as that can be known: whoever says something does.
/// What it has said is the answer.
async fn listening<S: Stream>(io: &mut WebSocketStream<S>) -> Result<Option<Message>, Error> {
    io.send(Message::Ping(Bytes::new())).await?;
    match hear(io).await? {
        Some(said) => Ok(Some(said)),
        None => timeout(TURN, hear(io)).await.unwrap_or(Ok(None)),
    }
}

/// The next that a client says; `None` if it answers a ping.
async fn hear<S: Stream>(io: &mut WebSocketStream<S>) -> Result<Option<Message>, Error> {
    loop {
        match io.next().await.ok_or(Error::ConnectionClosed)?? {
            Message::Pong(_) => return Ok(None),
            Message::Ping(_) | Message::Frame(_) => {}
            said => return Ok(Some(said)),
        }
    }
}

fn message(channel: u8, bytes: &[u8], base64: bool) -> Message {
    let message = channel::join(channel, bytes, base64);
    // What is base64 is text.
    match (base64, std::str::from_utf8(&message)) {
        (true, Ok(text)) => Message::text(text),
        _ => Message::Binary(message),
    }
}

/// Serves exec or attach until the guest's side has ended or the client is gone.
pub(super) async fn remote_command<S: Stream>(io: S, protocol: Protocol, wants: &Wants, transport: Transport) {
    let mut io = open(io).await;
    let first = match timeout(LISTEN, listening(&mut io)).await {
        Ok(Ok(first)) => first,
        Ok(Err(_)) => return,
        Err(_) => None,
    };
    let (to, from) = io.split();
    let Transport { input, output } = transport;
    let from = futures_util::stream::iter(first.map(Ok)).chain(from);
    let mut reading = std::pin::pin!(read(from, protocol, wants, input));
    tokio::select! {
        () = &mut reading => {}
        _ = write(to, protocol, wants, output) => {
            // What it still sends is read, so that no reset overtakes what it was told.
            let _ = timeout(HANG_UP, reading).await;
        }
    }
}

/// Says goodbye as clients want to hear it.
async fn close<S: Stream>(to: &mut SplitSink<WebSocketStream<S>, Message>) -> Result<(), Error> {
    to.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
}

async fn read(mut from: impl Messages + Unpin, protocol: Protocol, wants: &Wants, input: mpsc::Sender<In>) {
    while let Some((channel, bytes)) = next(&mut from, protocol.base64).await {
        let message = match channel {
            channel::STDIN if wants.stdin => In::Stdin(bytes),
            channel::RESIZE => match channel::resize(&bytes) {
                Some((width, height)) => In::Resize(width, height),
                None => continue,
            },
            channel::CLOSE if protocol.version >= 5 && bytes.first() == Some(&channel::STDIN) => In::StdinEnd,
            _ => continue,
        };
        // A guest that has ended hears no more; what it said is still being written.
        let _ = input.send(message).await;
    }
}

async fn write<S: Stream>(
    mut to: SplitSink<WebSocketStream<S>, Message>,
    protocol: Protocol,
    wants: &Wants,
    mut output: mpsc::Receiver<Out>,
) -> Result<(), Error> {
    // As upstream: an empty message says that everything stands.
    let first = if wants.stdout {
        channel::STDOUT
    } else if wants.stderr {
        channel::STDERR
    } else {
        channel::ERROR
    };
    to.send(message(first, b"", protocol.base64)).await?;
    while let Some(out) = output.recv().await {
        match out {
            Out::Stdout(bytes) => to.send(message(channel::STDOUT, &bytes, protocol.base64)).await?,
            Out::Stderr(bytes) => to.send(message(channel::STDERR, &bytes, protocol.base64)).await?,
            Out::Done(status) => {
                let text = if protocol.version >= 4 {
                    Some(status.to_string())
                } else {
                    status::plain(&status).map(Into::into)
                };
                if let Some(text) = text {
                    to.send(message(channel::ERROR, text.as_bytes(), protocol.base64)).await?;
                }
                break;
            }
        }
    }
    close(&mut to).await
}

/// Carries the bytes of messages both ways.
pub(super) async fn tunnel<S: Stream>(io: S, inner: DuplexStream) {
    let (mut to, mut from) = open(io).await.split();
    let (mut read, mut write) = tokio::io::split(inner);
    let inward = async {
        while let Some(Ok(message)) = from.next().await {
            match message {
                Message::Binary(bytes) => write.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        io::Result::Ok(())
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        while read.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
            if to.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(32 * 1024);
        }
        let _ = close(&mut to).await;
    };
    tokio::select! {
        _ = inward => {}
        () = outward => {}
    }
}

/// Port-forward over channels: for the n-th port channel 2n is data, 2n + 1 errors; each begins with the port's number.
pub(super) async fn forward<S: Stream>(io: S, protocol: Protocol, ports: Vec<u16>, target: Target) {
    let (mut to, mut from) = open(io).await.split();
    let (out, mut outs) = mpsc::channel::<(u8, Bytes)>(16);
    let mut feeds = HashMap::new();
    let mut streams = tokio::task::JoinSet::new();
    for (i, port) in ports.into_iter().take(100).enumerate() {
        let (data, error) = (2 * i as u8, 2 * i as u8 + 1);
        let (feed, fed) = mpsc::channel::<Bytes>(8);
        feeds.insert(data, feed);
        let (out, target) = (out.clone(), target.clone());
        streams.spawn(async move {
            for channel in [data, error] {
                let _ = out.send((channel, Bytes::copy_from_slice(&port.to_le_bytes()))).await;
            }
            let said = |bytes| {
                let out = out.clone();
                async move { out.send((data, bytes)).await.is_ok() }
            };
            if let Err(why) = forward::pipe(&target, port, fed, said).await {
                let _ = out.send((error, why.into())).await;
            }
        });
    }
    drop(out);
    let reading = async {
        while let Some((channel, bytes)) = next(&mut from, protocol.base64).await {
            if let Some(feed) = feeds.get(&channel) {
                let _ = feed.send(bytes).await;
            }
        }
    };
    let writing = async {
        while let Some((channel, bytes)) = outs.recv().await {
            if to.send(message(channel, &bytes, protocol.base64)).await.is_err() {
                return;
            }
        }
        let _ = close(&mut to).await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

#[cfg(test)]
mod tests;
