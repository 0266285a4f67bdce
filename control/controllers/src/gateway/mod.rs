//! Says in the status of GatewayClasses, Gateways and routes what the nodes make of them: every node is a gateway. What is
//! attached to what is judged by `copepod_model::gateway`, as the nodes do.

mod class;
mod listeners;
mod routes;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use copepod_machine::{Plan, View};
use copepod_model::facts::ServiceFacts;
use copepod_model::gateway::{
    self, Doubt, GATEWAY_CLASSES, GATEWAYS, GRPC_ROUTES, GatewayFacts, Grants, HTTP_ROUTES, JudgedGateway,
    REFERENCE_GRANTS, RouteFacts, RouteKind, TCP_ROUTES, TLS_ROUTES,
};
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use crate::support::keys_of;
use crate::support::node_addresses::{self, NODES};
use crate::support::services::SERVICES;
use crate::{Config, Controller};

const NAMESPACES: &str = "namespaces";
const SECRETS: &str = "secrets";

struct Gateways;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    Gateways
}

impl Controller for Gateways {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[
            GATEWAY_CLASSES,
            GATEWAYS,
            HTTP_ROUTES,
            GRPC_ROUTES,
            TLS_ROUTES,
            TCP_ROUTES,
            REFERENCE_GRANTS,
            NAMESPACES,
            NODES,
            SECRETS,
            SERVICES,
        ]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        let spec = |o: Option<&Object>| o.map(|o| (o.meta.generation, o.meta.uid.clone()));
        let respecified = spec(old) != spec(new);
        let itself = || new.map(|o| o.key.clone()).into_iter();
        match &*object.key.resource {
            GATEWAY_CLASSES | GATEWAYS | REFERENCE_GRANTS if respecified => self.all(view),
            REFERENCE_GRANTS => vec![],
            HTTP_ROUTES | GRPC_ROUTES | TLS_ROUTES | TCP_ROUTES if respecified => {
                itself().chain(old.into_iter().chain(new).flat_map(parents)).collect()
            }
            NODES if !node_addresses::changed(old, new) => vec![],
            NODES => keys_of(view, GATEWAYS),
            NAMESPACES if old.map(|o| &o.meta.labels) == new.map(|o| &o.meta.labels) => vec![],
            NAMESPACES => all_routes(view).map(|r| r.key.clone()).chain(keys_of(view, GATEWAYS)).collect(),
            SECRETS => {
                let names = |g: &Arc<Object>| {
                    let facts = g.facts::<GatewayFacts>();
                    facts
                        .listeners
                        .iter()
                        .flat_map(|l| &l.certificates)
                        .any(|c| c.namespace == object.namespace() && c.name == object.name())
                };
                view.list(GATEWAYS, None).filter(names).map(|g| g.key.clone()).collect()
            }
            SERVICES => {
                let ports = |o: Option<&Object>| {
                    o.map(|o| o.facts::<ServiceFacts>()).map(|f| {
                        let all = f.ports.iter().map(|p| (p.port, p.protocol.clone())).collect::<Vec<_>>();
                        (all, f.external_name.is_some())
                    })
                };
                if ports(old) == ports(new) {
                    return vec![];
                }
                all_routes(view).filter(|r| routes::refers(r, object)).map(|r| r.key.clone()).collect()
            }
            _ => itself().collect(),
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let routes = RouteKind::ALL.map(RouteKind::resource);
        [GATEWAY_CLASSES, GATEWAYS].into_iter().chain(routes).flat_map(|r| keys_of(view, r)).collect()
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(object) = view.get(&key.resource, &key.namespace, &key.name) else { return plan };
        if object.meta.deletion_timestamp.is_some() {
            return plan;
        }
        match &*key.resource {
            GATEWAY_CLASSES => class::reconcile(&object, now, &mut plan),
            GATEWAYS => listeners::reconcile(&World::of(view), &object, now, &mut plan),
            _ => routes::reconcile(&World::of(view), &object, now, &mut plan),
        }
        plan
    }
}

fn all_routes(view: &dyn View) -> impl Iterator<Item = Arc<Object>> + '_ {
    RouteKind::ALL.into_iter().flat_map(|kind| view.list(kind.resource(), None))
}

/// The Gateways that a route names.
fn parents(route: &Object) -> Vec<Key> {
    let facts = route.facts::<RouteFacts>();
    let named = facts.parents.iter().filter(|p| p.gateway);
    named.map(|p| Key::new(GATEWAYS, p.namespace.as_str(), p.name.as_str())).collect()
}

/// All that the conditions follow from.
struct World<'v> {
    view: &'v dyn View,
    grants: Grants,
    judged: Vec<JudgedGateway>,
}

impl<'v> World<'v> {
    fn of(view: &'v dyn View) -> World<'v> {
        let list = |resource: &str| view.list(resource, None).collect::<Vec<Arc<Object>>>();
        let grants = Grants::of(&list(REFERENCE_GRANTS));
        let judged = gateway::judge(&list(GATEWAY_CLASSES), &list(GATEWAYS), &grants);
        World { view, grants, judged }
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<&JudgedGateway> {
        self.judged.iter().find(|g| g.is(namespace, name))
    }

    /// The listeners that a route is attached to by a parent.
    fn attach(
        &self,
        route: &Object,
        facts: &RouteFacts,
        parent: &gateway::Parent,
        to: &JudgedGateway,
    ) -> Result<Vec<gateway::Attached>, gateway::Refusal> {
        let namespace = self.view.get(NAMESPACES, "", route.namespace());
        let labels = namespace.map(|n| n.meta.labels.clone()).unwrap_or_default();
        gateway::attach(facts, route.namespace(), &labels, parent, to)
    }
}

/// A condition as it should be.
struct Said {
    ty: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Said {
    fn yes(ty: &'static str, reason: &'static str) -> Said {
        Said { ty, holds: true, reason, message: String::new() }
    }

    fn no(ty: &'static str, (reason, message): Doubt) -> Said {
        Said { ty, holds: false, reason, message }
    }

    /// That it is so, with the type for a reason, unless there is a doubt.
    fn unless(ty: &'static str, doubt: Option<Doubt>) -> Said {
        doubt.map_or_else(|| Said::yes(ty, ty), |why| Said::no(ty, why))
    }
}

/// Conditions after these were said of an object of this generation. Those of other types stay, and where they are; of `ours`
/// those that are not said go.
fn conditions(before: &Value, ours: &[&str], said: &[Said], generation: i64, now: Time) -> Value {
    let mut all: Vec<Value> = before.as_array().cloned().unwrap_or_default();
    all.retain(|c| !ours.iter().any(|t| c["type"] == *t) || said.iter().any(|s| c["type"] == s.ty));
    for s in said {
        let status = if s.holds { "True" } else { "False" };
        let old = all.iter_mut().find(|c| c["type"] == s.ty);
        let since = old.as_ref().filter(|c| c["status"] == status && c["lastTransitionTime"].is_string());
        let since = since.map_or_else(|| now.rfc3339().into(), |c| c["lastTransitionTime"].clone());
        let made = json!({
            "type": s.ty, "status": status, "reason": s.reason, "message": s.message,
            "observedGeneration": generation, "lastTransitionTime": since,
        });
        match old {
            Some(old) => *old = made,
            None => all.push(made),
        }
    }
    all.into()
}
