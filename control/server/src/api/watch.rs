//! Watches: from the store's changes through the request's selectors to events, and events as HTTP.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use copepod_client::{Body, WatchEvent, WatchStream};
use copepod_model::kinds::{Kind, Version};
use copepod_model::schema::Schema;
use copepod_model::selector::FieldSelector;
use copepod_model::{ApiRequest, FieldError, Status};
use copepod_registry::{EventKind, WatchFilter};
use copepod_state::{Change, Interest};
use futures_util::{StreamExt as _, stream};
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::negotiate::{Accepted, Encoding, PROTOBUF, Shape};
use super::table::{self, Include};
use super::{Api, respond};
use crate::now;
use crate::store::{WatchError, Watcher};

/// How often a bookmark tells an idle watcher how far it is.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// How long a watch lives that asks for nothing; upstream draws between half an hour and an hour.
const LIFETIME: Duration = Duration::from_secs(45 * 60);

/// Events for which a watch keeps room.
const ROOM: usize = 16;

/// A watch in progress.
struct Session {
    watcher: Watcher,
    filter: WatchFilter,
    pending: VecDeque<WatchEvent>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    revision: u64,
    over: bool,
    /// What objects are converted to, if the watch is of another version than the stored one.
    version: Option<(Arc<Kind>, &'static Version)>,
}

impl Api {
    /// The events of a watch, selected.
    pub(super) async fn watch(&self, request: &ApiRequest) -> Result<WatchStream, Status> {
        self.kind(request)?;
        let options = &request.list;
        let filter = self.registry.watch_filter(request)?;
        let interest = interest(request, self.registry.stored_as(request))?;
        let view = self.view(options.resource_version.as_deref()).await?;
        let asked = options.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        let initial = match options.send_initial_events {
            Some(send) => {
                if send && !options.allow_watch_bookmarks {
                    let why = "sendInitialEvents requires setting allowWatchBookmarks to true";
                    let error = FieldError::forbidden("sendInitialEvents", why);
                    return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]));
                }
                send
            }
            None => matches!(asked, None | Some(0)),
        };
        let from = match asked {
            Some(revision) if revision > 0 && !initial => revision,
            _ => view.revision(),
        };
        let watcher = match self.store.watch(interest.clone(), from) {
            Ok(watcher) => watcher,
            // As upstream has it: whatever goes wrong after the request was found good is an event.
            Err(e) => return Ok(Box::pin(stream::iter([WatchEvent::Error(Status::expired(e.to_string()))]))),
        };
        let mut pending = VecDeque::new();
        if initial {
            for object in interest.objects(&view).cloned() {
                if filter.matches(&object) {
                    pending.push_back(WatchEvent::Added(object));
                }
            }
            if options.send_initial_events == Some(true) {
                pending.push_back(WatchEvent::Bookmark(view.revision(), true));
            }
        }
        let lifetime = options.timeout_seconds.filter(|s| *s > 0).map_or(LIFETIME, Duration::from_secs);
        let session = Session {
            watcher,
            filter,
            pending,
            bookmarks: options.allow_watch_bookmarks,
            next_bookmark: Instant::now() + BOOKMARKS,
            deadline: Instant::now() + lifetime,
            revision: from,
            over: false,
            version: self.registry.version(request),
        };
        Ok(Box::pin(stream::unfold(session, |mut session| async move {
            let event = session.next().await?;
            Some((session.shown(event), session))
        })))
    }

    /// A watch over HTTP.
    pub(super) async fn watch_http(
        self: &Arc<Self>,
        request: &ApiRequest,
        accepted: Accepted,
        include: Include,
    ) -> Result<Response<Body>, Status> {
        let kind = self.kind(request)?;
        let events = self.watch(request).await?;
        let (api, mut first) = (self.clone(), true);
        let frames = events.map(move |event| {
            let columns = std::mem::take(&mut first);
            let bytes = api.frame(&kind, event, accepted, include, columns).map_err(std::io::Error::other)?;
            Ok(Frame::data(bytes))
        });
        let media = match accepted.encoding {
            Encoding::Protobuf => format!("{PROTOBUF};stream=watch"),
            _ => "application/json".into(),
        };
        let mut response = respond::bytes(200, &media, Bytes::new());
        *response.body_mut() = http_body_util::BodyExt::boxed(StreamBody::new(sync(frames)));
        Ok(response)
    }

    fn frame(
        &self,
        kind: &Kind,
        event: WatchEvent,
        accepted: Accepted,
        include: Include,
        columns: bool,
    ) -> Result<Bytes, Status> {
        let (name, object) = match event {
            WatchEvent::Added(o) => ("ADDED", o),
            WatchEvent::Modified(o) => ("MODIFIED", o),
            WatchEvent::Deleted(o) => ("DELETED", o),
            WatchEvent::Bookmark(revision, initial) => {
                let mut object = json!({
                    "kind": kind.kind, "apiVersion": kind.api_version(),
                    "metadata": {"resourceVersion": revision.to_string()},
                });
                if initial {
                    object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                return encode("BOOKMARK", &shape(kind, object, accepted, Include::None, columns), accepted.encoding);
            }
            WatchEvent::Error(status) => return encode("ERROR", &status.to_json(), accepted.encoding),
        };
        let bytes = self.bytes(&object)?;
        if accepted == Accepted::JSON {
            return Ok(line(name, &bytes));
        }
        let value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
        encode(name, &shape(kind, value, accepted, include, columns), accepted.encoding)
    }
}

impl Session {
    /// An event in the version that was asked for.
    fn shown(&self, event: WatchEvent) -> WatchEvent {
        let Some((kind, version)) = &self.version else { return event };
        match event {
            WatchEvent::Added(o) => WatchEvent::Added(kind.convert(version, &o)),
            WatchEvent::Modified(o) => WatchEvent::Modified(kind.convert(version, &o)),
            WatchEvent::Deleted(o) => WatchEvent::Deleted(kind.convert(version, &o)),
            other => other,
        }
    }

    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = take_first(&mut self.pending) {
                return Some(event);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                changes = self.watcher.next() => match changes {
                    Ok(changes) => {
                        for change in changes {
                            self.revision = change.revision;
                            self.pending.extend(event(&self.filter, &change));
                        }
                    }
                    // A server that stops just ends its streams: the client comes back with the revision it has.
                    Err(WatchError::Stopped) => return None,
                    Err(WatchError::Compacted(e)) => {
                        self.over = true;
                        return Some(WatchEvent::Error(Status::expired(e.to_string())));
                    }
                },
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARKS;
                    self.revision = self.revision.max(self.watcher.progress());
                    return Some(WatchEvent::Bookmark(self.revision, false));
                }
                () = sleep_until(self.deadline) => self.over = true,
            }
        }
    }
}

/// The first one of a queue. One that was long and is empty now gives its room back: its watch may be idle from here on.
fn take_first<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() {
        queue.shrink_to(ROOM);
    }
    first
}

/// What a change is to a watch. What left the selection is sent as it was, at the revision of the change.
fn event(filter: &WatchFilter, change: &Change) -> Option<WatchEvent> {
    let (kind, _) = filter.event(change.old.as_deref(), change.new.as_deref())?;
    Some(match kind {
        EventKind::Added => WatchEvent::Added(change.new.clone()?),
        EventKind::Modified => WatchEvent::Modified(change.new.clone()?),
        EventKind::Deleted => WatchEvent::Deleted(change.departed()?),
    })
}

/// The narrowest interest in what is stored as `resource` that covers the request, so that other objects' changes never reach it.
fn interest(request: &ApiRequest, resource: String) -> Result<Interest, Status> {
    let fields = FieldSelector::parse(&request.list.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
    let exact = |field: &str| fields.exact(field).map(Arc::<str>::from);
    let namespace = (!request.namespace.is_empty()).then(|| Arc::from(request.namespace.as_str()));
    let mut out = Interest::all(resource);
    out.namespace = namespace.or_else(|| exact("metadata.namespace"));
    out.name = exact("metadata.name");
    out.node_name = exact("spec.nodeName").filter(|n| !n.is_empty() && request.resource == "pods");
    Ok(out)
}

fn shape(kind: &Kind, value: Value, accepted: Accepted, include: Include, columns: bool) -> Value {
    match accepted.shape {
        Shape::Table(beta) => {
            let meta = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            table::table(kind, &[value], meta, columns, include, beta, now())
        }
        Shape::Partial(beta) | Shape::Partials(beta) => table::partial(&value, beta),
        Shape::Object => value,
    }
}

fn line(name: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

fn encode(name: &str, object: &Value, encoding: Encoding) -> Result<Bytes, Status> {
    if encoding != Encoding::Protobuf {
        return Ok(line(name, object.to_string().as_bytes()));
    }
    let body = Schema::builtin().encode_protobuf_watch(name, object).map_err(Status::internal)?;
    let mut out = BytesMut::with_capacity(body.len() + 4);
    out.put_u32(body.len() as u32);
    out.put_slice(&body);
    Ok(out.freeze())
}

/// Body streams have to be Sync, which a watch's stream never needs to be: nobody polls it through a shared reference.
fn sync<S>(stream: S) -> impl futures_util::Stream<Item = S::Item> + Send + Sync
where
    S: futures_util::Stream + Send + 'static,
{
    let mut stream = sync_wrapper::SyncWrapper::new(Box::pin(stream));
    futures_util::stream::poll_fn(move |cx| stream.get_mut().as_mut().poll_next(cx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_long_gives_its_room_back() {
        let mut queue: VecDeque<usize> = (0..100_000).collect();
        let all: Vec<usize> = std::iter::from_fn(|| take_first(&mut queue)).collect();
        assert_eq!(all.len(), 100_000);
        assert!(queue.capacity() < 1000, "{}", queue.capacity());
        let mut short: VecDeque<usize> = VecDeque::with_capacity(ROOM);
        let before = short.capacity();
        short.push_back(1);
        assert_eq!((take_first(&mut short), take_first(&mut short), short.capacity()), (Some(1), None, before));
    }
}
