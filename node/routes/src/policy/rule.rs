//! One NetworkPolicy, ready to be asked.

use std::net::IpAddr;
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::kinds::names::{cidr, in_network};
use copepod_model::selector::LabelSelector;
use serde_json::Value;

use super::{Direction, Subject};
use crate::service::Protocol;

/// A policy as its namespace has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    /// The pods of its namespace that it is for.
    selects: LabelSelector,
    /// Its rules, if it is for this direction at all.
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

/// What is let through: by every one of these ports from or to every one of these peers. `None` is any.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    ports: Option<Vec<Port>>,
    peers: Option<Vec<Peer>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Port {
    /// `None` is a protocol that nothing here speaks.
    protocol: Option<Protocol>,
    which: Which,
}

#[derive(Clone, Debug, PartialEq)]
enum Which {
    Any,
    /// From the first to the last one.
    Range(u16, u16),
    /// As the pod that is connected to calls it.
    Named(Box<str>),
}

#[derive(Clone, Debug, PartialEq)]
enum Peer {
    /// Pods of these namespaces.
    Pods(Namespaces, LabelSelector),
    Block {
        network: (IpAddr, u8),
        except: Vec<(IpAddr, u8)>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Namespaces {
    /// The policy's own.
    Own(Arc<str>),
    Those(LabelSelector),
}

impl Policy {
    /// Of an object that has passed validation. What cannot be understood all the same lets nothing through.
    pub(super) fn of(object: &Object) -> Policy {
        let (spec, _) = object.spec_and_status();
        let types = items(&spec["policyTypes"]);
        let given = |name: &str| types.iter().any(|t| t == name);
        // As defaulting says it.
        let (ingress, egress) = match types.is_empty() {
            true => (true, !items(&spec["egress"]).is_empty()),
            false => (given("Ingress"), given("Egress")),
        };
        let own = &object.key.namespace;
        let rules = |name: &str, peers: &str| items(&spec[name]).iter().map(|r| Rule::of(r, peers, own)).collect();
        Policy {
            selects: LabelSelector::from_json(&spec["podSelector"]).unwrap_or_default(),
            ingress: ingress.then(|| rules("ingress", "from")),
            egress: egress.then(|| rules("egress", "to")),
        }
    }

    /// Whether it is for every pod of its namespace.
    pub(super) fn is_for_all(&self) -> bool {
        self.selects.is_empty()
    }

    /// Whether it is for a pod with these labels.
    pub(super) fn is_for<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.selects.matches_with(label)
    }

    /// Whether it isolates its pods in a direction.
    pub(super) fn isolates(&self, direction: Direction) -> bool {
        self.rules(direction).is_some()
    }

    /// Whether it lets something through. `named` finds the pod's port of that name to which it goes.
    pub(super) fn lets_through(
        &self,
        direction: Direction,
        peer: &Subject<'_>,
        (protocol, port): (Protocol, u16),
        named: impl Fn(&str) -> bool,
    ) -> bool {
        self.rules(direction).into_iter().flatten().any(|rule| {
            let by = |p: &Port| {
                p.protocol == Some(protocol)
                    && match &p.which {
                        Which::Any => true,
                        Which::Range(first, last) => (*first..=*last).contains(&port),
                        Which::Named(name) => named(name),
                    }
            };
            rule.ports.as_ref().is_none_or(|ports| ports.iter().any(by))
                && rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|p| p.is(peer)))
        })
    }

    fn rules(&self, direction: Direction) -> Option<&Vec<Rule>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

impl Rule {
    fn of(rule: &Value, peers: &str, own: &Arc<str>) -> Rule {
        // An empty list is as good as none.
        let (ports, peers) = (items(&rule["ports"]), items(&rule[peers]));
        Rule {
            ports: (!ports.is_empty()).then(|| ports.iter().filter_map(Port::of).collect()),
            peers: (!peers.is_empty()).then(|| peers.iter().filter_map(|p| Peer::of(p, own)).collect()),
        }
    }
}

impl Port {
    fn of(port: &Value) -> Option<Port> {
        let number = |v: &Value| u16::try_from(v.as_u64()?).ok();
        let which = match &port["port"] {
            Value::Null => Which::Any,
            Value::String(name) => Which::Named(name.as_str().into()),
            first => {
                let first = number(first)?;
                let last = if port["endPort"].is_null() { first } else { number(&port["endPort"])? };
                Which::Range(first, last)
            }
        };
        Some(Port { protocol: Protocol::parse(port["protocol"].as_str().unwrap_or_default()), which })
    }
}

impl Peer {
    fn of(peer: &Value, own: &Arc<str>) -> Option<Peer> {
        let block = &peer["ipBlock"];
        if block.is_object() {
            let network = cidr(block["cidr"].as_str()?).ok()?;
            let except = items(&block["except"]).iter().map(|e| cidr(e.as_str()?).ok()).collect::<Option<_>>()?;
            return Some(Peer::Block { network, except });
        }
        let selector = |v: &Value| LabelSelector::from_json(v).ok();
        match (&peer["namespaceSelector"], &peer["podSelector"]) {
            (Value::Null, Value::Null) => None,
            // A pod selector that is absent is all pods.
            (Value::Null, pods) => Some(Peer::Pods(Namespaces::Own(own.clone()), selector(pods)?)),
            (namespaces, pods) => Some(Peer::Pods(Namespaces::Those(selector(namespaces)?), selector(pods)?)),
        }
    }

    fn is(&self, subject: &Subject<'_>) -> bool {
        match self {
            Peer::Block { network: (network, bits), except } => {
                let inside = |network, bits| in_network(subject.ip, network, bits);
                inside(*network, *bits) && !except.iter().any(|(network, bits)| inside(*network, *bits))
            }
            Peer::Pods(namespaces, pods) => {
                let Some(namespace) = subject.namespace else { return false };
                let in_namespace = match namespaces {
                    Namespaces::Own(own) => **own == *namespace,
                    Namespaces::Those(selector) => selector.matches_with(|k| subject.namespace_label(k)),
                };
                in_namespace
                    && match subject.labels {
                        Some(labels) => pods.matches_with(|k| labels.get(k)),
                        // Nothing is known of it but where it is.
                        None => pods.is_empty(),
                    }
            }
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}
