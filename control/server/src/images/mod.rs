//! The cluster's own image registry: the OCI distribution API (1.1) under `/v2/` on the API's port. What the repositories have is in
//! the cluster's state; the content is in files, at each server all of it.
//!
//! Who asks is known by a client certificate, a bearer token, or Basic with a token as the password. What they may do is
//! RBAC on the resource `images.copepod.dev`: `get` to pull, `update` to push, `delete`, and `list` for the catalog. A
//! repository `NAMESPACE/NAME` lies in that namespace; a repository without a slash is cluster-scoped.

mod blobs;
mod content;
mod error;
mod files;
mod import;
mod index;
mod manifests;
mod path;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_client::Body;
use copepod_model::{Status, UserInfo};
use copepod_registry::{Attributes, image_attributes};
use copepod_state::{Op, Outcome, Require, Txn};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::api::path::Query;
use crate::api::respond;
use crate::peers::Network;
use crate::store::Store;
use error::OciError;
use files::Files;
use index::{Index, Kind};
use path::{Digest, Route};

/// The name that the registry has in the images of pods.
pub const HOST: &str = copepod_registry::IMAGE_HOST;
/// How long one request may take, uploads of large blobs included.
const DEADLINE: Duration = Duration::from_secs(1800);
/// How long a client may fall silent while it sends.
const SILENCE: Duration = Duration::from_secs(60);
/// The greatest blob and manifest, in bytes.
const MAX_BLOB: u64 = 1 << 30;
const MAX_MANIFEST: usize = 4 << 20;
/// What is still read of a request that was refused, and for how long.
const REST: usize = 64 << 20;
const REST_DEADLINE: Duration = Duration::from_secs(10);
/// How many uploads may be under way.
const MAX_UPLOADS: usize = 256;

/// Who may do what, as the API decides it.
pub trait Authorizer: Sync {
    /// Whether it may be done.
    fn allowed(&self, attributes: &Attributes<'_>) -> Result<(), Status>;
}

/// The registry. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    files: Files,
    store: Store,
    network: Option<Network>,
    /// Held from the arrival of content until somebody has it, and while content is removed that nobody has any more.
    links: tokio::sync::Mutex<()>,
    /// Uploads that somebody is adding to.
    busy: Mutex<BTreeSet<String>>,
}

/// Whether a path is the registry's.
pub fn serves(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// `docker login` and its like send a user and a password: the password is a bearer token, whoever the user says to be.
pub fn take_password_as_token(headers: &mut http::HeaderMap) {
    use base64::Engine as _;
    let Some(text) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return };
    let Some((_, encoded)) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")) else {
        return;
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).unwrap_or_default();
    let text = String::from_utf8(decoded).unwrap_or_default();
    let password = text.split_once(':').map_or("", |(_, p)| p);
    // One that is no token is refused as such, and not taken for nobody.
    let bearer = format!("Bearer {password}").parse().unwrap_or(header::HeaderValue::from_static("Bearer -"));
    headers.insert(header::AUTHORIZATION, bearer);
}

/// A refusal that has nothing to do with images.
pub async fn refuse(mut request: Request<Body>, status: Status) -> Response<Body> {
    finish_reading(&mut request).await;
    OciError::from(status).response()
}

/// A client that sends a body at once, without credentials first as many do, reads its answer only when all is sent; a connection
/// that is closed meanwhile tells it nothing. (RFC 9112 §9.6; Go's server reads on, too.) One that asks before it sends is spared.
async fn finish_reading(request: &mut Request<Body>) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let body = request.body_mut();
    let rest = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len());
            if read > REST {
                break;
            }
        }
    };
    // Whoever is slower does without the answer.
    let _ = tokio::time::timeout(REST_DEADLINE, rest).await;
}

/// What a request is about.
struct Call<'a> {
    user: &'a UserInfo,
    authorizer: &'a dyn Authorizer,
    query: Query,
}

impl Call<'_> {
    /// Whether the user may do something with a repository (empty: with all of them).
    fn may(&self, verb: &str, repository: &str) -> Result<(), OciError> {
        let (namespace, name) = repository.split_once('/').unwrap_or(("", repository));
        let attributes = image_attributes(self.user, verb, namespace, name);
        self.authorizer.allowed(&attributes).map_err(|status| match self.anonymous() {
            true => OciError::new(401, "UNAUTHORIZED", "authentication required"),
            false => {
                OciError::new(403, "DENIED", format!("requested access to the resource is denied: {}", status.message))
            }
        })
    }

    /// Who may push may look at what is there.
    fn may_read(&self, repository: &str) -> Result<(), OciError> {
        self.may("get", repository).or_else(|refused| self.may("update", repository).map_err(|_| refused))
    }

    fn anonymous(&self) -> bool {
        self.user.name == "system:anonymous"
    }
}

impl Images {
    /// The registry whose content is in `dir`, which is made if need be, and at the other servers.
    pub fn open(dir: PathBuf, store: Store, network: Option<Network>) -> io::Result<Images> {
        let (links, busy) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Images(Arc::new(Inner { files: Files::open(dir)?, store, network, links, busy })))
    }

    /// Answers a request of a known user.
    pub async fn answer(
        &self,
        mut request: Request<Body>,
        user: &UserInfo,
        authorizer: &dyn Authorizer,
    ) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let answered = tokio::time::timeout(DEADLINE, self.route(&mut request, user, authorizer)).await;
        let answer = answered.unwrap_or_else(|_| Err(OciError::new(408, "UNKNOWN", "the request took too long")));
        let mut response = answer.unwrap_or_else(|e| e.response());
        if response.status().as_u16() >= 400 {
            finish_reading(&mut request).await;
        }
        let version = header::HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
        if head {
            // What it would be, without the body.
            let length = hyper::body::Body::size_hint(response.body()).exact();
            if let Some(n) = length.filter(|_| !response.headers().contains_key(header::CONTENT_LENGTH)) {
                response.headers_mut().insert(header::CONTENT_LENGTH, n.into());
            }
            *response.body_mut() = copepod_client::body("");
        }
        response
    }

    async fn route(
        &self,
        request: &mut Request<Body>,
        user: &UserInfo,
        authorizer: &dyn Authorizer,
    ) -> Result<Response<Body>, OciError> {
        let route = path::parse(request.uri().path())?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let call = Call { user, authorizer, query };
        let method = request.method().clone();
        let read = matches!(method, Method::GET | Method::HEAD);
        match route {
            // Clients learn here how to authenticate, so nobody is let in unknown.
            Route::Base if call.anonymous() => Err(OciError::new(401, "UNAUTHORIZED", "authentication required")),
            Route::Base if read => Ok(respond::json(200, &json!({}))),
            Route::Catalog if read => {
                call.may("list", "")?;
                let all = self.index().await.repositories();
                let (page, next) = cut(&call.query, all);
                Ok(linked(
                    respond::json(200, &json!({"repositories": page})),
                    next.map(|n| format!("/v2/_catalog?{n}")),
                ))
            }
            Route::Tags(name) if read => {
                call.may_read(&name)?;
                let index = self.index().await;
                if !index.exists(&name) {
                    return Err(OciError::new(404, "NAME_UNKNOWN", "repository name not known to registry"));
                }
                let (page, next) = cut(&call.query, index.tags(&name));
                let answer = respond::json(200, &json!({"name": name, "tags": page}));
                Ok(linked(answer, next.map(|n| format!("/v2/{name}/tags/list?{n}"))))
            }
            Route::Manifest(name, reference) => self.manifest(&call, request, name, reference).await,
            Route::Referrers(name, digest) if read => self.referrers(&call, name, digest).await,
            Route::Blob(name, digest) => self.blob(&call, request, name, digest).await,
            Route::Uploads(name) if method == Method::POST => self.begin_upload(&call, request, name).await,
            Route::Upload(name, id) => self.upload(&call, request, name, id).await,
            _ => Err(OciError::new(405, "UNSUPPORTED", "the operation is unsupported")),
        }
    }

    /// What the repositories have, all that any server has acknowledged; without a leader, what is known here.
    async fn index(&self) -> Index {
        let store = &self.0.store;
        Index(store.read_index().await.unwrap_or_else(|_| store.snapshot()))
    }

    async fn propose(&self, txn: Txn) -> Result<Outcome, OciError> {
        Ok(self.0.store.propose(txn).await?)
    }

    /// Keeps a complete file whose digest was computed, for whom `txn` gives it to.
    async fn keep(&self, file: PathBuf, digest: &Digest, txn: Txn) -> Result<Outcome, OciError> {
        let _held = self.0.links.lock().await;
        let which = digest.clone();
        self.disk(move |files| files.keep(&file, &which)).await?;
        self.propose(txn).await
    }

    /// Takes something away from a repository, with the tags that stand for it, and the content if no other has it (the other
    /// servers remove theirs when they sweep); `false` if there is no such thing.
    async fn unlink(&self, repository: &str, kind: Kind, digest: &Digest) -> Result<bool, OciError> {
        let link = kind.key(repository, digest);
        loop {
            let tags = match kind {
                Kind::Blob => Vec::new(),
                Kind::Manifest => self.index().await.tags_of(repository, digest),
            };
            let mut txn = Txn { require: vec![Require::Exists(link.clone())], ..Txn::default() };
            txn.ops.push(Op::Delete { key: link.clone() });
            for (key, revision) in tags {
                txn.require.push(Require::At(key.clone(), revision));
                txn.ops.push(Op::Delete { key });
            }
            match self.propose(txn).await? {
                Outcome::Applied(_) => break,
                Outcome::Failed(0) => return Ok(false),
                // One of the tags was set to something else meanwhile.
                _ => {}
            }
        }
        let _held = self.0.links.lock().await;
        if !Index(self.0.store.snapshot()).digests().contains(digest) {
            let which = digest.clone();
            self.disk(move |files| files.remove(&which)).await?;
        }
        Ok(true)
    }

    /// Runs disk work off the event loop.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> Result<T, OciError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner.files)).await;
        Ok(done.map_err(io::Error::other)??)
    }
}

/// One page of a sorted list by the query's `n` and `last`, and the query of the next.
fn cut(query: &Query, all: Vec<String>) -> (Vec<String>, Option<String>) {
    let last = query.get("last").unwrap_or_default();
    let mut rest: Vec<String> = all.into_iter().filter(|name| name.as_str() > last).collect();
    let Some(n) = query.get("n").and_then(|n| n.parse::<usize>().ok()) else { return (rest, None) };
    let more = rest.len() > n;
    rest.truncate(n);
    let next = rest.last().filter(|_| more).map(|last| format!("n={n}&last={last}"));
    (rest, next)
}

fn linked(mut response: Response<Body>, next: Option<String>) -> Response<Body> {
    if let Some(value) = next.and_then(|n| format!("<{n}>; rel=\"next\"").parse().ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

/// An answer without a body.
fn empty(status: u16, headers: &[(&'static str, String)]) -> Response<Body> {
    let mut response = Response::new(copepod_client::body(""));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
