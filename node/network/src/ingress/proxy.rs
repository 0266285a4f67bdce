//! One request: match, forward, answer.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use copepod_model::gateway::Retry;
use copepod_node_routes::{
    Asked, Backend, Before, Door, External, Found, RouteTable, ServicePort, Side, Treatment, is_among,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::{sleep, timeout};

use super::IngressConfig;
use super::access::Line;
use super::headers::{Forwarded, host_is_clear, strip};
use super::respond::{GRPC, Refusal, respond, respond_grpc};
use super::{mirror, treat};
use crate::body::{Body, Guarded, Progress, Received, empty};
use crate::connect::Source;
use crate::error::HttpError;
use crate::http::server::to_origin_form;
use crate::http::{ConnInfo, HttpOptions};
use crate::network::Network;
use crate::protocol::{Handle, upgrade};

/// What a request that leaves by a name says of the way it came (RFC 9110, section 7.6.3): a name may lead back here.
const VIA: &str = "1.1 copepod";
/// How often it may have come that way.
const MOST_HOPS: usize = 8;
/// As good as for ever.
const NO_TIMEOUT: Duration = Duration::from_secs(86_400 * 30);

/// What serves the requests of one connection.
pub(super) struct Front {
    network: Network,
    config: Arc<IngressConfig>,
    options: HttpOptions,
    info: ConnInfo,
    forwarded: Forwarded,
    door: Door,
}

/// Where a request goes.
enum Way {
    Service(Arc<ServicePort>),
    External(External),
}

impl Front {
    pub(super) fn new(network: Network, config: Arc<IngressConfig>, peer: SocketAddr, door: Door) -> Front {
        let ip = peer.ip().to_canonical();
        let proto = if config.tls.is_some() { "https" } else { "http" };
        // Both are always valid header values.
        let value = |text: String| HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let options = HttpOptions {
            connect_timeout: config.connect_timeout,
            first_byte_timeout: config.response_timeout,
            between_bytes_timeout: config.body_timeout,
            ..HttpOptions::default()
        };
        let forwarded = Forwarded {
            client: value(ip.to_string()),
            forwarded: value(match ip {
                IpAddr::V4(v4) => format!("for={v4};proto={proto}"),
                IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={proto}"),
            }),
            port: HeaderValue::from(door.ports[0]),
            proto: HeaderValue::from_static(proto),
        };
        Front { network, config, options, info: ConnInfo { local: peer, peer }, forwarded, door }
    }

    /// Answers a request; `line` is its own of the access log.
    async fn proxy(&self, mut request: Request<Incoming>, line: &mut Option<Line>) -> Result<Response<Body>, Refusal> {
        let Found { rule, prefix, .. } = self.route(&request)?;
        if rule.broken {
            return Err(Refusal::Broken);
        }
        let network = &self.network;
        let none = Treatment::default();
        let chosen = rule.choose(network.turn());
        let both = [&rule.treatment, chosen.map_or(&none, |c| &c.treatment)];
        let guest = treat::Guest::of(both, &request);
        if let Some(answer) = guest.as_ref().and_then(treat::Guest::preflight) {
            return Ok(answer);
        }
        let (host, path, query) = (host_of(&request)?, request.uri().path(), request.uri().query());
        let before = Before { tls: self.door.tls, host, port: self.door.ports[0], path, query, prefix };
        if let Some(mut elsewhere) = treat::redirect(both, before) {
            if let Some(guest) = &guest {
                guest.tell(elsewhere.headers_mut());
            }
            return Ok(elsewhere);
        }
        let backend = chosen.and_then(|c| c.backend.as_ref()).ok_or(Refusal::NoBackend)?;
        if let Some(line) = line {
            line.leads_to(backend);
        }
        let way = way(&network.routes(), backend)?;
        let limits = &rule.limits;
        let most = limits.body.unwrap_or(self.config.max_body_bytes);
        if request.body().size_hint().lower() > most {
            return Err(Refusal::TooLarge);
        }
        let protocol = upgrade::wanted(request.headers());
        let client = protocol.is_some().then(|| upgrade::take(&mut request));
        let idle = limits.send.unwrap_or(self.config.body_timeout);
        let received = match line {
            Some(line) => line.received(),
            None => (!request.body().is_end_stream()).then(Arc::default),
        };
        let mut request = self.rewrite(request, most, idle, received.clone());
        if let Some(protocol) = protocol {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, protocol);
        }
        treat::request(both, prefix, &mut request);
        if client.is_none() {
            for (to, share) in both.iter().flat_map(|t| &t.mirrors) {
                if is_among(network.turn(), *share) {
                    request = self.mirror(to, request, rule.grpc);
                }
            }
        }
        let mut options = HttpOptions { h2c: rule.grpc, ..self.options.clone() };
        options.connect_timeout = limits.connect.unwrap_or(options.connect_timeout);
        if let Some(time) = limits.read {
            (options.first_byte_timeout, options.between_bytes_timeout) = (time, time);
        }
        let patience = |t: Duration| if t.is_zero() { NO_TIMEOUT } else { t };
        if let Some(time) = rule.backend_timeout.or(rule.request_timeout) {
            options.first_byte_timeout = patience(time);
        }
        let retry = rule.retry.as_ref().filter(|_| client.is_none());
        let sent = self.attempts(&way, request, &options, retry);
        let sent = match rule.request_timeout.map(patience) {
            Some(time) => match timeout(time, sent).await {
                Ok(sent) => sent,
                Err(_) => return Err(Refusal::Failed(HttpError::ResponseTimeout)),
            },
            None => sent.await,
        };
        // An endpoint fails when the client does, and may be the first to say so.
        let clients = received.and_then(|received| received.failed());
        let mut response =
            sent.map_err(|refusal| clients.map_or(refusal, |kind| Refusal::Failed(HttpError::RequestBody(kind))))?;
        *response.version_mut() = Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            strip(response.headers_mut());
            if let Some(guest) = &guest {
                guest.tell(response.headers_mut());
            }
            treat::response(both, response.headers_mut());
            return Ok(response);
        }
        match client {
            Some(client) => {
                upgrade::splice(&self.network.0.runtime, client, &mut response);
                Ok(response)
            }
            None => Err(Refusal::Failed(HttpError::Protocol("101 without a request for it".into()))),
        }
    }

    /// What the request is for.
    fn route(&self, request: &Request<Incoming>) -> Result<Found, Refusal> {
        if request.method() == Method::CONNECT {
            return Err(Refusal::Method);
        }
        let in_target = request.uri().authority().is_some();
        if !host_is_clear(request.headers(), request.version(), in_target) {
            return Err(Refusal::BadRequest);
        }
        let asked = Asked {
            door: self.door,
            host: host_of(request)?,
            path: request.uri().path(),
            query: request.uri().query(),
            method: request.method().as_str(),
            header: &|name| value(request.headers(), name),
        };
        self.network.routes().match_http(&asked).ok_or(Refusal::NoRule)
    }

    /// Sends a request, and sends it again as a rule wants it. One with a body goes once only: it is not kept.
    async fn attempts(
        &self,
        way: &Way,
        mut request: Request<Body>,
        options: &HttpOptions,
        retry: Option<&Retry>,
    ) -> Result<Response<Body>, Refusal> {
        let Some(retry) = retry.filter(|_| request.body().is_end_stream()) else {
            return send(&self.network, way, request, options).await;
        };
        let mut left = retry.attempts;
        loop {
            let again = self.copy(&request, empty());
            let sent = send(&self.network, way, request, options).await;
            let failed = match &sent {
                Ok(response) => retry.codes.contains(&response.status().as_u16()),
                Err(refusal) => matches!(refusal, Refusal::Failed(_) | Refusal::NoEndpoint),
            };
            if !failed || left == 0 {
                return sent;
            }
            left -= 1;
            sleep(retry.backoff).await;
            request = again;
        }
    }

    /// The same request with another body.
    fn copy<B>(&self, request: &Request<B>, body: Body) -> Request<Body> {
        let mut copy = Request::new(body);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy.extensions_mut().insert(self.info);
        copy
    }

    /// Sends a copy of a request to another backend, which nobody waits for, and answers the request as it goes on.
    fn mirror(&self, to: &Backend, request: Request<Body>, h2c: bool) -> Request<Body> {
        let Ok(permit) = self.network.0.mirrors.clone().try_acquire_owned() else { return request };
        let (head, body) = request.into_parts();
        let (body, copied) = mirror::tee(body);
        let request = Request::from_parts(head, body);
        let copy = self.copy(&request, copied);
        let (network, to) = (self.network.clone(), to.clone());
        let options = HttpOptions { h2c, ..self.options.clone() };
        self.network.0.runtime.spawn(async move {
            let sent = match way(&network.routes(), &to) {
                Ok(way) => send(&network, &way, copy, &options).await,
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = sent {
                tracing::debug!(?refusal, service = ?to.service, "a mirrored request");
            }
            drop(permit);
        });
        request
    }

    /// The request as an endpoint gets it, with at most so many bytes of a body, and so long between two pieces of it. They are
    /// counted in `received`.
    fn rewrite(
        &self,
        mut request: Request<Incoming>,
        most: u64,
        idle: Duration,
        received: Option<Arc<Received>>,
    ) -> Request<Body> {
        // In a request with an authority in its target, that one counts and not the header (RFC 9112, section 3.2.2).
        if request.uri().authority().is_some() {
            request.headers_mut().remove(header::HOST);
        }
        to_origin_form(&mut request);
        let headers = request.headers_mut();
        strip(headers);
        // The server in front has answered it already.
        headers.remove(header::EXPECT);
        let host = headers.get(header::HOST).cloned();
        if host.is_none() {
            headers.insert(header::HOST, HeaderValue::from_static(""));
        }
        self.forwarded.apply(headers, host);
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().insert(self.info);
        if request.body().is_end_stream() {
            return request.map(|_| empty());
        }
        let progress = Progress::new();
        request.extensions_mut().insert(progress.clone());
        request.map(|body| Guarded::new(body, most, idle).reporting(progress).telling(received).boxed())
    }
}

/// The host that a request names.
fn host_of(request: &Request<Incoming>) -> Result<&str, Refusal> {
    match request.uri().authority().map(Authority::as_str) {
        Some(authority) => Ok(authority.rsplit_once('@').map_or(authority, |(_, host)| host)),
        None => match request.headers().get(header::HOST) {
            Some(host) => host.to_str().map_err(|_| Refusal::BadRequest),
            None => Ok(""),
        },
    }
}

/// Where a backend is.
fn way(routes: &RouteTable, backend: &Backend) -> Result<Way, Refusal> {
    if let Some(external) = routes.external(backend) {
        return Ok(Way::External(external));
    }
    let port = routes.backend(backend).ok_or(Refusal::NoEndpoint)?;
    if port.eligible.is_empty() && !port.may_recover() {
        return Err(Refusal::NoEndpoint);
    }
    Ok(Way::Service(port.clone()))
}

async fn send(
    network: &Network,
    way: &Way,
    mut request: Request<Body>,
    options: &HttpOptions,
) -> Result<Response<Body>, Refusal> {
    match way {
        Way::Service(port) => {
            let sent = network.send_to_service(&Source::Node, Side::Inside, port, None, request, options).await;
            sent.map_err(|failure| match network.routes().again(port) {
                Some(port) if !port.eligible.is_empty() => Refusal::Failed(failure.into()),
                _ => Refusal::NoEndpoint,
            })
        }
        Way::External(to) => {
            if hops(request.headers()) >= MOST_HOPS {
                return Err(Refusal::Loop);
            }
            request.headers_mut().append(header::VIA, HeaderValue::from_static(VIA));
            network.send_to_name(&Source::Node, to, request, options).await.map_err(Refusal::Failed)
        }
    }
}

/// A header's values, joined as RFC 9110, section 5.3, has it. Those that are no text are left out.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let mut all = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let first = all.next()?;
    Some(all.fold(Cow::Borrowed(first), |joined, next| format!("{joined}, {next}").into()))
}

/// How often a request has left by a name of an Ingress like this one.
fn hops(headers: &HeaderMap) -> usize {
    let all = headers.get_all(header::VIA).into_iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).filter(|v| v.trim().eq_ignore_ascii_case(VIA)).count()
}

impl Handle for Front {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(GRPC));
        let log = self.config.access_log.as_ref();
        let mut line = log.map(|log| log.begin(&request, self.info.peer.ip().to_canonical(), self.door));
        let response = self.proxy(request, &mut line).await.unwrap_or_else(|refusal| {
            tracing::debug!(?refusal, peer = %self.info.peer, "ingress");
            if grpc { respond_grpc(&refusal) } else { respond(&refusal) }
        });
        match line {
            Some(line) => line.answer(response),
            None => response,
        }
    }
}
