//! `pods/NAME/proxy` and `services/NAME/proxy`: a client's request goes on to a port of a pod. The pod network is the nodes';
//! the node that has the pod is asked to send it (`/podProxy/…` of its API, as `node/streams/src/proxy.rs` reads it).

mod rewrite;
mod target;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::{Body, body};
use copepod_model::{Status, UserInfo};
use copepod_registry::Attributes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Body as _;

use super::path::ResourcePath;
use super::{AnswerWithin, Api, body::Foreign, respond};
use crate::random;
use rewrite::Way;

/// Nodes keep the time of a proxied request; this is how long one is believed to. It is their limit for idle streams.
const ANSWER: Duration = Duration::from_secs(4 * 60 * 60);

/// The address of a client, among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Whether a path is one of a proxy to pods. Its query is no business of the API's.
pub(super) fn serves(path: &ResourcePath) -> bool {
    path.group.is_empty()
        && path.version == "v1"
        && path.subresource == "proxy"
        && !path.namespace.is_empty()
        && !path.watch
        && matches!(path.resource.as_str(), "pods" | "services")
}

/// The verb of a method; upstream has none for OPTIONS, which takes a rule for all verbs then.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

impl Api {
    /// Sends a request of `user` on, if they may.
    pub(super) async fn proxy(
        self: &Arc<Self>,
        request: Request<Body>,
        user: &UserInfo,
        path: &ResourcePath,
    ) -> Result<Response<Body>, Status> {
        let (namespace, id) = (path.namespace.as_str(), path.name.as_str());
        let verb = verb(request.method());
        let (resource, subresource) = (path.resource.as_str(), "proxy");
        self.allowed(&Attributes { user, verb, group: "", resource, subresource, namespace, name: id, path: None })?;
        if verb.is_empty() && request.method() != Method::OPTIONS {
            return Err(Status::method_not_supported(resource, request.method().as_str()));
        }
        let view = self.current().await?;
        let target = match resource {
            "pods" => target::of_pod(&*view, namespace, id)?,
            _ => {
                let mut seed = [0; 8];
                random(&mut seed);
                target::of_service(&*view, namespace, id, u64::from_le_bytes(seed))?
            }
        };
        let way = Way::new(path, request.uri().path(), &target);
        let changes = request.body().is_end_stream() && rewrite::wants_upgrade(request.headers());
        if !changes
            && way.path.is_empty()
            && let Some(to) = way.with_slash(request.method(), request.uri())
        {
            return moved(&to);
        }
        let host = rewrite::host(&request);
        let peer = request.extensions().get::<Peer>().copied();
        let onward = onward(request, &way, &target, changes, peer)?;
        let mut answer = self.node(&target.node)?.request(onward).await?;
        let code = answer.status();
        if code == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        if changes && code.as_u16() < 400 {
            let message = format!("invalid upgrade response: status code {}", code.as_u16());
            return Err(Status { code: 500, reason: "", message, details: None });
        }
        rewrite::answer(answer.headers_mut(), &way, &host);
        answer.extensions_mut().insert(Foreign);
        Ok(answer)
    }
}

/// The request as the node gets it.
fn onward(
    request: Request<Body>,
    way: &Way,
    target: &target::Target,
    changes: bool,
    peer: Option<Peer>,
) -> Result<Request<Body>, Status> {
    let host = rewrite::host(&request);
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let uri = format!("{}{}{query}", target.at_node(), if way.path.is_empty() { "/" } else { &way.path });
    let (mut head, sent) = request.into_parts();
    head.uri = uri.parse().map_err(|_| Status::bad_request("the path cannot be sent on"))?;
    head.version = http::Version::HTTP_11;
    rewrite::request(&mut head.headers, way, &host, peer.map(|Peer(at)| at.ip()), changes);
    let upgrade = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
    head.extensions.clear();
    head.extensions.insert(AnswerWithin(ANSWER));
    if let Some(upgrade) = upgrade.filter(|_| changes) {
        head.extensions.insert(upgrade);
    }
    Ok(Request::from_parts(head, sent))
}

/// A redirect to where a path ends with a slash, for links that are relative to it.
fn moved(to: &str) -> Result<Response<Body>, Status> {
    let mut answer = respond::text(301, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(to).map_err(Status::internal)?);
    *answer.body_mut() = body("");
    Ok(answer)
}
