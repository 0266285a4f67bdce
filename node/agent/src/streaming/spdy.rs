//! The SPDY side: one task reads frames, one writes them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use copepod_node_streams::spdy::{self, Decoder, Encoder, Frame};
use copepod_node_streams::status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::Wants;
use super::remote::{In, Out, Transport};
use super::websocket::Stream;

/// How long a client may take to open its streams.
const OPEN: Duration = Duration::from_secs(30);
/// How long a client may take to hang up after the end.
const HANG_UP: Duration = Duration::from_secs(5);
/// Frames that wait to be written.
const WRITES: usize = 32;

/// Something to write.
pub(super) enum Write {
    Accept(u32),
    Refuse(u32),
    Pong(u32),
    Data(u32, bool, Bytes),
}

/// The reading side.
pub(super) struct Reader<S> {
    from: ReadHalf<S>,
    decoder: Decoder,
    buffer: BytesMut,
}

impl<S: Stream> Reader<S> {
    /// The next frame; `None` at the end of the connection or of its sense.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a SPDY connection is broken");
                    return None;
                }
            }
            self.buffer.clear();
            self.buffer.reserve(16 * 1024);
            if self.from.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
            self.decoder.feed(&self.buffer);
        }
    }
}

/// Splits a connection into its reader, and the writer as a future that runs until every sender is dropped.
pub(super) fn open<S: Stream>(io: S) -> (Reader<S>, mpsc::Sender<Write>, impl Future<Output = ()>) {
    let (from, to) = tokio::io::split(io);
    let (writes, queue) = mpsc::channel(WRITES);
    (Reader { from, decoder: Decoder::default(), buffer: BytesMut::new() }, writes, write(to, queue))
}

async fn write<S: Stream>(mut to: WriteHalf<S>, mut queue: mpsc::Receiver<Write>) {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(write) = next {
            match write {
                Write::Accept(id) => encoder.syn_reply(&mut out, id),
                Write::Refuse(id) => spdy::reset(&mut out, id, 3),
                Write::Pong(id) => spdy::ping(&mut out, id),
                Write::Data(id, fin, bytes) => spdy::data(&mut out, id, fin, &bytes),
            }
            next = if out.len() < 64 * 1024 { queue.try_recv().ok() } else { None };
        }
        if to.write_all(&out).await.is_err() || to.flush().await.is_err() {
            return;
        }
        out.clear();
    }
    spdy::go_away(&mut out, 0);
    let _ = to.write_all(&out).await;
    let _ = to.shutdown().await;
}

/// A stream of exec or attach that the client has opened.
type Opened = (Role, u32);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Role {
    fn of(name: &str) -> Option<Role> {
        Some(match name {
            "error" => Role::Error,
            "stdin" => Role::Stdin,
            "stdout" => Role::Stdout,
            "stderr" => Role::Stderr,
            "resize" => Role::Resize,
            _ => return None,
        })
    }
}

/// Serves exec or attach until the guest's side has ended or the client is gone.
pub(super) async fn remote_command<S: Stream>(io: S, protocol: &str, wants: &Wants, transport: Transport) {
    let Transport { input, output } = transport;
    let (reader, writes, writer) = open(io);
    let (opened_tx, opened) = mpsc::channel(8);
    let mut reading = std::pin::pin!(read(reader, writes.downgrade(), opened_tx, input));
    let writing = async {
        let json = matches!(protocol, "v4.channel.k8s.io");
        tokio::join!(answer(opened, json, wants, output, writes), writer);
    };
    tokio::select! {
        () = &mut reading => {}
        () = writing => {
            let _ = tokio::time::timeout(HANG_UP, reading).await;
        }
    }
}

async fn read<S: Stream>(
    mut reader: Reader<S>,
    // The writer ends with its senders: this one must not keep it.
    writes: mpsc::WeakSender<Write>,
    opened: mpsc::Sender<Opened>,
    input: mpsc::Sender<In>,
) {
    let send = |write| {
        let writes = writes.upgrade();
        async move {
            if let Some(writes) = writes {
                let _ = writes.send(write).await;
            }
        }
    };
    let mut streams: Vec<Opened> = Vec::new();
    while let Some(frame) = reader.next().await {
        match frame {
            Frame::SynStream { id, headers, .. } => {
                let role = headers.iter().find(|(k, _)| k == "streamtype").and_then(|(_, v)| Role::of(v));
                match role.filter(|r| !streams.iter().any(|(known, n)| known == r || *n == id)) {
                    Some(role) => {
                        streams.push((role, id));
                        send(Write::Accept(id)).await;
                        let _ = opened.send((role, id)).await;
                    }
                    None => send(Write::Refuse(id)).await,
                }
            }
            Frame::Data { id, fin, data } => {
                let role = streams.iter().find(|(_, n)| *n == id).map(|(r, _)| *r);
                match role {
                    Some(Role::Stdin) => {
                        if !data.is_empty() {
                            let _ = input.send(In::Stdin(data)).await;
                        }
                        if fin {
                            let _ = input.send(In::StdinEnd).await;
                        }
                    }
                    Some(Role::Resize) => {
                        if let Some((width, height)) = copepod_node_streams::channel::resize(&data) {
                            let _ = input.send(In::Resize(width, height)).await;
                        }
                    }
                    _ => {}
                }
            }
            Frame::Ping { id } => send(Write::Pong(id)).await,
            Frame::Reset { id } if streams.contains(&(Role::Stdin, id)) => {
                let _ = input.send(In::StdinEnd).await;
            }
            _ => {}
        }
    }
}

/// Waits for the streams that were asked for, then says on them what there is to say.
async fn answer(
    mut opened: mpsc::Receiver<Opened>,
    json: bool,
    wants: &Wants,
    mut output: mpsc::Receiver<Out>,
    writes: mpsc::Sender<Write>,
) {
    let mut streams: Vec<Opened> = Vec::new();
    let wanted = [
        (true, Role::Error),
        (wants.stdin, Role::Stdin),
        (wants.stdout, Role::Stdout),
        (wants.stderr, Role::Stderr),
        // Version 1 and 2 have no resize stream; whoever has one opens it in time to be seen.
    ];
    let all = async {
        while !wanted.iter().all(|(w, role)| !w || streams.iter().any(|(r, _)| r == role)) {
            let Some(stream) = opened.recv().await else { return };
            streams.push(stream);
        }
    };
    if tokio::time::timeout(OPEN, all).await.is_err() {
        tracing::debug!("a client did not open its streams in time");
        return;
    }
    let id = |role: Role| streams.iter().find(|(r, _)| *r == role).map(|(_, id)| *id);
    while let Some(out) = output.recv().await {
        let (role, bytes) = match out {
            Out::Stdout(bytes) => (Role::Stdout, bytes),
            Out::Stderr(bytes) => (Role::Stderr, bytes),
            Out::Done(status) => {
                let text = if json { Some(status.to_string()) } else { status::plain(&status).map(Into::into) };
                for role in [Role::Stdout, Role::Stderr] {
                    if let Some(id) = id(role) {
                        let _ = writes.send(Write::Data(id, true, Bytes::new())).await;
                    }
                }
                if let Some(id) = id(Role::Error) {
                    let _ = writes.send(Write::Data(id, true, text.unwrap_or_default().into())).await;
                }
                return;
            }
        };
        if let Some(id) = id(role) {
            let _ = writes.send(Write::Data(id, false, bytes)).await;
        }
    }
}
