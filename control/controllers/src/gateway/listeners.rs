//! Gateways and their listeners.

use std::collections::BTreeSet;
use std::net::IpAddr;

use copepod_machine::Plan;
use copepod_model::gateway::{CertificateRef, Doubt, GROUP, JudgedGateway, JudgedListener, RouteFacts};
use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::{SECRETS, Said, World, all_routes, conditions, routes};
use crate::support::{node_addresses, status_patch};

/// How many addresses a status lists.
const MOST_ADDRESSES: usize = 16;

pub(super) fn reconcile(world: &World<'_>, gateway: &Object, now: Time, plan: &mut Plan) {
    let Some(judged) = world.gateway(gateway.namespace(), gateway.name()) else { return };
    let value = gateway.value();
    let generation = gateway.meta.generation;
    let attached = attached(world, judged);
    let before = |name: &str| {
        let mut all = value["status"]["listeners"].as_array().into_iter().flatten();
        all.find(|l| l["name"] == *name).map(|l| l["conditions"].clone()).unwrap_or_default()
    };
    let listeners: Vec<Value> = judged
        .facts
        .listeners
        .iter()
        .zip(&judged.listeners)
        .zip(attached)
        .map(|((listener, of), attached)| {
            let kinds: Vec<Value> = of.kinds.iter().map(|k| json!({"group": GROUP, "kind": k.name()})).collect();
            let said = listener_says(world, of);
            json!({
                "name": listener.name, "attachedRoutes": attached, "supportedKinds": kinds,
                "conditions": conditions(&before(&listener.name), &[], &said, generation, now),
            })
        })
        .collect();
    let accepted = accepted(judged);
    let (addresses, programmed) = programmed(world, judged, &accepted);
    let addresses: Vec<Value> =
        addresses.iter().map(|ip| json!({"type": "IPAddress", "value": ip.to_string()})).collect();
    let said = [accepted, programmed];
    let wanted = [
        ("addresses", if addresses.is_empty() { Value::Null } else { addresses.into() }),
        ("conditions", conditions(&value["status"]["conditions"], &[], &said, generation, now)),
        ("listeners", listeners.into()),
    ];
    if let Some(patch) = status_patch(gateway, &value, wanted) {
        plan.push(patch, "what the nodes make of the Gateway");
    }
}

/// How many routes are attached to each listener.
fn attached(world: &World<'_>, gateway: &JudgedGateway) -> Vec<usize> {
    let mut counts = vec![0; gateway.listeners.len()];
    for route in all_routes(world.view).filter(|r| r.meta.deletion_timestamp.is_none()) {
        let facts = route.facts::<RouteFacts>();
        if routes::is_useless(&facts) {
            continue;
        }
        let to: BTreeSet<usize> = facts
            .parents
            .iter()
            .filter(|p| p.names(gateway))
            .filter_map(|p| world.attach(&route, &facts, p, gateway).ok())
            .flatten()
            .map(|a| a.listener)
            .collect();
        to.into_iter().for_each(|at| counts[at] += 1);
    }
    counts
}

fn listener_says(world: &World<'_>, listener: &JudgedListener) -> [Said; 4] {
    let refused = listener.refused.clone().or_else(|| listener.conflict.clone());
    let unresolved = listener.unresolved.clone().or_else(|| missing(world, listener));
    let usable = |c: &CertificateRef| missing_one(world, c).is_none();
    let programmed = refused.is_none() && (!listener.speech.ends_tls() || listener.certificates.iter().any(usable));
    [
        Said::unless("Accepted", refused),
        match listener.conflict.clone() {
            None => Said::no("Conflicted", ("NoConflicts", String::new())),
            Some((reason, message)) => Said { message, ..Said::yes("Conflicted", reason) },
        },
        Said::unless("ResolvedRefs", unresolved),
        Said::unless("Programmed", (!programmed).then(|| ("Invalid", "the listener is not served".into()))),
    ]
}

/// What is wrong with the certificates that a listener may refer to.
fn missing(world: &World<'_>, listener: &JudgedListener) -> Option<Doubt> {
    listener.certificates.iter().find_map(|c| missing_one(world, c))
}

fn missing_one(world: &World<'_>, c: &CertificateRef) -> Option<Doubt> {
    let why = match world.view.get(SECRETS, &c.namespace, &c.name) {
        None => "does not exist",
        // Values are sealed: that they are PEM and belong together is found by the nodes.
        Some(secret)
            if ["tls.crt", "tls.key"].iter().any(|k| secret.value()["data"][*k].as_str().is_none_or(str::is_empty)) =>
        {
            "has no tls.crt and tls.key"
        }
        Some(_) => return None,
    };
    Some(("InvalidCertificateRef", format!("Secret {}/{} {why}", c.namespace, c.name)))
}

fn accepted(gateway: &JudgedGateway) -> Said {
    if let Some(doubt) = gateway.doubt.clone() {
        return Said::no("Accepted", doubt);
    }
    let bad = |l: &JudgedListener| l.refused.is_some() || l.conflict.is_some();
    let names = |all: &dyn Fn(&JudgedListener) -> bool| {
        let listeners = gateway.facts.listeners.iter().zip(&gateway.listeners);
        listeners.filter(|(_, j)| all(j)).map(|(l, _)| l.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match gateway.listeners.iter().filter(|l| bad(l)).count() {
        0 => Said::yes("Accepted", "Accepted"),
        n => Said {
            holds: n < gateway.listeners.len(),
            message: format!("listeners that are not accepted: {}", names(&bad)),
            ..Said::yes("Accepted", "ListenersNotValid")
        },
    }
}

/// The addresses at which a Gateway answers, and whether it does.
fn programmed(world: &World<'_>, gateway: &JudgedGateway, accepted: &Said) -> (Vec<IpAddr>, Said) {
    let no = |reason, message: String| Said::no("Programmed", (reason, message));
    if !accepted.holds {
        return (vec![], no("Invalid", "the Gateway is not accepted".into()));
    }
    let mut all = node_addresses::of_nodes(world.view, |_| true);
    let asked: Vec<&str> = gateway.facts.addresses.iter().map(|(_, v)| v.as_str()).filter(|v| !v.is_empty()).collect();
    if let Some(odd) = asked.iter().find(|v| !v.parse::<IpAddr>().is_ok_and(|ip| all.contains(&ip))) {
        return (vec![], no("AddressNotUsable", format!("{odd} is no address at which nodes answer")));
    }
    all.retain(|ip| asked.is_empty() || asked.iter().any(|v| v.parse() == Ok(*ip)));
    all.truncate(MOST_ADDRESSES);
    if all.is_empty() {
        return (all, no("AddressNotAssigned", "no node is ready".into()));
    }
    (all, Said::yes("Programmed", "Programmed"))
}
