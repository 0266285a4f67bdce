//! What stands in the heads: the destination is the authority, the rest are headers that no pod sees.

use std::net::SocketAddr;

use copepod_node_routes::Claim;
use http::header;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

use crate::error::NetError;
use crate::protocol::te::takes_trailers;

/// Whose it is: a [`Claim`].
const SOURCE: &str = "copepod-source";
/// The client's address that a request's service is told.
const PEER: &str = "copepod-peer";
/// The request's own `Host`.
const HOST: &str = "copepod-host";
/// Only whether the port takes requests is asked.
const ASK: &str = "copepod-ask";
/// The receiving node has not let it through, and why. A pod's answers do not have it.
const REFUSAL: &str = "copepod-refusal";
/// The text of a failure.
const MESSAGE: &str = "copepod-message";
/// Longest text of a failure.
const LONGEST: usize = 512;

/// The stream carries capsules (RFC 9297, section 3.4): datagrams.
const CAPSULES: &str = "capsule-protocol";

/// Why the receiving node has not let something through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The head makes no sense.
    Malformed,
    /// The source is not whose it says.
    Denied,
    /// No such pod here.
    Unreachable,
    /// Nobody listens there, or takes any more.
    Refused,
    /// The port takes byte streams, no requests.
    StreamsOnly,
    /// The pod's service has failed.
    Failed,
}

const REFUSALS: [(Refusal, &str, StatusCode); 6] = [
    (Refusal::Malformed, "malformed", StatusCode::BAD_REQUEST),
    (Refusal::Denied, "denied", StatusCode::FORBIDDEN),
    (Refusal::Unreachable, "unreachable", StatusCode::NOT_FOUND),
    (Refusal::Refused, "refused", StatusCode::SERVICE_UNAVAILABLE),
    (Refusal::StreamsOnly, "streams-only", StatusCode::MISDIRECTED_REQUEST),
    (Refusal::Failed, "failed", StatusCode::BAD_GATEWAY),
];

impl From<Refusal> for NetError {
    fn from(refusal: Refusal) -> NetError {
        match refusal {
            Refusal::Malformed => NetError::InvalidArgument,
            Refusal::Denied => NetError::AccessDenied,
            Refusal::Unreachable => NetError::RemoteUnreachable,
            Refusal::Refused | Refusal::StreamsOnly | Refusal::Failed => NetError::ConnectionRefused,
        }
    }
}

impl From<NetError> for Refusal {
    fn from(error: NetError) -> Refusal {
        match error {
            NetError::InvalidArgument => Refusal::Malformed,
            NetError::AccessDenied => Refusal::Denied,
            NetError::RemoteUnreachable | NetError::Detached => Refusal::Unreachable,
            _ => Refusal::Refused,
        }
    }
}

/// The head of a stream to `to`.
pub(super) fn connect(to: SocketAddr, claim: &Claim) -> Option<Request<()>> {
    let uri = Uri::builder().authority(to.to_string()).build().ok()?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (Method::CONNECT, uri, Version::HTTP_2);
    request.headers_mut().insert(SOURCE, text(&claim.to_string())?);
    Some(request)
}

/// The head of a stream of datagrams to `to`.
pub(super) fn datagrams(to: SocketAddr, claim: &Claim) -> Option<Request<()>> {
    let mut request = connect(to, claim)?;
    request.headers_mut().insert(CAPSULES, HeaderValue::from_static("?1"));
    Some(request)
}

/// Whether a head is one of [`datagrams`].
pub(super) fn is_datagrams(head: &Request<()>) -> bool {
    head.method() == Method::CONNECT && head.headers().contains_key(CAPSULES)
}

/// The head of a request in origin form to `to`, whose service is told that it comes from `peer`; none if it cannot travel
/// as one.
pub(crate) fn request(parts: &Parts, to: SocketAddr, claim: &Claim, peer: SocketAddr) -> Option<Request<()>> {
    if parts.method == Method::CONNECT {
        return None;
    }
    let path = parts.uri.path_and_query()?.clone();
    let uri = Uri::builder().scheme("http").authority(to.to_string()).path_and_query(path).build().ok()?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (parts.method.clone(), uri, Version::HTTP_2);
    let mut headers = parts.headers.clone();
    hop_by_hop(&mut headers);
    for own in [SOURCE, PEER, HOST, ASK, REFUSAL, MESSAGE] {
        headers.remove(own);
    }
    if let Some(host) = headers.remove(header::HOST) {
        headers.insert(HOST, host);
    }
    headers.insert(SOURCE, text(&claim.to_string())?);
    headers.insert(PEER, text(&peer.to_string())?);
    *request.headers_mut() = headers;
    Some(request)
}

/// Asks whether `to` takes requests, which its service does not hear of.
pub(super) fn ask(to: SocketAddr, claim: &Claim) -> Option<Request<()>> {
    let uri = Uri::builder().scheme("http").authority(to.to_string()).path_and_query("/").build().ok()?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (Method::HEAD, uri, Version::HTTP_2);
    request.headers_mut().insert(SOURCE, text(&claim.to_string())?);
    request.headers_mut().insert(ASK, HeaderValue::from_static("requests"));
    Some(request)
}

/// What a received head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) to: SocketAddr,
    pub(crate) claim: Claim,
    /// The client's address; of requests only.
    pub(crate) peer: Option<SocketAddr>,
    /// Only whether the port takes requests is asked.
    pub(crate) asks: bool,
    /// A CONNECT is for datagrams.
    pub(crate) capsules: bool,
}

/// Reads a received head and makes a request of it that its service may see.
pub(crate) fn read<B>(request: &mut Request<B>) -> Result<Heard, Refusal> {
    let to = request.uri().authority().and_then(|a| a.as_str().parse().ok()).ok_or(Refusal::Malformed)?;
    let uri = match request.uri().path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let source = headers.remove(SOURCE);
    let claim = source.as_ref().and_then(|s| s.to_str().ok()?.parse().ok()).ok_or(Refusal::Malformed)?;
    let peer = match headers.remove(PEER) {
        Some(peer) => Some(peer.to_str().ok().and_then(|p| p.parse().ok()).ok_or(Refusal::Malformed)?),
        None => None,
    };
    let asks = headers.remove(ASK).is_some();
    headers.remove(header::HOST);
    if let Some(host) = headers.remove(HOST) {
        headers.insert(header::HOST, host);
    }
    // To a pod's service it is a header like any other.
    let capsules = headers.get(CAPSULES).is_some_and(|v| v == "?1");
    Ok(Heard { to, claim, peer, asks, capsules })
}

/// The answer of the receiving node itself.
pub(super) fn refused(refusal: Refusal, message: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    if let Some((_, word, status)) = REFUSALS.into_iter().find(|(r, ..)| *r == refusal) {
        *response.status_mut() = status;
        response.headers_mut().insert(REFUSAL, HeaderValue::from_static(word));
    }
    if let Some(message) = message {
        let plain = message.chars().take(LONGEST).map(|c| if c.is_ascii_graphic() { c } else { ' ' });
        if let Some(message) = text(&plain.collect::<String>()) {
            response.headers_mut().insert(MESSAGE, message);
        }
    }
    response
}

/// Whether a response is the receiving node's own: why it has refused, and the text that came with it.
pub(super) fn refusal(headers: &HeaderMap) -> Option<(Refusal, String)> {
    let word = headers.get(REFUSAL)?;
    let found = REFUSALS.into_iter().find(|(_, w, _)| word == w).map_or(Refusal::Unreachable, |(r, ..)| r);
    let message = headers.get(MESSAGE).and_then(|m| m.to_str().ok()).unwrap_or_default();
    Some((found, message.trim().to_string()))
}

/// The head of a pod's answer.
pub(super) fn answer(parts: http::response::Parts) -> Response<()> {
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (parts.status, parts.headers);
    let headers = response.headers_mut();
    hop_by_hop(headers);
    for own in [REFUSAL, MESSAGE] {
        headers.remove(own);
    }
    response
}

/// Fields of one connection, which HTTP/2 does not have (RFC 9113, section 8.2.2).
pub(super) fn hop_by_hop(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
    let trailers = takes_trailers(headers);
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn text(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        "pod shop a uid-a till 10.244.240.2:40000".parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let (mut parts, ()) = Request::get("/p?q=1")
            .header("host", "")
            .header("connection", "keep-alive")
            .header("te", "gzip")
            .header("x-own", "1")
            .header("copepod-source", "node 10.244.240.0:1")
            .header("copepod-ask", "x")
            .header("copepod-refusal", "denied")
            .body(())
            .unwrap()
            .into_parts();
        let mut sent = request(&parts, at("10.244.224.2:8080"), &claim(), at("192.0.2.1:5")).unwrap();
        assert_eq!(sent.uri(), "http://10.244.224.2:8080/p?q=1");
        let heard = read(&mut sent).unwrap();
        assert_eq!(
            heard,
            Heard {
                to: at("10.244.224.2:8080"),
                claim: claim(),
                peer: Some(at("192.0.2.1:5")),
                asks: false,
                capsules: false
            }
        );
        assert_eq!((sent.uri().to_string().as_str(), sent.version()), ("/p?q=1", Version::HTTP_11));
        let mut names: Vec<&str> = sent.headers().keys().map(header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-own"], "the guest cannot speak for its node");
        assert_eq!(sent.headers()["host"], "");
        parts.method = Method::CONNECT;
        assert!(request(&parts, at("10.244.224.2:8080"), &claim(), at("192.0.2.1:5")).is_none());
    }

    #[test]
    fn of_te_only_trailers_go_on() {
        for (given, left) in [("trailers", Some("trailers")), ("gzip, Trailers", Some("trailers")), ("gzip", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::TE, HeaderValue::from_static(given));
            hop_by_hop(&mut headers);
            assert_eq!(headers.get(header::TE).map(|te| te.to_str().unwrap()), left, "{given}");
        }
    }

    #[test]
    fn a_stream_names_its_destination_and_its_source() {
        let mut sent = connect(at("[fd00::2]:80"), &claim()).unwrap();
        let heard = read(&mut sent).unwrap();
        assert_eq!(heard, Heard { to: at("[fd00::2]:80"), claim: claim(), peer: None, asks: false, capsules: false });
        assert!(read(&mut datagrams(at("[fd00::2]:80"), &claim()).unwrap()).unwrap().capsules);
        assert!(read(&mut ask(at("[fd00::2]:80"), &claim()).unwrap()).unwrap().asks);
        for (name, value) in [("copepod-source", "me"), ("copepod-peer", "x")] {
            let mut bad = connect(at("10.244.224.2:80"), &claim()).unwrap();
            bad.headers_mut().insert(name, HeaderValue::from_static(value));
            assert_eq!(read(&mut bad), Err(Refusal::Malformed), "{name}");
        }
        let mut bad = Request::get("http://web:80/").body(()).unwrap();
        assert_eq!(read(&mut bad), Err(Refusal::Malformed));
    }

    #[test]
    fn refusals_are_the_nodes_word() {
        for (want, ..) in REFUSALS {
            let response = refused(want, Some("line\none"));
            assert!(!response.status().is_success());
            assert_eq!(refusal(response.headers()), Some((want, "line one".into())));
        }
        let (parts, ()) = Response::builder()
            .status(503)
            .header("copepod-refusal", "refused")
            .header("transfer-encoding", "chunked")
            .header("x-own", "1")
            .body(())
            .unwrap()
            .into_parts();
        let answer = answer(parts);
        assert_eq!((answer.status().as_u16(), answer.headers().len()), (503, 1), "a pod cannot say it");
        assert_eq!(refusal(answer.headers()), None);
    }
}
