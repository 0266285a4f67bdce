//! Waiting for an endpoint: while the only endpoint of a Service restarts, what comes for it waits a moment instead of
//! failing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use copepod_node_routes::ServicePort;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, timeout_at};

use crate::error::NetError;
use crate::network::{Network, Shared};

/// How many may wait at once; further ones fail at once, as all do where nobody waits.
const MAX_WAITING: usize = 4096;

/// How long one connection or request still waits.
#[derive(Default)]
pub(crate) struct Patience<'a>(Option<(Instant, Waiting<'a>)>);

/// One of those who wait.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Network {
    /// Ends when routes or listening ports have changed since this call. To be taken before an attempt, so that no change
    /// is missed during it. Costs nothing while it is not awaited.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Routes or listening ports have changed.
    pub(crate) fn tell(&self) {
        self.0.changed.notify_waiters();
    }

    /// After no endpoint of `port` has taken a connection: waits for `news`, and answers what the Service port is then.
    /// `None` if there is nothing to wait for, or no time left.
    pub(crate) async fn another_chance<'a>(
        &'a self,
        port: &ServicePort,
        error: NetError,
        news: Notified<'_>,
        patience: &mut Patience<'a>,
    ) -> Option<Arc<ServicePort>> {
        // A restarting endpoint refuses. One that is slow, or forbidden, does not become better by asking again.
        if !matches!(error, NetError::ConnectionRefused | NetError::RemoteUnreachable) || !port.may_recover() {
            return None;
        }
        let until = match &patience.0 {
            Some((until, _)) => *until,
            None => {
                let waiting = self.0.waiting.fetch_add(1, Ordering::Relaxed);
                let counted = Waiting(&self.0);
                if waiting >= MAX_WAITING {
                    return None;
                }
                let until = Instant::now() + self.0.config.hold;
                patience.0 = Some((until, counted));
                until
            }
        };
        timeout_at(until, news).await.ok()?;
        self.routes().again(port).cloned()
    }
}
