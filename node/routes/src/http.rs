//! Matching of HTTP requests by host and path: a pure function that returns the best rule.

use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use std::sync::Arc;

use copepod_model::Object;

use crate::ingress::{IngressFacts, PathType, ours};
use crate::service::ServiceKey;
use crate::table::Config;

/// What an Ingress rule leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Service.
    pub service: ServiceKey,
    /// Which of its ports.
    pub port: BackendPort,
    /// The name of the Ingress with the rule; its namespace is the Service's.
    pub ingress: Arc<str>,
}

/// Where a Service of type ExternalName leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// A DNS name.
    pub name: Arc<str>,
    /// Port.
    pub port: u16,
    /// Whether HTTP/2 in clear text is spoken there.
    pub h2c: bool,
}

/// A Service's port as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
}

/// A Secret with a certificate for hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecret {
    /// Host names, possibly wildcards; empty means any.
    pub hosts: Vec<Arc<str>>,
    /// Namespace of the Secret.
    pub namespace: Arc<str>,
    /// Name of the Secret.
    pub secret: Arc<str>,
}

/// All rules of all our Ingresses.
#[derive(Debug, Default)]
pub(crate) struct HttpTable {
    exact: HashMap<Box<str>, Paths>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Paths>,
    any: Paths,
    default: Option<Backend>,
    pub(crate) tls: Vec<TlsSecret>,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Backend>,
    /// Without the trailing slash: `/` is the empty text.
    prefix: HashMap<Box<str>, Backend>,
}

impl HttpTable {
    pub(crate) fn build<O: Borrow<Object>>(
        ingresses: impl IntoIterator<Item = O>,
        classes: impl IntoIterator<Item = O>,
        config: &Config,
    ) -> HttpTable {
        let classes: Vec<O> = classes.into_iter().collect();
        let mut mine: Vec<O> = ingresses.into_iter().filter(|o| ours(o.borrow(), &classes, config)).collect();
        // Where two Ingresses say different things, the older one wins.
        mine.sort_by(|a, b| age(a.borrow()).cmp(&age(b.borrow())));
        let mut table = HttpTable::default();
        for o in &mine {
            table.add(o.borrow());
        }
        table
    }

    fn add(&mut self, object: &Object) {
        let facts: Arc<IngressFacts> = object.facts();
        if self.default.is_none() {
            self.default.clone_from(&facts.default);
        }
        for rule in &facts.rules {
            let paths = match rule.host.as_deref() {
                None => &mut self.any,
                Some(host) => match host.strip_prefix("*.") {
                    Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                    None => self.exact.entry(host.into()).or_default(),
                },
            };
            for (kind, path, backend) in &rule.paths {
                let (map, path) = match kind {
                    PathType::Exact => (&mut paths.exact, path.as_str()),
                    PathType::Prefix => (&mut paths.prefix, path.strip_suffix('/').unwrap_or(path)),
                };
                if !map.contains_key(path) {
                    map.insert(path.into(), backend.clone());
                }
            }
        }
        self.tls.extend(facts.tls.iter().cloned());
    }

    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Backend> {
        let host = normal_host(host);
        let exact = || self.exact.get(&*host);
        let wildcard =
            || host.split_once('.').filter(|(label, _)| !label.is_empty()).and_then(|(_, s)| self.wildcard.get(s));
        exact()
            .and_then(|p| p.find(path))
            .or_else(|| wildcard().and_then(|p| p.find(path)))
            .or_else(|| self.any.find(path))
            .or(self.default.as_ref())
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Backend> {
        if let Some(backend) = self.exact.get(path) {
            return Some(backend);
        }
        // From the longest prefix of whole elements to the shortest.
        let mut at = path.len();
        while !self.prefix.is_empty() {
            if let Some(backend) = self.prefix.get(&path[..at]) {
                return Some(backend);
            }
            at = path[..at].rfind('/')?;
        }
        None
    }
}

/// `host` without port and final dot, in lower case; borrowed when it is so already.
fn normal_host(host: &str) -> Cow<'_, str> {
    let end = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => colon,
        _ => host.len(),
    };
    let host = &host[..end];
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

fn age(o: &Object) -> (Option<copepod_model::Time>, &str, &str) {
    (o.meta.created(), o.namespace(), o.name())
}
