//! A host TCP connection that belongs to a pod: cut when the pod is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::Tracked;
use crate::tracker::Cut;

#[derive(Default)]
pub(crate) struct Switch {
    cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Cut for Switch {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }
}

pub(crate) struct HostStream {
    tcp: TcpStream,
    switch: Arc<Switch>,
    pub(super) live: Tracked,
    /// At the pod at its other end, if that is one of this node as well.
    pub(super) other: Tracked,
    _room: OwnedSemaphorePermit,
}

impl HostStream {
    pub(super) fn new(tcp: TcpStream, room: OwnedSemaphorePermit) -> HostStream {
        HostStream { tcp, switch: Arc::default(), live: None, other: None, _room: room }
    }

    pub(super) fn link(&self) -> Arc<Switch> {
        self.switch.clone()
    }

    pub(super) fn reset(&self) {
        self.switch.cut();
    }

    /// Runs one poll unless the stream was cut, before or meanwhile.
    fn guarded<T>(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let waker = if reads { &self.switch.reader } else { &self.switch.writer };
        if let Poll::Ready(done) = poll(Pin::new(&mut self.tcp), cx)
            && !self.switch.cut.load(Ordering::Acquire)
        {
            return Poll::Ready(done);
        }
        waker.register(cx.waker());
        match self.switch.cut.load(Ordering::Acquire) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Pending,
        }
    }
}

impl AsyncRead for HostStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().guarded(cx, true, |tcp, cx| tcp.poll_read(cx, buf))
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().guarded(cx, false, |tcp, cx| tcp.poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().guarded(cx, false, |tcp, cx| tcp.poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().guarded(cx, false, |tcp, cx| tcp.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().guarded(cx, false, |tcp, cx| tcp.poll_shutdown(cx))
    }
}
