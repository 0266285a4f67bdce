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
pub struct InProcess {
    api: Arc<Api>,
    fence: Option<u64>,
}

impl InProcess {
    /// For clients that write whenever they want.
    pub fn new(api: Arc<Api>) -> InProcess {
        InProcess { api, fence: None }
    }

    /// For what a leader runs: what it writes counts in the term `term` only, so that one that was deposed and does not know
    /// it changes nothing.
    pub fn fenced(api: Arc<Api>, term: u64) -> InProcess {
        InProcess { api, fence: Some(term) }
    }

    /// Secrets are stored sealed; their readers get them open, as over HTTPS.
    fn open(&self, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let bytes = self.api.bytes(&object)?;
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
        self.api.authorize(&request)?;
        Ok(match self.api.execute(&request, self.fence).await? {
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
        self.api.authorize(&request)?;
        let events = self.api.watch(&request).await?;
        if !self.api.is_sealed(&request) {
            return Ok(events);
        }
        let opener = InProcess::new(self.api.clone());
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
        Ok(self.api.serve(request.map(copepod_client::body), user).await)
    }
}
