//! The API: HTTP in front, the registry's decisions behind, the store underneath.

mod body;
mod components;
pub mod discovery;
mod execute;
mod gzip;
mod health;
mod http;
mod inproc;
mod join;
mod logs;
mod members;
mod metrics;
pub mod negotiate;
mod openapi;
mod pages;
pub mod path;
mod proxy;
pub(crate) mod resource;
pub(crate) mod respond;
mod secrets;
mod snapshot;
mod streams;
mod table;
mod tokens;
mod turns;
mod usage;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use copepod_client::Body;
use copepod_model::{Status, UserInfo};
use copepod_registry::Registry;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::auth::token::Tokens;
use crate::images::{self, Images};
use crate::members::Members;
use crate::nodes::Nodes;
use crate::pki::Pki;
use crate::store::Store;

pub use inproc::InProcess;
pub use proxy::Peer;

/// A node's own API (the kubelet's paths, such as `/containerLogs/NS/POD/CONTAINER`), wherever the node is.
#[async_trait]
pub trait NodeApi: Send + Sync {
    /// Sends a request to the node.
    async fn request(&self, request: ::http::Request<Body>) -> Result<::http::Response<Body>, Status>;
}

/// How long the answer to a request may take to begin, among its extensions: for nodes that are reached over the network,
/// where that is longer than usual.
#[derive(Clone, Copy, Debug)]
pub struct AnswerWithin(pub Duration);

/// Everything that answers requests.
pub struct Api {
    store: Store,
    registry: Registry,
    tokens: Tokens,
    nodes: RwLock<HashMap<String, Arc<dyn NodeApi>>>,
    remote: OnceLock<Nodes>,
    pages: pages::Pages,
    turns: turns::Turns,
    openapi: openapi::Documents,
    metrics: metrics::Metrics,
    images: OnceLock<Images>,
    members: OnceLock<Members>,
    joining: OnceLock<join::Joining>,
    address: String,
}

impl Api {
    /// An API over a store. `address` is `host:port`, as discovery tells clients.
    pub fn new(store: Store, registry: Registry, tokens: Tokens, address: String) -> Arc<Api> {
        let metrics = metrics::Metrics::new(&store);
        Arc::new(Api {
            store,
            registry,
            tokens,
            nodes: RwLock::default(),
            remote: OnceLock::new(),
            pages: pages::Pages::default(),
            turns: turns::Turns::default(),
            openapi: openapi::Documents::default(),
            metrics,
            images: OnceLock::new(),
            members: OnceLock::new(),
            joining: OnceLock::new(),
            address,
        })
    }

    /// Makes the API of a node of this process reachable under the node's name.
    pub fn add_node(&self, name: &str, node: Arc<dyn NodeApi>) {
        self.nodes.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.into(), node);
    }

    /// Reaches the other nodes over the network.
    pub fn reach_nodes(&self, nodes: Nodes) {
        // There is one way, from the start on.
        let _ = self.remote.set(nodes);
    }

    /// Serves the image registry under `/v2/`.
    pub fn serve_images(&self, images: Images) {
        // There is one, from the start on.
        let _ = self.images.set(images);
    }

    /// Lets servers join, be seen and leave.
    pub fn serve_members(&self, members: Members) {
        // There is one group, from the start on.
        let _ = self.members.set(members);
    }

    /// Lets agents (and, with [`Api::serve_members`], servers) join by a token. `url` is this server's own, as others reach
    /// it; empty where that is not known.
    pub fn serve_joining(&self, pki: Arc<Pki>, url: String) {
        // There is one, from the start on.
        let _ = self.joining.set(join::Joining { pki, url });
    }

    /// The store underneath, for whoever runs in the same process.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Answers one HTTP request. `certificate` is the user of the client certificate, if there was one.
    pub async fn http(
        self: Arc<Self>,
        request: ::http::Request<hyper::body::Incoming>,
        certificate: Option<Arc<UserInfo>>,
    ) -> ::http::Response<Body> {
        // What the registry answers is known by its digest: no byte of it changes.
        let image = images::serves(request.uri().path());
        let pretty = !image && body::wants_pretty(request.uri().query().unwrap_or_default(), request.headers());
        // Most requests have no body, and nothing to hold.
        let empty = request.body().is_end_stream();
        let version = request.version();
        let head_only = request.method() == ::http::Method::HEAD;
        let accept = respond::accept_of(request.headers());
        let (mut head, incoming) = request.into_parts();
        if image {
            images::take_password_as_token(&mut head.headers);
        }
        let incoming = body::Held::new(incoming);
        let held = (!empty).then(|| incoming.clone());
        let request = ::http::Request::from_parts(head, incoming.boxed());
        // A join token is no user's.
        let mut response = if join::serves(request.uri().path()) {
            self.join(request, certificate).await
        } else {
            match self.authenticate(&request, certificate) {
                Ok(user) => self.serve(request, user).await,
                Err(status) if image => images::refuse(request, status).await,
                Err(status) => respond::refusal(&status, &accept),
            }
        };
        let foreign = response.extensions_mut().remove::<body::Foreign>().is_some();
        if pretty && !foreign {
            response = body::pretty(response).await;
        }
        if head_only && !image && !foreign {
            respond::without_body(&mut response);
        }
        match held {
            Some(mut held) => {
                // Over HTTP/1 that would invite a client that waits for `100 Continue` to send what is refused already.
                if version == ::http::Version::HTTP_2 && !foreign {
                    held.drain().await;
                }
                held.until_sent(response)
            }
            None => response,
        }
    }
}
