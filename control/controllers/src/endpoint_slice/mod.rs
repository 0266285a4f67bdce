//! Lists the endpoints of each Service with a selector in EndpointSlices (upstream's `pkg/controller/endpointslice`).

mod endpoints;
mod pack;

use copepod_machine::{Action, Plan, View};
use copepod_model::facts::{Facts, PodFacts};
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, Time};
use serde_json::{Map, Value, json};

use self::endpoints::Wanted;
use crate::support::{keys_of, ownership, text};
use crate::{Config, Controller};

const RESOURCE: &str = "services";
const SLICES: &str = "endpointslices.discovery.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

struct EndpointSlices;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    EndpointSlices
}

/// What a Service selects.
struct Selection(Option<LabelSelector>);

impl Facts for Selection {
    fn of(service: &Object) -> Selection {
        let spec = &service.value()["spec"];
        let pairs = spec["selector"].as_object().filter(|s| !s.is_empty() && spec["type"] != "ExternalName");
        Selection(pairs.map(|m| LabelSelector::from_pairs(m.iter().map(|(k, v)| (k.as_str(), text(v))))))
    }
}

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, SLICES, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            RESOURCE => vec![object.key.clone()],
            SLICES => {
                let labels = &object.meta.labels;
                let ours = labels.get(MANAGED_BY).is_some_and(|m| &**m == MANAGER);
                let service = labels.get(SERVICE_NAME).filter(|_| ours);
                service.map(|s| Key::new(RESOURCE, object.key.namespace.clone(), &**s)).into_iter().collect()
            }
            _ if matters(old, new) => {
                let selects = |s: &Object| {
                    let selection = s.facts::<Selection>();
                    let matches = |o: &Object| selection.0.as_ref().is_some_and(|s| s.matches(&o.meta.labels));
                    old.is_some_and(matches) || new.is_some_and(matches)
                };
                let services = view.list(RESOURCE, Some(object.namespace()));
                services.filter(|s| selects(s)).map(|s| s.key.clone()).collect()
            }
            _ => vec![],
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(service) = view.get(RESOURCE, &key.namespace, &key.name) else { return plan };
        let selection = service.facts::<Selection>();
        let Some(selector) = selection.0.as_ref().filter(|_| service.meta.deletion_timestamp.is_none()) else {
            return plan;
        };
        let value = service.value();
        let labels = labels(&service, &value);
        let mut existing: Vec<Value> = view
            .list(SLICES, Some(service.namespace()))
            .filter(|s| s.meta.deletion_timestamp.is_none())
            .filter(|s| s.meta.labels.get(SERVICE_NAME).is_some_and(|n| **n == *key.name))
            .filter(|s| s.meta.labels.get(MANAGED_BY).is_some_and(|n| &**n == MANAGER))
            .map(|s| s.value())
            .collect();
        for family in families(&value) {
            let (of_family, rest) = existing.into_iter().partition(|s| s["addressType"] == family);
            existing = rest;
            let wanted: Wanted = endpoints::wanted(view, &service, &value, selector, family);
            for change in pack::pack(of_family, wanted, &labels) {
                match change {
                    pack::Change::Create(ports, endpoints) => {
                        let object = json!({
                            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                            "metadata": {
                                "generateName": format!("{}-", service.name()), "namespace": service.namespace(),
                                "labels": labels,
                                "ownerReferences": [ownership::controller_ref(("v1", "Service"), &service)],
                            },
                            "addressType": family, "ports": ports, "endpoints": endpoints,
                        });
                        let namespace = service.namespace().into();
                        plan.push(Action::Create { resource: SLICES, namespace, object }, "more endpoints than room");
                    }
                    pack::Change::Update(object) => {
                        let name = text(&object["metadata"]["name"]).to_string();
                        let namespace = service.namespace().into();
                        let update = Action::Update { resource: SLICES, namespace, name, subresource: "", object };
                        plan.push(update, "endpoints changed");
                    }
                    pack::Change::Delete(slice) => delete(&mut plan, &service, &slice, "nothing left in it"),
                }
            }
        }
        for slice in existing {
            delete(&mut plan, &service, &slice, "the Service has no such address family");
        }
        plan
    }
}

fn delete(plan: &mut Plan, service: &Object, slice: &Value, why: &str) {
    let delete = Action::Delete {
        resource: SLICES.into(),
        namespace: service.namespace().into(),
        name: text(&slice["metadata"]["name"]).into(),
        uid: text(&slice["metadata"]["uid"]).into(),
        propagation: None,
        grace_seconds: None,
    };
    plan.push(delete, why);
}

/// Whether a pod's change can change an endpoint.
fn matters(old: Option<&Object>, new: Option<&Object>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let seen = |o: &Object, f: &PodFacts| {
        let finished = matches!(f.phase.as_str(), "Succeeded" | "Failed");
        (f.ip, f.ready, finished, f.node_name.clone(), o.meta.deletion_timestamp.is_some(), o.meta.uid.clone())
    };
    old.meta.labels != new.meta.labels || seen(old, &old.facts()) != seen(new, &new.facts())
}

/// The Service's labels and what the controller adds.
fn labels(service: &Object, value: &Value) -> Map<String, Value> {
    let reserved = [SERVICE_NAME, MANAGED_BY, HEADLESS];
    let own = service.meta.labels.iter().filter(|(k, _)| !reserved.contains(&&***k));
    let mut out: Map<String, Value> = own.map(|(k, v)| (k.to_string(), (**v).into())).collect();
    out.insert(SERVICE_NAME.into(), service.name().into());
    out.insert(MANAGED_BY.into(), MANAGER.into());
    if value["spec"]["clusterIP"] == "None" {
        out.insert(HEADLESS.into(), "".into());
    }
    out
}

/// The address types to list, by the Service's IP families.
fn families(service: &Value) -> Vec<&'static str> {
    let listed = service["spec"]["ipFamilies"].as_array().filter(|f| !f.is_empty());
    match listed {
        Some(families) => families.iter().filter_map(|f| ["IPv4", "IPv6"].into_iter().find(|k| f == *k)).collect(),
        None if text(&service["spec"]["clusterIP"]).contains(':') => vec!["IPv6"],
        None => vec!["IPv4"],
    }
}

#[cfg(test)]
mod tests;
