//! The lines of streams: connections that are carried as bytes, whatever is said in them.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use copepod_node_routes::Backend;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{AccessLog, Message, quoted, stamp, write_service};
use crate::splice::Client;

/// How a client has come: to a port, or by a name over TLS.
pub(in crate::ingress) enum Came {
    /// Over TCP.
    Tcp,
    /// Over TLS, with the name that its hello has, if it has one.
    Tls(Option<String>),
}

/// What a line says.
pub(super) struct StreamEntry {
    began: Instant,
    at: SystemTime,
    took: Duration,
    client: IpAddr,
    came: Came,
    port: u16,
    carried: Arc<Carried>,
    complete: bool,
    backend: Option<Backend>,
}

impl StreamEntry {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (scheme, name) = match &self.came {
            Came::Tcp => ("tcp", None),
            Came::Tls(name) => ("tls", name.as_deref()),
        };
        let (time, client, port) = (stamp(self.at), self.client, self.port);
        // Writing to memory does not fail.
        let _ = write!(out, "{{\"time\":\"{time}\",\"client\":\"{client}\",\"scheme\":\"{scheme}\",\"port\":{port}");
        if let Some(name) = name {
            let _ = write!(out, ",\"name\":{}", quoted(name));
        }
        let _ = write!(
            out,
            ",\"receivedBytes\":{},\"sentBytes\":{},\"duration\":{}.{:06},\"complete\":{}",
            self.carried.received.load(Ordering::Relaxed),
            self.carried.sent.load(Ordering::Relaxed),
            self.took.as_secs(),
            self.took.subsec_micros(),
            self.complete,
        );
        if let Some(backend) = &self.backend {
            write_service(out, backend);
        }
        out.extend(b"}\n");
    }
}

/// The line of a stream that is being carried. It is written when this is dropped.
pub(in crate::ingress) struct StreamLine {
    log: AccessLog,
    entry: Option<Box<StreamEntry>>,
}

impl StreamLine {
    /// Begins one for a client that has come to a port.
    pub(in crate::ingress) fn begin(log: &AccessLog, client: IpAddr, port: u16, came: Came) -> StreamLine {
        let entry = StreamEntry {
            began: Instant::now(),
            at: SystemTime::now(),
            took: Duration::ZERO,
            client,
            came,
            port,
            carried: Arc::default(),
            complete: false,
            backend: None,
        };
        StreamLine { log: log.clone(), entry: Some(Box::new(entry)) }
    }

    /// Where the stream goes.
    pub(in crate::ingress) fn leads_to(&mut self, backend: &Backend) {
        if let Some(entry) = &mut self.entry {
            entry.backend = Some(backend.clone());
        }
    }

    /// Where to count what passes.
    pub(in crate::ingress) fn carried(&self) -> Option<Arc<Carried>> {
        self.entry.as_ref().map(|entry| entry.carried.clone())
    }

    /// Both sides have ended in good order.
    pub(in crate::ingress) fn complete(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.complete = true;
        }
    }
}

impl Drop for StreamLine {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.took = entry.began.elapsed();
            self.log.send(Message::Stream(entry));
        }
    }
}

/// Bytes that have passed.
#[derive(Default)]
pub(in crate::ingress) struct Carried {
    /// From the client.
    received: AtomicU64,
    /// To the client.
    sent: AtomicU64,
}

/// A client whose bytes are counted, where there is somebody to know.
pub(in crate::ingress) struct Counted<C> {
    client: C,
    carried: Option<Arc<Carried>>,
}

impl<C> Counted<C> {
    pub(in crate::ingress) fn new(client: C, carried: Option<Arc<Carried>>) -> Counted<C> {
        Counted { client, carried }
    }
}

impl<C: Client> Client for Counted<C> {
    fn tcp(&self) -> &TcpStream {
        self.client.tcp()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buf.filled().len());
        let polled = Pin::new(&mut this.client).poll_read(cx, buf);
        if let Some(carried) = &this.carried {
            carried.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.client).poll_write(cx, buf);
        if let (Poll::Ready(Ok(n)), Some(carried)) = (&polled, &this.carried) {
            carried.sent.fetch_add(*n as u64, Ordering::Relaxed);
        }
        polled
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(cx)
    }
}
