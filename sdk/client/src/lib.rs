//! Floor 3a: the client of the API. One [`Client`], two transports: HTTPS for everything outside the server's process, and
//! in-process, which takes the same admission and watch path and shares the stored bytes.

pub mod certificate;
mod config;
mod https;
pub mod join;
mod reach;
mod recorder;
pub mod tls;
mod transport;

use std::sync::Arc;

use bytes::Bytes;
use copepod_model::kinds::Kinds;
use copepod_model::request::{Body as Payload, DeleteOptions, ListOptions, PatchType};
use copepod_model::{ApiRequest, Object, Status, UserInfo, Verb};
use serde_json::Value;

pub use config::{ConfigError, Kubeconfig};
pub use https::{Https, escape};
pub use recorder::Recorder;
pub use transport::{Body, List, Reply, Transport, WatchEvent, WatchStream, body};

/// A handle on the API as one user. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user: Arc<UserInfo>,
    manager: Arc<str>,
    kinds: Arc<Kinds>,
}

impl Client {
    /// A client that acts as `user` (which only an in-process transport honours: over HTTPS the server authenticates)
    /// and writes as field manager `manager`.
    pub fn new(transport: Arc<dyn Transport>, user: UserInfo, manager: &str) -> Client {
        Client { transport, user: Arc::new(user), manager: manager.into(), kinds: Kinds::shared() }
    }

    /// The same connection as another user and field manager.
    pub fn as_user(&self, user: UserInfo, manager: &str) -> Client {
        Client { user: Arc::new(user), manager: manager.into(), ..self.clone() }
    }

    /// A request for a resource in GroupResource form, with the version that the built-in kinds have.
    pub fn request(&self, verb: Verb, resource: &str, namespace: &str, name: &str) -> ApiRequest {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let version = self.kinds.resource(group, plural).map_or("v1", |k| k.version);
        let mut req = ApiRequest::new(self.user.clone(), verb, group, version, plural);
        req.namespace = namespace.into();
        req.name = name.into();
        req.field_manager = self.manager.to_string();
        req
    }

    /// Sends any request that is not a watch.
    pub async fn call(&self, request: ApiRequest) -> Result<Reply, Status> {
        self.transport.call(request).await
    }

    /// Sends an HTTP request as it is; `uri` is path and query only. For logs, Tables and discovery.
    pub async fn raw(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Status> {
        self.transport.raw(request, self.user.clone()).await
    }

    /// One object; `namespace` is empty for cluster-scoped resources.
    pub async fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
        self.call(self.request(Verb::Get, resource, namespace, name)).await?.object()
    }

    /// The objects of a resource, in one namespace or (empty) in all, with the revision to watch from.
    pub async fn list(&self, resource: &str, namespace: &str, options: ListOptions) -> Result<List, Status> {
        let req = ApiRequest { list: options, ..self.request(Verb::List, resource, namespace, "") };
        match self.call(req).await? {
            Reply::List(list) => Ok(list),
            other => Err(Status::internal(format!("a list was answered by {other:?}"))),
        }
    }

    /// Changes after `options.resource_version`.
    pub async fn watch(&self, resource: &str, namespace: &str, options: ListOptions) -> Result<WatchStream, Status> {
        self.follow(ApiRequest { list: options, ..self.request(Verb::Watch, resource, namespace, "") }).await
    }

    /// Sends any request that is a watch.
    pub async fn follow(&self, request: ApiRequest) -> Result<WatchStream, Status> {
        self.transport.watch(request).await
    }

    /// Creates an object.
    pub async fn create(&self, resource: &str, namespace: &str, object: Value) -> Result<Arc<Object>, Status> {
        let mut req = self.request(Verb::Create, resource, namespace, "");
        req.body = Payload::Object(object);
        self.call(req).await?.object()
    }

    /// Replaces an object or one of its subresources (empty: the object itself).
    pub async fn update(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: Value,
    ) -> Result<Arc<Object>, Status> {
        let mut req = self.request(Verb::Update, resource, namespace, name);
        req.subresource = (!subresource.is_empty()).then(|| subresource.into());
        req.body = Payload::Object(object);
        self.call(req).await?.object()
    }

    /// Patches an object or one of its subresources.
    pub async fn patch(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: PatchType,
        patch: Value,
    ) -> Result<Arc<Object>, Status> {
        let mut req = self.request(Verb::Patch, resource, namespace, name);
        req.subresource = (!subresource.is_empty()).then(|| subresource.into());
        req.body = Payload::Patch(kind, patch);
        self.call(req).await?.object()
    }

    /// Deletes an object. The reply is the object if it is still there (finalizers, grace), else a `Status`.
    pub async fn delete(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<Reply, Status> {
        self.call(ApiRequest { delete: options, ..self.request(Verb::Delete, resource, namespace, name) }).await
    }
}
