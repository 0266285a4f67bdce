//! A listening address of a pod. Connections wait in its backlog; no task does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::connect::{Conn, Route};
use crate::error::NetError;
use crate::pod::PodHandle;
use crate::sync::lock;

/// How many connections may wait to be accepted; further ones are refused.
const BACKLOG: usize = 1024;

/// A connection that was not accepted yet.
pub(crate) struct Waiting {
    pub(crate) conn: Conn,
    /// How it came, if by a Service: then another endpoint may have it instead.
    pub(crate) route: Option<Route>,
}

#[derive(Default)]
pub(crate) struct Backlog {
    queue: Mutex<Queue>,
    notify: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Takes no more.
    stopped: bool,
    /// The pod has left the network, or the listener is gone.
    closed: bool,
}

impl Backlog {
    /// Adds a connection; it comes back when there is no room or nobody listens any more.
    pub(crate) fn push(&self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let mut queue = lock(&self.queue);
        if queue.stopped || queue.waiting.len() >= BACKLOG {
            return Err(Box::new(waiting));
        }
        queue.waiting.push_back(waiting);
        drop(queue);
        self.notify.notify_one();
        Ok(())
    }

    /// Takes no more. Answers who waits.
    fn stop(&self) -> VecDeque<Waiting> {
        let mut queue = lock(&self.queue);
        queue.stopped = true;
        std::mem::take(&mut queue.waiting)
    }

    /// The same, and accepting fails from now on.
    pub(crate) fn close(&self) -> VecDeque<Waiting> {
        let waiting = {
            let mut queue = lock(&self.queue);
            (queue.stopped, queue.closed) = (true, true);
            std::mem::take(&mut queue.waiting)
        };
        self.notify.notify_waiters();
        waiting
    }

    fn try_pop(&self) -> Result<Option<Conn>, NetError> {
        let mut queue = lock(&self.queue);
        match queue.waiting.pop_front() {
            Some(waiting) => Ok(Some(waiting.conn)),
            None if queue.closed => Err(NetError::Detached),
            None => Ok(None),
        }
    }

    fn has_news(&self) -> bool {
        let queue = lock(&self.queue);
        queue.closed || !queue.waiting.is_empty()
    }
}

/// A listening socket. Dropping it stops listening, as [`Listener::stop`] does.
pub struct Listener {
    pub(crate) pod: Arc<PodHandle>,
    pub(crate) addr: SocketAddr,
    pub(crate) backlog: Arc<Backlog>,
}

impl Listener {
    /// The address it listens on; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening: the port is free, and nothing more is to be accepted. What came by a Service and was not accepted
    /// goes to another endpoint, which finds all of its bytes; other connections are reset.
    pub fn stop(&self) {
        self.pod.unbind_backlog(&self.backlog);
        self.pod.turn_away(self.addr.port(), self.backlog.stop());
    }

    /// The next connection. Fails only when the pod has left the network.
    pub async fn accept(&self) -> Result<Conn, NetError> {
        loop {
            if let Some(conn) = self.backlog.try_pop()? {
                return Ok(conn);
            }
            self.ready().await;
        }
    }

    /// The next connection, if one waits.
    pub fn try_accept(&self) -> Result<Option<Conn>, NetError> {
        self.backlog.try_pop()
    }

    /// Waits until [`Listener::try_accept`] has something to say.
    pub async fn ready(&self) {
        loop {
            let mut notified = std::pin::pin!(self.backlog.notify.notified());
            notified.as_mut().enable();
            if self.backlog.has_news() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.pod.unbind_backlog(&self.backlog);
        self.pod.turn_away(self.addr.port(), self.backlog.close());
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({})", self.addr)
    }
}

#[cfg(test)]
mod tests;
