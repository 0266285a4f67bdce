//! Lists the endpoints of each Service with a selector in EndpointSlices (upstream's `pkg/controller/endpointslice`).

mod endpoints;

use copepod_machine::{Plan, View};
use copepod_model::{Key, Object, Time};
use serde_json::{Map, Value};

use crate::support::keys_of;
use crate::support::node_addresses::NODES;
use crate::support::services::{self, SERVICES, Selection};
use crate::support::slices::{self, MANAGED_BY, SERVICE_NAME, SLICES, Slices};
use crate::{Config, Controller};

const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Upstream's default for the size of a slice.
const MAX: usize = 100;

struct EndpointSlices;

fn zone(node: Option<&Object>) -> Option<&str> {
    node?.meta.labels.get(endpoints::ZONE).map(|z| &**z)
}

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    EndpointSlices
}

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[SERVICES, SLICES, "pods", NODES]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            SERVICES => vec![object.key.clone()],
            SLICES => slices::keys(MANAGER, SERVICES, old, new),
            // Endpoints say which zone they are in. It seldom changes.
            NODES if zone(old) != zone(new) => self.all(view),
            NODES => vec![],
            _ => services::of_pod(view, old, new),
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, SERVICES)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(service) = view.get(SERVICES, &key.namespace, &key.name) else { return plan };
        let selection = service.facts::<Selection>();
        let Some(selector) = selection.selector.as_ref().filter(|_| service.meta.deletion_timestamp.is_none()) else {
            return plan;
        };
        let value = service.value();
        let labels = services::labels(&service, &value, &[(SERVICE_NAME, service.name()), (MANAGED_BY, MANAGER)]);
        let set = Slices {
            gvk: ("v1", "Service"),
            owner: &service,
            metadata: Map::from_iter([("labels".to_string(), labels.into())]),
            max: MAX,
            keep_one: true,
        };
        let mut existing: Vec<Value> = slices::of_service(view, &key.namespace, &key.name, MANAGER);
        for family in services::families(&value) {
            let (of_family, rest) = existing.into_iter().partition(|s| s["addressType"] == family);
            existing = rest;
            set.plan(&mut plan, family, of_family, endpoints::wanted(view, &service, &value, selector, family));
        }
        for slice in existing {
            slices::delete(&mut plan, &slice, "the Service has no such address family");
        }
        plan
    }
}

#[cfg(test)]
mod tests;
