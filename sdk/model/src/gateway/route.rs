//! What a route says.

use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::filter::{Filter, filters};
use super::judge::JudgedGateway;
use super::{GROUP, RouteKind};
use crate::Object;
use crate::facts::Facts;
use crate::kinds::duration;
use crate::kinds::fields::{list, text};

/// How large the automaton of one regular expression may become, in bytes.
const PATTERN_SIZE: usize = 256 * 1024;

/// How often a request is tried again at most.
const MOST_ATTEMPTS: u32 = 10;
/// The pause before another attempt where a route names none.
const BACKOFF: Duration = Duration::from_millis(25);

/// What a route says.
#[derive(Debug)]
pub struct RouteFacts {
    /// Its kind.
    pub kind: RouteKind,
    /// Host names in lower case; none is any.
    pub hostnames: Vec<String>,
    /// Where it wants to be attached, in its order.
    pub parents: Vec<Parent>,
    /// Its rules, in its order.
    pub rules: Vec<Arc<Rule>>,
}

/// Where a route wants to be attached.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// The reference as it stands in the route.
    pub reference: Value,
    /// Whether it names a Gateway.
    pub gateway: bool,
    /// The namespace: the route's where it names none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// One listener only.
    pub section: Option<String>,
    /// Listeners of this port only.
    pub port: Option<u16>,
}

impl Parent {
    /// Whether it names this Gateway.
    pub fn names(&self, gateway: &JudgedGateway) -> bool {
        self.gateway && gateway.is(&self.namespace, &self.name)
    }
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Any of these.
    pub matches: Vec<Match>,
    /// What is done to requests and responses.
    pub filters: Vec<Filter>,
    /// Where requests go.
    pub backends: Vec<BackendRef>,
    /// For the whole, `None` for as long as anyone else.
    pub request_timeout: Option<Duration>,
    /// For one attempt.
    pub backend_timeout: Option<Duration>,
    /// Whether and how often it is tried again.
    pub retry: Option<Retry>,
    /// What cannot be done.
    pub problems: Vec<Problem>,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// How often.
    pub attempts: u32,
    /// The pause before each.
    pub backoff: Duration,
    /// Which answers are as good as none.
    pub codes: Vec<u16>,
}

impl Rule {
    /// Its own filters and those of its backends.
    pub fn all_filters(&self) -> impl Iterator<Item = &Filter> {
        self.filters.iter().chain(self.backends.iter().flat_map(|b| &b.filters))
    }

    /// Whether it asks for something that cannot be done: requests that match it are answered by an error.
    pub fn is_broken(&self) -> bool {
        self.problems.iter().any(|p| matches!(p, Problem::Filter(_)))
    }
}

/// Something in a rule that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A match that is left out, and why.
    Match(String),
    /// A filter of this type: it breaks the rule.
    Filter(String),
}

impl Problem {
    /// In words.
    pub fn message(&self) -> String {
        match self {
            Problem::Match(why) => why.clone(),
            Problem::Filter(ty) => format!("filters of type {ty} are not supported"),
        }
    }
}

/// What a request must be like, all of it.
#[derive(Debug)]
pub struct Match {
    /// Path.
    pub path: PathMatch,
    /// Method.
    pub method: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, ValueMatch)>,
    /// Parameters of the query.
    pub query: Vec<(String, ValueMatch)>,
}

/// How a path is compared.
#[derive(Debug)]
pub enum PathMatch {
    /// The same.
    Exact(String),
    /// Begins with these whole elements; without the final slash, so `/` is the empty text.
    Prefix(String),
    /// The whole path.
    Regex(Regex),
}

/// How a value is compared.
#[derive(Debug)]
pub enum ValueMatch {
    /// The same.
    Exact(String),
    /// The whole value.
    Regex(Regex),
}

impl ValueMatch {
    /// Whether a value matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            ValueMatch::Exact(wanted) => wanted == value,
            ValueMatch::Regex(pattern) => pattern.is_match(value),
        }
    }
}

/// A backend with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRef {
    /// Which.
    pub to: Reference,
    /// Its part of all weights.
    pub weight: u32,
    /// What is done to what goes there.
    pub filters: Vec<Filter>,
}

/// A reference to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Group, empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// The namespace: the route's where it names none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Port.
    pub port: Option<u16>,
}

impl Reference {
    /// Whether it names a Service.
    pub fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }
}

impl Facts for RouteFacts {
    fn of(object: &Object) -> Self {
        let spec = &object.spec_and_status().0;
        let kind = RouteKind::of(object);
        RouteFacts {
            kind,
            hostnames: list(spec, "hostnames").iter().filter_map(|h| Some(h.as_str()?.to_ascii_lowercase())).collect(),
            parents: list(spec, "parentRefs").iter().map(|p| parent(object, p)).collect(),
            rules: list(spec, "rules").iter().map(|r| Arc::new(rule(object, kind, r))).collect(),
        }
    }
}

fn parent(object: &Object, p: &Value) -> Parent {
    let or = |field: &str, default: &str| p[field].as_str().unwrap_or(default).to_string();
    Parent {
        reference: p.clone(),
        gateway: or("group", GROUP) == GROUP && or("kind", "Gateway") == "Gateway",
        namespace: or("namespace", object.namespace()),
        name: or("name", ""),
        section: p["sectionName"].as_str().filter(|s| !s.is_empty()).map(Into::into),
        port: port(p),
    }
}

fn port(v: &Value) -> Option<u16> {
    v["port"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

pub(super) fn reference(object: &Object, r: &Value) -> Reference {
    let or = |field: &str, default: &str| r[field].as_str().unwrap_or(default).to_string();
    Reference {
        group: or("group", ""),
        kind: or("kind", "Service"),
        namespace: or("namespace", object.namespace()),
        name: or("name", ""),
        port: port(r),
    }
}

fn rule(object: &Object, kind: RouteKind, r: &Value) -> Rule {
    let mut problems = Vec::new();
    let listed = list(r, "matches");
    let mut matches = Vec::new();
    for m in listed {
        match if kind == RouteKind::Grpc { grpc_match(m) } else { http_match(m) } {
            Ok(made) => matches.push(made),
            Err(why) => problems.push(Problem::Match(why)),
        }
    }
    if listed.is_empty() {
        matches.push(Match { path: PathMatch::Prefix(String::new()), method: None, headers: vec![], query: vec![] });
    }
    let backends: Vec<BackendRef> = list(r, "backendRefs")
        .iter()
        .map(|b| BackendRef {
            to: reference(object, b),
            weight: b["weight"].as_u64().and_then(|w| u32::try_from(w).ok()).unwrap_or(1),
            filters: filters(object, list(b, "filters")),
        })
        .collect();
    let timeouts = &r["timeouts"];
    let time = |field: &str| timeouts[field].as_str().and_then(duration::parse);
    let mut rule = Rule {
        matches,
        filters: filters(object, list(r, "filters")),
        backends,
        request_timeout: time("request"),
        backend_timeout: time("backendRequest"),
        retry: r["retry"].is_object().then(|| retry(&r["retry"])),
        problems: vec![],
    };
    let unsupported =
        |f: &Filter| if let Filter::Unsupported(ty) = f { Some(Problem::Filter(ty.clone())) } else { None };
    problems.extend(rule.all_filters().filter_map(unsupported));
    rule.problems = problems;
    rule
}

fn retry(r: &Value) -> Retry {
    Retry {
        attempts: r["attempts"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1).min(MOST_ATTEMPTS),
        backoff: r["backoff"].as_str().and_then(duration::parse).unwrap_or(BACKOFF),
        codes: list(r, "codes").iter().filter_map(|c| u16::try_from(c.as_u64()?).ok()).collect(),
    }
}

/// A regular expression that must match the whole text.
fn pattern(text: &str) -> Result<Regex, String> {
    let whole = format!("^(?:{text})$");
    let built = RegexBuilder::new(&whole).size_limit(PATTERN_SIZE).build();
    built.map_err(|_| format!("{text:?} is not a regular expression, or too large a one"))
}

fn value_match(m: &Value) -> Result<ValueMatch, String> {
    let value = text(m, "value");
    if text(m, "type") == "RegularExpression" {
        pattern(value).map(ValueMatch::Regex)
    } else {
        Ok(ValueMatch::Exact(value.into()))
    }
}

/// Names with how their values are compared; of equal names the first counts.
fn named(all: &[Value], name: impl Fn(&str) -> String) -> Result<Vec<(String, ValueMatch)>, String> {
    let mut out: Vec<(String, ValueMatch)> = Vec::new();
    for m in all {
        let name = name(text(m, "name"));
        if !out.iter().any(|(n, _)| *n == name) {
            out.push((name, value_match(m)?));
        }
    }
    Ok(out)
}

fn http_match(m: &Value) -> Result<Match, String> {
    let path = &m["path"];
    let value = path["value"].as_str().unwrap_or("/");
    let path = match text(path, "type") {
        "Exact" => PathMatch::Exact(value.into()),
        "RegularExpression" => PathMatch::Regex(pattern(value)?),
        _ => PathMatch::Prefix(value.strip_suffix('/').unwrap_or(value).into()),
    };
    Ok(Match {
        path,
        method: m["method"].as_str().map(Into::into),
        headers: named(list(m, "headers"), str::to_ascii_lowercase)?,
        query: named(list(m, "queryParams"), str::to_owned)?,
    })
}

/// A gRPC call is a POST to `/service/method`.
fn grpc_match(m: &Value) -> Result<Match, String> {
    let method = &m["method"];
    let (service, call) = (method["service"].as_str(), method["method"].as_str());
    let any = "[^/]+";
    let path = match (text(method, "type"), service, call) {
        (_, None, None) => PathMatch::Prefix(String::new()),
        ("RegularExpression", service, call) => {
            let part = |p: Option<&str>| p.map_or(any.to_string(), |p| format!("(?:{p})"));
            PathMatch::Regex(pattern(&format!("/{}/{}", part(service), part(call)))?)
        }
        (_, Some(service), Some(call)) => PathMatch::Exact(format!("/{service}/{call}")),
        (_, Some(service), None) => PathMatch::Prefix(format!("/{service}")),
        (_, None, Some(call)) => PathMatch::Regex(pattern(&format!("/{any}/{}", regex::escape(call)))?),
    };
    Ok(Match { path, method: None, headers: named(list(m, "headers"), str::to_ascii_lowercase)?, query: vec![] })
}
