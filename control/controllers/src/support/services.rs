//! What the controllers that list endpoints ask about Services: which pods they select, on which ports, and by which labels
//! their lists are known.

use std::net::IpAddr;
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::facts::{Facts, PodFacts};
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, networks};
use serde_json::{Map, Value, json};

use super::pods::Pod;
use super::text;

/// The Services.
pub(crate) const SERVICES: &str = "services";
/// Marks the lists of a Service without an address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What a Service selects.
pub(crate) struct Selection {
    /// The pods that are its endpoints, if they are chosen by their labels.
    pub selector: Option<LabelSelector>,
    /// There is no selector: its endpoints are listed by someone else.
    pub manual: bool,
}

impl Facts for Selection {
    fn of(service: &Object) -> Selection {
        let spec = &service.value()["spec"];
        let pairs = spec["selector"].as_object().filter(|s| !s.is_empty());
        let selector = |m: &Map<String, Value>| LabelSelector::from_pairs(m.iter().map(|(k, v)| (k.as_str(), text(v))));
        Selection { selector: pairs.filter(|_| spec["type"] != "ExternalName").map(selector), manual: pairs.is_none() }
    }
}

/// The keys of the Services whose endpoints the change of a pod can change.
pub(crate) fn of_pod(view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
    let Some(pod) = new.or(old).filter(|_| matters(old, new)) else { return vec![] };
    let selects = |s: &Object| {
        let selection = s.facts::<Selection>();
        let matches = |o: &Object| selection.selector.as_ref().is_some_and(|s| s.matches(&o.meta.labels));
        old.is_some_and(matches) || new.is_some_and(matches)
    };
    view.list(SERVICES, Some(pod.namespace())).filter(|s| selects(s)).map(|s| s.key.clone()).collect()
}

/// Whether a pod's change can change an endpoint.
fn matters(old: Option<&Object>, new: Option<&Object>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let seen = |o: &Object, f: &PodFacts| {
        let finished = matches!(f.phase.as_str(), "Succeeded" | "Failed");
        (f.ips.clone(), f.ready, finished, f.node_name.clone(), o.meta.deletion_timestamp.is_some(), o.meta.uid.clone())
    };
    old.meta.labels != new.meta.labels || seen(old, &old.facts()) != seen(new, &new.facts())
}

/// The pods that are endpoints of `service`, with their addresses of one family: those that match, have an address and have
/// not finished.
pub(crate) fn pods<'v>(
    view: &'v dyn View,
    service: &Object,
    selector: &'v LabelSelector,
    family: &'static str,
) -> impl Iterator<Item = (Pod, IpAddr)> + 'v {
    let of_family = move |ip: &&IpAddr| networks::family(**ip) == family;
    let all = view.list("pods", Some(service.namespace()));
    let all = all.filter(move |o: &Arc<Object>| selector.matches(&o.meta.labels)).map(Pod::of);
    all.filter(|p| !p.finished()).filter_map(move |p| {
        let ip = p.facts.ips.iter().find(of_family).copied()?;
        Some((p, ip))
    })
}

/// What an endpoint says of the pod behind it.
pub(crate) fn target_ref(pod: &Pod) -> Value {
    let o = &pod.object;
    json!({"kind": "Pod", "namespace": o.namespace(), "name": o.name(), "uid": &*o.meta.uid})
}

/// The name by which DNS knows a pod of `service`, if it has one.
pub(crate) fn hostname<'p>(service: &Object, pod: &'p Pod) -> Option<&'p str> {
    let named = !pod.facts.hostname.is_empty() && pod.facts.subdomain == service.name();
    named.then_some(pod.facts.hostname.as_str())
}

/// The labels of what lists the endpoints of `service`: its own, those given, and [`HEADLESS`] where it is.
pub(crate) fn labels(service: &Object, value: &Value, added: &[(&str, &str)]) -> Map<String, Value> {
    let reserved = |k: &str| k == HEADLESS || added.iter().any(|(a, _)| *a == k);
    let own = service.meta.labels.iter().filter(|(k, _)| !reserved(k));
    let mut out: Map<String, Value> = own.map(|(k, v)| (k.to_string(), (**v).into())).collect();
    out.extend(added.iter().map(|(k, v)| ((*k).to_string(), (*v).into())));
    if value["spec"]["clusterIP"] == "None" {
        out.insert(HEADLESS.into(), "".into());
    }
    out
}

/// The address types to list, by the Service's IP families, the first one first.
pub(crate) fn families(service: &Value) -> Vec<&'static str> {
    let listed = service["spec"]["ipFamilies"].as_array().filter(|f| !f.is_empty());
    match listed {
        Some(families) => families.iter().filter_map(|f| ["IPv4", "IPv6"].into_iter().find(|k| f == *k)).collect(),
        None if text(&service["spec"]["clusterIP"]).contains(':') => vec!["IPv6"],
        None => vec!["IPv4"],
    }
}
