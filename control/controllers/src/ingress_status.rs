//! Says in the status of Ingresses of the cluster's own class where they are answered: every node is an ingress. And in their
//! Events, what of their limits cannot be read.

use std::sync::Arc;

use copepod_machine::{EventType, Plan, View};
use copepod_model::facts::{INGRESS_CLASS, INGRESS_CONTROLLER, IngressLimitFacts, ingress_is_ours};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use crate::support::node_addresses::{self, NODES};
use crate::support::{event, keys_of, patch};
use crate::{Config, Controller};

const INGRESSES: &str = "ingresses.networking.k8s.io";
const CLASSES: &str = "ingressclasses.networking.k8s.io";

const GVK: (&str, &str) = ("networking.k8s.io/v1", "Ingress");

struct IngressStatus;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    IngressStatus
}

impl Controller for IngressStatus {
    fn name(&self) -> &'static str {
        "ingress-status"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[INGRESSES, CLASSES, NODES]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            INGRESSES => new.map(|i| i.key.clone()).into_iter().collect(),
            NODES if !node_addresses::changed(old, new) => vec![],
            _ => self.all(view),
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, INGRESSES)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(ingress) = view.get(INGRESSES, &key.namespace, &key.name) else { return plan };
        let classes: Vec<Arc<Object>> = view.list(CLASSES, None).collect();
        let ours = ingress_is_ours(&ingress, &classes, INGRESS_CLASS, INGRESS_CONTROLLER);
        if !ours || ingress.meta.deletion_timestamp.is_some() {
            return plan;
        }
        let ips = node_addresses::of_nodes(view, |_| true);
        let wanted: Vec<Value> = ips.into_iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        let value = ingress.value();
        let said = value["status"]["loadBalancer"]["ingress"].as_array().map_or(&[][..], Vec::as_slice);
        if said != wanted {
            let list = if wanted.is_empty() { Value::Null } else { wanted.into() };
            let status = json!({"status": {"loadBalancer": {"ingress": list}}});
            plan.push(patch(&ingress, "status", PatchType::Merge, status), "where the nodes answer");
        }
        for why in &ingress.facts::<IngressLimitFacts>().wrong {
            let tell = event(GVK, &ingress, EventType::Warning, "InvalidAnnotation", why.clone());
            plan.push(tell, "its limits are the node's own");
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};

    #[test]
    fn ingresses_of_the_own_class_list_the_nodes() {
        let mut view = TestView::default();
        let ingress = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": spec, "status": {"loadBalancer": {}}});
        view.put(CLASSES, json!({"metadata": {"name": "other"}, "spec": {"controller": "example.com/x"}}));
        let keys = [
            view.put(INGRESSES, ingress("plain", json!({}))),
            view.put(INGRESSES, ingress("named", json!({"ingressClassName": "copepod"}))),
            view.put(INGRESSES, ingress("theirs", json!({"ingressClassName": "other"}))),
        ];
        let controller = new(&config());
        let said = |view: &mut TestView| {
            for key in &keys {
                let plan = controller.reconcile(view, key, Time::default());
                assert!(view.execute(&plan));
                assert!(controller.reconcile(view, key, Time::default()).is_empty(), "it goes quiet");
            }
            keys.each_ref().map(|k| view.value(k)["status"]["loadBalancer"].to_string())
        };
        assert_eq!(said(&mut view), ["{}", "{}", "{}"]);
        let node = |ready: &str| {
            json!({"metadata": {"name": "n", "uid": "n"}, "status": {"conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
        };
        view.put(NODES, node("True"));
        let there = r#"{"ingress":[{"ip":"192.0.2.1"}]}"#;
        assert_eq!(said(&mut view), [there, there, "{}"]);
        view.put(NODES, node("False"));
        assert_eq!(said(&mut view), ["{}", "{}", "{}"]);
    }
    #[test]
    fn a_limit_that_cannot_be_read_is_an_event() {
        let mut view = TestView::default();
        let ingress = |name: &str, class: &str, size: &str| {
            let annotations = json!({"nginx.ingress.kubernetes.io/proxy-body-size": size});
            let metadata = json!({"name": name, "namespace": "a", "uid": name, "annotations": annotations});
            json!({"metadata": metadata, "spec": {"ingressClassName": class}, "status": {"loadBalancer": {}}})
        };
        let keys = [
            view.put(INGRESSES, ingress("good", "copepod", "8m")),
            view.put(INGRESSES, ingress("theirs", "other", "big")),
            view.put(INGRESSES, ingress("bad", "copepod", "big")),
        ];
        let said = |key: &Key| {
            let plan = new(&config()).reconcile(&view, key, Time::default());
            let steps = plan.0.iter().map(|step| format!("{:?}", step.action)).collect::<Vec<_>>();
            steps.join(" ")
        };
        assert_eq!([said(&keys[0]), said(&keys[1])], ["", ""]);
        let told = said(&keys[2]);
        assert!(told.contains("InvalidAnnotation") && told.contains("is not a size"), "{told}");
    }
}
