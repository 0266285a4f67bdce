//! Which Gateways are the cluster's own, and which of their listeners are served.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listener::{CertificateRef, GatewayFacts, Layer, Listener, Speech};
use super::{GATEWAY_CONTROLLER, Grants, RouteKind, age};
use crate::Object;
use crate::facts::Facts;

/// What a GatewayClass says.
#[derive(Debug, Default)]
struct ClassFacts {
    controller: String,
    parameters: bool,
}

impl Facts for ClassFacts {
    fn of(object: &Object) -> Self {
        let spec = &object.spec_and_status().0;
        ClassFacts {
            controller: spec["controllerName"].as_str().unwrap_or_default().into(),
            parameters: spec["parametersRef"].is_object(),
        }
    }
}

/// Whether a GatewayClass is the cluster's own.
pub fn class_is_ours(class: &Object) -> bool {
    class.facts::<ClassFacts>().controller == GATEWAY_CONTROLLER
}

/// A reason and a message.
pub type Doubt = (&'static str, String);

/// Why it cannot be accepted.
pub fn class_doubt(class: &Object) -> Option<Doubt> {
    class.facts::<ClassFacts>().parameters.then(parameters)
}

fn parameters() -> Doubt {
    ("InvalidParameters", "parametersRef is not supported".into())
}

/// A Gateway of the cluster's own with what is to be said of its listeners.
#[derive(Debug)]
pub struct JudgedGateway {
    /// Namespace and name.
    pub name: (Arc<str>, Arc<str>),
    /// What it says.
    pub facts: Arc<GatewayFacts>,
    /// Why it is not accepted, whatever its listeners are.
    pub doubt: Option<Doubt>,
    /// As many as its own listeners, in the same order.
    pub listeners: Vec<JudgedListener>,
}

impl JudgedGateway {
    /// Whether it has this namespace and name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        *self.name.0 == *namespace && *self.name.1 == *name
    }
}

/// What is to be said of a listener.
#[derive(Debug, Default)]
pub struct JudgedListener {
    /// Why it is in conflict with others.
    pub conflict: Option<Doubt>,
    /// Why it is not accepted.
    pub refused: Option<Doubt>,
    /// Why what it refers to is not all right. Whether the Secrets exist is not asked here.
    pub unresolved: Option<Doubt>,
    /// The kinds of routes that it takes.
    pub kinds: Vec<RouteKind>,
    /// What its clients speak.
    pub speech: Speech,
    /// The Secrets with its certificates that it may refer to.
    pub certificates: Vec<CertificateRef>,
}

impl JudgedListener {
    /// Whether clients are answered.
    pub fn served(&self) -> bool {
        self.conflict.is_none() && self.refused.is_none() && (!self.speech.ends_tls() || !self.certificates.is_empty())
    }
}

/// Judges all Gateways of the cluster's own classes, the oldest first.
pub fn judge<O: Borrow<Object>>(classes: &[O], gateways: &[O], grants: &Grants) -> Vec<JudgedGateway> {
    let classes = classes.iter().map(Borrow::borrow).filter(|c| class_is_ours(c) && class_doubt(c).is_none());
    let ours: BTreeSet<&str> = classes.map(Object::name).collect();
    let mut own: Vec<(&Object, Arc<GatewayFacts>)> = gateways
        .iter()
        .map(Borrow::borrow)
        .map(|g: &Object| (g, g.facts::<GatewayFacts>()))
        .filter(|(_, facts)| ours.contains(facts.class.as_str()))
        .collect();
    own.sort_by(|(a, _), (b, _)| age(a).cmp(&age(b)));
    // What a port speaks, and what becomes of a host's TLS: the oldest Gateway decides.
    let mut ports: BTreeMap<u16, Layer> = BTreeMap::new();
    let mut hosts: BTreeMap<(u16, Option<String>), Speech> = BTreeMap::new();
    own.into_iter()
        .map(|(gateway, facts)| {
            let doubt = doubt(&facts);
            let mut listeners: Vec<JudgedListener> =
                facts.listeners.iter().map(|l| one(gateway, l, &facts.listeners, grants)).collect();
            for (listener, judged) in facts.listeners.iter().zip(&mut listeners) {
                if doubt.is_some() || !judged.served() {
                    continue;
                }
                let (port, speech) = (listener.port, judged.speech);
                if *ports.entry(port).or_insert(speech.layer()) != speech.layer() {
                    let why = format!("port {port} is used for another protocol by an older Gateway");
                    judged.refused = Some(("PortUnavailable", why));
                } else if *hosts.entry((port, listener.hostname.clone())).or_insert(speech) != speech {
                    let why = format!("an older Gateway treats TLS of this hostname otherwise at port {port}");
                    judged.refused = Some(("PortUnavailable", why));
                }
            }
            let name = (gateway.key.namespace.clone(), gateway.key.name.clone());
            JudgedGateway { name, facts, doubt, listeners }
        })
        .collect()
}

/// Why a Gateway is not accepted, whatever its listeners are.
fn doubt(facts: &GatewayFacts) -> Option<Doubt> {
    if facts.parameters {
        return Some(parameters());
    }
    if facts.own_tls {
        // Who asks for clients' certificates must not be served without.
        return Some(("Invalid", "spec.tls is not supported".into()));
    }
    let odd = facts.addresses.iter().find(|(ty, _)| ty != "IPAddress");
    odd.map(|(ty, _)| ("UnsupportedAddress", format!("addresses of type {ty} are not supported")))
}

fn one(gateway: &Object, listener: &Listener, all: &[Listener], grants: &Grants) -> JudgedListener {
    let Some(speech) = listener.speech() else {
        let why = format!("protocol {} is not supported", listener.protocol);
        return JudgedListener { refused: Some(("UnsupportedProtocol", why)), ..JudgedListener::default() };
    };
    let mut out = JudgedListener { speech, ..JudgedListener::default() };
    let others = |differs: &dyn Fn(&Listener, Speech) -> bool| {
        all.iter().filter(|l| l.port == listener.port).any(|l| l.speech().is_some_and(|s| differs(l, s)))
    };
    if others(&|_, other| other.layer() != speech.layer()) {
        let why = format!("port {} has listeners of different protocols", listener.port);
        out.conflict = Some(("ProtocolConflict", why));
    } else if others(&|l, other| other != speech && l.hostname == listener.hostname) {
        let why = format!("port {} has listeners of this hostname that treat TLS differently", listener.port);
        out.conflict = Some(("HostnameConflict", why));
    }
    let fits = |kind: &RouteKind| speech.kinds().contains(kind);
    let asked = listener.kinds.as_deref();
    out.kinds = asked.unwrap_or(speech.kinds()).iter().copied().filter(fits).collect();
    if listener.foreign_kinds || asked.is_some_and(|all| !all.iter().all(fits)) {
        out.unresolved = Some(("InvalidRouteKinds", "some of the allowed kinds of routes are not supported".into()));
    }
    if !speech.ends_tls() {
        return out;
    }
    if listener.certificates.is_empty() {
        let why = format!("a listener of protocol {} needs a certificate", listener.protocol);
        out.unresolved = Some(("InvalidCertificateRef", why));
    }
    for certificate in &listener.certificates {
        let CertificateRef { group, kind, namespace, name } = certificate;
        if !group.is_empty() || kind != "Secret" {
            out.unresolved = Some(("InvalidCertificateRef", format!("{kind} {name} is not a Secret")));
        } else if !grants.permit("Gateway", gateway.namespace(), (group, kind, namespace, name)) {
            let why = format!("no ReferenceGrant permits the reference to Secret {namespace}/{name}");
            out.unresolved = Some(("RefNotPermitted", why));
        } else {
            out.certificates.push(certificate.clone());
        }
    }
    out
}
