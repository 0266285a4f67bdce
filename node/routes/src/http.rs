//! Matching of HTTP requests: a pure function that returns the best rule of all Ingresses and routes.

use std::borrow::{Borrow, Cow};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::IngressLimitFacts;
use copepod_model::gateway::{Layer, age};

use crate::by_host::ByHost;
use crate::gateway::{GatewayObjects, GatewayTable};
use crate::hosts::Hosts;
use crate::ingress::{IngressFacts, PathType, ours};
use crate::rule::{Asked, Door, Found, Greeting, HttpRule};
use crate::service::ServiceKey;
use crate::table::Config;

/// What a rule leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Service.
    pub service: ServiceKey,
    /// Which of its ports.
    pub port: BackendPort,
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

/// A Service's port as a rule names it.
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

/// All rules of all our Ingresses and of all routes of our Gateways.
#[derive(Debug, Default)]
pub(crate) struct HttpTable {
    ingresses: Arc<IngressTable>,
    gateways: Arc<GatewayTable>,
    pub(crate) tls: Vec<TlsSecret>,
}

/// All rules of all our Ingresses.
#[derive(Debug, Default)]
struct IngressTable {
    hosts: Hosts,
    default: Option<Arc<HttpRule>>,
    /// Whose TLS is passed on.
    passed: ByHost<Arc<HttpRule>>,
    tls: Vec<TlsSecret>,
}

impl HttpTable {
    fn new(ingresses: Arc<IngressTable>, gateways: Arc<GatewayTable>) -> HttpTable {
        let tls = ingresses.tls.iter().chain(&gateways.tls).cloned().collect();
        HttpTable { ingresses, gateways, tls }
    }

    /// The same with other Ingresses.
    pub(crate) fn with_ingresses<O: Borrow<Object>>(
        &self,
        ingresses: impl IntoIterator<Item = O>,
        classes: impl IntoIterator<Item = O>,
        config: &Config,
    ) -> HttpTable {
        HttpTable::new(Arc::new(IngressTable::build(ingresses, classes, config)), self.gateways.clone())
    }

    /// The same with other Gateways and routes.
    pub(crate) fn with_gateways<O: Borrow<Object>>(&self, objects: &GatewayObjects<O>) -> HttpTable {
        HttpTable::new(self.ingresses.clone(), Arc::new(GatewayTable::build(objects)))
    }

    /// The ports of Gateways, and what is spoken there.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (u16, Layer)> {
        self.gateways.ports()
    }

    /// Whether it depends on the name what becomes of a connection over TLS.
    pub(crate) fn asks_names(&self, door: Door) -> bool {
        self.gateways.asks_names(door) || (door.ingress && !self.ingresses.passed.is_empty())
    }

    /// What becomes of a connection over TLS. Where Ingresses are answered they have what no route is for.
    pub(crate) fn greet(&self, door: Door, name: &str) -> Greeting {
        let host = normal_host(name);
        match self.gateways.greet(door, &host) {
            Some(Greeting::Nobody) if door.ingress && self.ingresses.knows(&host) => self.ingresses.greet(&host),
            Some(said) => said,
            None if door.ingress => self.ingresses.greet(&host),
            None => Greeting::Nobody,
        }
    }

    /// The rule for bytes that come to a port of a Gateway.
    pub(crate) fn stream(&self, port: u16) -> Option<&Arc<HttpRule>> {
        self.gateways.stream(port)
    }

    /// The rule for a request, be it an Ingress' or a route's: the one that is meant most closely, of equals the route's.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Option<Found> {
        let host = normal_host(asked.host);
        let gateway = self.gateways.find(&host, asked);
        let ingress = asked.door.ingress.then(|| self.ingresses.find(&host, asked)).flatten();
        match (gateway, ingress) {
            (Some(gateway), Some(ingress)) => Some(if ingress.rank > gateway.rank { ingress } else { gateway }),
            (gateway, ingress) => gateway.or(ingress),
        }
    }
}

impl IngressTable {
    fn build<O: Borrow<Object>>(
        ingresses: impl IntoIterator<Item = O>,
        classes: impl IntoIterator<Item = O>,
        config: &Config,
    ) -> IngressTable {
        let classes: Vec<O> = classes.into_iter().collect();
        let mut mine: Vec<O> = ingresses.into_iter().filter(|o| ours(o.borrow(), &classes, config)).collect();
        // Where two Ingresses say different things, the older one wins.
        mine.sort_by(|a, b| age(a.borrow()).cmp(&age(b.borrow())));
        let mut table = IngressTable::default();
        for o in &mine {
            table.add(o.borrow());
        }
        table
    }

    fn add(&mut self, object: &Object) {
        let facts: Arc<IngressFacts> = object.facts();
        let limits = object.facts::<IngressLimitFacts>().limits;
        let rule = |backend: &Backend| Arc::new(HttpRule::to(backend.clone(), limits));
        if self.default.is_none() {
            self.default = facts.default.as_ref().map(rule);
        }
        for host in &facts.rules {
            let paths = self.hosts.of(host.host.as_deref());
            for (kind, path, backend) in &host.paths {
                paths.add_plain(*kind == PathType::Exact, path, rule(backend));
            }
            // TLS hides the path: the backend of all paths has it, as in ingress-nginx.
            let all = host.paths.iter().find(|(_, path, _)| path == "/").filter(|_| limits.passthrough);
            if let (Some(name), Some((.., backend))) = (host.host.as_deref().filter(|h| !h.starts_with('*')), all) {
                self.passed.or_insert_with(Some(name), || rule(backend));
            }
        }
        self.tls.extend(facts.tls.iter().cloned());
    }

    /// What becomes of TLS for a host.
    fn greet(&self, host: &str) -> Greeting {
        let passed = |rule: &Arc<HttpRule>| Greeting::Stream { rule: rule.clone(), ends_tls: false };
        self.passed.find(host).map_or(Greeting::Requests, passed)
    }

    /// Whether an Ingress is for a host.
    fn knows(&self, host: &str) -> bool {
        self.default.is_some() || self.hosts.knows(host)
    }

    fn find(&self, host: &str, asked: &Asked<'_>) -> Option<Found> {
        let default = || self.default.clone().map(|rule| Found { rule, prefix: 0, rank: (0, 0, 0, 0) });
        self.hosts.find(host, asked, true).or_else(default)
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
