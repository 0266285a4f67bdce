//! Routes: what each of their Gateways makes of them.

use copepod_machine::Plan;
use copepod_model::facts::ServiceFacts;
use copepod_model::gateway::{Doubt, Filter, GATEWAY_CONTROLLER, Problem, Reference, RouteFacts, Rule};
use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::{Said, World, conditions};
use crate::support::services::SERVICES;
use crate::support::status_patch;

/// How many parents a status may have.
const MOST_PARENTS: usize = 32;
/// The conditions that are ours.
const OURS: [&str; 3] = ["Accepted", "ResolvedRefs", "PartiallyInvalid"];

pub(super) fn reconcile(world: &World<'_>, route: &Object, now: Time, plan: &mut Plan) {
    let facts = route.facts::<RouteFacts>();
    let value = route.value();
    let before: Vec<Value> = value["status"]["parents"].as_array().cloned().unwrap_or_default();
    let is_ours = |p: &Value| p["controllerName"] == GATEWAY_CONTROLLER;
    let mut parents: Vec<Value> = before.iter().filter(|p| !is_ours(p)).cloned().collect();
    let resolved = unresolved(world, route, &facts);
    for parent in facts.parents.iter().filter(|p| p.gateway) {
        let Some(gateway) = world.gateway(&parent.namespace, &parent.name) else { continue };
        let attached = world.attach(route, &facts, parent, gateway);
        let mut said = vec![
            match (attached, problems(&facts)) {
                (Err(refusal), _) => Said::no("Accepted", (refusal.reason(), refusal.message().into())),
                (Ok(_), Some(why)) if is_useless(&facts) => Said::no("Accepted", ("UnsupportedValue", why)),
                (Ok(_), _) => Said::yes("Accepted", "Accepted"),
            },
            Said::unless("ResolvedRefs", resolved.clone()),
        ];
        if let Some(why) = problems(&facts).filter(|_| !is_useless(&facts)) {
            said.push(Said {
                message: format!("Dropped Rule: {why}"),
                ..Said::yes("PartiallyInvalid", "UnsupportedValue")
            });
        }
        let old = before.iter().find(|p| is_ours(p) && p["parentRef"] == parent.reference);
        let old = old.map(|p| p["conditions"].clone()).unwrap_or_default();
        parents.push(json!({
            "parentRef": parent.reference, "controllerName": GATEWAY_CONTROLLER,
            "conditions": conditions(&old, &OURS, &said, route.meta.generation, now),
        }));
    }
    parents.truncate(MOST_PARENTS);
    if parents.is_empty() && before.is_empty() {
        return;
    }
    if let Some(patch) = status_patch(route, &value, [("parents", parents.into())]) {
        plan.push(patch, "what the Gateways make of the route");
    }
}

/// Whether a route names a Service.
pub(super) fn refers(route: &Object, service: &Object) -> bool {
    let facts = route.facts::<RouteFacts>();
    facts
        .rules
        .iter()
        .flat_map(|r| references(r))
        .any(|to| to.is_service() && to.namespace == service.namespace() && to.name == service.name())
}

/// All that a rule refers to.
fn references(rule: &Rule) -> Vec<&Reference> {
    let mirrors = rule.all_filters().filter_map(|f| if let Filter::Mirror(m) = f { Some(&m.to) } else { None });
    rule.backends.iter().map(|b| &b.to).chain(mirrors).collect()
}

/// Whether no rule of a route can be followed.
pub(super) fn is_useless(facts: &RouteFacts) -> bool {
    !facts.rules.is_empty() && facts.rules.iter().all(|r| r.matches.is_empty() || r.is_broken())
}

/// What cannot be done, in words.
fn problems(facts: &RouteFacts) -> Option<String> {
    facts.rules.iter().enumerate().find_map(|(i, r)| Some(format!("rules[{i}]: {}", r.problems.first()?.message())))
}

/// Why not everything that a route refers to may be used and exists.
fn unresolved(world: &World<'_>, route: &Object, facts: &RouteFacts) -> Option<Doubt> {
    let extension = facts.rules.iter().flat_map(|r| &r.problems).find_map(|p| match p {
        Problem::Filter(ty) if ty == "ExtensionRef" => Some(("InvalidKind", p.message())),
        _ => None,
    });
    extension.or_else(|| {
        facts.rules.iter().flat_map(|r| references(r)).find_map(|to| {
            let Reference { group, kind, namespace, name, port } = to;
            if !to.is_service() {
                return Some(("InvalidKind", format!("{kind} {namespace}/{name} is not a Service")));
            }
            if !world.grants.permit(facts.kind.name(), route.namespace(), (group, kind, namespace, name)) {
                let why = format!("no ReferenceGrant permits the reference to Service {namespace}/{name}");
                return Some(("RefNotPermitted", why));
            }
            let Some(service) = world.view.get(SERVICES, namespace, name) else {
                return Some(("BackendNotFound", format!("Service {namespace}/{name} does not exist")));
            };
            let service = service.facts::<ServiceFacts>();
            if facts.kind.is_of_streams() && service.external_name.is_some() {
                let why = format!("Service {namespace}/{name} is of type ExternalName, which streams are not led to");
                return Some(("InvalidKind", why));
            }
            // A Service of type ExternalName that lists no ports has all of them.
            let any = service.external_name.is_some() && service.ports.is_empty();
            let has = port.is_some_and(|n| service.ports.iter().any(|p| p.port == n && p.protocol != "UDP"));
            (!any && !has).then(|| {
                let port = port.map_or("without a number".into(), |p| p.to_string());
                ("BackendNotFound", format!("Service {namespace}/{name} has no port {port}"))
            })
        })
    })
}
