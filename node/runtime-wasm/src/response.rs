//! Bodies between hyper's world and the guest's.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use wasmtime_wasi_http::WasiBody;

use crate::counted::Permit;
use crate::net::Body;

/// Turns a guest's body into one that others can share.
pub(crate) fn from_guest(body: WasiBody, failed: Arc<AtomicBool>) -> Body {
    GuestBody { frames: VecDeque::new(), rest: Some(Exclusive::new(body)), failed }.boxed()
}

/// As [`from_guest`], for a guest that has ended: what it has written is taken out, and usually is all there is.
pub(crate) fn from_ended_guest(mut body: WasiBody, failed: Arc<AtomicBool>) -> Body {
    let mut frames = VecDeque::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frames.push_back(frame),
            Poll::Ready(None) => break,
            // Not its own output after all, such as the body of a request that it passes through.
            Poll::Pending => return GuestBody { frames, rest: Some(Exclusive::new(body)), failed }.boxed(),
            Poll::Ready(Some(Err(error))) => {
                failed.store(true, SeqCst);
                tracing::debug!(%error, "a guest's response failed");
                break;
            }
        }
    }
    if frames.len() <= 1 && !failed.load(SeqCst) && frames.front().is_none_or(Frame::is_data) {
        let data = frames.pop_front().and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        return Full::new(data).map_err(|never| match never {}).boxed();
    }
    GuestBody { frames, rest: None, failed }.boxed()
}

/// Answers a request's or response's body to wasmtime.
pub(crate) fn into_guest(body: Body) -> WasiBody {
    body.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => wasmtime_wasi_http::Error::ConnectionReadTimeout,
        io::ErrorKind::UnexpectedEof => wasmtime_wasi_http::Error::HttpResponseIncomplete,
        _ => wasmtime_wasi_http::Error::ConnectionTerminated,
    })
    .boxed_unsync()
}

/// As [`into_guest`], for a body that counts as a socket while it is read.
pub(crate) fn into_guest_with(body: Body, permit: Permit) -> WasiBody {
    let body = body.map_frame(move |frame| {
        let _ = &permit;
        frame
    });
    into_guest(body.boxed())
}

/// A body whose end is an error if its guest has failed.
struct GuestBody {
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<Exclusive>,
    failed: Arc<AtomicBool>,
}

/// `Sync` by a lock that is always free: whoever polls has the only reference.
struct Exclusive(Mutex<WasiBody>);

impl Exclusive {
    fn new(body: WasiBody) -> Self {
        Exclusive(Mutex::new(body))
    }

    fn get(&mut self) -> &mut WasiBody {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn peek<T>(&self, look: impl FnOnce(&WasiBody) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for GuestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let next = match &mut self.rest {
            Some(rest) => std::task::ready!(Pin::new(rest.get()).poll_frame(cx)),
            None => None,
        };
        Poll::Ready(match next {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                self.rest = None;
                self.failed.store(false, SeqCst); // said once
                Some(Err(io::Error::other(error.to_string())))
            }
            None => {
                self.rest = None;
                let failed = self.failed.swap(false, SeqCst);
                failed.then(|| Err(io::Error::other("the guest ended in the middle of its response")))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let rest_ended = self.rest.as_ref().is_none_or(|rest| rest.peek(|body| body.is_end_stream()));
        self.frames.is_empty() && rest_ended && !self.failed.load(SeqCst)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) if self.frames.is_empty() => rest.peek(|body| body.size_hint()),
            _ => SizeHint::default(),
        }
    }
}
