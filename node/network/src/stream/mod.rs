//! Byte streams: through memory between pods, through a host socket to the world outside.

mod host;
mod memory;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use host::HostStream;
pub(crate) use memory::MemoryStream;

use crate::load::Open;
use crate::policy::Flow;
use crate::tracker::{Live, Tracker};

/// One end of a connection. Shutting down its writing side leaves the reading side open; a reset shows as
/// `ConnectionReset` on both.
pub struct Stream(Kind, Option<Open>);

enum Kind {
    Memory(MemoryStream),
    Host(HostStream),
}

impl Stream {
    /// Two connected ends.
    pub fn pair() -> (Stream, Stream) {
        let (a, b) = MemoryStream::pair();
        (Stream(Kind::Memory(a), None), Stream(Kind::Memory(b), None))
    }

    /// One to the world outside, and the room that it takes.
    pub(crate) fn host(stream: tokio::net::TcpStream, room: tokio::sync::OwnedSemaphorePermit) -> Stream {
        Stream(Kind::Host(HostStream::new(stream, room)), None)
    }

    /// Ties the stream to a pod's life.
    pub(crate) fn tracked(self, tracker: &std::sync::Arc<Tracker>) -> Stream {
        self.watched(tracker, None)
    }

    /// Ties the stream to a pod's life, and to what policies say of it.
    pub(crate) fn watched(mut self, tracker: &std::sync::Arc<Tracker>, flow: Option<Flow>) -> Stream {
        match &mut self.0 {
            Kind::Memory(s) => s.live = tracker.add(s.link(), flow),
            Kind::Host(s) => s.live = tracker.add(s.link(), flow),
        }
        self
    }

    /// Ties a stream to a namespace of this host to the life of the pod at its near end, too.
    pub(crate) fn also_tracked(mut self, tracker: &std::sync::Arc<Tracker>) -> Stream {
        if let Kind::Host(s) = &mut self.0 {
            s.other = tracker.add(s.link(), None);
        }
        self
    }

    /// Unties it again.
    pub(crate) fn untracked(mut self) -> Stream {
        match &mut self.0 {
            Kind::Memory(s) => s.live = None,
            Kind::Host(s) => s.live = None,
        }
        self
    }

    /// Counts it as open to an endpoint.
    pub(crate) fn counted(mut self, open: Option<Open>) -> Stream {
        self.1 = open;
        self
    }

    /// Cuts the connection: both ends see a reset.
    pub fn reset(&self) {
        match &self.0 {
            Kind::Memory(s) => s.reset(),
            Kind::Host(s) => s.reset(),
        }
    }
}

/// What a stream holds to be tracked.
pub(crate) type Tracked = Option<Live>;

macro_rules! inner {
    ($self:ident) => {
        match &mut $self.get_mut().0 {
            Kind::Memory(s) => Pin::new(s) as Pin<&mut dyn Both>,
            Kind::Host(s) => Pin::new(s) as Pin<&mut dyn Both>,
        }
    };
}

trait Both: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Both for T {}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inner!(self).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inner!(self).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Memory(_) => "Stream(memory)",
            Kind::Host(_) => "Stream(host)",
        })
    }
}
