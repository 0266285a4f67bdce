//! What a proxy takes out of a message and adds to it.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Version};

use crate::protocol::te::takes_trailers;

/// Headers that end at the next hop whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Removes what belongs to one connection only (RFC 9110, section 7.6.1).
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Framing and routing are not the client's to take away.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    let trailers = takes_trailers(headers);
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    headers.remove(header::TE);
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// What every request of one connection is given.
pub(super) struct Forwarded {
    pub(super) client: HeaderValue,
    /// RFC 7239; the host is in `X-Forwarded-Host`.
    pub(super) forwarded: HeaderValue,
    pub(super) port: HeaderValue,
    pub(super) proto: HeaderValue,
}

impl Forwarded {
    /// Says where the request came from. What the client claims about itself is replaced: there is no proxy before us
    /// that could be believed.
    pub(super) fn apply(&self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        headers.insert(X_FORWARDED_FOR, self.client.clone());
        headers.insert(FORWARDED, self.forwarded.clone());
        headers.insert(X_REAL_IP, self.client.clone());
        headers.insert(X_FORWARDED_PORT, self.port.clone());
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        match host {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
            None => drop(headers.remove(X_FORWARDED_HOST)),
        }
    }
}

/// Whether the request says to which host it goes in the one way that its version demands.
pub(super) fn host_is_clear(headers: &HeaderMap, version: Version, in_target: bool) -> bool {
    let hosts = headers.get_all(header::HOST).iter().count();
    hosts <= 1 && (hosts == 1 || in_target || version < Version::HTTP_11)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (k, v) in list {
            headers.append(*k, HeaderValue::from_static(v));
        }
        headers
    }

    #[test]
    fn only_end_to_end_headers_stay() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("connection", "host"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("connection", "te"),
            ("te", "deflate, trailers"),
            ("upgrade", "h2c"),
            ("host", "h"),
            ("accept", "*/*"),
        ]);
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort();
        assert_eq!(left, ["accept", "host", "te"]);
        assert_eq!(headers["te"], "trailers");
        let mut other = map(&[("te", "gzip")]);
        strip(&mut other);
        assert!(other.is_empty());
    }

    #[test]
    fn a_host_must_be_clear() {
        for (hosts, version, in_target, clear) in [
            (0, Version::HTTP_11, false, false),
            (1, Version::HTTP_11, false, true),
            (2, Version::HTTP_11, true, false),
            (0, Version::HTTP_10, false, true),
            (0, Version::HTTP_2, true, true),
        ] {
            let headers = map(&[("host", "a"), ("host", "b")][..hosts]);
            assert_eq!(host_is_clear(&headers, version, in_target), clear, "{hosts} {version:?}");
        }
    }
}
