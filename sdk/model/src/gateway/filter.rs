//! Filters of routes.

use serde_json::Value;

use super::route::{Reference, reference};
use crate::Object;
use crate::kinds::fields::{list, text};

/// What is done to a request or to its response.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// The request's headers change.
    RequestHeaders(HeaderEdit),
    /// The response's headers change.
    ResponseHeaders(HeaderEdit),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The request goes to another host or path.
    Rewrite(Rewrite),
    /// Another backend gets a copy.
    Mirror(Mirror),
    /// Browsers may come from pages of other origins.
    Cors(Cors),
    /// Something that cannot be done; its type.
    Unsupported(String),
}

/// A change of headers: first what is set, then what is added, then what is removed. Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Replaced.
    pub set: Vec<(String, String)>,
    /// Appended.
    pub add: Vec<(String, String)>,
    /// Taken out.
    pub remove: Vec<String>,
}

/// Where a client is sent. What is `None` stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Port; without one, the scheme's own if the scheme is given, or else the listener's.
    pub port: Option<u16>,
    /// Path.
    pub path: Option<PathEdit>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a request becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The `Host` header.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<PathEdit>,
}

/// A change of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEdit {
    /// All of it; the query stays.
    Full(String),
    /// The prefix by which the request was matched.
    Prefix(String),
}

/// A copy for another backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Which.
    pub to: Reference,
    /// Of how many requests: numerator and denominator.
    pub share: (u32, u32),
}

/// Which pages may send requests, and what they are told (`HTTPCORSFilter`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may: `*`, or a scheme, a host that may begin with a wildcard, and perhaps a port.
    pub origins: Vec<String>,
    /// Whether with credentials.
    pub credentials: bool,
    /// Methods that they may use besides the usual ones; `*` is any.
    pub methods: Vec<String>,
    /// Headers that they may send besides the usual ones; `*` is any.
    pub headers: Vec<String>,
    /// Headers of responses that they may read besides the usual ones; `*` is any.
    pub exposed: Vec<String>,
    /// For how many seconds they may rely on it.
    pub max_age: u32,
}

/// What browsers take where a filter names no time.
const MAX_AGE: u32 = 5;

/// The filters of a rule or a backend.
pub(super) fn filters(object: &Object, all: &[Value]) -> Vec<Filter> {
    all.iter().map(|f| filter(object, f)).collect()
}

fn filter(object: &Object, f: &Value) -> Filter {
    match text(f, "type") {
        ty @ ("RequestHeaderModifier" | "ResponseHeaderModifier") => {
            let request = ty == "RequestHeaderModifier";
            let edit = headers(&f[if request { "requestHeaderModifier" } else { "responseHeaderModifier" }]);
            if edit.set.iter().chain(&edit.add).any(|(_, value)| !is_header_value(value)) {
                Filter::Unsupported(format!("{ty} with a value that no header can have"))
            } else if request {
                Filter::RequestHeaders(edit)
            } else {
                Filter::ResponseHeaders(edit)
            }
        }
        "RequestRedirect" => {
            let r = &f["requestRedirect"];
            Filter::Redirect(Redirect {
                scheme: r["scheme"].as_str().map(Into::into),
                hostname: r["hostname"].as_str().map(Into::into),
                port: r["port"].as_u64().and_then(|p| u16::try_from(p).ok()),
                path: path(&r["path"]),
                status: r["statusCode"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(302),
            })
        }
        "URLRewrite" => {
            let r = &f["urlRewrite"];
            Filter::Rewrite(Rewrite { hostname: r["hostname"].as_str().map(Into::into), path: path(&r["path"]) })
        }
        "RequestMirror" => {
            let m = &f["requestMirror"];
            let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
            let part = &m["fraction"];
            let share = match (number(&m["percent"]), number(&part["numerator"])) {
                (Some(percent), _) => (percent, 100),
                (None, Some(numerator)) => (numerator, number(&part["denominator"]).unwrap_or(100).max(1)),
                (None, None) => (1, 1),
            };
            Filter::Mirror(Mirror { to: reference(object, &m["backendRef"]), share })
        }
        "CORS" => Filter::Cors(cors(&f["cors"])),
        other => Filter::Unsupported(other.into()),
    }
}

fn cors(c: &Value) -> Cors {
    let texts = |field: &str| list(c, field).iter().filter_map(|v| v.as_str().map(Into::into)).collect();
    Cors {
        origins: texts("allowOrigins"),
        credentials: c["allowCredentials"].as_bool().unwrap_or(false),
        methods: texts("allowMethods"),
        headers: texts("allowHeaders"),
        exposed: texts("exposeHeaders"),
        max_age: c["maxAge"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(MAX_AGE),
    }
}

fn headers(edit: &Value) -> HeaderEdit {
    let pairs = |field: &str| {
        let mut out: Vec<(String, String)> = Vec::new();
        for h in list(edit, field) {
            let name = text(h, "name").to_ascii_lowercase();
            // Of equal names, which differ in case only, the first counts.
            if !out.iter().any(|(n, _)| *n == name) {
                out.push((name, text(h, "value").into()));
            }
        }
        out
    };
    let remove = list(edit, "remove").iter().filter_map(|n| Some(n.as_str()?.to_ascii_lowercase()));
    HeaderEdit { set: pairs("set"), add: pairs("add"), remove: remove.collect() }
}

/// Whether HTTP can carry a text as a header's value.
fn is_header_value(text: &str) -> bool {
    text.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

fn path(edit: &Value) -> Option<PathEdit> {
    match text(edit, "type") {
        "ReplaceFullPath" => Some(PathEdit::Full(text(edit, "replaceFullPath").into())),
        "ReplacePrefixMatch" => Some(PathEdit::Prefix(text(edit, "replacePrefixMatch").into())),
        _ => None,
    }
}
