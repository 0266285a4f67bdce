use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::support::samples::{pod, service};
use crate::support::sim::{TestView, config};
use crate::support::text;

fn reconcile(view: &TestView) -> Plan {
    new(&config()).reconcile(view, &Key::new(SERVICES, "a", "web"), Time::default())
}

fn converge(view: &mut TestView) -> usize {
    let plan = reconcile(view);
    assert!(view.execute(&plan), "{plan}");
    assert_eq!(reconcile(view).to_string(), "", "quiet after one plan");
    plan.0.len()
}

fn slices(view: &TestView) -> Vec<Value> {
    view.list(SLICES, None).map(|o| o.value()).collect()
}

/// (address, port) → (ready, serving, terminating), over all slices.
fn listed(view: &TestView) -> BTreeMap<(String, u64), (bool, bool, bool)> {
    let mut out = BTreeMap::new();
    for s in slices(view) {
        let endpoints = s["endpoints"].as_array().unwrap();
        assert!(endpoints.len() <= 100);
        for e in endpoints {
            let c = |k: &str| e["conditions"][k].as_bool().unwrap();
            let key = (text(&e["addresses"][0]).to_string(), s["ports"][0]["port"].as_u64().unwrap());
            assert!(out.insert(key, (c("ready"), c("serving"), c("terminating"))).is_none(), "listed twice");
        }
    }
    out
}

#[test]
fn one_pod() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    view.put("nodes", json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    view.put("pods", pod(0, true, 8080));
    assert_eq!(converge(&mut view), 1);
    let mut slice = slices(&view).remove(0);
    let meta = slice["metadata"].take();
    assert_eq!(
        slice,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": null, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.0.1"], "nodeName": "n1", "zone": "z",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": "a", "name": "p0", "uid": "u0"}}],
        })
    );
    assert_eq!(
        meta["labels"],
        json!({"kubernetes.io/service-name": "web", "team": "x",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(meta["ownerReferences"][0]["uid"], "svc");
}

#[test]
fn without_pods_one_empty_slice_stays() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    converge(&mut view);
    assert_eq!(slices(&view)[0]["endpoints"], json!([]));
    let key = view.put("pods", pod(0, true, 8080));
    converge(&mut view);
    assert_eq!(slices(&view).len(), 1);
    view.remove(&key);
    converge(&mut view);
    assert_eq!(slices(&view).len(), 1);
    view.edit(&Key::new(SERVICES, "a", "web"), |s| s["spec"]["selector"] = Value::Null);
    assert_eq!(reconcile(&view).to_string(), "", "someone else's now");
}

#[test]
fn unready_published_terminating_finished_headless() {
    let mut view = TestView::default();
    let key = view.put(SERVICES, service(|s| s["spec"]["clusterIP"] = "None".into()));
    view.put("pods", pod(0, false, 80));
    let mut going = pod(1, true, 80);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    view.put("pods", going);
    let mut done = pod(2, true, 80);
    done["status"]["phase"] = "Succeeded".into();
    view.put("pods", done);
    let mut named = pod(3, true, 80);
    named["spec"]["hostname"] = "zero".into();
    named["spec"]["subdomain"] = "web".into();
    view.put("pods", named);
    converge(&mut view);
    let at = |n: u64| (format!("10.244.0.{}", n + 1), 80);
    let want = [(at(0), (false, false, false)), (at(1), (false, true, true)), (at(3), (true, true, false))];
    assert_eq!(listed(&view), want.into());
    let slice = slices(&view).remove(0);
    assert_eq!(slice["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    let zero = slice["endpoints"].as_array().unwrap().iter().find(|e| e["addresses"][0] == "10.244.0.4").unwrap();
    assert_eq!(zero["hostname"], "zero");
    view.edit(&key, |s| s["spec"]["publishNotReadyAddresses"] = true.into());
    converge(&mut view);
    let want = [(at(0), (true, false, false)), (at(1), (true, true, true)), (at(3), (true, true, false))];
    assert_eq!(listed(&view), want.into());
}

#[test]
fn a_change_of_one_endpoint_writes_one_slice() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    for n in 0..250 {
        view.put("pods", pod(n, true, 80));
    }
    assert_eq!(converge(&mut view), 3);
    view.put("pods", pod(7, false, 80));
    assert_eq!(converge(&mut view), 1);
    view.put("pods", pod(250, true, 80));
    assert_eq!(converge(&mut view), 1);
    assert_eq!(slices(&view).len(), 3);
}

#[test]
fn hints_say_for_whom_ready_endpoints_are() {
    let mut view = TestView::default();
    let key = view.put(SERVICES, service(|_| {}));
    view.put("nodes", json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    view.put("pods", pod(0, true, 80));
    view.put("pods", pod(1, false, 80));
    let hints = |view: &TestView| -> Vec<Value> {
        let of = |s: &Value| s["endpoints"].as_array().unwrap().iter().map(|e| e["hints"].clone()).collect::<Vec<_>>();
        slices(view).iter().flat_map(of).collect()
    };
    converge(&mut view);
    assert_eq!(hints(&view), [Value::Null, Value::Null]);
    let zone = json!({"forZones": [{"name": "z"}]});
    for (distribution, want) in [
        ("PreferClose", zone.clone()),
        ("PreferSameNode", json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n1"}]})),
        ("PreferSameZone", zone),
    ] {
        view.edit(&key, |s| s["spec"]["trafficDistribution"] = distribution.into());
        assert_eq!(converge(&mut view), 1);
        assert_eq!(hints(&view), [want, Value::Null], "{distribution}");
    }
    // A node that has no zone gives none.
    let node = Key::new("nodes", "", "n1");
    let before = view.objects[&node].clone();
    view.edit(&node, |n| n["metadata"]["labels"] = json!({}));
    let after = view.objects[&node].clone();
    let controller = new(&config());
    assert_eq!(controller.keys(&view, Some(&before), Some(&after)), std::slice::from_ref(&key));
    assert!(controller.keys(&view, Some(&after), Some(&after)).is_empty(), "a heartbeat");
    converge(&mut view);
    assert_eq!(hints(&view), [Value::Null, Value::Null]);
    view.edit(&node, |n| n["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z"}));
    view.edit(&key, |s| s["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto"}));
    converge(&mut view);
    assert_eq!(hints(&view), [Value::Null, Value::Null], "the annotation wins");
}

#[test]
fn each_family_of_a_service_has_slices_of_its_own() {
    let mut view = TestView::default();
    let both = json!([{"ip": "10.244.0.1"}, {"ip": "fd00:10:244::af4:1"}]);
    let key = view.put(SERVICES, service(|s| s["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"])));
    let mut dual = pod(0, true, 80);
    dual["status"]["podIPs"] = both;
    view.put("pods", dual.clone());
    view.put("pods", pod(1, true, 80));
    converge(&mut view);
    let shown = |view: &TestView| -> Vec<String> {
        let ip = |e: &Value| text(&e["addresses"][0]).to_string();
        let ips = |s: &Value| s["endpoints"].as_array().unwrap().iter().map(ip).collect::<Vec<_>>();
        let mut all: Vec<String> =
            slices(view).iter().map(|s| format!("{} {}", text(&s["addressType"]), ips(s).join(" "))).collect();
        all.sort();
        all
    };
    assert_eq!(shown(&view), ["IPv4 10.244.0.1 10.244.0.2", "IPv6 fd00:10:244::af4:1"]);
    // Its second address alone is news as well.
    let old = view.get("pods", "a", "p0").unwrap();
    dual["status"]["podIPs"] = json!([{"ip": "10.244.0.1"}]);
    let pods = view.put("pods", dual);
    let changed = view.objects[&pods].clone();
    assert_eq!(new(&config()).keys(&view, Some(&old), Some(&changed)).len(), 1);
    converge(&mut view);
    assert_eq!(shown(&view), ["IPv4 10.244.0.1 10.244.0.2", "IPv6 "]);
    view.edit(&key, |s| s["spec"]["ipFamilies"] = json!(["IPv6"]));
    converge(&mut view);
    assert_eq!(shown(&view), ["IPv6 "], "that of the family that is gone went with it");
}

#[test]
fn only_changes_that_matter_wake_it() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    let key = view.put("pods", pod(0, true, 80));
    let old = view.objects[&key].clone();
    view.edit(&key, |p| p["status"]["message"] = "x".into());
    let same = view.objects[&key].clone();
    let controller = new(&config());
    assert!(controller.keys(&view, Some(&old), Some(&same)).is_empty());
    view.put("pods", pod(0, false, 80));
    let unready = view.objects[&key].clone();
    assert_eq!(controller.keys(&view, Some(&same), Some(&unready)).len(), 1);
    assert_eq!(controller.keys(&view, Some(&same), None).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// After any changes, the slices list just the pods, each once, and one plan is enough.
    #[test]
    fn slices_equal_the_model(steps in prop::collection::vec(
        prop::collection::vec((0usize..260, 0u8..4, 0u16..2), 1..120), 1..6)) {
        let mut view = TestView::default();
        view.put(SERVICES, service(|_| {}));
        let mut model = BTreeMap::new();
        for step in steps {
            for (n, what, port) in step {
                if what == 0 {
                    view.remove(&Key::new("pods", "a", format!("p{n}")));
                    model.remove(&n);
                } else {
                    view.put("pods", pod(n, what > 1, 80 + port));
                    model.insert(n, (what > 1, u64::from(80 + port)));
                }
            }
            converge(&mut view);
            let want: BTreeMap<_, _> = model.iter()
                .map(|(n, (ready, port))| ((format!("10.244.{}.{}", n / 200, n % 200 + 1), *port), (*ready, *ready, false)))
                .collect();
            prop_assert_eq!(listed(&view), want);
        }
    }
}
