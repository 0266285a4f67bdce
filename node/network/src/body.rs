//! The one body type of requests and responses, and its guards.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::sync::lock;

/// A streamed body.
pub type Body = BoxBody<Bytes, io::Error>;

/// No body. Does not allocate.
pub fn empty() -> Body {
    Empty::new().map_err(|e| match e {}).boxed()
}

/// A body in one piece.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|e| match e {}).boxed()
}

/// A received body.
pub(crate) fn incoming(body: Incoming) -> Body {
    if body.is_end_stream() { empty() } else { body.map_err(io::Error::other).boxed() }
}

/// The same body, which keeps `what` until it is over.
pub(crate) fn keeping<T: Send + Sync + Unpin + 'static>(body: Body, what: Option<T>) -> Body {
    match what {
        Some(what) if !body.is_end_stream() => Keeping { body, what: Some(what) }.boxed(),
        _ => body,
    }
}

struct Keeping<T> {
    body: Body,
    what: Option<T>,
}

impl<T: Unpin> HttpBody for Keeping<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || this.body.is_end_stream() {
            this.what = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How far the sending of a body has come: the time that a response may take does not run while its request is still
/// on the way.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Step>);

#[derive(Clone, Copy, Debug)]
struct Step {
    /// The body's sender is being waited for, and has a deadline of its own.
    awaited: bool,
    at: Instant,
}

impl Progress {
    pub(crate) fn new() -> Arc<Progress> {
        Arc::new(Progress(Mutex::new(Step { awaited: false, at: Instant::now() })))
    }

    fn note(&self, awaited: bool) {
        *lock(&self.0) = Step { awaited, at: Instant::now() };
    }

    /// Ends when nothing has moved for `time`, and not for want of the body.
    pub(crate) async fn stalled(&self, time: Duration) {
        loop {
            let step = *lock(&self.0);
            if step.awaited {
                sleep(time).await;
                continue;
            }
            sleep_until(step.at + time).await;
            let now = *lock(&self.0);
            if !now.awaited && now.at == step.at {
                return;
            }
        }
    }
}

/// What has come of a body, for others than who reads it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: AtomicU64,
    failed: OnceLock<io::ErrorKind>,
}

impl Received {
    /// The bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why no more comes, if it failed.
    pub(crate) fn failed(&self) -> Option<io::ErrorKind> {
        self.failed.get().copied()
    }
}

/// A body that fails when it grows beyond a limit, or when its sender is silent for too long.
pub(crate) struct Guarded<B> {
    inner: B,
    left: u64,
    idle: Duration,
    /// Made when the sender first keeps us waiting.
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    progress: Option<Arc<Progress>>,
    received: Option<Arc<Received>>,
}

impl<B> Guarded<B> {
    pub(crate) fn new(inner: B, limit: u64, idle: Duration) -> Guarded<B> {
        Guarded { inner, left: limit, idle, timer: None, armed: false, progress: None, received: None }
    }

    /// Reports to `progress`.
    pub(crate) fn reporting(mut self, progress: Arc<Progress>) -> Guarded<B> {
        self.progress = Some(progress);
        self
    }

    /// Tells there, if anywhere, what has come.
    pub(crate) fn telling(mut self, received: Option<Arc<Received>>) -> Guarded<B> {
        self.received = received;
        self
    }

    fn fail(&self, why: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(received) = &self.received {
            let _ = received.failed.set(why.kind());
        }
        Poll::Ready(Some(Err(why)))
    }
}

impl<B> Drop for Guarded<B> {
    fn drop(&mut self) {
        // Whoever was sending it has lost interest: from here on only the response is awaited.
        if let Some(progress) = &self.progress {
            progress.note(false);
        }
    }
}

impl<B> HttpBody for Guarded<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Some(progress) = &this.progress {
            progress.note(polled.is_pending());
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.armed = false;
                let n = frame.data_ref().map_or(0, |d| d.len() as u64);
                if let Some(received) = &this.received {
                    received.bytes.fetch_add(n, Ordering::Relaxed);
                }
                let Some(left) = this.left.checked_sub(n) else {
                    return this.fail(io::Error::new(io::ErrorKind::FileTooLarge, "body too large"));
                };
                this.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => this.fail(io::Error::other(e)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.idle)));
                if !this.armed {
                    this.armed = true;
                    // A far future for "never".
                    let far = Duration::from_secs(86_400 * 365);
                    timer.as_mut().reset(Instant::now() + this.idle.min(far));
                }
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => this.fail(io::ErrorKind::TimedOut.into()),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
