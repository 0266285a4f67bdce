//! Sending a request: by function call where the endpoint is a service, over a connection elsewhere.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use copepod_node_routes::{External, H2C, Protocol, ServicePort, Side};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::pool::{Key, Pool, Returning, Sender};
use super::server::to_origin_form;
use super::{ConnInfo, HttpOptions, HttpService, ServiceError};
use crate::body::{Body, Guarded, Progress, empty, keeping};
use crate::connect::{Route, Source, Target};
use crate::error::{HttpError, NetError};
use crate::hold::Patience;
use crate::network::Network;
use crate::pod::{Bound, Scope, loopback};
use crate::protocol::upgrade;
use crate::tunnel::Undelivered;

/// How many endpoints outside the pod network, or addresses of a name, one request tries. Pods that do not listen cost
/// nothing to pass over.
const ATTEMPTS: usize = 4;

/// A request that did not get through. While nothing of it was sent it comes back, and may be tried elsewhere.
pub(crate) enum Failure {
    NotSent(HttpError, Box<Request<Body>>),
    Final(HttpError),
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(e, _) | Failure::Final(e) => e,
        }
    }
}

/// How to speak to an endpoint.
#[derive(Clone, Copy)]
struct Speech<'a> {
    tls: Option<&'a Arc<str>>,
    h2c: bool,
    /// By which port of a Service, and with which of its policies.
    service: Option<(Side, &'a Arc<ServicePort>)>,
}

impl Network {
    /// Sends a request to an address, as a probe or a proxy does: the `Host` header stays as it is. While a body of its own is
    /// on the way the time for the response does not run; its pieces have the time that those of the response have.
    pub async fn request(
        &self,
        from: Source,
        to: SocketAddr,
        mut request: Request<Body>,
        options: HttpOptions,
    ) -> Result<Response<Body>, HttpError> {
        let host: Option<Arc<str>> = match options.tls {
            true => Some(request.uri().host().map_or_else(|| to.ip().to_string().into(), Into::into)),
            false => None,
        };
        to_origin_form(&mut request);
        if !request.headers().contains_key(header::HOST)
            && let Ok(value) = http::HeaderValue::from_str(&to.to_string())
        {
            request.headers_mut().insert(header::HOST, value);
        }
        if !request.body().is_end_stream() {
            let progress = Progress::new();
            request.extensions_mut().insert(progress.clone());
            let idle = options.between_bytes_timeout;
            request = request.map(|body| Guarded::new(body, u64::MAX, idle).reporting(progress).boxed());
        }
        Ok(self.dispatch(&from, to, host.as_ref(), request, &options).await?)
    }

    /// Sends a request to the authority of its URI.
    pub(crate) async fn send_http(
        &self,
        from: &Source,
        mut request: Request<Body>,
        options: HttpOptions,
    ) -> Result<Response<Body>, HttpError> {
        if request.method() == Method::CONNECT {
            return Err(HttpError::InvalidRequest("CONNECT"));
        }
        let host: Arc<str> = request.uri().host().ok_or(HttpError::InvalidRequest("no authority"))?.into();
        let port = request.uri().port_u16().unwrap_or(if options.tls { 443 } else { 80 });
        let ips = match from {
            Source::Pod(pod) => pod.resolve(&host).await,
            Source::Node | Source::Client(_) | Source::Remote(_) => self.resolve(&host, &[]).await,
        };
        let ips = ips.map_err(|e| HttpError::Dns(host.to_string(), e))?;
        to_origin_form(&mut request);
        let tls = options.tls.then_some(&host);
        let mut last = HttpError::Dns(host.to_string(), NetError::NameUnresolvable);
        for ip in ips.into_iter().take(ATTEMPTS) {
            match self.dispatch(from, SocketAddr::new(ip, port), tls, request, &options).await {
                Ok(response) => return Ok(response),
                Err(Failure::NotSent(e, back)) => (last, request) = (e, *back),
                Err(Failure::Final(e)) => return Err(e),
            }
        }
        Err(last)
    }

    /// Sends a request in origin form to where a Service of type ExternalName leads; the `Host` header stays as it is. Names of
    /// the cluster are resolved in it.
    pub(crate) async fn send_to_name(
        &self,
        from: &Source,
        to: &External,
        mut request: Request<Body>,
        options: &HttpOptions,
    ) -> Result<Response<Body>, HttpError> {
        let unknown = |e| HttpError::Dns(to.name.to_string(), e);
        let ips = timeout(options.connect_timeout, self.resolve_kept(&to.name)).await;
        let ips = ips.unwrap_or(Err(NetError::Timeout)).map_err(unknown)?;
        let info = request.extensions().get::<ConnInfo>().copied();
        let mut last = unknown(NetError::NameUnresolvable);
        for ip in ips.into_iter().take(ATTEMPTS) {
            let at = SocketAddr::new(ip, to.port);
            let sent = match self.target(from, at, Protocol::Tcp) {
                // Who writes a name decides nothing about the pods that it leads to.
                Ok(target) if self.is_guarded(&target, at) => {
                    Err(Failure::NotSent(HttpError::Connect(NetError::Forbidden), Box::new(request)))
                }
                Ok(Target::Service(port)) => {
                    self.send_to_service(from, Side::Inside, &port, None, request, options).await
                }
                Ok(target) => {
                    let speech = Speech { tls: None, h2c: options.h2c || to.h2c, service: None };
                    self.send_to(from, target, at, speech, request, options).await
                }
                Err(e) => Err(Failure::NotSent(HttpError::Connect(e), Box::new(request))),
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(Failure::NotSent(e, back)) => (last, request) = (e, *back),
                Err(Failure::Final(e)) => return Err(e),
            }
            // An attempt over a connection has taken it out.
            if let Some(info) = info {
                request.extensions_mut().insert(info);
            }
        }
        Err(last)
    }

    /// Sends a request in origin form to what an address leads to.
    async fn dispatch(
        &self,
        from: &Source,
        to: SocketAddr,
        tls: Option<&Arc<str>>,
        request: Request<Body>,
        options: &HttpOptions,
    ) -> Result<Response<Body>, Failure> {
        match self.target(from, to, Protocol::Tcp) {
            Ok(Target::Service(port)) => self.send_to_service(from, Side::Inside, &port, tls, request, options).await,
            Ok(target) => {
                self.send_to(from, target, to, Speech { tls, h2c: false, service: None }, request, options).await
            }
            Err(e) => Err(Failure::NotSent(HttpError::Connect(e), Box::new(request))),
        }
    }

    /// Sends a request in origin form to an endpoint of a Service, to another one while none has got it.
    pub(crate) async fn send_to_service(
        &self,
        from: &Source,
        side: Side,
        port: &Arc<ServicePort>,
        tls: Option<&Arc<str>>,
        mut request: Request<Body>,
        options: &HttpOptions,
    ) -> Result<Response<Body>, Failure> {
        let info = request.extensions().get::<ConnInfo>().copied();
        let (mut patience, mut again) = (Patience::default(), None);
        loop {
            let port = again.as_ref().unwrap_or(port);
            let news = self.news();
            let (error, back) = match self.send_once(from, (side, port), tls, request, options, info).await {
                Err(Failure::NotSent(e, back)) => (e, back),
                done => return done,
            };
            let HttpError::Connect(reason) = error else { return Err(Failure::NotSent(error, back)) };
            match self.another_chance(port, reason, news, &mut patience).await {
                Some(now) => (again, request) = (Some(now), *back),
                None => return Err(Failure::NotSent(HttpError::Connect(reason), back)),
            }
        }
    }

    /// Tries each endpoint once.
    async fn send_once(
        &self,
        from: &Source,
        (side, port): (Side, &Arc<ServicePort>),
        tls: Option<&Arc<str>>,
        mut request: Request<Body>,
        options: &HttpOptions,
        info: Option<ConnInfo>,
    ) -> Result<Response<Body>, Failure> {
        let h2c = options.h2c || port.app_protocol.as_deref() == Some(H2C);
        let speech = Speech { tls, h2c, service: Some((side, port)) };
        let client = info.map_or_else(|| from.ip(self), |i| i.peer.ip());
        let chosen = self.chosen(port, side, client);
        let mut last = HttpError::Connect(NetError::ConnectionRefused);
        let mut outside = 0;
        let choice = self.choice(port, side, chosen);
        for endpoint in port.in_order(side, &choice) {
            let open = self.begun(port, side, endpoint.addr);
            let target = self.endpoint_target(endpoint.addr);
            outside += usize::from(matches!(target, Ok(Target::Outside(_))));
            if outside > ATTEMPTS {
                break;
            }
            let sent = match target {
                Ok(target) => self.send_to(from, target, endpoint.addr, speech, request, options).await,
                Err(e) => Err(Failure::NotSent(HttpError::Connect(e), Box::new(request))),
            };
            match sent {
                Ok(response) => {
                    self.taken(port, client, chosen, endpoint.addr);
                    self.fared_well(port, side, endpoint.addr);
                    return Ok(response.map(|body| keeping(body, open)));
                }
                Err(Failure::NotSent(e, back)) => {
                    self.fared_ill(from, port, side, endpoint.addr, &e);
                    (last, request) = (e, *back);
                }
                Err(Failure::Final(e)) => {
                    self.fared_ill(from, port, side, endpoint.addr, &e);
                    return Err(Failure::Final(e));
                }
            }
            // An attempt over a connection has taken it out.
            if let Some(info) = info {
                request.extensions_mut().insert(info);
            }
        }
        Err(Failure::NotSent(last, Box::new(request)))
    }

    async fn send_to(
        &self,
        from: &Source,
        target: Target,
        to: SocketAddr,
        speech: Speech<'_>,
        request: Request<Body>,
        options: &HttpOptions,
    ) -> Result<Response<Body>, Failure> {
        if let Err(e) = self.permit_soon(from, &target, to).await {
            return Err(Failure::NotSent(HttpError::Connect(e), Box::new(request)));
        }
        if let Target::Pod(pod, scope) = &target
            && speech.tls.is_none()
        {
            match pod.tcp(*scope, to) {
                Some(Bound::Http(service)) => {
                    let peer = self.peer(from, *scope, to, &request);
                    let info = ConnInfo { local: to, peer };
                    return match self.watch(from, &target, to) {
                        Ok(None) => call(&*service, info, request, options).await,
                        Ok(Some(permit)) => {
                            let called = permit.hold(call(&*service, info, request, options)).await;
                            called.map_err(cut)?.map(|response| permit.over(response))
                        }
                        Err(e) => Err(Failure::NotSent(HttpError::Connect(e), Box::new(request))),
                    };
                }
                Some(Bound::Listener(_) | Bound::Namespace(_)) => {}
                None => {
                    return Err(Failure::NotSent(HttpError::Connect(NetError::ConnectionRefused), Box::new(request)));
                }
            }
        }
        // Connections of one client carry its name: nobody else's requests go over them.
        let passing;
        let own = match from {
            Source::Pod(pod) => &pod.pool,
            Source::Node => &self.0.pool,
            Source::Client(_) | Source::Remote(_) => {
                passing = Pool::default();
                &passing
            }
        };
        let key = Key { addr: to, h2c: speech.h2c, tls: speech.tls.cloned() };
        let mut request = request;
        if let Target::Remote(node) = &target
            && speech.tls.is_none()
            && upgrade::wanted(request.headers()).is_none()
            && !self.0.tunnel.is_streams_only(to)
        {
            let permit = match self.watch(from, &target, to) {
                Ok(permit) => permit,
                Err(e) => return Err(Failure::NotSent(HttpError::Connect(e), Box::new(request))),
            };
            let sending = self.send_remote(from, node, to, request, options);
            let sent = match &permit {
                Some(permit) => permit.hold(sending).await.map_err(cut)?,
                None => sending.await,
            };
            match sent {
                Ok(response) => {
                    return Ok(match permit {
                        Some(permit) => permit.over(response),
                        None => response,
                    });
                }
                Err(Undelivered::StreamsOnly(back)) => request = back,
                Err(Undelivered::Failed(failure)) => return Err(self.refused_there(failure)),
            }
        }
        // A kept connection may close just as we use it: then the request comes back and takes a new one.
        if let Some(sender) = own.take(&key).await {
            match send(sender, own, &key, request, options).await {
                Err(Failure::NotSent(_, back)) => request = *back,
                done => return done,
            }
        }
        let connecting = timeout(options.connect_timeout, self.dial(from, target, to, &key, speech.service, own));
        match connecting.await.unwrap_or(Err(HttpError::Connect(NetError::Timeout))) {
            Ok(sender) => send(sender, own, &key, request, options).await,
            Err(e) => Err(Failure::NotSent(e, Box::new(request))),
        }
    }

    /// A failure at another node, in the words of this one.
    fn refused_there(&self, failure: Failure) -> Failure {
        match failure {
            Failure::NotSent(HttpError::Connect(e), back) => {
                Failure::NotSent(HttpError::Connect(self.forbidden(e)), back)
            }
            Failure::Final(HttpError::Connect(e)) => Failure::Final(HttpError::Connect(self.forbidden(e))),
            other => other,
        }
    }

    /// The client's address that a service called at `to` is told: the one that a proxy vouches for, or the caller's.
    pub(crate) fn peer(&self, from: &Source, scope: Scope, to: SocketAddr, request: &Request<Body>) -> SocketAddr {
        match request.extensions().get::<ConnInfo>() {
            Some(info) => info.peer,
            None => match (from, scope) {
                (Source::Pod(_), Scope::Loopback) => SocketAddr::new(loopback(to.ip()), 0),
                _ => SocketAddr::new(from.ip_for(self, to.ip()), 0),
            },
        }
    }

    async fn dial(
        &self,
        from: &Source,
        target: Target,
        to: SocketAddr,
        key: &Key,
        service: Option<(Side, &Arc<ServicePort>)>,
        pool: &Pool,
    ) -> Result<Sender, HttpError> {
        let route = service.map(|(side, port)| Route { from: from.clone(), side, port: port.clone() });
        let conn = self.open(from, &target, to, route).await.map_err(HttpError::Connect)?;
        match &key.tls {
            None => self.handshake(TokioIo::new(conn.stream), key.h2c, key, pool).await,
            Some(host) => {
                let stream = self.0.tls.connect(conn.stream, host).await?;
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.handshake(TokioIo::new(stream), h2, key, pool).await
            }
        }
    }

    async fn handshake<I>(&self, io: I, h2: bool, key: &Key, pool: &Pool) -> Result<Sender, HttpError>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let protocol = |e: hyper::Error| HttpError::Protocol(text(&e));
        if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).adaptive_window(true);
            let (sender, connection) = builder.handshake(io).await.map_err(protocol)?;
            self.0.runtime.spawn(connection);
            pool.share(key.clone(), sender.clone());
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = http1::Builder::new().handshake(io).await.map_err(protocol)?;
            self.0.runtime.spawn(connection.with_upgrades());
            Ok(Sender::Http1(sender))
        }
    }
}

/// A NetworkPolicy does not allow it any more.
fn cut(error: NetError) -> Failure {
    Failure::Final(HttpError::Connect(error))
}

/// A request as a function call.
async fn call(
    service: &dyn HttpService,
    info: ConnInfo,
    mut request: Request<Body>,
    options: &HttpOptions,
) -> Result<Response<Body>, Failure> {
    let head = request.method() == Method::HEAD;
    request.extensions_mut().insert(info);
    let progress: Option<Arc<Progress>> = request.extensions_mut().remove();
    let mut response = match in_time(options, progress.as_ref(), service.handle(request)).await? {
        Ok(response) => response,
        Err(ServiceError::Stopped(mut back)) => {
            if let Some(progress) = progress {
                back.extensions_mut().insert(progress);
            }
            return Err(Failure::NotSent(HttpError::Connect(NetError::ConnectionRefused), back));
        }
        Err(ServiceError::Failed(e)) => return Err(Failure::Final(HttpError::Service(e.to_string()))),
    };
    let status = response.status();
    if head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        *response.body_mut() = empty();
    }
    Ok(guarded(response, options))
}

/// A request over a connection.
async fn send(
    sender: Sender,
    pool: &Pool,
    key: &Key,
    mut request: Request<Body>,
    options: &HttpOptions,
) -> Result<Response<Body>, Failure> {
    // Whoever forwards a request has its client's address among the extensions; it does not go on the wire.
    let progress: Option<Arc<Progress>> = request.extensions_mut().remove();
    let progress = progress.as_ref();
    request.extensions_mut().clear();
    let response = match sender {
        Sender::Http1(mut sender) => {
            *request.version_mut() = Version::HTTP_11;
            let sent = in_time(options, progress, sender.try_send_request(request)).await?;
            let response = sent.map_err(|mut e| not_sent(e.take_message(), e.into_error()))?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                response.map(|_| empty())
            } else {
                response.map(|body| Returning::new(body, pool, key.clone(), sender).boxed())
            }
        }
        Sender::Http2(mut sender) => {
            to_absolute_form(&mut request, key);
            let sent = in_time(options, progress, sender.try_send_request(request)).await?;
            let response = sent.map_err(|mut e| not_sent(e.take_message(), e.into_error()))?;
            response.map(crate::body::incoming)
        }
    };
    Ok(guarded(response, options))
}

/// What `answer` gives, unless it is late. The clock rests while the request's own body is awaited.
pub(crate) async fn in_time<T>(
    options: &HttpOptions,
    progress: Option<&Arc<Progress>>,
    answer: impl Future<Output = T>,
) -> Result<T, Failure> {
    let late = || Failure::Final(HttpError::ResponseTimeout);
    match progress {
        None => timeout(options.first_byte_timeout, answer).await.map_err(|_| late()),
        Some(progress) => tokio::select! {
            answer = answer => Ok(answer),
            () = progress.stalled(options.first_byte_timeout) => Err(late()),
        },
    }
}

pub(crate) fn guarded(response: Response<Body>, options: &HttpOptions) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Guarded::new(body, u64::MAX, options.between_bytes_timeout).boxed())
}

fn not_sent(request: Option<Request<Body>>, error: hyper::Error) -> Failure {
    use std::error::Error as _;
    // A "user" error with an io::Error inside is the request body's.
    let body = error.source().filter(|_| error.is_user()).and_then(|e| e.downcast_ref::<std::io::Error>());
    let error = match body {
        Some(e) => HttpError::RequestBody(e.kind()),
        None => HttpError::Protocol(text(&error)),
    };
    match request {
        Some(mut request) => {
            to_origin_form(&mut request);
            Failure::NotSent(error, Box::new(request))
        }
        None => Failure::Final(error),
    }
}

/// HTTP/2 carries scheme and authority instead of a `Host` header.
fn to_absolute_form(request: &mut Request<Body>, key: &Key) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.as_ref().and_then(|h| h.to_str().ok()).map_or_else(|| key.addr.to_string(), String::from);
    let scheme = if key.tls.is_some() { "https" } else { "http" };
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if let Ok(uri) = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build() {
        *request.uri_mut() = uri;
    }
}

/// An error with its causes: hyper's own text leaves them out.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
