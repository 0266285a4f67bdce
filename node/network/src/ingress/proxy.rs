//! One request: match, forward, answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_node_routes::{External, ServicePort, Side};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::IngressConfig;
use super::headers::{Forwarded, host_is_clear, strip};
use super::respond::{Refusal, respond};
use crate::body::{Body, Guarded, Progress, empty};
use crate::connect::Source;
use crate::http::server::to_origin_form;
use crate::http::{ConnInfo, HttpOptions};
use crate::network::Network;
use crate::protocol::{Handle, upgrade};

/// What a request that leaves by a name says of the way it came (RFC 9110, section 7.6.3): a name may lead back here.
const VIA: &str = "1.1 copepod";
/// How often it may have come that way.
const MOST_HOPS: usize = 8;

/// What serves the requests of one connection.
pub(super) struct Front {
    network: Network,
    config: Arc<IngressConfig>,
    options: HttpOptions,
    info: ConnInfo,
    forwarded: Forwarded,
}

/// Where a request goes.
enum Way {
    Service(Arc<ServicePort>),
    External(External),
}

impl Front {
    pub(super) fn new(network: Network, config: Arc<IngressConfig>, peer: SocketAddr, port: u16) -> Front {
        let ip = peer.ip().to_canonical();
        let proto = if config.tls.is_some() { "https" } else { "http" };
        // Both are always valid header values.
        let value = |text: String| HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let options = HttpOptions {
            connect_timeout: config.connect_timeout,
            first_byte_timeout: config.response_timeout,
            between_bytes_timeout: config.body_timeout,
            tls: false,
        };
        let forwarded = Forwarded {
            client: value(ip.to_string()),
            forwarded: value(match ip {
                IpAddr::V4(v4) => format!("for={v4};proto={proto}"),
                IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={proto}"),
            }),
            port: HeaderValue::from(port),
            proto: HeaderValue::from_static(proto),
        };
        Front { network, config, options, info: ConnInfo { local: peer, peer }, forwarded }
    }

    async fn proxy(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let way = self.route(&request)?;
        if request.body().size_hint().lower() > self.config.max_body_bytes {
            return Err(Refusal::TooLarge);
        }
        let protocol = upgrade::wanted(request.headers());
        let client = protocol.is_some().then(|| upgrade::take(&mut request));
        let mut request = self.rewrite(request);
        if let Some(protocol) = protocol {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(header::UPGRADE, protocol);
        }
        let network = &self.network;
        let mut response = match &way {
            Way::Service(port) => {
                let sent =
                    network.send_to_service(&Source::Node, Side::Inside, port, None, request, &self.options).await;
                sent.map_err(|failure| match network.routes().again(port) {
                    Some(port) if !port.eligible.is_empty() => Refusal::Failed(failure.into()),
                    _ => Refusal::NoEndpoint,
                })?
            }
            Way::External(to) => {
                if hops(request.headers()) >= MOST_HOPS {
                    return Err(Refusal::Loop);
                }
                request.headers_mut().append(header::VIA, HeaderValue::from_static(VIA));
                network.send_to_name(&Source::Node, to, request, &self.options).await.map_err(Refusal::Failed)?
            }
        };
        *response.version_mut() = Version::HTTP_11;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            strip(response.headers_mut());
            return Ok(response);
        }
        match client {
            Some(client) => {
                upgrade::splice(&self.network.0.runtime, client, &mut response);
                Ok(response)
            }
            None => Err(Refusal::Failed(crate::error::HttpError::Protocol("101 without a request for it".into()))),
        }
    }

    /// What the request is for.
    fn route(&self, request: &Request<Incoming>) -> Result<Way, Refusal> {
        if request.method() == Method::CONNECT {
            return Err(Refusal::Method);
        }
        let target = request.uri().authority().map(Authority::as_str);
        if !host_is_clear(request.headers(), request.version(), target.is_some()) {
            return Err(Refusal::BadRequest);
        }
        let host = match target {
            Some(authority) => authority.rsplit_once('@').map_or(authority, |(_, host)| host),
            None => match request.headers().get(header::HOST) {
                Some(host) => host.to_str().map_err(|_| Refusal::BadRequest)?,
                None => "",
            },
        };
        let routes = self.network.routes();
        let backend = routes.match_http(host, request.uri().path()).ok_or(Refusal::NoRule)?;
        if let Some(external) = routes.external(backend) {
            return Ok(Way::External(external));
        }
        let port = routes.backend(backend).ok_or(Refusal::NoEndpoint)?;
        if port.eligible.is_empty() && !port.may_recover() {
            return Err(Refusal::NoEndpoint);
        }
        Ok(Way::Service(port.clone()))
    }

    /// The request as an endpoint gets it.
    fn rewrite(&self, mut request: Request<Incoming>) -> Request<Body> {
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
        let config = &self.config;
        request.map(|body| Guarded::new(body, config.max_body_bytes, config.body_timeout).reporting(progress).boxed())
    }
}

/// How often a request has left by a name of an Ingress like this one.
fn hops(headers: &HeaderMap) -> usize {
    let all = headers.get_all(header::VIA).into_iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).filter(|v| v.trim().eq_ignore_ascii_case(VIA)).count()
}

impl Handle for Front {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        self.proxy(request).await.unwrap_or_else(|refusal| {
            tracing::debug!(?refusal, peer = %self.info.peer, "ingress");
            respond(&refusal)
        })
    }
}
