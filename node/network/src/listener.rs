//! A listening address of a pod. Connections wait in its backlog; no task does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::connect::Conn;
use crate::error::NetError;
use crate::pod::PodHandle;
use crate::sync::lock;

/// How many connections may wait to be accepted; further ones are refused.
const BACKLOG: usize = 1024;

#[derive(Default)]
pub(crate) struct Backlog {
    queue: Mutex<Queue>,
    notify: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Conn>,
    closed: bool,
}

impl Backlog {
    /// Adds a connection; `false` when there is no room or nobody listens any more.
    pub(crate) fn push(&self, conn: Conn) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed || queue.waiting.len() >= BACKLOG {
            return false;
        }
        queue.waiting.push_back(conn);
        drop(queue);
        self.notify.notify_one();
        true
    }

    /// Stops listening: those who wait see a reset.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        for conn in waiting {
            conn.stream.reset();
        }
        self.notify.notify_waiters();
    }

    fn try_pop(&self) -> Result<Option<Conn>, NetError> {
        let mut queue = lock(&self.queue);
        match queue.waiting.pop_front() {
            Some(conn) => Ok(Some(conn)),
            None if queue.closed => Err(NetError::Detached),
            None => Ok(None),
        }
    }

    fn has_news(&self) -> bool {
        let queue = lock(&self.queue);
        queue.closed || !queue.waiting.is_empty()
    }
}

/// A listening socket. Dropping it stops listening and resets what was not accepted.
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
        self.backlog.close();
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({})", self.addr)
    }
}
