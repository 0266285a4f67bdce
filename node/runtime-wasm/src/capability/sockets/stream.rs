//! The two directions of a TCP connection. No task stands by for an idle one: reading happens when the guest asks, and
//! writing too, unless the other side is slow, when the rest is sent from a task.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::container::{InFlight, Shared};
use crate::net::NetStream;

type Stream = Box<dyn NetStream>;

/// The most that is read or written at once.
const CHUNK: usize = 64 * 1024;

/// Both directions, shared by the socket and its two streams.
pub(super) struct Connection {
    input: Mutex<Input>,
    output: Mutex<Output>,
    container: Arc<Shared>,
    /// Held by what is still to be sent, too: a container that drains ends only after that.
    accepted: Option<Arc<InFlight>>,
}

struct Input {
    /// `None` after the end.
    half: Option<ReadHalf<Stream>>,
    /// Read while waiting for readiness.
    ready: Bytes,
    error: Option<io::Error>,
}

enum Output {
    Idle(WriteHalf<Stream>),
    /// The rest of a write, or a shutdown, is under way.
    Busy(JoinHandle<Option<io::Result<Option<WriteHalf<Stream>>>>>),
    Failed(io::Error),
    Closed,
}

impl Connection {
    pub(super) fn new(stream: Stream, container: &Arc<Shared>, accepted: Option<InFlight>) -> Arc<Self> {
        let (read, write) = tokio::io::split(stream);
        Arc::new(Connection {
            input: Mutex::new(Input { half: Some(read), ready: Bytes::new(), error: None }),
            output: Mutex::new(Output::Idle(write)),
            container: container.clone(),
            accepted: accepted.map(Arc::new),
        })
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on after the guest has let go of the connection.
    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<Option<T>> {
        let accepted = self.accepted.clone();
        self.container.spawn(async move {
            let _accepted = accepted;
            work.await
        })
    }

    /// What the guest does not want to read any more.
    pub(super) fn shutdown_input(&self) {
        *self.input() = Input { half: None, ready: Bytes::new(), error: None };
    }

    /// Tells the other side that nothing more comes, after what has been written.
    pub(super) fn shutdown_output(&self) {
        let mut output = self.output();
        *output = match std::mem::replace(&mut *output, Output::Closed) {
            Output::Idle(mut half) => Output::Busy(self.spawn(async move {
                half.shutdown().await?;
                Ok(None)
            })),
            Output::Busy(task) => Output::Busy(self.spawn(async move {
                match task.await {
                    Ok(Some(Ok(Some(mut half)))) => half.shutdown().await?,
                    Ok(Some(Err(error))) => return Err(error),
                    _ => {}
                }
                Ok(None)
            })),
            ended => ended,
        };
    }
}

impl Input {
    /// Reads at most `size` bytes; an empty answer is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>> {
        let Some(half) = &mut self.half else { return Poll::Ready(Ok(Bytes::new())) };
        let mut bytes = BytesMut::zeroed(size.clamp(1, CHUNK));
        let mut buffer = ReadBuf::new(&mut bytes);
        let result = ready!(Pin::new(half).poll_read(cx, &mut buffer));
        let read = buffer.filled().len();
        if read == 0 {
            self.half = None;
        }
        bytes.truncate(read);
        Poll::Ready(result.map(|()| bytes.freeze()))
    }
}

/// The guest's input stream.
pub(super) struct Reader(pub(super) Arc<Connection>);

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut input = self.0.input();
        if !input.ready.is_empty() {
            let size = size.min(input.ready.len());
            return Ok(input.ready.split_to(size));
        }
        if let Some(error) = input.error.take() {
            return Err(StreamError::LastOperationFailed(error.into()));
        }
        if input.half.is_none() {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        match input.poll_read(&mut Context::from_waker(Waker::noop()), size) {
            Poll::Pending => Ok(Bytes::new()),
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => Err(StreamError::Closed),
            Poll::Ready(Ok(bytes)) => Ok(bytes),
            Poll::Ready(Err(error)) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        poll_fn(|cx| {
            let mut input = self.0.input();
            if !input.ready.is_empty() || input.error.is_some() || input.half.is_none() {
                return Poll::Ready(());
            }
            match ready!(input.poll_read(cx, 4096)) {
                Ok(bytes) => input.ready = bytes,
                Err(error) => input.error = Some(error),
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Output {
    /// Waits until what is under way is done.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Output::Busy(task) = self {
            *self = match ready!(Pin::new(task).poll(cx)) {
                Ok(Some(Ok(Some(half)))) => Output::Idle(half),
                Ok(Some(Err(error))) => Output::Failed(error),
                // Shut down, or the container was killed.
                _ => Output::Closed,
            };
        }
        Poll::Ready(())
    }

    /// Answers an error once; after that the stream is closed.
    fn check(&mut self) -> StreamResult<()> {
        match self {
            Output::Idle(_) | Output::Busy(_) => Ok(()),
            Output::Closed => Err(StreamError::Closed),
            Output::Failed(_) => match std::mem::replace(self, Output::Closed) {
                Output::Failed(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(StreamError::LastOperationFailed(error.into()))
                }
                _ => Err(StreamError::Closed),
            },
        }
    }
}

/// Writes what goes at once. Answers whether all of it went.
fn write_now(half: &mut WriteHalf<Stream>, bytes: &mut Bytes) -> io::Result<bool> {
    let mut cx = Context::from_waker(Waker::noop());
    while !bytes.is_empty() {
        match Pin::new(&mut *half).poll_write(&mut cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => bytes.advance(n),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
        }
    }
    match Pin::new(half).poll_flush(&mut cx) {
        Poll::Ready(result) => result.map(|()| true),
        Poll::Pending => Ok(false),
    }
}

/// The guest's output stream.
pub(super) struct Writer(pub(super) Arc<Connection>);

#[async_trait]
impl OutputStream for Writer {
    fn check_write(&mut self) -> StreamResult<usize> {
        let mut output = self.0.output();
        if output.poll_done(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Ok(0);
        }
        output.check().map(|()| CHUNK)
    }

    fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let mut output = self.0.output();
        output.check()?;
        if bytes.len() > CHUNK {
            return Err(StreamError::Trap(wasmtime::Error::msg("more was written than permitted")));
        }
        let mut half = match std::mem::replace(&mut *output, Output::Closed) {
            Output::Idle(half) => half,
            busy => {
                *output = busy;
                return Err(StreamError::Trap(wasmtime::Error::msg("written without permission")));
            }
        };
        *output = match write_now(&mut half, &mut bytes) {
            Ok(true) => Output::Idle(half),
            Ok(false) => Output::Busy(self.0.spawn(async move {
                half.write_all(&bytes).await?;
                half.flush().await?;
                Ok(Some(half))
            })),
            Err(error) => Output::Failed(error),
        };
        match &*output {
            Output::Failed(_) => output.check(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Everything is on its way already.
        self.0.output().check()
    }

    async fn cancel(&mut self) {
        // What the guest has written before it drops the stream still arrives: the task goes on by itself.
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.output().poll_done(cx)).await;
    }
}
