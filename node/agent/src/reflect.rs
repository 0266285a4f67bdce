//! List and watch one resource for ever: what is there, then every change, and a new list whenever the watch was lost.

use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Client, WatchEvent};
use copepod_machine::Backoff;
use copepod_model::request::ListOptions;
use copepod_model::{Object, Status};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// How long a list that fails waits for its next try.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10) };

/// What has become of a resource.
#[derive(Debug)]
pub(crate) enum Change {
    /// These are all; forget what was before.
    Reset(Vec<Arc<Object>>),
    /// One is new or different.
    Put(Arc<Object>),
    /// One is gone, or left the selection.
    Gone(Arc<Object>),
}

/// Follows `resource` (those that `field_selector` picks) until the receiver is dropped.
pub(crate) async fn reflect<T: Send + 'static>(
    client: Client,
    resource: &'static str,
    field_selector: String,
    to: mpsc::Sender<T>,
    wrap: impl Fn(Change) -> T + Send,
) {
    reflect_in(client, resource, String::new(), field_selector, to, wrap).await;
}

/// The same in one namespace; the empty one stands for all.
pub(crate) async fn reflect_in<T: Send + 'static>(
    client: Client,
    resource: &'static str,
    namespace: String,
    field_selector: String,
    to: mpsc::Sender<T>,
    wrap: impl Fn(Change) -> T + Send,
) {
    let mut failures = 0;
    while !to.is_closed() {
        match follow(&client, (resource, &namespace), &field_selector, &to, &wrap, &mut failures).await {
            Ok(()) => return,
            Err(status) => {
                failures += 1;
                // A watch that fell out of the window is usual and needs nothing but a new list.
                if status.code != 410 {
                    tracing::warn!(resource, error = %status, "list and watch failed, trying again");
                }
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

/// `Ok` when nobody listens any more.
async fn follow<T: Send + 'static>(
    client: &Client,
    (resource, namespace): (&'static str, &str),
    field_selector: &str,
    to: &mpsc::Sender<T>,
    wrap: &(impl Fn(Change) -> T + Send),
    failures: &mut u32,
) -> Result<(), Status> {
    let options = ListOptions { field_selector: field_selector.into(), ..ListOptions::default() };
    let list = client.list(resource, namespace, options.clone()).await?;
    let mut revision = list.revision;
    if to.send(wrap(Change::Reset(list.items))).await.is_err() {
        return Ok(());
    }
    loop {
        let from = ListOptions {
            resource_version: Some(revision.to_string()),
            allow_watch_bookmarks: true,
            ..options.clone()
        };
        let mut events = client.watch(resource, namespace, from).await?;
        let before = revision;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = to.closed() => return Ok(()),
            };
            let change = match event {
                None => break,
                Some(WatchEvent::Error(status)) => return Err(status),
                Some(WatchEvent::Bookmark(at, _)) => {
                    revision = revision.max(at);
                    continue;
                }
                Some(WatchEvent::Added(o) | WatchEvent::Modified(o)) => {
                    revision = revision.max(o.revision);
                    Change::Put(o)
                }
                Some(WatchEvent::Deleted(o)) => {
                    revision = revision.max(o.revision);
                    Change::Gone(o)
                }
            };
            *failures = 0;
            if to.send(wrap(change)).await.is_err() {
                return Ok(());
            }
        }
        // The server ends watches now and then. One that said nothing at all may be a server in trouble.
        if revision == before {
            tokio::time::sleep(RETRY.first).await;
        }
    }
}
