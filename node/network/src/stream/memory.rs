//! A duplex stream in memory: one bounded buffer for each direction, allocated when first written to.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Tracked;
use crate::sync::lock;
use crate::tracker::Cut;

/// How much one direction buffers before its writer waits.
const CAPACITY: usize = 64 * 1024;
/// A drained buffer larger than this is given back, so that idle connections stay small.
const KEEP: usize = 16 * 1024;

#[derive(Default)]
struct Half {
    buffer: VecDeque<u8>,
    /// The writer has finished.
    finished: bool,
    /// The reader is gone.
    unread: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both directions of one connection.
#[derive(Default)]
pub(crate) struct Link([Mutex<Half>; 2]);

impl Cut for Link {
    fn cut(&self) {
        for half in &self.0 {
            let wakers = {
                let mut half = lock(half);
                half.reset = true;
                half.buffer = VecDeque::new();
                [half.reader.take(), half.writer.take()]
            };
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// One end: reads its own direction, writes the other one.
pub(crate) struct MemoryStream {
    link: Arc<Link>,
    side: usize,
    pub(super) live: Tracked,
}

impl MemoryStream {
    pub(crate) fn pair() -> (MemoryStream, MemoryStream) {
        let link = Arc::new(Link::default());
        let end = |side| MemoryStream { link: link.clone(), side, live: None };
        (end(0), end(1))
    }

    pub(super) fn link(&self) -> Arc<Link> {
        self.link.clone()
    }

    pub(super) fn reset(&self) {
        self.link.cut();
    }

    fn incoming(&self) -> &Mutex<Half> {
        &self.link.0[self.side]
    }

    fn outgoing(&self) -> &Mutex<Half> {
        &self.link.0[1 - self.side]
    }

    fn finish(&self) {
        let waker = {
            let mut half = lock(self.outgoing());
            half.finished = true;
            half.reader.take()
        };
        if let Some(w) = waker {
            w.wake();
        }
    }

    fn write_some(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut half = lock(self.outgoing());
        if half.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if half.finished || half.unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = CAPACITY - half.buffer.len();
        if bufs.iter().all(|b| b.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        if room == 0 {
            store(&mut half.writer, cx);
            return Poll::Pending;
        }
        let mut written = 0;
        for buf in bufs {
            let n = buf.len().min(room);
            half.buffer.extend(&buf[..n]);
            (written, room) = (written + n, room - n);
        }
        let waker = half.reader.take();
        drop(half);
        if let Some(w) = waker {
            w.wake();
        }
        Poll::Ready(Ok(written))
    }
}

/// Keeps the waker, without cloning it when it is the same task's.
fn store(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(w) if w.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut half = lock(self.incoming());
        if half.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if half.buffer.is_empty() && buf.remaining() > 0 {
            if half.finished {
                return Poll::Ready(Ok(()));
            }
            store(&mut half.reader, cx);
            return Poll::Pending;
        }
        let n = {
            let (a, b) = half.buffer.as_slices();
            let first = a.len().min(buf.remaining());
            buf.put_slice(&a[..first]);
            let second = b.len().min(buf.remaining());
            buf.put_slice(&b[..second]);
            first + second
        };
        half.buffer.drain(..n);
        if half.buffer.is_empty() && half.buffer.capacity() > KEEP && half.writer.is_none() {
            half.buffer = VecDeque::new();
        }
        let waker = half.writer.take();
        drop(half);
        if let Some(w) = waker {
            w.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write_some(cx, &[io::IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_some(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reset = lock(self.outgoing()).reset;
        Poll::Ready(if reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.finish();
        let waker = {
            let mut half = lock(self.incoming());
            half.unread = true;
            half.buffer = VecDeque::new();
            half.writer.take()
        };
        if let Some(w) = waker {
            w.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_arrive_in_order_and_writers_wait() {
        let (mut a, mut b) = MemoryStream::pair();
        let data: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            a.write_all(&sent).await.unwrap();
            a.shutdown().await.unwrap();
            let mut back = String::new();
            a.read_to_string(&mut back).await.unwrap();
            back
        });
        let mut got = Vec::new();
        b.read_to_end(&mut got).await.unwrap();
        assert!(got == data);
        assert!(lock(b.incoming()).buffer.capacity() <= KEEP, "a drained buffer is given back");
        b.write_all(b"half closed").await.unwrap();
        drop(b);
        assert_eq!(writer.await.unwrap(), "half closed");
    }

    #[tokio::test]
    async fn a_buffer_is_bounded() {
        let (mut a, _b) = MemoryStream::pair();
        let mut written = 0;
        loop {
            let chunk = [0u8; 5000];
            tokio::select! {
                biased;
                n = a.write(&chunk) => written += n.unwrap(),
                () = std::future::ready(()) => break,
            }
        }
        assert_eq!(written, CAPACITY);
    }

    #[tokio::test]
    async fn ends_see_what_the_other_did() {
        let (mut a, b) = MemoryStream::pair();
        drop(b);
        assert_eq!(a.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(a.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (mut a, mut b) = MemoryStream::pair();
        a.write_all(b"lost").await.unwrap();
        let waiting = tokio::spawn(async move { a.read(&mut [0; 4]).await });
        tokio::task::yield_now().await;
        b.reset();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(b.read(&mut [0; 4]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(b.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
