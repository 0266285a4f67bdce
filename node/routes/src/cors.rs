//! Cross-origin requests (`HTTPCORSFilter`; the protocol is the Fetch standard's, section 3.2): which origins may come, and what
//! they are told.

use copepod_model::gateway::Cors;

/// What a request says about crossing origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// `Origin`.
    pub origin: String,
    /// `Access-Control-Request-Method`.
    pub method: Option<String>,
    /// `Access-Control-Request-Headers`.
    pub headers: Option<String>,
}

/// Names, in lower case, and values of headers.
pub type Headers = Vec<(&'static str, String)>;

/// The headers of the answer to a preflight request. There are none for an origin that may not come.
pub fn preflight(cors: &Cors, asked: &Crossing) -> Headers {
    let mut out = answer(cors, &asked.origin);
    if out.is_empty() {
        return out;
    }
    // What is asked stands for the wildcard: with credentials a browser takes that literally.
    let listed = |own: &[String], wanted: &Option<String>| match own {
        [all] if all == "*" => wanted.clone(),
        own => Some(own.join(", ")).filter(|text| !text.is_empty()),
    };
    let methods = listed(&cors.methods, &asked.method);
    out.extend(methods.map(|m| ("access-control-allow-methods", m)));
    let headers = listed(&cors.headers, &asked.headers);
    out.extend(headers.map(|h| ("access-control-allow-headers", h)));
    out.push(("access-control-max-age", cors.max_age.to_string()));
    out
}

/// The headers of the answer to any other request.
pub fn answer(cors: &Cors, origin: &str) -> Headers {
    if !cors.origins.iter().any(|pattern| allows(pattern, origin)) {
        return Vec::new();
    }
    let any = cors.origins.iter().any(|o| o == "*") && !cors.credentials;
    let mut out = vec![("access-control-allow-origin", if any { "*" } else { origin }.to_string())];
    if cors.credentials {
        out.push(("access-control-allow-credentials", "true".into()));
    }
    let exposed = cors.exposed.iter().filter(|name| !cors.credentials || *name != "*");
    let exposed = exposed.map(String::as_str).collect::<Vec<_>>().join(", ");
    if !exposed.is_empty() {
        out.push(("access-control-expose-headers", exposed));
    }
    out
}

/// Whether the answer differs by the origin that asks: caches must know.
pub fn varies(cors: &Cors) -> bool {
    cors.credentials || cors.origins.iter().any(|o| o != "*")
}

/// Whether an origin is meant by one that a filter allows: any, or a scheme with a host, whose beginning may be a wildcard for
/// any number of labels, and a port.
fn allows(pattern: &str, origin: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (Some(wanted), Some(found)) = (parts(pattern), parts(origin)) else { return false };
    let ((scheme, host, port), (own_scheme, own_host, own_port)) = (wanted, found);
    let same = match host.strip_prefix('*') {
        Some(suffix) => {
            let (at, own) = (own_host.len().saturating_sub(suffix.len()), own_host);
            at > 0 && own.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
        None => host.eq_ignore_ascii_case(own_host),
    };
    same && scheme.eq_ignore_ascii_case(own_scheme) && port == own_port
}

/// Scheme, host and port of an origin; without a port it is the scheme's own.
fn parts(origin: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    match rest.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !rest.ends_with(']')) {
        Some((host, port)) => Some((scheme, host, port.parse().ok()?)),
        None => Some((scheme, rest, usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn origins_are_compared_by_their_parts() {
        for (pattern, origin, want) in [
            ("*", "null", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "https://WWW.foo.com:443", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("http://www.foo.com:8080", "http://www.foo.com:8080", true),
            ("http://www.foo.com:80", "http://www.foo.com", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://a.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*", "https://anything", true),
            ("https://*", "http://anything", false),
            ("https://*", "https://", false),
            ("https://*:8443", "https://a:8443", true),
            ("https://*:8443", "https://a", false),
            ("http://a", "null", false),
            ("http://a", "ftp://a", false),
            ("http://[::1]", "http://[::1]:80", true),
        ] {
            assert_eq!(allows(pattern, origin), want, "{pattern} {origin}");
        }
    }

    /// After the conformance test of the filter.
    #[test]
    fn a_preflight_request_is_told_what_may_be_done() {
        let mut cors = Cors {
            origins: list(&["https://www.foo.com", "https://*.bar.com"]),
            credentials: true,
            methods: list(&["GET", "OPTIONS"]),
            headers: list(&["x-header-1", "x-header-2"]),
            exposed: list(&["x-header-3", "x-header-4"]),
            max_age: 3600,
        };
        let mut asked = Crossing {
            origin: "https://xpto.www.bar.com".into(),
            method: Some("GET".into()),
            headers: Some("x-header-1, x-header-2".into()),
        };
        let own = |pairs: &[(&'static str, &str)]| pairs.iter().map(|(n, v)| (*n, v.to_string())).collect::<Headers>();
        let want = own(&[
            ("access-control-allow-origin", "https://xpto.www.bar.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-header-3, x-header-4"),
            ("access-control-allow-methods", "GET, OPTIONS"),
            ("access-control-allow-headers", "x-header-1, x-header-2"),
            ("access-control-max-age", "3600"),
        ]);
        assert_eq!(preflight(&cors, &asked), want);
        assert_eq!(answer(&cors, &asked.origin), want[..3]);
        assert!(varies(&cors));

        asked.origin = "https://foobar.com".into();
        assert!(preflight(&cors, &asked).is_empty() && answer(&cors, &asked.origin).is_empty());

        // Wildcards are what was asked, and never written where credentials come along.
        (cors.origins, cors.methods, cors.headers, cors.exposed) =
            (list(&["*"]), list(&["*"]), list(&["*"]), list(&["*"]));
        asked.headers = None;
        let want = own(&[
            ("access-control-allow-origin", "https://foobar.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET"),
            ("access-control-max-age", "3600"),
        ]);
        assert_eq!(preflight(&cors, &asked), want);
        assert!(varies(&cors));
        cors.credentials = false;
        let want = own(&[("access-control-allow-origin", "*"), ("access-control-expose-headers", "*")]);
        assert_eq!(answer(&cors, "https://foobar.com"), want);
        assert!(!varies(&cors));
        assert!(answer(&Cors::default(), "https://foobar.com").is_empty(), "nobody is allowed");
    }
}
