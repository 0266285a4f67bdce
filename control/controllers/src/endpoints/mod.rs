//! Lists the endpoints of each Service with a selector in Endpoints of the same name (upstream's `pkg/controller/endpoint`),
//! for clients that do not know EndpointSlices.

mod subsets;

use std::time::Duration;

use copepod_machine::{Action, Plan, View};
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::endpoints::{ENDPOINTS, is_lock};
use crate::support::services::{self, SERVICES, Selection};
use crate::support::{keys_of, text};
use crate::{Config, Controller};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// When the change that led to the last write was seen.
const CHANGED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Every change of one pod writes the whole object. One that is larger than this many bytes rests after each write…
const LARGE: usize = 16 * 1024;
/// …for a millisecond for each so many of its bytes: with a thousand addresses five seconds. Each version is kept by the log and by
/// the watch window for a while, and a proxy reads EndpointSlices, which do not wait.
const BYTES_PER_MILLISECOND: u64 = 64;

struct Endpoints;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    Endpoints
}

impl Controller for Endpoints {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[SERVICES, ENDPOINTS, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            SERVICES => vec![object.key.clone()],
            // As upstream: what is deleted, or made by someone else before the Service's own was, is noticed; an update is
            // nearly always its own. Without a Service they are none of its business.
            ENDPOINTS if old.is_some() && new.is_some() => vec![],
            ENDPOINTS => {
                view.get(SERVICES, object.namespace(), object.name()).map(|s| s.key.clone()).into_iter().collect()
            }
            _ => services::of_pod(view, old, new),
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let mut keys = keys_of(view, SERVICES);
        let ours = |e: &Object| e.meta.labels.get(MANAGED_BY).is_some_and(|m| &**m == MANAGER);
        // Of Services that went while nobody looked.
        let of = |e: &Object| Key::new(SERVICES, e.key.namespace.clone(), e.key.name.clone());
        let left = view.list(ENDPOINTS, None).filter(|e| ours(e)).map(|e| of(&e));
        keys.extend(left.filter(|k| view.get(SERVICES, &k.namespace, &k.name).is_none()));
        keys
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let existing = view.get(ENDPOINTS, &key.namespace, &key.name);
        if existing.as_ref().is_some_and(|e| e.meta.deletion_timestamp.is_some()) {
            return plan;
        }
        let Some(service) = view.get(SERVICES, &key.namespace, &key.name) else {
            if let Some(left) = existing.filter(|e| !is_lock(e)) {
                plan.push(delete(&left), "its Service is gone");
            }
            return plan;
        };
        let selection = service.facts::<Selection>();
        let Some(selector) = selection.selector.as_ref().filter(|_| service.meta.deletion_timestamp.is_none()) else {
            return plan;
        };
        if let Some(rest) = existing.as_deref().and_then(|e| rest(e, now)) {
            plan.push(Action::After(rest), "so large an object is not written that often");
            return plan;
        }
        let value = service.value();
        let (subsets, truncated) = subsets::wanted(view, &service, &value, selector);
        let labels = services::labels(&service, &value, &[(MANAGED_BY, MANAGER)]);
        let mut object = match &existing {
            Some(e) => e.value(),
            None => json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": service.name(), "namespace": service.namespace()},
            }),
        };
        let same = object["subsets"].as_array().map_or(&[][..], Vec::as_slice) == subsets
            && object["metadata"]["labels"].as_object() == Some(&labels)
            && object["metadata"]["annotations"][OVER_CAPACITY].is_string() == truncated;
        if existing.is_some() && same {
            return plan;
        }
        object["subsets"] = subsets.into();
        object["metadata"]["labels"] = labels.into();
        let annotations = &mut object["metadata"]["annotations"];
        annotations[CHANGED] = now.rfc3339_nanos().into();
        if truncated {
            annotations[OVER_CAPACITY] = "truncated".into();
        } else if let Some(all) = annotations.as_object_mut() {
            all.remove(OVER_CAPACITY);
        }
        let namespace = service.namespace().to_string();
        match existing {
            None => plan.push(Action::Create { resource: ENDPOINTS, namespace, object }, "the Service has none yet"),
            Some(_) => {
                let name = text(&object["metadata"]["name"]).to_string();
                let update = Action::Update { resource: ENDPOINTS, namespace, name, subresource: "", object };
                plan.push(update, "endpoints changed");
            }
        }
        plan
    }
}

fn delete(endpoints: &Object) -> Action {
    Action::Delete {
        resource: ENDPOINTS.into(),
        namespace: endpoints.namespace().into(),
        name: endpoints.name().into(),
        uid: endpoints.meta.uid.to_string(),
        propagation: None,
        grace_seconds: None,
    }
}

/// How long a large object rests yet. A time that is still to come says nothing, as after a clock was set back.
fn rest(endpoints: &Object, now: Time) -> Option<Duration> {
    let size = endpoints.body.len();
    let last = Time::parse(endpoints.meta.annotations.get(CHANGED)?)?;
    let due = last + Duration::from_millis(size as u64 / BYTES_PER_MILLISECOND);
    (size > LARGE && last <= now && now < due).then(|| due.since(now))
}

#[cfg(test)]
mod tests;
