//! Publishes the cluster's CA certificate as ConfigMap `kube-root-ca.crt` in every namespace.

use copepod_machine::{Action, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::{patch, per_namespace};
use crate::{Config, Controller};

const RESOURCE: &str = "configmaps";
const NAME: &str = "kube-root-ca.crt";

struct RootCa {
    pem: String,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    RootCa { pem: config.ca_pem.clone() }
}

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca"
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
        if !per_namespace::live(view, key) {
            return plan;
        }
        let data = json!({"ca.crt": self.pem});
        match view.get(RESOURCE, &key.namespace, NAME) {
            None => {
                let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                             endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                             guaranteed across distributions of Kubernetes clusters.";
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                    "metadata": {
                        "name": NAME, "namespace": &*key.namespace,
                        "annotations": {"kubernetes.io/description": about},
                    },
                });
                let create = Action::Create { resource: RESOURCE, namespace: key.namespace.to_string(), object };
                plan.push(create, "every namespace has one");
            }
            Some(map) if map.value()["data"] != data => {
                plan.push(patch(&map, "", PatchType::Merge, json!({"data": data})), "it differs from the CA");
            }
            Some(_) => {}
        }
        plan
    }
}
