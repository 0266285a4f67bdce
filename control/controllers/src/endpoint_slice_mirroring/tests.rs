use std::time::Duration;

use super::*;
use crate::support::samples::service;
use crate::support::sim::{TestView, config};

fn reconcile(view: &TestView) -> Plan {
    new(&config()).reconcile(view, &web(), Time::default())
}

/// Executes the plan and answers how many steps it had.
fn converge(view: &mut TestView) -> usize {
    let plan = reconcile(view);
    assert!(view.execute(&plan), "{plan}");
    assert_eq!(reconcile(view).to_string(), "", "quiet after one plan");
    plan.0.len()
}

fn web() -> Key {
    Key::new(ENDPOINTS, "a", "web")
}

fn endpoints(subsets: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "a", "uid": "ep", "labels": {"team": "x"}}, "subsets": subsets})
}

/// A Service without a selector, and its Endpoints.
fn view(subsets: Value) -> TestView {
    let mut view = TestView::default();
    view.put(SERVICES, service(|s| s["spec"]["selector"] = Value::Null));
    view.put(ENDPOINTS, endpoints(subsets));
    view
}

fn slices(view: &TestView) -> Vec<Value> {
    view.list(SLICES, None).map(|o| o.value()).collect()
}

#[test]
fn a_slice_for_each_list_of_ports_and_family() {
    let subsets = json!([
        {"addresses": [{"ip": "192.0.2.1", "nodeName": "n1", "hostname": "one"}, {"ip": "2001:DB8::1"}],
            "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 53, "protocol": "UDP"}]},
    ]);
    let mut view = view(subsets);
    view.edit(&web(), |e| {
        e["metadata"]["annotations"] = json!({"kept": "a", OWN_ANNOTATIONS[0]: "b", OWN_ANNOTATIONS[1]: "c"});
    });
    assert_eq!(converge(&mut view), 3);
    let find = |ports: Value, family: &str| {
        let all = slices(&view);
        all.into_iter().find(|s| s["addressType"] == family && s["ports"] == ports).unwrap()
    };
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let v4 = find(http.clone(), "IPv4");
    assert_eq!(
        v4["endpoints"],
        json!([
            {"addresses": ["192.0.2.1"], "conditions": {"ready": true}, "nodeName": "n1", "hostname": "one"},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
        ])
    );
    let meta = &v4["metadata"];
    let labels = json!({"team": "x", "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"});
    assert_eq!((&meta["labels"], &meta["annotations"]), (&labels, &json!({"kept": "a"})));
    let owner = json!({"apiVersion": "v1", "kind": "Endpoints", "name": "web", "uid": "ep", "controller": true,
        "blockOwnerDeletion": true});
    assert_eq!(meta["ownerReferences"], json!([owner]));
    assert_eq!(find(http, "IPv6")["endpoints"][0]["addresses"], json!(["2001:db8::1"]));
    let dns = find(json!([{"name": "", "port": 53, "protocol": "UDP"}]), "IPv4");
    assert_eq!(dns["endpoints"].as_array().unwrap().len(), 1);
}

#[test]
fn changes_are_followed_with_one_write() {
    let mut view = view(json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]));
    converge(&mut view);
    let name = slices(&view)[0]["metadata"]["name"].clone();
    view.edit(&web(), |e| e["subsets"][0]["addresses"] = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]));
    assert_eq!(converge(&mut view), 1);
    view.edit(&web(), |e| e["metadata"]["labels"]["team"] = "y".into());
    assert_eq!(converge(&mut view), 1);
    // Others of the same name take the slice over before the garbage collector finds it.
    view.edit(&web(), |e| e["metadata"]["uid"] = "other".into());
    assert_eq!(converge(&mut view), 1);
    let slice = slices(&view).remove(0);
    assert_eq!((slices(&view).len(), &slice["metadata"]["name"]), (1, &name));
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(slice["metadata"]["labels"]["team"], "y");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "other");
    view.edit(&web(), |e| e["subsets"] = json!([]));
    converge(&mut view);
    assert_eq!(slices(&view).len(), 0);
}

/// Why, and what is done to Endpoints that were mirrored until then.
type Case = (&'static str, fn(&mut TestView));

#[test]
fn what_is_not_mirrored() {
    let changes: [Case; 5] = [
        ("labelled", |v| v.edit(&web(), |e| e["metadata"]["labels"][SKIP] = "true".into())),
        ("a lock", |v| {
            v.edit(&web(), |e| e["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"] = "{}".into());
        }),
        ("a selector", |v| drop(v.put(SERVICES, service(|_| {})))),
        ("no Service", |v| v.remove(&Key::new(SERVICES, "a", "web"))),
        ("no Endpoints", |v| v.remove(&web())),
    ];
    for (why, change) in changes {
        let mut view = view(json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]));
        converge(&mut view);
        change(&mut view);
        assert!(new(&config()).all(&view).contains(&web()), "{why}");
        assert_eq!(converge(&mut view), 1, "{why}");
        assert_eq!(slices(&view).len(), 0, "{why}");
    }
}

#[test]
fn a_subset_has_its_limit() {
    let addresses = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|i| json!({"ip": format!("10.9.{}.{}", i / 250, i % 250)})).collect()
    };
    let mut view = view(json!([{"addresses": addresses(0..990), "notReadyAddresses": addresses(990..1200),
        "ports": [{"port": 80}]}]));
    converge(&mut view);
    assert_eq!(slices(&view)[0]["endpoints"].as_array().unwrap().len(), MAX);
    assert_eq!(
        view.events,
        [
            "TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 200 \
          addresses were skipped"
        ]
    );
}

#[test]
fn only_services_without_a_selector_wake_it() {
    let mut view = TestView::default();
    let controller = new(&config());
    let key = view.put(SERVICES, service(|_| {}));
    let selecting = view.objects[&key].clone();
    view.put(ENDPOINTS, endpoints(json!([])));
    let endpoints = view.objects[&web()].clone();
    assert!(controller.keys(&view, None, Some(&endpoints)).is_empty());
    assert!(controller.keys(&view, None, Some(&selecting)).is_empty());
    view.put(SERVICES, service(|s| s["spec"]["selector"] = Value::Null));
    let manual = view.objects[&key].clone();
    assert_eq!(controller.keys(&view, None, Some(&endpoints)), [web()]);
    assert_eq!(controller.keys(&view, Some(&selecting), Some(&manual)), [web()]);
    assert_eq!(controller.keys(&view, Some(&manual), Some(&selecting)), [web()]);
}

/// With the controllers beside it: what a user lists by hand is what the Service's slices say, whoever had it before.
#[test]
fn a_service_changes_hands() {
    use crate::support::samples::pod;
    let config = config();
    let controllers: Vec<Box<dyn Controller>> = vec![
        Box::new(new(&config)),
        Box::new(crate::endpoint_slice::new(&config)),
        Box::new(crate::endpoints::new(&config)),
    ];
    let (mut view, mut queue) = (TestView { now: Time::from_secs(1_000), ..TestView::default() }, Default::default());
    view.put("pods", pod(0, true, 8080));
    let key = view.put(SERVICES, service(|s| s["spec"]["selector"] = Value::Null));
    view.put(
        ENDPOINTS,
        endpoints(json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 80}]}])),
    );
    view.settle(&controllers, &mut queue);
    let addresses = |view: &TestView| -> Vec<Value> {
        slices(view).iter().map(|s| s["endpoints"][0]["addresses"][0].clone()).collect()
    };
    assert_eq!(addresses(&view), ["192.0.2.1"]);
    view.edit(&key, |s| s["spec"]["selector"] = json!({"app": "web"}));
    view.now = view.now + Duration::from_secs(10);
    view.settle(&controllers, &mut queue);
    assert_eq!(addresses(&view), ["10.244.0.1"]);
    assert_eq!(view.value(&web())["subsets"][0]["addresses"][0]["ip"], "10.244.0.1");
    view.remove(&key);
    view.settle(&controllers, &mut queue);
    assert_eq!(view.value(&web()), Value::Null);
}
