//! Every namespace has a ServiceAccount `default`.

use copepod_machine::{Action, Plan, View};
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::per_namespace;
use crate::{Config, Controller};

const RESOURCE: &str = "serviceaccounts";
const NAME: &str = "default";

struct ServiceAccounts;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    ServiceAccounts
}

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn watches(&self) -> &'static [&'static str] {
        &["namespaces", RESOURCE]
    }

    fn keys(&self, _: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        per_namespace::keys(RESOURCE, NAME, old, new)
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        per_namespace::all(view, RESOURCE, NAME)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        if per_namespace::live(view, key) && view.get(RESOURCE, &key.namespace, NAME).is_none() {
            let object = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": &*key.namespace},
            });
            let create = Action::Create { resource: RESOURCE, namespace: key.namespace.to_string(), object };
            plan.push(create, "every namespace has one");
        }
        plan
    }
}
