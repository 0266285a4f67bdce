//! What a transport can do, and what comes back.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_model::{ApiRequest, Object, Status, UserInfo};
use futures_util::Stream;
use http_body_util::BodyExt;
use serde_json::Value;

/// The body of every HTTP message in this program.
pub type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// A whole body from bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A stream of watch events; it ends when the server ends it, after an [`WatchEvent::Error`] or without one.
pub type WatchStream = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;

/// How requests reach the API.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Any verb but watch.
    async fn call(&self, request: ApiRequest) -> Result<Reply, Status>;
    /// A watch.
    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, Status>;
    /// An HTTP request as it is, as `user` where the transport can choose.
    async fn raw(&self, request: http::Request<Bytes>, user: Arc<UserInfo>) -> Result<http::Response<Body>, Status>;
}

/// A successful answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A stored object.
    Object(Arc<Object>),
    /// Something that is not stored: a `Status`, a `Scale`, a review, a token.
    Json(Value),
    /// A collection.
    List(List),
}

impl Reply {
    /// The object of an answer that has one. Values that are not stored decode into an Object of their own.
    pub fn object(self) -> Result<Arc<Object>, Status> {
        match self {
            Reply::Object(o) => Ok(o),
            Reply::Json(v) => Ok(Arc::new(object_of("", &v))),
            Reply::List(_) => Err(Status::internal("an object was expected and a list came")),
        }
    }
}

/// A collection at a revision.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The revision of the snapshot; a watch from here misses nothing.
    pub revision: u64,
    /// The objects, in key order.
    pub items: Vec<Arc<Object>>,
    /// Token of the next page, empty on the last.
    pub continue_token: String,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// An object came into view.
    Added(Arc<Object>),
    /// An object changed.
    Modified(Arc<Object>),
    /// An object is gone, or left the selection.
    Deleted(Arc<Object>),
    /// Everything up to this revision has been sent; the flag says that the initial events end here.
    Bookmark(u64, bool),
    /// The watch ends; 410 asks for a new list.
    Error(Status),
}

/// An Object from JSON that did not come from the store, such as a decoded HTTP answer.
pub(crate) fn object_of(resource: &str, value: &Value) -> Object {
    let meta = &value["metadata"];
    let text = |k: &str| meta[k].as_str().unwrap_or_default();
    let revision = text("resourceVersion").parse().unwrap_or(0);
    let key = copepod_model::Key::new(resource, text("namespace"), text("name"));
    let body = copepod_model::object::with_revision(&copepod_model::object::encode(value), revision);
    Object::decode(key, revision, body)
}
