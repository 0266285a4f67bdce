//! One HTTP request from its head to its answer: who asks, what for, may they, do it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use copepod_client::Body;
use copepod_model::{Status, UserInfo};
use http::{HeaderMap, Method, Request, Response, header};

use super::negotiate::{self, Endpoint};
use super::path::{self, Query, Target};
use super::{Api, discovery, proxy, respond};
use crate::auth::impersonate;
use crate::images;

/// How long a request that is neither a watch nor a followed log may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The user of a request in the order of upstream's authenticators (`kubeapiserver/authenticator`): that of the client
/// certificate, which TLS has verified, and then no token is looked at; else that of a bearer token, and one that does not hold is
/// 401; else nobody. `bearer` finds a token's user.
fn who(
    certificate: Option<Arc<UserInfo>>,
    headers: &HeaderMap,
    bearer: impl FnOnce(&str) -> Result<Option<UserInfo>, Status>,
) -> Result<Arc<UserInfo>, Status> {
    if let Some(user) = certificate {
        return Ok(user);
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token =
            text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, t)| t.trim());
        if let Some(token) = token {
            return bearer(token)?.map(Arc::new).ok_or_else(Status::unauthorized);
        }
    }
    Ok(Arc::new(UserInfo {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..UserInfo::default()
    }))
}

impl Api {
    /// The user of a request: [`who`].
    pub(super) fn authenticate(
        &self,
        request: &Request<Body>,
        certificate: Option<Arc<UserInfo>>,
    ) -> Result<Arc<UserInfo>, Status> {
        who(certificate, request.headers(), |token| Ok(self.bearer(token, &[])?.map(|(user, _)| user)))
    }

    /// Answers a request of a known user.
    pub(super) async fn serve(self: &Arc<Self>, request: Request<Body>, user: Arc<UserInfo>) -> Response<Body> {
        let started = Instant::now();
        let method = request.method().clone();
        let uri = request.uri().clone();
        let accept = respond::accept_of(request.headers());
        if images::serves(uri.path())
            && let Some(images) = self.images.get()
        {
            let answer = images.answer(request, &user, &**self).await;
            self.metrics.request(&method, answer.status(), started.elapsed());
            return answer;
        }
        let answer = match self.route(request, user).await {
            Ok(answer) => answer,
            Err(status) if status == Status::no_such_path() => self.nowhere(uri.path(), &accept),
            Err(status) => respond::refusal(&status, &accept),
        };
        self.metrics.request(&method, answer.status(), started.elapsed());
        answer
    }

    /// The answer for a path that nothing serves: a Status within a group and version that there is, else plain text.
    fn nowhere(&self, path: &str, accept: &str) -> Response<Body> {
        let known = |group: &str, version: &str| {
            self.registry.kinds.every_version().any(|k| (k.group, k.version) == (group, version))
                || discovery::is_virtual(group, version)
        };
        match path::parse(path) {
            Ok(Target::Resource(p)) if known(&p.group, &p.version) => {
                respond::refusal(&Status { details: Some(Box::default()), ..Status::no_such_path() }, accept)
            }
            _ => respond::text(404, "404 page not found\n"),
        }
    }

    /// The user that a request acts as: `user`, or whom its headers name if `user` may impersonate them.
    fn acting(&self, request: &Request<Body>, user: Arc<UserInfo>) -> Result<Arc<UserInfo>, Status> {
        let Some(other) = impersonate::requested(request.headers())? else { return Ok(user) };
        for grant in &other.grants {
            self.allowed(&grant.attributes(&user))?;
        }
        Ok(Arc::new(other.user))
    }

    async fn route(self: &Arc<Self>, request: Request<Body>, user: Arc<UserInfo>) -> Result<Response<Body>, Status> {
        let user = self.acting(&request, user)?;
        let target = path::parse(request.uri().path())?;
        if let Target::Resource(path) = target {
            // As long as the pod takes.
            if proxy::serves(&path) {
                return self.proxy(request, &user, &path).await;
            }
            let query = Query::parse(request.uri().query().unwrap_or_default())?;
            // Watches and followed logs end by their own clock; the head of their answer comes at once all the same.
            return tokio::time::timeout(DEADLINE, self.resource(request, user, path, query))
                .await
                .unwrap_or_else(|_| Err(Status::timeout("request did not complete within the allotted timeout")));
        }
        let url = request.uri().path().to_string();
        let verb = match *request.method() {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::DELETE => "delete",
            Method::PATCH => "patch",
            _ => "options",
        };
        if super::members::serves(&url) {
            return self.members_request(request, &user, verb).await;
        }
        self.authorize_url(&user, verb, &url)?;
        if url == super::secrets::PATH {
            return self.rotate_key(request.method()).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Status::no_such_path());
        }
        if url == super::snapshot::PATH {
            return self.snapshot(request.method()).await;
        }
        self.url(&request, target)
    }

    fn url(&self, request: &Request<Body>, target: Target) -> Result<Response<Body>, Status> {
        let kinds = &self.registry.kinds;
        let header =
            |name| request.headers().get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).unwrap_or_default();
        let query = || Query::parse(request.uri().query().unwrap_or_default());
        let plain = |value: serde_json::Value| {
            let accepted = negotiate::accept(header("accept"), Endpoint::PLAIN)?;
            respond::encoded(200, &value, accepted.encoding)
        };
        match target {
            Target::CoreVersions | Target::Groups => {
                let core = target == Target::CoreVersions;
                if let Some(beta) = negotiate::aggregated(header("accept")) {
                    let version = if beta { "v2beta1" } else { "v2" };
                    let media = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
                    let all = discovery::aggregated(kinds, core, beta);
                    return Ok(respond::tagged(all.to_string().into(), &media, header("if-none-match")));
                }
                plain(if core { discovery::core_versions(&self.address) } else { discovery::api_groups(kinds) })
            }
            Target::Group(group) => plain(discovery::one_group(kinds, &group).ok_or_else(Status::no_such_path)?),
            Target::GroupVersion(group, version) => {
                plain(discovery::resources(kinds, &group, &version).ok_or_else(Status::no_such_path)?)
            }
            _ => {
                let path = request.uri().path();
                if let Some(answer) = self.openapi.answer(kinds, path, header("accept"), header("if-none-match")) {
                    return Ok(answer);
                }
                match path {
                    "/version" | "/version/" => Ok(respond::json(200, &super::health::version())),
                    "/metrics" => Ok(self.metrics.answer(&self.store)),
                    "/" => Ok(respond::json(200, &super::health::paths())),
                    _ if ["healthz", "livez", "readyz"].contains(&path.split('/').nth(1).unwrap_or_default()) => {
                        self.health(path, &query()?)
                    }
                    _ => Err(Status::no_such_path()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_before_a_token_and_a_bad_token_before_nobody() {
        let named = |name: &str| UserInfo { name: name.into(), ..UserInfo::default() };
        let bearer = |token: &str| match token {
            "good" => Ok(Some(named("token"))),
            "broken" => Err(Status::internal("it cannot be opened")),
            _ => Ok(None),
        };
        let asked = |certificate: bool, authorization: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = authorization {
                headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            }
            let certificate = certificate.then(|| Arc::new(named("certificate")));
            who(certificate, &headers, bearer).map(|user| user.name.clone()).map_err(|e| e.code)
        };
        for (authorization, alone) in [
            (None, Ok("system:anonymous")),
            (Some("Bearer good"), Ok("token")),
            (Some("bearer good"), Ok("token")),
            (Some("Bearer bad"), Err(401)),
            (Some("Bearer broken"), Err(500)),
            (Some("Basic Z29vZDpnb29k"), Ok("system:anonymous")),
        ] {
            assert_eq!(asked(false, authorization), alone.map(String::from), "{authorization:?}");
            assert_eq!(asked(true, authorization), Ok("certificate".to_string()), "{authorization:?} beside one");
        }
    }
}
