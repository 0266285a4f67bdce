//! Whether a multiplexed connection has anything to do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::sleep;

use crate::body::Body;

/// Counts the requests of one connection.
#[derive(Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request that has not ended.
pub(super) struct Running(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// How many requests have begun.
    pub(super) fn count(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether no request is running, and none has begun since `count` was read.
    pub(super) fn is_idle_since(&self, count: u64) -> bool {
        self.count() == count && self.ended.load(Ordering::Relaxed) == count
    }

    pub(super) async fn stays_idle_for(&self, time: Duration) {
        loop {
            let before = self.count();
            sleep(time).await;
            if self.is_idle_since(before) {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Running {
    /// The body, with the request counted as running until it is dropped.
    pub(super) fn until_end_of(self, body: Body) -> Body {
        if body.is_end_stream() { body } else { Counted { body, _running: self }.boxed() }
    }
}

struct Counted {
    body: Body,
    _running: Running,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
