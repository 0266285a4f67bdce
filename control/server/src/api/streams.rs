//! `pods/exec`, `pods/attach`, `pods/portforward` and `nodes/proxy`: the client's connection goes on to the node, which
//! speaks the protocol with it. In this process the upgrade itself is handed over; a node elsewhere gets a connection of
//! its own, and the bytes are copied (`crate::nodes`).

use std::sync::Arc;

use copepod_client::{Body, body};
use copepod_machine::View as _;
use copepod_model::{ApiRequest, Status, Verb};
use http::{Method, Request, Response};

use super::Api;
use super::logs::container;
use super::path::{Query, ResourcePath};

/// What of a client's head matters to the node.
const HANDSHAKE: [&str; 8] = [
    "accept",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
];

/// Whether a request is for a subresource that is answered with a stream.
pub(super) fn is_stream(path: &ResourcePath) -> bool {
    path.group.is_empty()
        && path.version == "v1"
        && match path.resource.as_str() {
            "pods" => matches!(path.subresource.as_str(), "exec" | "attach" | "portforward"),
            "nodes" => path.subresource == "proxy",
            _ => false,
        }
}

impl Api {
    /// Hands an authorized request on to the node.
    pub(super) async fn stream(
        self: &Arc<Self>,
        api: &ApiRequest,
        path: &ResourcePath,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        if path.resource == "nodes" {
            return self.node_proxy(path, request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(Status::method_not_supported("pods", api.verb.as_str()));
        }
        // A WebSocket begins with a GET; what it does is as much as a POST does, and takes the same right.
        if api.verb == Verb::Get {
            let create = ApiRequest { verb: Verb::Create, ..api.clone() };
            self.authorize(&create)?;
        }
        let pod = self.current().await?.get("pods", &api.namespace, &api.name);
        let pod = pod.ok_or_else(|| Status::not_found("pods", &api.name))?.value();
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", api.name)));
        }
        let uri = match path.subresource.as_str() {
            "portforward" => {
                let ports: Vec<&str> = query.all("ports").collect();
                let uri = format!("/portForward/{}/{}", api.namespace, api.name);
                if ports.is_empty() { uri } else { format!("{uri}?ports={}", escape(&ports.join(","))) }
            }
            verb => {
                let container = container(&pod, &api.name, query.get("container").unwrap_or_default())?;
                let mut uri = format!("/{verb}/{}/{}/{container}?", api.namespace, api.name);
                for (ours, nodes) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
                    if query.flag(ours) {
                        uri.push_str(&format!("{nodes}=1&"));
                    }
                }
                for word in query.all("command") {
                    uri.push_str(&format!("command={}&", escape(word)));
                }
                uri
            }
        };
        let node = self.node(node)?;
        node.request(onward(request, uri)?).await
    }

    /// `nodes/NAME/proxy/PATH`: the node's own API.
    async fn node_proxy(&self, path: &ResourcePath, request: Request<Body>) -> Result<Response<Body>, Status> {
        let name = path.name.split(':').next().unwrap_or_default();
        if self.current().await?.get("nodes", "", name).is_none() {
            return Err(Status::not_found("nodes", name));
        }
        let node = self.node(name)?;
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        let rest: Vec<String> = path.rest.split('/').map(escape).collect();
        node.request(onward(request, format!("/{}{query}", rest.join("/")))?).await
    }
}

/// The same request to the node, with the client's upgrade.
fn onward(mut request: Request<Body>, uri: String) -> Result<Request<Body>, Status> {
    let mut out = Request::builder().method(request.method().clone()).uri(uri);
    for name in HANDSHAKE {
        for value in request.headers().get_all(name) {
            out = out.header(name, value);
        }
    }
    let mut out = out.body(body("")).map_err(|e| Status::bad_request(e.to_string()))?;
    if let Some(upgrade) = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>() {
        out.extensions_mut().insert(upgrade);
    }
    Ok(out)
}

/// Percent-encoding of everything that is not unreserved (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
