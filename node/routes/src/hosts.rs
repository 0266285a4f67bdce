//! Rules by host and path: the one structure that Ingresses and the listeners of Gateways become.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use copepod_model::gateway::{Match, PathMatch, ValueMatch};

use crate::rule::{Asked, Found, HttpRule, Rank};

/// Rules by host.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: HashMap<Box<str>, Paths>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// Rules by path.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// The longest expressions first.
    regex: Vec<Entry>,
    /// Without the trailing slash: `/` is the empty text.
    prefix: HashMap<Box<str>, Vec<Entry>>,
}

/// A rule, with what it asks besides host and path.
#[derive(Clone, Debug)]
struct Entry {
    /// As it stands in the route; an Ingress asks nothing besides.
    of: Option<(Arc<copepod_model::gateway::Rule>, usize)>,
    rule: Arc<HttpRule>,
}

impl Entry {
    fn wanted(&self) -> Option<&Match> {
        let (rule, at) = self.of.as_ref()?;
        rule.matches.get(*at)
    }

    /// What precedes of two rules with the same host and path: a method, more headers, more parameters. Then the older one,
    /// which was added earlier.
    fn weight(&self) -> Reverse<(bool, usize, usize)> {
        Reverse(self.wanted().map_or((false, 0, 0), |m| (m.method.is_some(), m.headers.len(), m.query.len())))
    }

    fn takes(&self, asked: &Asked<'_>) -> bool {
        let Some(m) = self.wanted() else { return true };
        let has = |value: Option<Cow<'_, str>>, wanted: &ValueMatch| value.is_some_and(|v| wanted.matches(&v));
        m.method.as_deref().is_none_or(|method| method == asked.method)
            && m.headers.iter().all(|(name, wanted)| has((asked.header)(name), wanted))
            && m.query.iter().all(|(name, wanted)| has(parameter(asked.query, name), wanted))
    }
}

/// The first value of a parameter of a query.
fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    let pairs = query.unwrap_or_default().split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
    pairs.filter(|(n, _)| *decoded(n) == *name).map(|(_, v)| decoded(v)).next()
}

/// Without percent signs and pluses; borrowed where there is none.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [a, b, ..] if *first == b'%' => digit(*a).zip(digit(*b)),
            _ => None,
        };
        rest = after;
        match (escaped, first) {
            (Some((high, low)), _) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            (None, b'+') => out.push(b' '),
            (None, other) => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

const ANY_HOST: u8 = 1;
const WILDCARD_HOST: u8 = 2;
const EXACT_HOST: u8 = 3;
const PREFIX_PATH: u8 = 1;
const REGEX_PATH: u8 = 2;
const EXACT_PATH: u8 = 3;

impl Hosts {
    /// The rules of one host; `None` is any, `*.` begins a wildcard. Lower case.
    pub(crate) fn of(&mut self, host: Option<&str>) -> &mut Paths {
        match host.map(|h| (h, h.strip_prefix("*."))) {
            None => &mut self.any,
            Some((_, Some(suffix))) => self.wildcard.entry(suffix.into()).or_default(),
            Some((host, None)) => self.exact.entry(host.into()).or_default(),
        }
    }

    /// To be called when everything was added.
    pub(crate) fn settle(&mut self) {
        // In no order: each is sorted by itself.
        #[allow(clippy::iter_over_hash_type)]
        for paths in self.exact.values_mut().chain(self.wildcard.values_mut()).chain([&mut self.any]) {
            paths.settle();
        }
    }

    /// Whether there may be a rule for a host; a wildcard stands for one label.
    pub(crate) fn knows(&self, host: &str) -> bool {
        let wildcard = || suffixes(host).next().is_some_and(|suffix| self.wildcard.contains_key(suffix));
        self.exact.contains_key(host) || wildcard() || !self.any.is_empty()
    }

    /// The best rule for a request: exact host before wildcards, the longer ones first, before any host. A host whose rules do
    /// not match leaves the request to the next. `one_label`: a wildcard stands for one label only.
    pub(crate) fn find(&self, host: &str, asked: &Asked<'_>, one_label: bool) -> Option<Found> {
        let with = |kind: u8, length: usize| {
            move |(rule, prefix, (path, bytes)): Match3| {
                let rank: Rank = (kind, length, path, bytes);
                Found { rule, prefix, rank }
            }
        };
        let exact = || self.exact.get(host).and_then(|p| p.find(asked)).map(with(EXACT_HOST, host.len()));
        let wildcard = || {
            if self.wildcard.is_empty() {
                return None;
            }
            let longest = if one_label { 1 } else { usize::MAX };
            suffixes(host).take(longest).find_map(|suffix| {
                self.wildcard.get(suffix).and_then(|p| p.find(asked)).map(with(WILDCARD_HOST, suffix.len()))
            })
        };
        exact().or_else(wildcard).or_else(|| self.any.find(asked).map(with(ANY_HOST, 0)))
    }
}

/// What follows the first dot, the second one … of a host that does not begin with one.
pub(crate) fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.match_indices('.').map(|(at, _)| at).filter(|_| !host.starts_with('.'));
    dots.map(|at| &host[at + 1..])
}

/// A rule, the bytes of the path that are its prefix, and the rank of its path.
type Match3 = (Arc<HttpRule>, usize, (u8, usize));

impl Paths {
    /// Adds a rule of an Ingress, unless there is one for the same path.
    pub(crate) fn add_plain(&mut self, exact: bool, path: &str, rule: Arc<HttpRule>) {
        let map = if exact { &mut self.exact } else { &mut self.prefix };
        let path = if exact { path } else { path.strip_suffix('/').unwrap_or(path) };
        if !map.contains_key(path) {
            map.insert(path.into(), vec![Entry { of: None, rule }]);
        }
    }

    /// Adds one of the matches of a route's rule.
    pub(crate) fn add(&mut self, of: &Arc<copepod_model::gateway::Rule>, at: usize, rule: &Arc<HttpRule>) {
        let Some(wanted) = of.matches.get(at) else { return };
        let entry = Entry { of: Some((of.clone(), at)), rule: rule.clone() };
        match &wanted.path {
            PathMatch::Exact(path) => self.exact.entry(path.as_str().into()).or_default().push(entry),
            PathMatch::Prefix(path) => self.prefix.entry(path.as_str().into()).or_default().push(entry),
            PathMatch::Regex(_) => self.regex.push(entry),
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.regex.is_empty() && self.prefix.is_empty()
    }

    fn settle(&mut self) {
        #[allow(clippy::iter_over_hash_type)]
        for entries in self.exact.values_mut().chain(self.prefix.values_mut()) {
            entries.sort_by_key(Entry::weight);
        }
        self.regex.sort_by_key(|e| (Reverse(e.wanted().map_or(0, |m| pattern(m).len())), e.weight()));
    }

    fn find(&self, asked: &Asked<'_>) -> Option<Match3> {
        let path = asked.path;
        let first = |entries: &Vec<Entry>| entries.iter().find(|e| e.takes(asked)).map(|e| e.rule.clone());
        if let Some(rule) = self.exact.get(path).and_then(first) {
            return Some((rule, 0, (EXACT_PATH, path.len())));
        }
        for entry in &self.regex {
            if let Some(m) = entry.wanted()
                && let PathMatch::Regex(regex) = &m.path
                && regex.is_match(path)
                && entry.takes(asked)
            {
                return Some((entry.rule.clone(), 0, (REGEX_PATH, pattern(m).len())));
            }
        }
        // From the longest prefix of whole elements to the shortest.
        let mut at = path.len();
        while !self.prefix.is_empty() {
            if let Some(rule) = self.prefix.get(&path[..at]).and_then(first) {
                return Some((rule, at, (PREFIX_PATH, at)));
            }
            at = path[..at].rfind('/')?;
        }
        None
    }
}

fn pattern(m: &Match) -> &str {
    if let PathMatch::Regex(r) = &m.path { r.as_str() } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_one_counts() {
        for (query, name, want) in [
            ("a=b&a=c", "a", Some("b")),
            ("x&a", "a", Some("")),
            ("a%20b=c%2Bd+e", "a b", Some("c+d e")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("ab=c", "a", None),
            ("", "a", None),
        ] {
            assert_eq!(parameter(Some(query), name).as_deref(), want, "{query}");
        }
        assert_eq!(parameter(None, "a"), None);
        assert_eq!(suffixes("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(suffixes(".b.c").count(), 0);
    }
}
