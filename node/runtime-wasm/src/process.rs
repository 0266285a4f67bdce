//! The standard streams of a guest that someone is connected to: of an exec, and of a container with `stdin: true`.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::LogStream;

/// How much a guest may write at once.
const PERMIT: usize = 32 * 1024;

/// What a guest says to whoever is connected. The channel's capacity is what a slow reader holds back.
pub type Output = mpsc::Sender<(LogStream, Bytes)>;

/// What runs beside a container's own program, in an instance of its own.
pub struct Process {
    /// The exported command that runs; `None` is the module's own program.
    pub export: Option<String>,
    /// `argv`, the program's name first.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: Stdin,
    /// What it says.
    pub output: Output,
    /// Whether its streams are a terminal.
    pub tty: bool,
}

/// Standard input: ends when the sender is dropped. Clones are the same input.
#[derive(Clone)]
pub struct Stdin(Arc<Source>);

struct Source {
    state: tokio::sync::Mutex<State>,
    tty: bool,
}

struct State {
    from: mpsc::Receiver<Bytes>,
    rest: Bytes,
    ended: bool,
}

impl Stdin {
    /// An input, and the end that feeds it.
    pub fn new(tty: bool) -> (mpsc::Sender<Bytes>, Stdin) {
        let (feed, from) = mpsc::channel(8);
        let state = tokio::sync::Mutex::new(State { from, rest: Bytes::new(), ended: false });
        (feed, Stdin(Arc::new(Source { state, tty })))
    }

    /// An input that has ended.
    pub fn closed() -> Stdin {
        Stdin::new(false).1
    }
}

impl State {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.rest.is_empty() && !self.ended {
            match ready!(self.from.poll_recv(cx)) {
                Some(bytes) => self.rest = bytes,
                None => self.ended = true,
            }
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        let mut state = self.0.state.lock().await;
        std::future::poll_fn(|cx| state.poll_fill(cx)).await;
    }
}

#[async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let Ok(mut state) = self.0.state.try_lock() else { return Ok(Bytes::new()) };
        let mut none = Context::from_waker(std::task::Waker::noop());
        let _ = state.poll_fill(&mut none);
        if state.rest.is_empty() && state.ended {
            return Err(StreamError::Closed);
        }
        let n = size.min(state.rest.len());
        Ok(state.rest.split_to(n))
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Ok(mut state) = self.0.state.try_lock() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        ready!(state.poll_fill(cx));
        let n = to.remaining().min(state.rest.len());
        to.put_slice(&state.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        self.0.tty
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// One output of a connected process.
#[derive(Clone)]
pub(crate) struct OutputPipe {
    to: Output,
    stream: LogStream,
    tty: bool,
    wait: Arc<Mutex<Option<Wait>>>,
}

type Wait = Pin<Box<dyn Future<Output = bool> + Send>>;

impl OutputPipe {
    pub(crate) fn new(process: &Process, stream: LogStream) -> OutputPipe {
        OutputPipe { to: process.output.clone(), stream, tty: process.tty, wait: Arc::default() }
    }

    /// Waits for room; an error when nobody listens any more.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        if self.to.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.to.capacity() > 0 {
            *wait = None;
            return Poll::Ready(Ok(()));
        }
        let to = self.to.clone();
        let waiting = wait.get_or_insert_with(|| Box::pin(async move { to.reserve().await.is_ok() }));
        let open = ready!(waiting.as_mut().poll(cx));
        *wait = None;
        Poll::Ready(if open { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }
}

#[async_trait]
impl Pollable for OutputPipe {
    async fn ready(&mut self) {
        let _ = std::future::poll_fn(|cx| self.poll_room(cx)).await;
    }
}

#[async_trait]
impl OutputStream for OutputPipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.to.try_send((self.stream, bytes)).map_err(|e| match e {
            mpsc::error::TrySendError::Closed(_) => StreamError::Closed,
            mpsc::error::TrySendError::Full(_) => StreamError::Trap(wasmtime::Error::msg("written without a permit")),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.to.is_closed() {
            return Err(StreamError::Closed);
        }
        Ok(if self.to.capacity() > 0 { PERMIT } else { 0 })
    }
}

impl AsyncWrite for OutputPipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        let piece = &bytes[..bytes.len().min(PERMIT)];
        match self.to.try_send((self.stream, Bytes::copy_from_slice(piece))) {
            Ok(()) => Poll::Ready(Ok(piece.len())),
            Err(mpsc::error::TrySendError::Closed(_)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for OutputPipe {
    fn is_terminal(&self) -> bool {
        self.tty
    }
}

impl StdoutStream for OutputPipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
