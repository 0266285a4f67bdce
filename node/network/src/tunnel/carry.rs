//! Bytes between a stream of the network and one of HTTP/2: back-pressure, half-close and resets go through both ways.

use std::future::poll_fn;
use std::io;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::stream::Stream;

/// How much is read at once: little while little comes, so that an idle stream costs little.
const LITTLE: usize = 2 * 1024;
const MUCH: usize = 32 * 1024;

/// One direction was cut.
#[derive(Debug)]
pub(super) struct Cut;

/// Carries until both directions have ended, or one was cut, which cuts the other.
pub(super) async fn carry(stream: Stream, mut send: SendStream<Bytes>, mut recv: RecvStream) {
    let (mut read, mut write) = split(stream);
    let done = tokio::try_join!(outward(&mut read, &mut send), inward(&mut recv, &mut write));
    if done.is_err() {
        read.unsplit(write).reset();
        send.send_reset(Reason::CONNECT_ERROR);
    }
}

async fn outward(read: &mut ReadHalf<Stream>, send: &mut SendStream<Bytes>) -> Result<(), Cut> {
    let mut buffer = BytesMut::new();
    let mut want = LITTLE;
    loop {
        buffer.reserve(want);
        let n = tokio::select! {
            n = read.read_buf(&mut buffer) => n.map_err(|_| Cut)?,
            () = was_reset(send) => return Err(Cut),
        };
        if n == 0 {
            return send.send_data(Bytes::new(), true).map_err(|_| Cut);
        }
        want = if n >= want { MUCH } else { LITTLE };
        let mut bytes = buffer.split().freeze();
        while !bytes.is_empty() {
            send_some(send, &mut bytes).await?;
        }
    }
}

async fn inward(recv: &mut RecvStream, write: &mut WriteHalf<Stream>) -> Result<(), Cut> {
    while let Some(bytes) = recv.data().await {
        let bytes = bytes.map_err(|_| Cut)?;
        write.write_all(&bytes).await.map_err(|_| Cut)?;
        // Only what the reader has room for makes room for more.
        recv.flow_control().release_capacity(bytes.len()).map_err(|_| Cut)?;
    }
    write.shutdown().await.map_err(|_| Cut)
}

/// Sends as much as the other side has room for, once it has some: how much. That is taken off `bytes`, so a wait that was
/// given up loses nothing.
pub(super) async fn send_some(send: &mut SendStream<Bytes>, bytes: &mut Bytes) -> Result<usize, Cut> {
    send.reserve_capacity(bytes.len());
    while send.capacity() == 0 {
        match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(Cut),
        }
    }
    let n = send.capacity().min(bytes.len());
    send.send_data(bytes.split_to(n), false).map_err(|_| Cut)?;
    Ok(n)
}

/// Ends when the other side has reset the stream, or is gone.
pub(super) async fn was_reset(send: &mut SendStream<Bytes>) {
    let _ = poll_fn(|cx| send.poll_reset(cx)).await;
}

/// A stream's error in the words of I/O.
pub(super) fn broken(error: h2::Error) -> io::Error {
    let kind = if error.is_reset() || error.is_go_away() || error.is_io() {
        io::ErrorKind::ConnectionReset
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}
