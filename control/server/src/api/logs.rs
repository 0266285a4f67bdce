//! `pods/log`: the pod's node is asked, its answer handed through.

use std::sync::Arc;

use copepod_client::{Body, body};
use copepod_machine::View as _;
use copepod_model::pod_log::PodLogOptions;
use copepod_model::{ApiRequest, Status};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::path::Query;
use super::{Api, NodeApi};

impl Api {
    /// Streams a container's log.
    pub(super) async fn pod_log(&self, request: &ApiRequest, query: &Query) -> Result<Response<Body>, Status> {
        let options = PodLogOptions::read(|name| query.get(name)).map_err(Status::bad_request)?;
        match options.errors().as_slice() {
            [] => {}
            errors => return Err(Status::invalid("", "PodLogOptions", &request.name, errors)),
        }
        let pod = self.current().await?.get("pods", &request.namespace, &request.name);
        let pod = pod.ok_or_else(|| Status::not_found("pods", &request.name))?.value();
        let container = container(&pod, &request.name, query.get("container").unwrap_or_default())?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            // Upstream answers an empty log for a pod that no node has yet.
            return Ok(super::respond::text(200, ""));
        }
        let node = self.node(node)?;
        let mut uri = format!("/containerLogs/{}/{}/{container}", request.namespace, request.name);
        let mut separator = '?';
        for name in PodLogOptions::NAMES {
            if let Some(value) = query.get(name) {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:+".contains(&b);
                if !value.bytes().all(plain) {
                    return Err(Status::bad_request(format!("{name}: Invalid value: {value:?}")));
                }
                uri.push_str(&format!("{separator}{name}={}", value.replace('+', "%2B")));
                separator = '&';
            }
        }
        let request = Request::get(uri).body(body("")).map_err(|e| Status::bad_request(e.to_string()))?;
        let answer = node.request(request).await?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        // Nodes answer errors in bare text.
        let text = Limited::new(answer.into_body(), 64 * 1024).collect().await.map_err(Status::internal)?.to_bytes();
        Err(Status::from_json(code.as_u16(), &text))
    }

    /// The API of a node: of this process if it is here, else where its Node says that it is.
    pub(super) fn node(&self, name: &str) -> Result<Arc<dyn NodeApi>, Status> {
        let here = self.nodes.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(name).cloned();
        if let Some(here) = here {
            return Ok(here);
        }
        let unreachable = || Status::internal(format!("node \"{name}\" cannot be reached"));
        let remote = self.remote.get().ok_or_else(unreachable)?;
        let node = self.store.snapshot().get("nodes", "", name).ok_or_else(|| Status::not_found("nodes", name))?;
        remote.node(&node)
    }
}

/// The container that is asked for, or the only one.
pub(super) fn container(pod: &Value, name: &str, asked: &str) -> Result<String, Status> {
    let of = |field: &str| -> Vec<&str> {
        pod["spec"][field].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (containers, inits, ephemeral) = (of("containers"), of("initContainers"), of("ephemeralContainers"));
    if !asked.is_empty() {
        if containers.iter().chain(&inits).chain(&ephemeral).any(|c| *c == asked) {
            return Ok(asked.into());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    match containers.as_slice() {
        [one] => Ok((*one).into()),
        many => {
            let inits = if inits.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", inits.join(" "))
            };
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{inits}",
                many.join(" ")
            )))
        }
    }
}
