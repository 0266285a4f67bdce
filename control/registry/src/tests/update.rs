use copepod_model::Verb;
use copepod_model::request::PatchType;
use serde_json::{Value, json};

use crate::testing::{Cluster, deployment, error, pod, request};

const WEB: &str = "deployments.apps default/web";

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    c.create("deployments.apps default/", deployment("web")).unwrap();
    c
}

#[test]
fn who_manages_endpoints_does_not_grow_with_the_addresses() {
    let mut c = Cluster::new();
    let endpoints = |name: &str, n: u32| {
        let address = |i: u32| json!({"ip": format!("10.244.{}.{}", i / 250, i % 250 + 1), "nodeName": "n"});
        let addresses: Vec<Value> = (0..n).map(address).collect();
        json!({"metadata": {"name": name}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    };
    let managed = |v: Value| v["metadata"]["managedFields"][0]["fieldsV1"].clone();
    let one = managed(c.create("endpoints default/", endpoints("one", 1)).unwrap().1);
    let many = managed(c.create("endpoints default/", endpoints("many", 1000)).unwrap().1);
    assert_eq!(one, json!({"f:subsets": {}}));
    assert_eq!(many, one);
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let mut c = cluster();
    let mut d = c.value(WEB);
    d["metadata"]["labels"] = json!({"x":"y"});
    let (code, v) = c.update(WEB, d.clone()).unwrap();
    assert_eq!((code, v["metadata"]["generation"].as_i64()), (200, Some(1)));
    d = v;
    d["spec"]["replicas"] = 5.into();
    let (_, v) = c.update(WEB, d).unwrap();
    assert_eq!(v["metadata"]["generation"], 2);
    assert_eq!(v["metadata"]["resourceVersion"], c.tables.revision().to_string());
}

#[test]
fn a_change_that_changes_nothing_is_not_written() {
    let mut c = cluster();
    let (before, d) = (c.tables.revision(), c.value(WEB));
    let (_, v) = c.update(WEB, d.clone()).unwrap();
    assert_eq!(v, d);
    let mut bare = deployment("web");
    bare["metadata"]["name"] = "web".into();
    c.update(WEB, bare).unwrap();
    c.patch(PatchType::Merge, WEB, json!({"spec":{"replicas":2}})).unwrap();
    assert_eq!(c.tables.revision(), before);
}

#[test]
fn a_write_to_the_object_leaves_the_status_and_the_other_way_round() {
    let mut c = cluster();
    let mut d = c.value(WEB);
    d["status"] = json!({"replicas": 3});
    d["spec"]["replicas"] = 9.into();
    d["metadata"]["labels"] = json!({"from":"status"});
    let (_, v) = c.update(&format!("{WEB} status"), d).unwrap();
    assert_eq!((v["status"]["replicas"].as_i64(), v["spec"]["replicas"].as_i64()), (Some(3), Some(2)));
    assert!(v["metadata"].get("labels").is_none());
    assert_eq!(v["metadata"]["generation"], 1);
    let mut d = v;
    d["status"] = json!({});
    d["spec"]["replicas"] = 4.into();
    let (_, v) = c.update(WEB, d).unwrap();
    assert_eq!((v["status"]["replicas"].as_i64(), v["spec"]["replicas"].as_i64()), (Some(3), Some(4)));
    let subresources: Vec<_> =
        v["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| e["subresource"].clone()).collect();
    assert!(subresources.contains(&json!("status")), "{subresources:?}");
}

#[test]
fn bad_updates_get_upstreams_errors() {
    let mut c = cluster();
    let good = c.value(WEB);
    let with = |path: &str, value: serde_json::Value| {
        let mut v = good.clone();
        crate::value::set_at(&mut v, path, value);
        v
    };
    for (what, object, want) in [
        (
            "deployments.apps default/nope",
            with("metadata.name", "nope".into()),
            "404 deployments.apps \"nope\" not found",
        ),
        (
            WEB,
            with("metadata.name", "other".into()),
            "400 the name of the object (other) does not match the name on the URL (web)",
        ),
        (WEB, with("metadata.namespace", "x".into()), "400 the namespace of the provided object does not match"),
        (
            WEB,
            with("metadata.resourceVersion", "1".into()),
            "409 Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your \
             changes to the latest version and try again",
        ),
        (WEB, with("metadata.resourceVersion", "x".into()), "400 invalid resource version \"x\""),
        (
            WEB,
            with("metadata.uid", "x".into()),
            "409 Operation cannot be fulfilled on deployments.apps \"web\": Precondition failed: UID in precondition: x",
        ),
        (
            WEB,
            with("metadata.creationTimestamp", "2020-01-01T00:00:00Z".into()),
            "422 Deployment.apps \"web\" is invalid: metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable",
        ),
        (WEB, with("spec.selector.matchLabels", json!({"a":"c"})), "422 Deployment.apps \"web\" is invalid: ["),
        (
            WEB,
            with("spec.replicas", json!(-1)),
            "422 Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be",
        ),
    ] {
        let got = error(c.update(what, object));
        assert!(got.starts_with(want), "{what}\n got {got}\nwant {want}");
    }
}

#[test]
fn removing_the_last_finalizer_deletes() {
    let mut c = Cluster::new();
    c.create("configmaps default/", json!({"metadata":{"name":"a","finalizers":["x.io/a","x.io/b"]}})).unwrap();
    let (code, v) = c.delete("configmaps default/a").unwrap();
    assert_eq!((code, v["kind"].as_str()), (200, Some("ConfigMap")));
    assert_eq!(v["metadata"]["deletionTimestamp"], c.now.rfc3339());
    let got = error(c.patch(
        PatchType::Merge,
        "configmaps default/a",
        json!({"metadata":{"finalizers":["x.io/a","x.io/c"]}}),
    ));
    assert!(got.contains("no new finalizers can be added if the object is being deleted"), "{got}");
    c.patch(PatchType::Merge, "configmaps default/a", json!({"metadata":{"finalizers":["x.io/b"]}})).unwrap();
    assert!(c.find("configmaps default/a").is_some());
    let (code, v) = c.patch(PatchType::Merge, "configmaps default/a", json!({"metadata":{"finalizers":null}})).unwrap();
    assert_eq!((code, v["metadata"]["name"].as_str()), (200, Some("a")));
    assert!(c.find("configmaps default/a").is_none());
}

#[test]
fn a_scale_shows_and_sets_the_replicas() {
    let mut c = cluster();
    let scale = format!("{WEB} scale");
    let req = crate::testing::request(copepod_model::Verb::Get, &scale);
    let mut v = c.registry.get_scale(&c.tables, &req).unwrap();
    assert_eq!((v["kind"].as_str(), v["spec"]["replicas"].as_i64()), (Some("Scale"), Some(2)));
    assert_eq!(v["status"]["selector"], "a=b");
    v["spec"]["replicas"] = 7.into();
    let (code, v) = c.update(&scale, v).unwrap();
    assert_eq!((code, v["spec"]["replicas"].as_i64()), (200, Some(7)));
    assert_eq!(v["metadata"]["resourceVersion"], c.tables.revision().to_string());
    let d = c.value(WEB);
    assert_eq!((d["spec"]["replicas"].as_i64(), d["metadata"]["generation"].as_i64()), (Some(7), Some(2)));
    let (_, v) = c.patch(PatchType::Merge, &scale, json!({"spec":{"replicas":0}})).unwrap();
    assert_eq!(v["spec"]["replicas"], 0);
    let got = error(c.patch(PatchType::Merge, &scale, json!({"spec":{"replicas":-1}})));
    assert_eq!(
        got,
        "422 Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let stale = json!({"metadata":{"name":"web","resourceVersion":"1"},"spec":{"replicas":1}});
    assert!(error(c.update(&scale, stale)).starts_with("409 "));
}

#[test]
fn a_pod_is_bound_once() {
    let mut c = Cluster::new();
    c.create("pods default/", pod("p")).unwrap();
    let binding = "pods default/p binding";
    for (object, want) in [
        (json!({"target":{}}), "422 Binding \"\" is invalid: target.name: Required value"),
        (
            json!({"target":{"kind":"Pod","name":"n"}}),
            "422 Binding \"\" is invalid: target.kind: Unsupported value: \"Pod\"",
        ),
        (
            json!({"metadata":{"uid":"x"},"target":{"name":"n"}}),
            "409 Operation cannot be fulfilled on pods/binding \"p\": Precondition",
        ),
    ] {
        let got = error(c.create(binding, object));
        assert!(got.starts_with(want), "{got}");
    }
    let (code, v) = c
        .create(binding, json!({"metadata":{"name":"p","annotations":{"a":"b"}},"target":{"kind":"Node","name":"n1"}}))
        .unwrap();
    assert_eq!((code, v["status"].as_str()), (201, Some("Success")));
    let p = c.value("pods default/p");
    assert_eq!(p["spec"]["nodeName"], "n1");
    assert_eq!(p["metadata"]["annotations"]["a"], "b");
    let conditions = p["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|x| x["type"] == "PodScheduled" && x["status"] == "True"), "{conditions:?}");
    assert_eq!(
        error(c.create(binding, json!({"target":{"name":"n2"}}))),
        "409 Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(error(c.create("pods default/q binding", json!({"target":{"name":"n"}}))), "404 pods \"q\" not found");
}

#[test]
fn a_binding_of_its_own_does_the_same() {
    let mut c = Cluster::new();
    c.create("pods default/", pod("p")).unwrap();
    let bindings = "bindings default/";
    let named = |name: &str| json!({"metadata":{"name":name},"target":{"kind":"Node","name":"n1"}});
    for (object, want) in [
        (json!({"target":{"name":"n"}}), "400 Name parameter required."),
        (
            json!({"metadata":{"name":"p","namespace":"kube-system"},"target":{"name":"n"}}),
            "400 the namespace of the provided object does not match the namespace sent on the request",
        ),
        (json!({"metadata":{"name":"p"},"target":{}}), "422 Binding \"p\" is invalid: target.name: Required value"),
        (named("q"), "404 pods \"q\" not found"),
    ] {
        assert_eq!(error(c.create(bindings, object)), want);
    }
    let (code, v) = c.create(bindings, named("p")).unwrap();
    assert_eq!((code, v["status"].as_str()), (201, Some("Success")));
    assert_eq!(c.value("pods default/p")["spec"]["nodeName"], "n1");
    assert_eq!(
        error(c.create(bindings, named("p"))),
        "409 Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(c.registry.list(&c.tables, &request(Verb::List, bindings)).unwrap_err().code, 405);
    assert_eq!(c.delete("bindings default/p").unwrap_err().code, 405);
}
