//! Joining: `/copepod.dev/v1/ca` for everyone, `join/agent` and `join/server` for who has a token, `renew/agent` for who has a
//! node's certificate. None of them goes through RBAC: a joining machine is nobody yet.

mod agent;
mod server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_client::Body;
use copepod_client::join::{CA, JOIN_AGENT, JOIN_SERVER, RENEW_AGENT};
use copepod_machine::View as _;
use copepod_model::join_token::{self, NAMESPACE, Refusal, Role};
use copepod_model::{Status, UserInfo};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use super::{Api, respond};
use crate::now;
use crate::pki::Pki;

/// The longest request body in bytes: a name, addresses and two requests for certificates.
const BODY: usize = 64 << 10;
/// How long a client may take to send it.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// How long the whole may take. A server that joins waits for the group's agreement.
const DEADLINE: Duration = Duration::from_secs(30);

/// What joining machines get their papers from.
pub(super) struct Joining {
    pub pki: Arc<Pki>,
    /// This server's own URL; empty where it is not known.
    pub url: String,
}

/// Whether a path is one of these.
pub(super) fn serves(path: &str) -> bool {
    [CA, JOIN_AGENT, JOIN_SERVER, RENEW_AGENT].contains(&path)
}

impl Api {
    /// Answers a request to one of these paths. `certificate` is the user of the client certificate, if there was one.
    pub(super) async fn join(
        self: &Arc<Self>,
        request: Request<Body>,
        certificate: Option<Arc<UserInfo>>,
    ) -> Response<Body> {
        let late = || Status::timeout("joining did not complete within the allotted timeout");
        let answered = tokio::time::timeout(DEADLINE, self.join_route(request, certificate)).await;
        answered.unwrap_or_else(|_| Err(late())).unwrap_or_else(|status| respond::status(&status))
    }

    async fn join_route(
        self: &Arc<Self>,
        request: Request<Body>,
        certificate: Option<Arc<UserInfo>>,
    ) -> Result<Response<Body>, Status> {
        let joining = self.joining.get().ok_or_else(Status::no_such_path)?;
        let path = request.uri().path().to_string();
        let wanted = if path == CA { Method::GET } else { Method::POST };
        if *request.method() != wanted && !(path == CA && *request.method() == Method::HEAD) {
            return Err(Status::method_not_supported(&path, request.method().as_str()));
        }
        let answer = match path.as_str() {
            CA => {
                let pem = Bytes::from(joining.pki.ca_pem().to_string());
                return Ok(respond::bytes(200, "application/x-pem-file", pem));
            }
            JOIN_AGENT => {
                self.check_token(&request, Role::Agent).await?;
                let certificate = certificate.as_deref().and_then(agent::node_of).map(Into::into);
                self.join_agent(joining, certificate, read(request).await?).await.and_then(json)
            }
            JOIN_SERVER => {
                self.check_token(&request, Role::Server).await?;
                self.join_server(joining, read(request).await?).await.and_then(json)
            }
            _ => {
                let node = certificate.as_deref().and_then(agent::node_of).ok_or_else(Status::unauthorized)?;
                self.renew_agent(joining, node, read(request).await?).await.and_then(json)
            }
        };
        answer.map(|value| respond::json(200, &value))
    }

    /// 401 for who does not bear a token that holds, 403 for who bears one for something else.
    async fn check_token(&self, request: &Request<Body>, role: Role) -> Result<(), Status> {
        let said = |why: &str| Status { message: why.into(), ..Status::unauthorized() };
        let unknown = || said("the join token is not known: it was never made, is deleted, or is another cluster's");
        let value = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (id, secret) = token.and_then(|(_, t)| join_token::parse_bearer(t.trim())).ok_or_else(unknown)?;
        // One that was made a moment ago at another server is good here as well.
        let view = self.store.read_index().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let object = view.get("secrets", NAMESPACE, &join_token::secret_name(id)).ok_or_else(unknown)?;
        let object = self.registry.unseal(&*view, &object)?;
        join_token::check(&object, secret, role, now()).map_err(|refusal| match refusal {
            Refusal::Unknown => unknown(),
            Refusal::Expired => said("the join token has expired"),
            Refusal::Usage(usage) => {
                let mut status = Status::forbidden("", "", "");
                status.message = format!("the join token is for joining as: {}", usage.as_str());
                status
            }
        })
    }
}

/// The JSON body of a request.
async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Status> {
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(request.into_body(), BODY).collect()).await;
    let whole = whole.map_err(|_| Status::timeout("the request body did not arrive in time"))?;
    let bytes = whole.map_err(|e| match e.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => Status::too_large(format!("limit is {BODY}")),
        None => Status::bad_request(e.to_string()),
    })?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|e| Status::bad_request(e.to_string()))
}

fn json(value: impl serde::Serialize) -> Result<serde_json::Value, Status> {
    serde_json::to_value(value).map_err(Status::internal)
}
