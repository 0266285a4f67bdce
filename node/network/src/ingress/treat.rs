//! What routes do to requests and responses on their way: headers, paths, redirects, other origins.

use copepod_model::gateway::Cors;
use copepod_node_routes::cors::{self, Crossing};
use copepod_node_routes::{Before, Treatment, edited, location};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::body::{Body, empty};

/// What belongs to the connection or to the body's framing: no route may say otherwise.
const OURS: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    HeaderName::from_static("keep-alive"),
];

/// What a route or a backend does, the former first.
pub(super) type Both<'t> = [&'t Treatment; 2];

/// Changes a request's headers and its target. `prefix` is how many bytes of its path are the prefix by which it was matched.
pub(super) fn request(both: Both<'_>, prefix: usize, request: &mut Request<Body>) {
    for of in both {
        edit(of.request.as_ref(), request.headers_mut());
        let Some(rewrite) = &of.rewrite else { continue };
        if let Some(host) = rewrite.hostname.as_deref().and_then(|h| HeaderValue::from_str(h).ok()) {
            request.headers_mut().insert(header::HOST, host);
        }
        if let Some(to) = &rewrite.path {
            let uri = request.uri();
            let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
            // What makes no path stays as it is: validation allows any text.
            if let Ok(target) = format!("{}{query}", edited(to, uri.path(), prefix)).parse::<PathAndQuery>() {
                *request.uri_mut() = Uri::from(target);
            }
        }
    }
}

/// Changes a response's headers, the backend's changes first.
pub(super) fn response(both: Both<'_>, headers: &mut HeaderMap) {
    for of in both.into_iter().rev() {
        edit(of.response.as_ref(), headers);
    }
}

/// The answer that sends a client elsewhere, if the route or the backend says so.
pub(super) fn redirect(both: Both<'_>, before: Before<'_>) -> Option<Response<Body>> {
    let to = both.into_iter().find_map(|of| of.redirect.as_ref())?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
    let at = HeaderValue::from_str(&location(to, before)).ok()?;
    response.headers_mut().insert(header::LOCATION, at);
    self::response(both, response.headers_mut());
    Some(response)
}

/// A request from a page of some origin, with the filter that says what such a page may do.
pub(super) struct Guest<'t> {
    cors: &'t Cors,
    asked: Crossing,
    preflight: bool,
}

impl<'t> Guest<'t> {
    /// If the route or the backend has such a filter, and the request says where it is from.
    pub(super) fn of<B>(both: Both<'t>, request: &Request<B>) -> Option<Guest<'t>> {
        let cors = both.into_iter().find_map(|of| of.cors.as_ref())?;
        let text = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let asked = Crossing {
            origin: text(header::ORIGIN)?,
            method: text(header::ACCESS_CONTROL_REQUEST_METHOD),
            headers: text(header::ACCESS_CONTROL_REQUEST_HEADERS),
        };
        let preflight = *request.method() == Method::OPTIONS && asked.method.is_some();
        Some(Guest { cors, asked, preflight })
    }

    /// The answer, if it only asks what it may do: no backend hears of that.
    pub(super) fn preflight(&self) -> Option<Response<Body>> {
        if !self.preflight {
            return None;
        }
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.write(cors::preflight(self.cors, &self.asked), response.headers_mut());
        Some(response)
    }

    /// Tells it what it may do with an answer.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        self.write(cors::answer(self.cors, &self.asked.origin), headers);
    }

    fn write(&self, pairs: cors::Headers, headers: &mut HeaderMap) {
        for (name, value) in pairs {
            // An origin that is allowed is a header's value already.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if cors::varies(self.cors) {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }
}

fn edit(edit: Option<&copepod_model::gateway::HeaderEdit>, headers: &mut HeaderMap) {
    let Some(edit) = edit else { return };
    let pair = |(name, value): &(String, String)| Some((named(name)?, HeaderValue::from_str(value).ok()?));
    for (name, value) in edit.set.iter().filter_map(pair) {
        headers.insert(name, value);
    }
    for (name, value) in edit.add.iter().filter_map(pair) {
        headers.append(name, value);
    }
    for name in edit.remove.iter().filter_map(|n| named(n)) {
        headers.remove(name);
    }
}

fn named(name: &str) -> Option<HeaderName> {
    name.parse::<HeaderName>().ok().filter(|n| !OURS.contains(n))
}

#[cfg(test)]
mod tests {
    use copepod_model::gateway::{HeaderEdit, PathEdit, Redirect, Rewrite};

    use super::*;
    use crate::body::full;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    #[test]
    fn requests_change_first_by_the_rule_and_then_by_the_backend() {
        let rule = Treatment {
            request: Some(HeaderEdit {
                set: pairs(&[("x-a", "1"), ("content-length", "99")]),
                add: pairs(&[("x-b", "2")]),
                remove: vec!["x-c".into(), "connection".into()],
            }),
            rewrite: Some(Rewrite { hostname: Some("in.test".into()), path: Some(PathEdit::Prefix("/v2".into())) }),
            ..Treatment::default()
        };
        let backend = Treatment {
            request: Some(HeaderEdit { set: pairs(&[("x-a", "3")]), ..HeaderEdit::default() }),
            ..Treatment::default()
        };
        let mut r = Request::get("/v1/x?q=1").body(full("")).unwrap();
        for (name, value) in
            [("host", "out.test"), ("x-b", "1"), ("x-c", "1"), ("content-length", "0"), ("connection", "x")]
        {
            r.headers_mut().append(name, HeaderValue::from_static(value));
        }
        request([&rule, &backend], 3, &mut r);
        assert_eq!(r.uri(), "/v2/x?q=1");
        let mut left: Vec<String> = r.headers().iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["connection=x", "content-length=0", "host=in.test", "x-a=3", "x-b=1", "x-b=2"]);
    }

    #[test]
    fn pages_of_other_origins_are_told_what_they_may_do() {
        let cors = Cors { origins: vec!["https://a.test".into()], methods: vec!["PUT".into()], ..Cors::default() };
        let (rule, none) = (Treatment { cors: Some(cors), ..Treatment::default() }, Treatment::default());
        let asks = |method: &str, pairs: &[(&'static str, &'static str)]| {
            let mut r = Request::builder().method(method).body(()).unwrap();
            r.headers_mut()
                .extend(pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))));
            r
        };
        let (origin, wanted) = (("origin", "https://a.test"), ("access-control-request-method", "PUT"));
        assert!(Guest::of([&rule, &none], &asks("GET", &[])).is_none(), "of no other origin");
        assert!(Guest::of([&none, &none], &asks("GET", &[origin])).is_none(), "no filter");
        let answer = |method: &str, pairs: &[(&'static str, &'static str)]| {
            Guest::of([&none, &rule], &asks(method, pairs)).unwrap().preflight()
        };
        let allowed = answer("OPTIONS", &[origin, wanted]).unwrap();
        let headers = allowed.headers();
        assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
        for (name, want) in [
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-origin", "https://a.test"),
            ("vary", "Origin"),
        ] {
            assert_eq!(headers[name], want, "{name}");
        }
        let other = answer("OPTIONS", &[("origin", "https://b.test"), wanted]).unwrap();
        assert!(other.headers().keys().all(|name| name == "vary"), "{:?}", other.headers());
        assert!(answer("OPTIONS", &[origin]).is_none() && answer("PUT", &[origin, wanted]).is_none());
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("https://backend.test"));
        Guest::of([&rule, &none], &asks("PUT", &[origin])).unwrap().tell(&mut headers);
        assert_eq!(headers["access-control-allow-origin"], "https://a.test", "the route has the last word");
    }

    #[test]
    fn a_redirect_says_where_to_go() {
        let to = Redirect { scheme: Some("https".into()), hostname: None, port: None, path: None, status: 301 };
        let headers = HeaderEdit { set: pairs(&[("x-a", "1")]), ..HeaderEdit::default() };
        let rule = Treatment { redirect: Some(to), response: Some(headers), ..Treatment::default() };
        let before = Before { tls: false, host: "a.test", port: 80, path: "/x", query: None, prefix: 0 };
        let none = Treatment::default();
        let response = redirect([&rule, &none], before).unwrap();
        assert_eq!(
            (response.status(), &response.headers()["location"]),
            (StatusCode::MOVED_PERMANENTLY, &HeaderValue::from_static("https://a.test/x"))
        );
        assert_eq!(response.headers()["x-a"], "1");
        assert!(redirect([&none, &none], before).is_none());
    }
}
