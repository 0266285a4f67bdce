//! What Gateways and their routes become: rules by port, listener and host. What is attached to what is judged by
//! `copepod_model::gateway`, as the controllers do.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::IngressLimits;
use copepod_model::gateway::{self, BackendRef, Filter, Grants, JudgedGateway, Reference, RouteFacts};

use crate::hosts::{Hosts, suffixes};
use crate::http::{Backend, BackendPort, TlsSecret};
use crate::rule::{Asked, Found, HttpRule, Treatment, Weighted};
use crate::service::ServiceKey;

/// The objects that say what Gateways do.
#[derive(Clone, Debug)]
pub struct GatewayObjects<O> {
    /// GatewayClasses.
    pub classes: Vec<O>,
    /// Gateways.
    pub gateways: Vec<O>,
    /// HTTPRoutes and GRPCRoutes.
    pub routes: Vec<O>,
    /// ReferenceGrants.
    pub grants: Vec<O>,
    /// Namespaces, for their labels.
    pub namespaces: Vec<O>,
}

impl<O> Default for GatewayObjects<O> {
    fn default() -> Self {
        GatewayObjects { classes: vec![], gateways: vec![], routes: vec![], grants: vec![], namespaces: vec![] }
    }
}

/// All listeners that are served.
#[derive(Debug, Default)]
pub(crate) struct GatewayTable {
    /// By port, and whether clients speak TLS there.
    ports: BTreeMap<(u16, bool), Listeners>,
    pub(crate) tls: Vec<TlsSecret>,
}

/// The listeners of one port. Those of several Gateways for the same host are one.
#[derive(Debug, Default)]
struct Listeners {
    exact: HashMap<Box<str>, Hosts>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Hosts>,
    any: Option<Hosts>,
}

impl Listeners {
    fn of(&mut self, host: Option<&str>) -> &mut Hosts {
        match host.map(|h| (h, h.strip_prefix("*."))) {
            None => self.any.get_or_insert_default(),
            Some((_, Some(suffix))) => self.wildcard.entry(suffix.into()).or_default(),
            Some((host, None)) => self.exact.entry(host.into()).or_default(),
        }
    }

    /// The listener for a host, the closest one. No other one answers it.
    fn find(&self, host: &str) -> Option<&Hosts> {
        let wildcard = || suffixes(host).find_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(host).or_else(wildcard).or(self.any.as_ref())
    }

    fn settle(&mut self) {
        #[allow(clippy::iter_over_hash_type)]
        for hosts in self.exact.values_mut().chain(self.wildcard.values_mut()).chain(&mut self.any) {
            hosts.settle();
        }
    }
}

impl GatewayTable {
    pub(crate) fn build<O: Borrow<Object>>(objects: &GatewayObjects<O>) -> GatewayTable {
        let grants = Grants::of(&objects.grants);
        let judged = gateway::judge(&objects.classes, &objects.gateways, &grants);
        let mut table = GatewayTable::default();
        for gateway in judged.iter().filter(|g| g.doubt.is_none()) {
            for (listener, judged) in gateway.facts.listeners.iter().zip(&gateway.listeners).filter(|(_, j)| j.served())
            {
                table.ports.entry((listener.port, judged.tls)).or_default().of(listener.hostname.as_deref());
                table.tls.extend(judged.certificates.iter().map(|c| TlsSecret {
                    hosts: listener.hostname.iter().map(|h| h.as_str().into()).collect(),
                    namespace: c.namespace.as_str().into(),
                    secret: c.name.as_str().into(),
                }));
            }
        }
        let mut routes: Vec<&Object> = objects.routes.iter().map(Borrow::borrow).collect();
        routes.sort_by(|a, b| gateway::age(a).cmp(&gateway::age(b)));
        let labels: BTreeMap<&str, &Object> =
            objects.namespaces.iter().map(Borrow::borrow).map(|n: &Object| (n.name(), n)).collect();
        for route in routes {
            // Of a namespace that is not known yet, no label is.
            let own = labels.get(route.namespace()).map(|n| n.meta.labels.clone()).unwrap_or_default();
            table.add(route, &own, &judged, &grants);
        }
        table.ports.values_mut().for_each(Listeners::settle);
        table
    }

    fn add(
        &mut self,
        route: &Object,
        labels: &BTreeMap<Box<str>, Box<str>>,
        gateways: &[JudgedGateway],
        grants: &Grants,
    ) {
        let facts: Arc<RouteFacts> = route.facts();
        let mut rules: Option<Vec<Arc<HttpRule>>> = None;
        for parent in &facts.parents {
            let named = gateways.iter().find(|g| parent.names(g));
            let Some(gateway) = named.filter(|g| g.doubt.is_none()) else { continue };
            let attached = gateway::attach(&facts, route.namespace(), labels, parent, gateway);
            for attached in attached.into_iter().flatten() {
                let listener = &gateway.facts.listeners[attached.listener];
                let judged = &gateway.listeners[attached.listener];
                if !judged.served() {
                    continue;
                }
                let compile = |r: &Arc<gateway::Rule>| Arc::new(compile(route, &facts, r, grants));
                let rules = rules.get_or_insert_with(|| facts.rules.iter().map(compile).collect());
                let hosts = self.ports.entry((listener.port, judged.tls)).or_default().of(listener.hostname.as_deref());
                let any = [None];
                let named: Vec<Option<&str>> = attached.hosts.iter().map(|h| Some(h.as_str())).collect();
                for host in if named.is_empty() { &any[..] } else { &named } {
                    let paths = hosts.of(*host);
                    for (of, rule) in facts.rules.iter().zip(rules.iter()) {
                        (0..of.matches.len()).for_each(|at| paths.add(of, at, rule));
                    }
                }
            }
        }
    }

    /// The ports, and whether clients speak TLS there.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (u16, bool)> {
        self.ports.keys().copied()
    }

    /// The rule for a request to `host`.
    pub(crate) fn find(&self, host: &str, asked: &Asked<'_>) -> Option<Found> {
        let of = |port: u16| self.ports.get(&(port, asked.door.tls))?.find(host)?.find(host, asked, false);
        let [own, other] = asked.door.ports;
        let first = of(own);
        let second = if own == other { None } else { of(other) };
        match (first, second) {
            (Some(a), Some(b)) => Some(if b.rank > a.rank { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A route's rule as it is followed.
fn compile(route: &Object, facts: &RouteFacts, rule: &gateway::Rule, grants: &Grants) -> HttpRule {
    let backend = |to: &Reference| {
        let permitted =
            grants.permit(facts.kind.name(), route.namespace(), (&to.group, &to.kind, &to.namespace, &to.name));
        if !to.is_service() || !permitted {
            return None;
        }
        let service = ServiceKey { namespace: to.namespace.as_str().into(), name: to.name.as_str().into() };
        Some(Backend { service, port: BackendPort::Number(to.port?) })
    };
    let treatment = |filters: &[Filter]| {
        let mut out = Treatment::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaders(edit) => out.request = Some(edit.clone()),
                Filter::ResponseHeaders(edit) => out.response = Some(edit.clone()),
                Filter::Redirect(to) => out.redirect = Some(to.clone()),
                Filter::Rewrite(to) => out.rewrite = Some(to.clone()),
                Filter::Mirror(mirror) => out.mirrors.extend(backend(&mirror.to).map(|b| (b, mirror.share))),
                Filter::Cors(cors) => out.cors = Some(cors.clone()),
                Filter::Unsupported(_) => {}
            }
        }
        out
    };
    let weighted =
        |b: &BackendRef| Weighted { weight: b.weight, backend: backend(&b.to), treatment: treatment(&b.filters) };
    HttpRule {
        backends: rule.backends.iter().map(weighted).collect(),
        treatment: treatment(&rule.filters),
        request_timeout: rule.request_timeout,
        backend_timeout: rule.backend_timeout,
        limits: IngressLimits::default(),
        retry: rule.retry.clone(),
        grpc: facts.kind == gateway::RouteKind::Grpc,
        broken: rule.is_broken(),
    }
}

#[cfg(test)]
mod tests;
