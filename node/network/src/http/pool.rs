//! Connections kept for the next request. They belong to whoever opened them: a pod never uses another one's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use crate::body::Body;
use crate::sync::lock;

/// How long an unused connection is kept.
const KEEP: Duration = Duration::from_secs(60);
/// How many unused connections are kept for one destination.
const PER_KEY: usize = 256;
/// How often everything stale is swept out.
const SWEEP: Duration = Duration::from_secs(30);

/// What a connection is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) addr: SocketAddr,
    /// Clear-text HTTP/2.
    pub(crate) h2c: bool,
    /// The TLS server name.
    pub(crate) tls: Option<Arc<str>>,
}

/// A way to send requests over an open connection.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Shared by those who put connections back.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    closed: bool,
    idle: HashMap<Key, Vec<(Instant, http1::SendRequest<Body>)>>,
    shared: HashMap<Key, http2::SendRequest<Body>>,
    swept: Option<Instant>,
    /// Whether anything was ever sought here.
    used: bool,
    /// Addresses where someone has stopped to listen, and when: connections to them are not kept.
    left: HashMap<SocketAddr, Instant>,
}

impl Pool {
    /// An open connection, if there is one.
    pub(crate) async fn take(&self, key: &Key) -> Option<Sender> {
        let shared = {
            let mut state = lock(&self.0);
            state.used = true;
            state.shared.get(key).cloned()
        };
        if let Some(mut sender) = shared {
            if sender.ready().await.is_ok() {
                return Some(Sender::Http2(sender));
            }
            lock(&self.0).shared.remove(key);
        }
        loop {
            let (since, mut sender) = lock(&self.0).idle.get_mut(key)?.pop()?;
            // The response's end may have reached its reader before it reached the connection's task.
            if since.elapsed() < KEEP && sender.ready().await.is_ok() {
                return Some(Sender::Http1(sender));
            }
        }
    }

    /// Shares a new HTTP/2 connection.
    pub(crate) fn share(&self, key: Key, sender: http2::SendRequest<Body>) {
        let mut state = lock(&self.0);
        if !state.closed {
            state.shared.insert(key, sender);
        }
    }

    fn put(&self, key: Key, sender: http1::SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut state = lock(&self.0);
        if state.closed {
            return;
        }
        if state.swept.is_none_or(|at| now - at > SWEEP) {
            state.swept = Some(now);
            state.shared.retain(|_, s| !s.is_closed());
            state.idle.retain(|_, list| {
                list.retain(|(since, s)| now - *since < KEEP && !s.is_closed());
                !list.is_empty()
            });
            state.left.retain(|_, since| now - *since < KEEP);
        }
        if state.left.contains_key(&key.addr) {
            return;
        }
        let list = state.idle.entry(key).or_default();
        if list.len() < PER_KEY {
            list.push((now, sender));
        }
    }

    /// Whoever has listened at `addr` does not any more: unused connections to it are closed, so that they do not hold it
    /// up, and those in use are not kept. For a while that holds for its successor as well.
    pub(crate) fn leave(&self, addr: SocketAddr) {
        let now = Instant::now();
        let mut gone = (Vec::new(), Vec::new());
        let mut state = lock(&self.0);
        if !state.used || state.closed {
            return;
        }
        let keys: Vec<Key> = state.idle.keys().chain(state.shared.keys()).filter(|k| k.addr == addr).cloned().collect();
        for key in keys {
            gone.0.extend(state.idle.remove(&key));
            gone.1.extend(state.shared.remove(&key));
        }
        state.left.retain(|_, since| now - *since < KEEP);
        state.left.insert(addr, now);
        drop(state);
        drop(gone);
    }

    /// Closes all unused connections and keeps none from now on.
    pub(crate) fn clear(&self) {
        let old = {
            let mut state = lock(&self.0);
            std::mem::replace(&mut *state, State { closed: true, ..State::default() })
        };
        drop(old);
    }
}

/// A response's body that gives its connection back when it has been read to the end.
pub(crate) struct Returning {
    body: Incoming,
    back: Option<(Pool, Key, http1::SendRequest<Body>)>,
}

impl Returning {
    pub(crate) fn new(body: Incoming, pool: &Pool, key: Key, sender: http1::SendRequest<Body>) -> Returning {
        let mut this = Returning { body, back: Some((pool.clone(), key, sender)) };
        this.check();
        this
    }

    fn check(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((pool, key, sender)) = self.back.take() {
            pool.put(key, sender);
        }
    }
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.check();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(e))) => {
                this.back = None;
                Poll::Ready(Some(Err(io::Error::other(e))))
            }
            Poll::Ready(None) => {
                this.give_back();
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
