//! Which listeners a route is attached to.

use std::collections::BTreeMap;

use super::hosts::intersection;
use super::judge::JudgedGateway;
use super::listener::From;
use super::route::{Parent, RouteFacts};

/// A listener that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which of the Gateway's listeners.
    pub listener: usize,
    /// For these hosts; none is any.
    pub hosts: Vec<String>,
}

/// Why a route is attached to no listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No listener has the name or the port.
    NoMatchingParent,
    /// None takes routes of this kind or from this namespace.
    NotAllowedByListeners,
    /// None has a host in common with it.
    NoMatchingListenerHostname,
}

impl Refusal {
    /// The reason of the condition `Accepted`.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::NoMatchingParent => "NoMatchingParent",
            Refusal::NotAllowedByListeners => "NotAllowedByListeners",
            Refusal::NoMatchingListenerHostname => "NoMatchingListenerHostname",
        }
    }

    /// Its message.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::NoMatchingParent => "no listener of the Gateway has this name and port",
            Refusal::NotAllowedByListeners => {
                "no such listener of the Gateway allows routes of this kind from this namespace"
            }
            Refusal::NoMatchingListenerHostname => {
                "no such listener of the Gateway has a hostname in common with the route"
            }
        }
    }
}

/// The listeners of `gateway` that a route is attached to by one of its parents, which must name it. `namespace` is the route's,
/// with its `labels`.
pub fn attach(
    route: &RouteFacts,
    namespace: &str,
    labels: &BTreeMap<Box<str>, Box<str>>,
    parent: &Parent,
    gateway: &JudgedGateway,
) -> Result<Vec<Attached>, Refusal> {
    let named = |l: &super::Listener| {
        parent.section.as_ref().is_none_or(|s| *s == l.name) && parent.port.is_none_or(|p| p == l.port)
    };
    let mut refusal = Refusal::NoMatchingParent;
    let mut out = Vec::new();
    for (i, (listener, judged)) in gateway.facts.listeners.iter().zip(&gateway.listeners).enumerate() {
        if !named(listener) {
            continue;
        }
        let here = match &listener.from {
            From::All => true,
            From::Same => *gateway.name.0 == *namespace,
            From::Selector(selector) => selector.matches(labels),
            From::Nobody => false,
        };
        if !here || !judged.kinds.contains(&route.kind) {
            if refusal == Refusal::NoMatchingParent {
                refusal = Refusal::NotAllowedByListeners;
            }
            continue;
        }
        match intersection(listener.hostname.as_deref(), &route.hostnames) {
            Some(hosts) => out.push(Attached { listener: i, hosts }),
            None => refusal = Refusal::NoMatchingListenerHostname,
        }
    }
    if out.is_empty() { Err(refusal) } else { Ok(out) }
}
