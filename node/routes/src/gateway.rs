//! What Gateways and their routes become: rules by port, listener and host. What is attached to what is judged by
//! `copepod_model::gateway`, as the controllers do.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::IngressLimits;
use copepod_model::gateway::{
    self, BackendRef, Filter, Grants, JudgedGateway, Layer, Reference, RouteFacts, RouteKind, Speech,
};

use crate::by_host::ByHost;
use crate::hosts::Hosts;
use crate::http::{Backend, BackendPort, TlsSecret};
use crate::rule::{Asked, Door, Found, Greeting, HttpRule, Treatment, Weighted};
use crate::service::ServiceKey;

/// The objects that say what Gateways do.
#[derive(Clone, Debug)]
pub struct GatewayObjects<O> {
    /// GatewayClasses.
    pub classes: Vec<O>,
    /// Gateways.
    pub gateways: Vec<O>,
    /// Routes of all kinds.
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
    /// By port, and what is spoken there.
    ports: BTreeMap<(u16, Layer), ByHost<Served>>,
    /// The ports at which some TLS does not lead to requests.
    by_name: BTreeSet<u16>,
    pub(crate) tls: Vec<TlsSecret>,
}

/// A listener. Those of several Gateways for the same port and host are one.
#[derive(Debug, Default)]
struct Served {
    speech: Speech,
    /// Of HTTP and HTTPS.
    requests: Hosts,
    /// Of the others. What asks for no name is the same for any.
    streams: ByHost<Arc<HttpRule>>,
}

impl GatewayTable {
    pub(crate) fn build<O: Borrow<Object>>(objects: &GatewayObjects<O>) -> GatewayTable {
        let grants = Grants::of(&objects.grants);
        let judged = gateway::judge(&objects.classes, &objects.gateways, &grants);
        let mut table = GatewayTable::default();
        for gateway in judged.iter().filter(|g| g.doubt.is_none()) {
            for (listener, judged) in gateway.facts.listeners.iter().zip(&gateway.listeners).filter(|(_, j)| j.served())
            {
                let (port, speech, host) = (listener.port, judged.speech, listener.hostname.as_deref());
                let served = || Served { speech, ..Served::default() };
                table.ports.entry((port, speech.layer())).or_default().or_insert_with(host, served);
                if matches!(speech, Speech::Tls | Speech::Passthrough) {
                    table.by_name.insert(port);
                }
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
        table.ports.values_mut().flat_map(ByHost::values_mut).for_each(|served| served.requests.settle());
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
                let at = (listener.port, judged.speech.layer());
                let served = self.ports.entry(at).or_default();
                let served = served.or_insert_with(listener.hostname.as_deref(), Served::default);
                let any = [None];
                let named: Vec<Option<&str>> = attached.hosts.iter().map(|h| Some(h.as_str())).collect();
                // A TCPRoute has what no TLSRoute names.
                let all = named.is_empty() || facts.kind == RouteKind::Tcp;
                for host in if all { &any[..] } else { &named } {
                    if facts.kind.is_of_streams() {
                        // It has one. Of two routes for the same the older one counts.
                        if let Some(rule) = rules.first() {
                            served.streams.or_insert_with(*host, || rule.clone());
                        }
                        continue;
                    }
                    let paths = served.requests.of(*host);
                    for (of, rule) in facts.rules.iter().zip(rules.iter()) {
                        (0..of.matches.len()).for_each(|at| paths.add(of, at, rule));
                    }
                }
            }
        }
    }

    /// The ports, and what is spoken there.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (u16, Layer)> {
        self.ports.keys().copied()
    }

    /// Whether it depends on the name what becomes of TLS.
    pub(crate) fn asks_names(&self, door: Door) -> bool {
        door.ports.iter().any(|port| self.by_name.contains(port))
    }

    /// What becomes of TLS for a host, if a listener is for it. The closest listener of a port alone has a say.
    pub(crate) fn greet(&self, door: Door, host: &str) -> Option<Greeting> {
        let mut said = None;
        for port in door.ports {
            let listeners = self.ports.get(&(port, Layer::Tls));
            let Some(served) = listeners.and_then(|l| l.find(host)) else { continue };
            let ends_tls = served.speech.ends_tls();
            match served.streams.find(host) {
                _ if served.speech == Speech::Https => said = Some(Greeting::Requests),
                Some(rule) => return Some(Greeting::Stream { rule: rule.clone(), ends_tls }),
                None => {
                    said.get_or_insert(Greeting::Nobody);
                }
            }
        }
        said
    }

    /// The rule for bytes that come to a port.
    pub(crate) fn stream(&self, port: u16) -> Option<&Arc<HttpRule>> {
        self.ports.get(&(port, Layer::Tcp))?.find("")?.streams.find("")
    }

    /// The rule for a request to `host`.
    pub(crate) fn find(&self, host: &str, asked: &Asked<'_>) -> Option<Found> {
        let layer = if asked.door.tls { Layer::Tls } else { Layer::Http };
        let of = |port: u16| self.ports.get(&(port, layer))?.find(host)?.requests.find(host, asked, false);
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
        grpc: facts.kind == RouteKind::Grpc,
        broken: rule.is_broken(),
    }
}

#[cfg(test)]
mod tests;
