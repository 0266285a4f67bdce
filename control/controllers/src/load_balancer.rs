//! Gives Services of type LoadBalancer the addresses of the nodes, whose own listeners answer there (as k3s' ServiceLB does it
//! by pods with host ports), or addresses of their own where an operator has set some aside. Those of a class of load
//! balancers are left to whoever implements that.

mod allot;
mod pool;

use std::collections::BTreeSet;

use copepod_machine::{Plan, View};
use copepod_model::facts::EndpointSliceFacts;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use crate::support::node_addresses::{self, NODES};
use crate::support::services::{self, SERVICES};
use crate::support::slices::SLICES;
use crate::support::{patch, text};
use crate::{Config, Controller};

pub use pool::BalancerPool;

struct LoadBalancer {
    pool: BalancerPool,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    LoadBalancer { pool: config.balancer_pool.clone() }
}

/// One key stands for all Services that share a pool: two that were looked after at once could get the same address.
fn every() -> Key {
    Key::new(SERVICES, "", "")
}

/// The status that lists these.
fn list_of(ingress: Vec<Value>) -> Value {
    // An empty list is as none.
    let list = if ingress.is_empty() { Value::Null } else { ingress.into() };
    json!({"status": {"loadBalancer": {"ingress": list}}})
}

/// Whether a Service is to be looked at: it wants to be balanced, or says that it is.
fn matters(service: &Object) -> bool {
    let value = service.value();
    value["spec"]["type"] == "LoadBalancer" || !ingress(&value).is_empty()
}

fn ingress(service: &Value) -> &[Value] {
    service["status"]["loadBalancer"]["ingress"].as_array().map_or(&[], Vec::as_slice)
}

fn is_local(service: &Value) -> bool {
    service["spec"]["externalTrafficPolicy"] == "Local"
}

impl Controller for LoadBalancer {
    fn name(&self) -> &'static str {
        "load-balancer"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[SERVICES, NODES, SLICES]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            // What goes makes room for those that wait.
            SERVICES if !self.pool.is_empty() => {
                old.into_iter().chain(new).any(matters).then(every).into_iter().collect()
            }
            _ if !self.pool.is_empty() => vec![],
            SERVICES => new.filter(|s| matters(s)).map(|s| s.key.clone()).into_iter().collect(),
            NODES if node_addresses::changed(old, new) => self.all(view),
            NODES => vec![],
            _ => {
                let name = &object.facts::<EndpointSliceFacts>().service;
                let service = view.get(SERVICES, object.namespace(), name);
                service.filter(|s| matters(s) && is_local(&s.value())).map(|s| s.key.clone()).into_iter().collect()
            }
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        if !self.pool.is_empty() {
            return vec![every()];
        }
        view.list(SERVICES, None).filter(|s| matters(s)).map(|s| s.key.clone()).collect()
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        if !self.pool.is_empty() {
            return allot::plan(view, &self.pool);
        }
        let mut plan = Plan::none();
        let Some(service) = view.get(SERVICES, &key.namespace, &key.name) else { return plan };
        let value = service.value();
        let spec = &value["spec"];
        if service.meta.deletion_timestamp.is_some() || !text(&spec["loadBalancerClass"]).is_empty() {
            return plan;
        }
        let wanted = if spec["type"] == "LoadBalancer" { wanted(view, &service, &value) } else { vec![] };
        if ingress(&value) != wanted {
            let why = if wanted.is_empty() { "no node answers for it" } else { "the nodes answer for it" };
            plan.push(patch(&service, "status", PatchType::Merge, list_of(wanted)), why);
        }
        plan
    }
}

/// What the Service's status should list: the nodes' addresses of its families; under external traffic policy `Local` those
/// of nodes that have endpoints of it.
fn wanted(view: &dyn View, service: &Object, value: &Value) -> Vec<Value> {
    let families = services::families(value);
    let hosts = is_local(value).then(|| hosts(view, service));
    let ips = node_addresses::of_nodes(view, |node| hosts.as_ref().is_none_or(|h| h.contains(node)));
    let of_family = ips.into_iter().filter(|ip| families.contains(&if ip.is_ipv4() { "IPv4" } else { "IPv6" }));
    of_family.map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"})).collect()
}

/// The nodes with ready endpoints of a Service.
fn hosts(view: &dyn View, service: &Object) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for slice in view.list(SLICES, Some(service.namespace())) {
        let facts = slice.facts::<EndpointSliceFacts>();
        if facts.service == service.name() {
            out.extend(facts.endpoints.iter().filter(|e| e.ready).filter_map(|e| e.node.clone()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};

    fn node(name: &str, ready: &str, addresses: &[(&str, &str)]) -> Value {
        let addresses: Vec<Value> = addresses.iter().map(|(t, a)| json!({"type": t, "address": a})).collect();
        json!({"metadata": {"name": name, "uid": name},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn service(change: impl FnOnce(&mut Value)) -> Value {
        let mut v = json!({"metadata": {"name": "web", "namespace": "a", "uid": "s"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"]},
            "status": {"loadBalancer": {}}});
        change(&mut v);
        v
    }

    /// Reconciles until nothing is planned; the addresses that are listed.
    fn settle(view: &mut TestView) -> String {
        let key = Key::new(SERVICES, "a", "web");
        let controller = new(&config());
        for _ in 0..3 {
            let plan = controller.reconcile(view, &key, Time::default());
            if plan.is_empty() {
                let list = ingress(&view.value(&key)).to_vec();
                assert!(list.iter().all(|i| i["ipMode"] == "VIP"), "{list:?}");
                return list.iter().map(|i| text(&i["ip"])).collect::<Vec<_>>().join(" ");
            }
            assert!(view.execute(&plan));
        }
        panic!("it does not go quiet")
    }

    #[test]
    fn the_ready_nodes_addresses_are_listed() {
        let mut view = TestView::default();
        view.put(SERVICES, service(|_| {}));
        assert_eq!(settle(&mut view), "");
        view.put(
            NODES,
            node("b", "True", &[("InternalIP", "192.0.2.2"), ("Hostname", "b"), ("InternalIP", "fd00::2")]),
        );
        view.put(NODES, node("a", "True", &[("InternalIP", "192.0.2.1")]));
        view.put(NODES, node("c", "Unknown", &[("InternalIP", "192.0.2.3")]));
        let mut excluded = node("d", "True", &[("InternalIP", "192.0.2.4")]);
        excluded["metadata"]["labels"] = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
        view.put(NODES, excluded);
        assert_eq!(settle(&mut view), "192.0.2.1 192.0.2.2");
        view.put(NODES, node("a", "True", &[("InternalIP", "192.0.2.1"), ("ExternalIP", "198.51.100.1")]));
        assert_eq!(settle(&mut view), "198.51.100.1");
        view.remove(&Key::new(NODES, "", "a"));
        assert_eq!(settle(&mut view), "192.0.2.2");
        view.put(SERVICES, service(|s| s["spec"]["ipFamilies"] = json!(["IPv6"])));
        assert_eq!(settle(&mut view), "fd00::2");
    }

    #[test]
    fn local_traffic_comes_where_endpoints_are() {
        let mut view = TestView::default();
        for (n, ip) in [("a", "192.0.2.1"), ("b", "192.0.2.2")] {
            view.put(NODES, node(n, "True", &[("InternalIP", ip)]));
        }
        view.put(SERVICES, service(|s| s["spec"]["externalTrafficPolicy"] = "Local".into()));
        let slice = |node: &str, ready: bool| {
            json!({"metadata": {"name": "x", "namespace": "a", "labels": {"kubernetes.io/service-name": "web"}},
                "endpoints": [{"addresses": ["10.244.0.5"], "nodeName": node, "conditions": {"ready": ready}}]})
        };
        assert_eq!(settle(&mut view), "");
        view.put(SLICES, slice("b", true));
        assert_eq!(settle(&mut view), "192.0.2.2");
        view.put(SLICES, slice("a", false));
        assert_eq!(settle(&mut view), "");
        let slices = view.list(SLICES, None).next();
        let keys = new(&config()).keys(&view, None, slices.as_deref());
        assert_eq!(keys, [Key::new(SERVICES, "a", "web")]);
    }

    #[test]
    fn others_are_left_alone_and_what_is_balanced_no_more_says_so() {
        let mut view = TestView::default();
        view.put(NODES, node("a", "True", &[("InternalIP", "192.0.2.1")]));
        let said = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "VIP"}]}});
        view.put(
            SERVICES,
            service(|s| {
                s["spec"]["loadBalancerClass"] = "example.com/lb".into();
                s["status"] = said.clone();
            }),
        );
        assert_eq!(settle(&mut view), "203.0.113.9");
        view.put(
            SERVICES,
            service(|s| {
                s["spec"]["type"] = "ClusterIP".into();
                s["status"] = said.clone();
            }),
        );
        assert_eq!(settle(&mut view), "");
        let controller = new(&config());
        assert!(controller.all(&view).is_empty(), "then it is no business of this controller");
    }

    #[test]
    fn only_changes_that_matter_wake_it() {
        let mut view = TestView::default();
        view.put(SERVICES, service(|_| {}));
        view.put(NODES, node("a", "True", &[("InternalIP", "192.0.2.1")]));
        let old = view.get(NODES, "", "a");
        let mut beat = node("a", "True", &[("InternalIP", "192.0.2.1")]);
        beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z".into();
        view.put(NODES, beat);
        let new_one = view.get(NODES, "", "a");
        let controller = new(&config());
        assert!(controller.keys(&view, old.as_deref(), new_one.as_deref()).is_empty());
        assert_eq!(controller.keys(&view, new_one.as_deref(), None).len(), 1);
    }
}
