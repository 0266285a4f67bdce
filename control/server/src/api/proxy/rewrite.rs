//! What a proxy changes in a request and its answer (apimachinery `util/proxy`: `UpgradeAwareHandler`, `Transport`; Go's
//! `httputil.ReverseProxy`). Links in HTML stay as they are.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use super::target::Target;
use crate::api::path::ResourcePath;

/// Headers of one connection, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// What an answer may not say about the API server's own origin.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The path at the pod, encoded; empty where the client's has nothing behind `proxy`, not even a slash.
    pub path: String,
    /// What the API's paths have before it, decoded.
    prefix: String,
    /// The host that upstream would dial.
    host: String,
}

impl Way {
    /// The way to `target` of a request for `path`, which is `whole` in the URL.
    pub fn new(path: &ResourcePath, whole: &str, target: &Target) -> Way {
        let mut there = clean(&path.rest);
        if whole.ends_with('/') && !there.ends_with('/') {
            there.push('/');
        }
        let ResourcePath { namespace, resource, name, .. } = path;
        let prefix = format!("/api/v1/namespaces/{namespace}/{resource}/{name}/proxy");
        Way { path: encode(&there), prefix, host: target.host.clone() }
    }

    /// Where a reader is sent who leaves the slash away.
    pub fn with_slash(&self, method: &Method, uri: &Uri) -> Option<String> {
        let query = uri.query().filter(|q| !q.is_empty()).map(|q| format!("?{q}")).unwrap_or_default();
        matches!(*method, Method::GET | Method::HEAD).then(|| format!("{}/{query}", uri.path()))
    }

    /// A `Location`, as it leads through the proxy: one that is absolute on the pod gets the prefix. `asked` is the host
    /// that the client has named.
    fn location(&self, location: &str, asked: &str) -> String {
        let (before, fragment) = location.find('#').map_or((location, ""), |i| location.split_at(i));
        let (before, query) = before.find('?').map_or((before, ""), |i| before.split_at(i));
        let scheme = before.split_once("://").filter(|(scheme, _)| !scheme.contains('/'));
        let named = scheme.map(|(_, rest)| rest).or_else(|| before.strip_prefix("//"));
        let (host, path) = match named {
            Some(rest) => rest.find('/').map_or((rest, ""), |i| rest.split_at(i)),
            None => ("", before),
        };
        let elsewhere = !host.is_empty() && host != self.host && host != asked;
        if elsewhere || !path.starts_with('/') {
            return location.into();
        }
        let prefix = encode(&self.prefix);
        if path.starts_with(&prefix) {
            return format!("{path}{query}{fragment}");
        }
        let mut joined = clean(&format!("{prefix}{path}"));
        if path.ends_with('/') && !joined.ends_with('/') {
            joined.push('/');
        }
        format!("{joined}{query}{fragment}")
    }
}

/// Go's `path.Join` under the root: no empty segments, no `.` and `..`. Nothing stays nothing.
fn clean(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    match out.as_slice() {
        [] if path.is_empty() => String::new(),
        segments => {
            format!("/{}{}", segments.join("/"), if path.ends_with('/') && !segments.is_empty() { "/" } else { "" })
        }
    }
}

/// A path as Go writes it in a URL.
fn encode(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Whether a client wants to speak another protocol on its connection. HTTP/2 in clear text is none: who asks for that
/// goes on without it as well.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let text = |v: &HeaderValue| v.to_str().unwrap_or_default().to_ascii_lowercase();
    headers.get_all(header::CONNECTION).iter().any(|v| text(v).contains("upgrade"))
        && headers.get(header::UPGRADE).is_some_and(|v| text(v) != "h2c")
}

/// The host that a request names.
pub(super) fn host<B>(request: &Request<B>) -> String {
    let header = || request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).map(str::to_string);
    request.uri().authority().map(|a| a.to_string()).or_else(header).unwrap_or_default()
}

/// Makes a client's headers those of the request to the pod. What proved who the client is stays here.
pub(super) fn request(headers: &mut HeaderMap, way: &Way, host: &str, peer: Option<IpAddr>, changes: bool) {
    let protocol = headers.get(header::UPGRADE).cloned().filter(|_| changes);
    let said = headers.get_all(header::TE).iter().filter_map(|v| v.to_str().ok());
    // The one thing of it that goes on (RFC 9110, section 10.1.4).
    let trailers = said.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("trailers"));
    strip(headers);
    headers.remove(header::AUTHORIZATION);
    let own: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().starts_with("impersonate-")).cloned().collect();
    own.into_iter().for_each(|name| drop(headers.remove(name)));
    // The server in front has answered it already.
    headers.remove(header::EXPECT);
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::HOST, host.into());
    set(X_FORWARDED_URI, encode(&way.prefix) + &way.path);
    if trailers {
        set(header::TE, "trailers".into());
    }
    if let Some(peer) = peer {
        let before = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok());
        let all: Vec<String> = before.map(str::to_string).chain([peer.to_canonical().to_string()]).collect();
        if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
            headers.insert(X_FORWARDED_FOR, value);
        }
    }
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Makes a pod's headers those of the answer. `host` is the one that the client has named.
pub(super) fn answer(headers: &mut HeaderMap, way: &Way, host: &str) {
    strip(headers);
    CORS.iter().for_each(|name| drop(headers.remove(name)));
    let location = headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
    if let Some(to) = location.and_then(|l| HeaderValue::from_str(&way.location(l, host)).ok()) {
        headers.insert(header::LOCATION, to);
    }
}

fn strip(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let named: Vec<HeaderName> = named.flat_map(|v| v.split(',')).filter_map(|n| n.trim().parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        // Framing is not the client's to take away.
        if *name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::path;

    fn way(url: &str) -> Way {
        let path::Target::Resource(path) = path::parse(url).unwrap() else { panic!("{url}") };
        let to = "10.244.0.7:80".parse().unwrap();
        let target = Target {
            node: "n".into(),
            namespace: "ns".into(),
            pod: "p".into(),
            https: false,
            to,
            host: "10.244.0.7:80".into(),
        };
        Way::new(&path, url, &target)
    }

    const PROXY: &str = "/api/v1/namespaces/ns/services/http:web:80/proxy";

    #[test]
    fn the_pods_path_is_what_comes_behind() {
        for (rest, want) in [
            ("", ""),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a//b", "/a/b"),
            ("/a/./../../b/", "/b/"),
            ("/..", "/"),
            ("/a%2Fb%20c", "/a/b%20c"),
            ("/%E2%82%AC(x)", "/%E2%82%AC%28x%29"),
            ("/a%3Fb;c=1,2@:$&+", "/a%3Fb;c=1,2@:$&+"),
        ] {
            assert_eq!(way(&format!("{PROXY}{rest}")).path, want, "{rest}");
        }
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let way = way(PROXY);
        let there = way.with_slash(&Method::GET, &uri(&format!("{PROXY}?a=b%20c")));
        assert_eq!(there, Some(format!("{PROXY}/?a=b%20c")));
        assert_eq!(way.with_slash(&Method::POST, &uri(PROXY)), None);
    }

    #[test]
    fn locations_lead_back_through_the_proxy() {
        let way = way(&format!("{PROXY}/x"));
        for (location, want) in [
            ("/login?next=/x#top", format!("{PROXY}/login?next=/x#top")),
            ("/dir/", format!("{PROXY}/dir/")),
            ("/a/../b", format!("{PROXY}/b")),
            ("/to/http://x", format!("{PROXY}/to/http:/x")),
            ("http://10.244.0.7:80/y", format!("{PROXY}/y")),
            ("https://localhost:8001/y?z", format!("{PROXY}/y?z")),
            ("//10.244.0.7:80/y", format!("{PROXY}/y")),
            ("http://10.244.0.7:80", "http://10.244.0.7:80".into()),
            ("http://example.com/y", "http://example.com/y".into()),
            ("sibling", "sibling".into()),
            ("?page=2", "?page=2".into()),
            (&format!("{PROXY}/already"), format!("{PROXY}/already")),
        ] {
            assert_eq!(way.location(location, "localhost:8001"), want, "{location}");
        }
    }

    fn map(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (k, v) in list {
            headers.append(*k, HeaderValue::from_static(v));
        }
        headers
    }

    fn texts(headers: &HeaderMap) -> Vec<String> {
        let mut all: Vec<String> = headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn nothing_of_the_connection_and_of_the_clients_credentials_goes_on() {
        let way = way(&format!("{PROXY}/x/"));
        let given = [
            ("authorization", "Bearer secret"),
            ("impersonate-user", "bob"),
            ("impersonate-extra-scopes", "a"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "deflate, trailers"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        let mut headers = map(&given);
        request(&mut headers, &way, "localhost:8001", Some([192, 0, 2, 2].into()), false);
        let uri = format!("x-forwarded-uri: {PROXY}/x/");
        let want = [
            "content-length: 3",
            "cookie: a=b",
            "host: localhost:8001",
            "te: trailers",
            "x-forwarded-for: 192.0.2.1, 192.0.2.2",
            uri.as_str(),
        ];
        assert_eq!(texts(&headers), want);
        let mut headers =
            map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")]);
        assert!(wants_upgrade(&headers));
        request(&mut headers, &way, "h", None, true);
        let want = ["connection: Upgrade", "host: h", "sec-websocket-key: k", "upgrade: websocket", uri.as_str()];
        assert_eq!(texts(&headers), want);
        assert!(!wants_upgrade(&map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")])));
        assert!(!wants_upgrade(&map(&[("upgrade", "websocket")])));
    }

    #[test]
    fn answers_say_nothing_about_the_connection_and_the_apis_origin() {
        let way = way(&format!("{PROXY}/x"));
        let mut headers = map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "*"),
            ("set-cookie", "a=b"),
            ("location", "/y"),
        ]);
        answer(&mut headers, &way, "h");
        let location = format!("location: {PROXY}/y");
        assert_eq!(texts(&headers), [location.as_str(), "set-cookie: a=b"]);
    }
}
