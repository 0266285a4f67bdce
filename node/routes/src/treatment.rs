//! Where redirects and rewrites lead (`HTTPRequestRedirectFilter`, `HTTPURLRewriteFilter`).

use copepod_model::gateway::{PathEdit, Redirect};

/// A path after a change. `prefix` is how many bytes of it are the prefix by which it was matched.
pub fn edited(edit: &PathEdit, path: &str, prefix: usize) -> String {
    let (to, rest) = match edit {
        PathEdit::Full(to) => (to.as_str(), ""),
        PathEdit::Prefix(to) => (to.strip_suffix('/').unwrap_or(to), path.get(prefix..).unwrap_or_default()),
    };
    let slash = if to.starts_with('/') || (to.is_empty() && rest.starts_with('/')) { "" } else { "/" };
    format!("{slash}{to}{rest}")
}

/// What a redirect needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Whether it came over TLS.
    pub tls: bool,
    /// The host that it names, possibly with a port.
    pub host: &'a str,
    /// The port that it came to.
    pub port: u16,
    /// The path.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// How many bytes of the path are the prefix by which it was matched.
    pub prefix: usize,
}

/// The `Location` of a redirect. Its port is the given one, or else that of the given scheme, or else the one that the
/// request came to; a scheme's own port is not written.
pub fn location(to: &Redirect, from: Before<'_>) -> String {
    let own = if from.tls { "https" } else { "http" };
    let scheme = to.scheme.as_deref().unwrap_or(own);
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = to.port.unwrap_or(if to.scheme.is_some() { usual } else { from.port });
    let bare = match from.host.rfind(':') {
        Some(colon) if !from.host[colon..].contains(']') => &from.host[..colon],
        _ => from.host,
    };
    let host = to.hostname.as_deref().unwrap_or(bare);
    let path = to.path.as_ref().map_or_else(|| from.path.to_string(), |edit| edited(edit, from.path, from.prefix));
    let query = from.query.map(|q| format!("?{q}")).unwrap_or_default();
    match (host, port == usual) {
        ("", _) => format!("{path}{query}"),
        (host, true) => format!("{scheme}://{host}{path}{query}"),
        (host, false) => format!("{scheme}://{host}:{port}{path}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the Go documentation of `HTTPPathModifier`, and a few more.
    #[test]
    fn prefixes_are_replaced_by_whole_elements() {
        for (path, prefix, to, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "", "/xyz", "/xyz/foo"),
            ("/foo", "", "xyz", "/xyz/foo"),
        ] {
            assert_eq!(edited(&PathEdit::Prefix(to.into()), path, prefix.len()), want, "{path} {prefix} {to}");
        }
        assert_eq!(edited(&PathEdit::Full("/a".into()), "/foo/bar", 4), "/a");
        assert_eq!(edited(&PathEdit::Full(String::new()), "/foo/bar", 4), "/");
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let plain = Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 };
        let before =
            Before { tls: false, host: "a.test:8080", port: 8080, path: "/x/y", query: Some("q=1"), prefix: 2 };
        let text = |t: &str| Some(t.to_string());
        for (to, from, want) in [
            (plain.clone(), before, "http://a.test:8080/x/y?q=1"),
            (Redirect { scheme: text("https"), ..plain.clone() }, before, "https://a.test/x/y?q=1"),
            (
                Redirect { scheme: text("https"), port: Some(8443), ..plain.clone() },
                before,
                "https://a.test:8443/x/y?q=1",
            ),
            (Redirect { port: Some(80), ..plain.clone() }, before, "http://a.test/x/y?q=1"),
            (
                Redirect { hostname: text("b.test"), ..plain.clone() },
                Before { port: 80, ..before },
                "http://b.test/x/y?q=1",
            ),
            (plain.clone(), Before { tls: true, port: 443, query: None, ..before }, "https://a.test/x/y"),
            (plain.clone(), Before { host: "", ..before }, "/x/y?q=1"),
            (plain.clone(), Before { host: "[::1]:8080", port: 80, ..before }, "http://[::1]/x/y?q=1"),
            (
                Redirect { path: Some(PathEdit::Prefix("/z".into())), ..plain.clone() },
                before,
                "http://a.test:8080/z/y?q=1",
            ),
            (Redirect { path: Some(PathEdit::Full("/z".into())), ..plain }, before, "http://a.test:8080/z?q=1"),
        ] {
            assert_eq!(location(&to, from), want, "{to:?} {from:?}");
        }
    }
}
