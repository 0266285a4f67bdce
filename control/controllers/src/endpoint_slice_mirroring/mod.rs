//! Mirrors the Endpoints of Services without a selector into EndpointSlices (upstream's
//! `pkg/controller/endpointslicemirroring`), so that consumers need to know slices only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use copepod_machine::{EventType, Plan, View};
use copepod_model::{Key, Object, Time};
use serde_json::{Map, Value, json};

use crate::support::endpoints::{ENDPOINTS, is_lock};
use crate::support::ports::Port;
use crate::support::services::{SERVICES, Selection};
use crate::support::slices::{self, MANAGED_BY, SERVICE_NAME, SLICES, Slices, Wanted, identity};
use crate::support::{event, keys_of, ownership, text};
use crate::{Config, Controller};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const GVK: (&str, &str) = ("v1", "Endpoints");
/// What a mirror does not copy: it describes the original.
const OWN_ANNOTATIONS: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Upstream's default for the addresses of one subset, and so of one slice.
const MAX: usize = 1000;

struct EndpointSliceMirroring;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    EndpointSliceMirroring
}

impl Controller for EndpointSliceMirroring {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[SERVICES, ENDPOINTS, SLICES]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        let key = || vec![Key::new(ENDPOINTS, object.key.namespace.clone(), object.key.name.clone())];
        let manual = |s: &Object| s.facts::<Selection>().manual;
        match &*object.key.resource {
            SERVICES if old.is_some_and(manual) || new.is_some_and(manual) => key(),
            // Nearly all Endpoints are those of Services with a selector: they wake nobody.
            ENDPOINTS if view.get(SERVICES, object.namespace(), object.name()).is_some_and(|s| manual(&s)) => key(),
            SLICES => slices::keys(MANAGER, ENDPOINTS, old, new),
            _ => vec![],
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let mut keys = keys_of(view, ENDPOINTS);
        keys.retain(|k| view.get(SERVICES, &k.namespace, &k.name).is_some_and(|s| s.facts::<Selection>().manual));
        // And what was mirrored, whatever has become of its original.
        keys.extend(view.list(SLICES, None).flat_map(|s| slices::keys(MANAGER, ENDPOINTS, None, Some(&s))));
        keys
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let mut existing = slices::of_service(view, &key.namespace, &key.name, MANAGER);
        let Some(endpoints) = original(view, key) else {
            for slice in &existing {
                slices::delete(&mut plan, slice, "its Endpoints are not to be mirrored");
            }
            return plan;
        };
        let set = Slices { gvk: GVK, owner: &endpoints, metadata: metadata(&endpoints), max: MAX, keep_one: false };
        let (mut wanted, skipped) = wanted(&endpoints.value());
        for family in ["IPv4", "IPv6"] {
            let (of_family, rest) = existing.into_iter().partition(|s| s["addressType"] == family);
            existing = rest;
            set.plan(&mut plan, family, of_family, wanted.remove(family).unwrap_or_default());
        }
        for slice in existing {
            slices::delete(&mut plan, &slice, "nothing of such an address type is mirrored");
        }
        if skipped > 0 && !plan.is_empty() {
            let message = format!(
                "A max of {MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were \
                 skipped"
            );
            let event = event(GVK, &endpoints, EventType::Warning, "TooManyAddressesToMirror", message);
            plan.push(event, "a subset has more addresses than a slice can have");
        }
        plan
    }
}

/// The Endpoints to mirror: those of a Service without a selector that nobody excepted.
fn original(view: &dyn View, key: &Key) -> Option<Arc<Object>> {
    let service = view.get(SERVICES, &key.namespace, &key.name)?;
    let endpoints = view.get(ENDPOINTS, &key.namespace, &key.name)?;
    let skipped = endpoints.meta.labels.get(SKIP).is_some_and(|v| &**v == "true") || is_lock(&endpoints);
    let there = endpoints.meta.deletion_timestamp.is_none();
    (service.facts::<Selection>().manual && there && !skipped).then_some(endpoints)
}

/// What every slice has of its original: labels, annotations and the reference to it, which a new one of the same name must
/// replace.
fn metadata(endpoints: &Object) -> Map<String, Value> {
    let mut labels = texts(endpoints.meta.labels.iter());
    labels.insert(SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let annotations = endpoints.meta.annotations.iter().filter(|(k, _)| !OWN_ANNOTATIONS.contains(&&***k));
    Map::from_iter([
        ("labels".to_string(), labels.into()),
        ("annotations".to_string(), texts(annotations).into()),
        ("ownerReferences".to_string(), json!([ownership::controller_ref(GVK, endpoints)])),
    ])
}

fn texts<'a, T: AsRef<str> + 'a>(pairs: impl Iterator<Item = (&'a T, &'a T)>) -> Map<String, Value> {
    pairs.map(|(k, v)| (k.as_ref().to_string(), Value::from(v.as_ref()))).collect()
}

/// The endpoints by address type, and how many had no room.
fn wanted(endpoints: &Value) -> (BTreeMap<&'static str, Wanted>, usize) {
    let (mut out, mut skipped): (BTreeMap<&'static str, Wanted>, usize) = Default::default();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports = Port::list(&subset["ports"]);
        let list = |field: &str, ready: bool| {
            let all = subset[field].as_array().map_or(&[][..], Vec::as_slice);
            all.iter().filter_map(move |a| endpoint(a, ready))
        };
        let mut all = list("addresses", true).chain(list("notReadyAddresses", false));
        for (family, endpoint) in all.by_ref().take(MAX) {
            let group = out.entry(family).or_default().entry(ports.clone()).or_default();
            // What two subsets of the same ports say twice is said once, and the first counts.
            group.entry(identity(&endpoint)).or_insert(endpoint);
        }
        skipped += all.count();
    }
    (out, skipped)
}

fn endpoint(address: &Value, ready: bool) -> Option<(&'static str, Value)> {
    let ip: IpAddr = text(&address["ip"]).parse().ok()?;
    let mut out = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if !address[field].is_null() && address[field] != "" {
            out[field] = address[field].clone();
        }
    }
    Some((if ip.is_ipv4() { "IPv4" } else { "IPv6" }, out))
}

#[cfg(test)]
mod tests;
