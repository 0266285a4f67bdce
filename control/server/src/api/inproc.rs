//! The in-process transport: the same admission and watch path as over HTTPS, without the encoding in between.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::{Body, List, Reply, Transport, WatchEvent, WatchStream};
use copepod_model::{ApiRequest, Object, Status, UserInfo};
use futures_util::StreamExt as _;
use http::{Request, Response};

use super::Api;
use super::execute::Answer;

/// A transport for clients in the server's own process.
pub struct InProcess(pub Arc<Api>);

impl InProcess {
    /// Secrets are stored sealed; their readers get them open, as over HTTPS.
    fn open(&self, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let bytes = self.0.bytes(&object)?;
        if bytes == object.body {
            return Ok(object);
        }
        let value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
        let body = copepod_model::object::with_revision(&copepod_model::object::encode(&value), object.revision);
        Ok(Arc::new(Object::decode(object.key.clone(), object.revision, body)))
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn call(&self, request: ApiRequest) -> Result<Reply, Status> {
        self.0.authorize(&request)?;
        Ok(match self.0.execute(&request).await? {
            Answer::Object(_, object, _) => Reply::Object(self.open(object)?),
            Answer::Value(_, value, _) => Reply::Json(value),
            Answer::List(page) => Reply::List(List {
                revision: page.revision,
                items: page.items.into_iter().map(|o| self.open(o)).collect::<Result<_, _>>()?,
                continue_token: page.continue_token,
            }),
        })
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, Status> {
        self.0.authorize(&request)?;
        let events = self.0.watch(&request)?;
        if !self.0.is_sealed(&request) {
            return Ok(events);
        }
        let opener = InProcess(self.0.clone());
        Ok(Box::pin(events.map(move |event| {
            let open =
                |object, make: fn(Arc<Object>) -> WatchEvent| opener.open(object).map_or_else(WatchEvent::Error, make);
            match event {
                WatchEvent::Added(o) => open(o, WatchEvent::Added),
                WatchEvent::Modified(o) => open(o, WatchEvent::Modified),
                WatchEvent::Deleted(o) => open(o, WatchEvent::Deleted),
                other => other,
            }
        })))
    }

    async fn raw(&self, request: Request<Bytes>, user: Arc<UserInfo>) -> Result<Response<Body>, Status> {
        Ok(self.0.serve(request.map(copepod_client::body), user).await)
    }
}
