use copepod_model::Verb;
use copepod_model::request::{Body, FieldValidation, PatchType};
use serde_json::{Value, json};

use crate::testing::{Cluster, Seen, deployment, error, request};

const WEB: &str = "deployments.apps default/web";

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    c.create("deployments.apps default/", deployment("web")).unwrap();
    c
}

#[test]
fn each_format_merges_in_its_own_way() {
    let mut c = cluster();
    let containers = json!({"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"}]}}}});
    let (_, v) = c.patch(PatchType::Strategic, WEB, containers.clone()).unwrap();
    let names = |v: &Value| -> Vec<String> {
        let all = v["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        all.iter().map(|c| c["name"].as_str().unwrap().to_string()).collect()
    };
    let mut got = names(&v);
    got.sort();
    assert_eq!(got, ["c", "d"]);
    let (_, v) = c.patch(PatchType::Merge, WEB, containers).unwrap();
    assert_eq!(names(&v), ["d"]);
    let (_, v) = c.patch(PatchType::Json, WEB, json!([{"op":"replace","path":"/spec/replicas","value":6}])).unwrap();
    assert_eq!(v["spec"]["replicas"], 6);
    assert_eq!(v["metadata"]["generation"], 4);
    // As controllers do that add the first finalizer.
    let first = json!([{"op":"test","path":"/metadata/finalizers","value":null},
        {"op":"add","path":"/metadata/finalizers","value":["example.com/f"]}]);
    let (_, v) = c.patch(PatchType::Json, WEB, first.clone()).unwrap();
    assert_eq!(v["metadata"]["finalizers"], json!(["example.com/f"]));
    assert!(error(c.patch(PatchType::Json, WEB, first)).starts_with("422"), "there is one");
}

#[test]
fn a_patch_cannot_grow_without_end() {
    let mut c = cluster();
    let double = |i: usize| json!({"op":"copy","from":"/metadata","path":format!("/metadata/x{i}")});
    let all: Vec<Value> = (0..100).map(double).collect();
    let rejected = "422 the server rejected our request due to an error in our request";
    assert_eq!(error(c.patch(PatchType::Json, WEB, all.into())), rejected);
}

#[test]
fn bad_patches_get_upstreams_errors() {
    let mut c = cluster();
    let rejected = "422 the server rejected our request due to an error in our request";
    for (format, what, patch, want) in [
        (PatchType::Json, WEB, json!([{"op":"test","path":"/spec/replicas","value":7}]), rejected),
        (PatchType::Json, WEB, json!([{"op":"remove","path":"/nope"}]), rejected),
        // A field that is absent is null; what is in it, or at a place in a list, is not.
        (PatchType::Json, WEB, json!([{"op":"test","path":"/nope","value":1}]), rejected),
        (PatchType::Json, WEB, json!([{"op":"test","path":"/nope/a","value":null}]), rejected),
        (PatchType::Json, WEB, json!([{"op":"test","path":"/spec/template/spec/containers/9","value":null}]), rejected),
        (PatchType::Json, WEB, json!([{"op":"test","path":"/spec/replicas","value":null}]), rejected),
        (
            PatchType::Json,
            WEB,
            json!({"op":"remove"}),
            "400 json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
        (
            PatchType::Json,
            WEB,
            json!([1]),
            "400 json: cannot unmarshal number into Go value of type jsonpatch.Operation",
        ),
        (
            PatchType::Merge,
            WEB,
            json!([]),
            "400 error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (PatchType::Merge, "deployments.apps default/nope", json!({}), "404 deployments.apps \"nope\" not found"),
        (PatchType::Merge, WEB, json!({"metadata":{"name":"x"}}), "400 the name of the object (x) does not match"),
        (PatchType::Merge, WEB, json!({"metadata":{"uid":"x"}}), "409 Operation cannot be fulfilled"),
        (PatchType::Merge, WEB, json!({"metadata":{"resourceVersion":"1"}}), "409 Operation cannot be fulfilled"),
        (PatchType::Merge, WEB, json!({"kind":"Pod"}), "400 the kind in the data (Pod) does not match"),
        (PatchType::Merge, WEB, json!({"spec":{"replicas":"many"}}), "422  \"\" is invalid: patch: Invalid value: "),
        (PatchType::Merge, WEB, json!({"spec":null}), "422 Deployment.apps \"web\" is invalid: "),
    ] {
        let got = error(c.patch(format, what, patch.clone()));
        assert!(got.starts_with(want), "{patch}\n got {got}\nwant {want}");
    }
    let mut req = request(Verb::Patch, WEB);
    req.field_validation = FieldValidation::Strict;
    req.body = Body::Patch(PatchType::Merge, json!({"spec":{"foo":1}}));
    let got = error(c.send(&req));
    assert!(got.contains("strict decoding error: unknown field \"spec.foo\""), "{got}");
}

#[test]
fn a_status_patch_changes_the_status_alone() {
    let mut c = cluster();
    let patch = json!({"spec":{"replicas":9},"status":{"readyReplicas":1,"replicas":1}});
    let (_, v) = c.patch(PatchType::Strategic, &format!("{WEB} status"), patch).unwrap();
    assert_eq!((v["spec"]["replicas"].as_i64(), v["status"]["readyReplicas"].as_i64()), (Some(2), Some(1)));
}

fn apply(c: &mut Cluster, manager: &str, force: bool, what: &str, config: Value) -> Seen {
    let mut req = request(Verb::Patch, what);
    req.field_manager = manager.into();
    req.force = force;
    req.body = Body::Patch(PatchType::Apply, config);
    c.send(&req)
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":data})
}

#[test]
fn apply_creates_merges_and_takes_away() {
    let mut c = Cluster::new();
    let what = "configmaps default/a";
    let (code, v) = apply(&mut c, "one", false, what, config_map(json!({"x":"1","y":"2"}))).unwrap();
    assert_eq!(code, 201);
    assert_eq!(v["metadata"]["managedFields"][0]["operation"], "Apply");
    assert_eq!(v["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data":{"f:x":{},"f:y":{}}}));
    let (code, v) = apply(&mut c, "two", false, what, config_map(json!({"y":"2","z":"3"}))).unwrap();
    assert_eq!((code, v["data"].clone()), (200, json!({"x":"1","y":"2","z":"3"})));
    let revision = c.tables.revision();
    apply(&mut c, "two", false, what, config_map(json!({"y":"2","z":"3"}))).unwrap();
    assert_eq!(c.tables.revision(), revision, "the same again is not written");
    // One gives up both: x goes, y stays with two.
    let (_, v) = apply(&mut c, "one", false, what, config_map(json!({}))).unwrap();
    assert_eq!(v["data"], json!({"y":"2","z":"3"}));
    let got = error(apply(&mut c, "one", false, what, config_map(json!({"y":"9"}))));
    assert_eq!(got, "409 Apply failed with 1 conflict: conflict with \"two\": .data.y");
    let many = apply(&mut c, "one", false, what, config_map(json!({"y":"9","z":"9"}))).unwrap_err();
    assert_eq!(many.message, "Apply failed with 2 conflicts: conflicts with \"two\":\n- .data.y\n- .data.z");
    assert_eq!(many.details.unwrap().causes[1].field, ".data.z");
    let (_, v) = apply(&mut c, "one", true, what, config_map(json!({"y":"9"}))).unwrap();
    assert_eq!(v["data"]["y"], "9");
    // Two has lost y, so that going on without it takes nothing away.
    let (_, v) = apply(&mut c, "two", false, what, config_map(json!({"z":"3"}))).unwrap();
    assert_eq!(v["data"], json!({"y":"9","z":"3"}));
}

#[test]
fn apply_knows_items_by_their_keys() {
    let mut c = cluster();
    let config = |containers: Value| {
        json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},
            "spec":{"template":{"spec":{"containers":containers}}}})
    };
    let got = error(apply(&mut c, "me", false, WEB, config(json!([{"name":"c","image":"new"}]))));
    assert!(
        got.starts_with("409 Apply failed with 1 conflict: conflict with \"test\" using apps/v1: ")
            && got.ends_with(".spec.template.spec.containers[name=\"c\"].image"),
        "{got}"
    );
    let (_, v) =
        apply(&mut c, "me", false, WEB, config(json!([{"name":"d","image":"i","ports":[{"containerPort":80}]}])))
            .unwrap();
    let containers = v["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    let mine = v["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["manager"] == "me").unwrap();
    let d = &mine["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"d\"}"];
    assert_eq!(d["."], json!({}));
    assert!(d["f:ports"].get("k:{\"containerPort\":80,\"protocol\":\"TCP\"}").is_some(), "{d}");
    let (_, v) = apply(&mut c, "me", false, WEB, config(json!([]))).unwrap();
    assert_eq!(v["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
}

#[test]
fn bad_applies_are_refused() {
    let mut c = Cluster::new();
    let what = "configmaps default/a";
    let mut managed = config_map(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager":"x"}]);
    let mut with_uid = config_map(json!({}));
    with_uid["metadata"]["uid"] = "x".into();
    let mut unknown = config_map(json!({}));
    unknown["foo"] = 1.into();
    for (manager, config, want) in [
        (
            "",
            config_map(json!({})),
            "422 PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        ("m", managed, "400 metadata.managedFields must be nil"),
        ("m", with_uid, "409 Operation cannot be fulfilled on configmaps \"a\": uid mismatch"),
        (
            "m",
            unknown,
            "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"",
        ),
        ("m", json!({"metadata":{"name":"a"}}), "400 the applied object must be of apiVersion \"v1\""),
        (
            "m",
            json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}),
            "400 the name of the object (b) does not match",
        ),
    ] {
        let got = error(apply(&mut c, manager, false, what, config.clone()));
        assert!(got.starts_with(want), "{config}\n got {got}\nwant {want}");
    }
}

/// What an entry says: its operation, subresource and fields; null if the manager has none.
fn entry(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut mine = entries.filter(|e| e["manager"] == manager);
    mine.next().map_or(Value::Null, |e| json!([e["operation"], e["subresource"], e["fieldsV1"]]))
}

#[test]
fn a_scale_is_applied_to_by_the_owners_of_the_replicas() {
    let mut c = cluster();
    let scale = format!("{WEB} scale");
    let scale = scale.as_str();
    let config = |replicas: i64| json!({"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":replicas}});
    let whole = |replicas: i64| json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":replicas}});
    let owned = json!(["Apply", "scale", {"f:spec":{"f:replicas":{}}}]);
    let got = error(apply(&mut c, "hpa", false, scale, config(5)));
    assert_eq!(got, "409 Apply failed with 1 conflict: conflict with \"test\" using autoscaling/v1: .spec.replicas");
    assert_eq!(c.value(WEB)["spec"]["replicas"], 2);
    // What is so already both have.
    let (code, v) = apply(&mut c, "hpa", false, scale, config(2)).unwrap();
    assert_eq!((code, &v["kind"], &v["spec"]), (200, &json!("Scale"), &json!({"replicas":2})));
    let d = c.value(WEB);
    assert_eq!(entry(&d, "hpa"), owned);
    assert!(entry(&d, "test")[2]["f:spec"].get("f:replicas").is_some());
    let (_, v) = apply(&mut c, "hpa", true, scale, config(5)).unwrap();
    assert_eq!(v["spec"]["replicas"], 5);
    let d = c.value(WEB);
    assert_eq!((&d["spec"]["replicas"], &d["metadata"]["generation"]), (&json!(5), &json!(2)));
    assert_eq!(entry(&d, "hpa"), owned);
    assert!(entry(&d, "test")[2]["f:spec"].get("f:replicas").is_none());
    // Its own it changes; others see whose it is.
    apply(&mut c, "hpa", false, scale, config(6)).unwrap();
    let got = error(apply(&mut c, "me", false, WEB, whole(9)));
    let want = "409 Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\": .spec.replicas";
    assert_eq!(got, want);
    assert_eq!(error(apply(&mut c, "other", false, scale, config(9))), want);
    apply(&mut c, "me", true, WEB, whole(9)).unwrap();
    assert_eq!(entry(&c.value(WEB), "hpa"), Value::Null);
    let got = error(apply(&mut c, "hpa", false, scale, config(6)));
    assert_eq!(got, "409 Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");
    // Whoever gives it up while another has it changes nothing.
    apply(&mut c, "hpa", false, scale, config(9)).unwrap();
    let nothing = json!({"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"}});
    let (_, v) = apply(&mut c, "hpa", false, scale, nothing).unwrap();
    assert_eq!(v["spec"]["replicas"], 9);
    assert_eq!(entry(&c.value(WEB), "hpa"), Value::Null);
}

#[test]
fn bad_applies_to_a_scale_are_refused() {
    let mut c = cluster();
    let scale = format!("{WEB} scale");
    let scale = scale.as_str();
    let config = |more: Value| {
        let mut config = json!({"apiVersion":"autoscaling/v1","kind":"Scale","spec":{"replicas":2}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (manager, what, config, want) in [
        (
            "",
            scale,
            config(json!({})),
            "422 PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "m",
            scale,
            config(json!({"kind":"Deployment"})),
            "400 the applied object must be of apiVersion \"autoscaling/v1\"",
        ),
        ("m", scale, config(json!({"metadata":{"name":"b"}})), "400 the name of the object (b) does not match"),
        (
            "m",
            scale,
            config(json!({"foo":1})),
            "400 Scale in version \"v1\" cannot be handled as a Scale: strict decoding error: unknown field \"foo\"",
        ),
        ("m", scale, config(json!({"metadata":{"resourceVersion":"1"}})), "409 Operation cannot be fulfilled"),
        ("m", "deployments.apps default/none scale", config(json!({})), "404 deployments.apps \"none\" not found"),
    ] {
        let got = error(apply(&mut c, manager, false, what, config.clone()));
        assert!(got.starts_with(want), "{config}\n got {got}\nwant {want}");
    }
    let negative = config(json!({"spec":{"replicas":-1}}));
    let got = error(apply(&mut c, "m", true, scale, negative));
    assert!(got.starts_with("422 Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1"), "{got}");
    // Nobody keeps account: it was there before.
    c.patch(PatchType::Merge, WEB, json!({"metadata":{"managedFields":[{}]}})).unwrap();
    assert_eq!(c.value(WEB)["metadata"].get("managedFields"), None);
    let other = config(json!({"spec":{"replicas":3}}));
    let got = error(apply(&mut c, "m", false, scale, other.clone()));
    let who = "\"before-first-apply\" using autoscaling/v1";
    assert_eq!(got, format!("409 Apply failed with 1 conflict: conflict with {who}: .spec.replicas"));
    apply(&mut c, "m", false, scale, config(json!({}))).unwrap();
    let d = c.value(WEB);
    let owned = json!({"f:spec":{"f:replicas":{}}});
    assert_eq!(entry(&d, "before-first-apply"), json!(["Update", null, owned]));
    assert_eq!(entry(&d, "m"), json!(["Apply", "scale", owned]));
    let (_, v) = apply(&mut c, "m", true, scale, other).unwrap();
    assert_eq!(v["spec"]["replicas"], 3);
    assert_eq!(entry(&c.value(WEB), "before-first-apply"), Value::Null);
}

#[test]
fn a_status_is_applied_to_apart_from_the_rest() {
    let mut c = cluster();
    let status = &format!("{WEB} status");
    c.patch(PatchType::Merge, status, json!({"status":{"replicas":2,"readyReplicas":1}})).unwrap();
    let config = |ready: i64| {
        json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"not":"here"}},
            "spec":{"replicas":9},"status":{"readyReplicas":ready}})
    };
    let got = error(apply(&mut c, "me", false, status, config(2)));
    let who = "\"test\" with subresource \"status\" using apps/v1";
    assert_eq!(got, format!("409 Apply failed with 1 conflict: conflict with {who}: .status.readyReplicas"));
    assert_eq!(c.value(WEB)["status"]["readyReplicas"], 1);
    // What is so already is no conflict.
    apply(&mut c, "me", false, status, config(1)).unwrap();
    let (code, v) = apply(&mut c, "me", true, status, config(2)).unwrap();
    assert_eq!((code, &v["status"]["readyReplicas"], &v["spec"]["replicas"]), (200, &json!(2), &json!(2)));
    assert_eq!((&v["metadata"]["generation"], v["metadata"]["labels"].get("not")), (&json!(1), None));
    assert_eq!(entry(&v, "me"), json!(["Apply", "status", {"f:status":{"f:readyReplicas":{}}}]));
    let entries = v["metadata"]["managedFields"].as_array().unwrap();
    let others = entries.iter().find(|e| e["manager"] == "test" && e["subresource"] == "status").unwrap();
    assert_eq!(others["fieldsV1"], json!({"f:status":{"f:replicas":{}}}));
    // By another way the same manager is another one.
    let got = error(apply(&mut c, "you", false, status, config(1)));
    let want = "conflict with \"me\" with subresource \"status\": .status.readyReplicas";
    assert_eq!(got, format!("409 Apply failed with 1 conflict: {want}"));
    let none = error(apply(&mut c, "me", false, "deployments.apps default/none status", config(1)));
    assert!(none.starts_with("400 the name of the object (web) does not match"), "{none}");
}

#[test]
fn an_object_of_a_structural_schema_is_applied_to() {
    let mut c = Cluster::new();
    let what = "httproutes.gateway.networking.k8s.io default/r";
    let config = |spec: Value| json!({"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r"},"spec":spec});
    let rules = json!([{"backendRefs":[{"name":"s","port":80}]}]);
    let first = config(json!({"hostnames":["a.example"],"rules":rules}));
    let (code, v) = apply(&mut c, "one", false, what, first.clone()).unwrap();
    assert_eq!(code, 201);
    assert_eq!(v["spec"]["rules"][0]["backendRefs"][0]["kind"], "Service", "defaults are there");
    let owned = |fields: Value| json!(["Apply", null, {"f:spec":fields}]);
    assert_eq!(entry(&v, "one"), owned(json!({"f:hostnames":{},"f:rules":{}})), "and nobody's");
    let revision = c.tables.revision();
    apply(&mut c, "one", false, what, first).unwrap();
    assert_eq!(c.tables.revision(), revision, "the same again is not written");
    // Its lists are atomic: another item is another list.
    let got = error(apply(&mut c, "two", false, what, config(json!({"hostnames":["a.example","b.example"]}))));
    assert_eq!(got, "409 Apply failed with 1 conflict: conflict with \"one\": .spec.hostnames");
    let (_, v) = apply(&mut c, "two", false, what, config(json!({"parentRefs":[{"name":"g"}]}))).unwrap();
    assert_eq!((&v["spec"]["parentRefs"][0]["name"], &v["spec"]["hostnames"]), (&json!("g"), &json!(["a.example"])));
    let (_, v) = apply(&mut c, "two", true, what, config(json!({"hostnames":["b.example"]}))).unwrap();
    assert_eq!((&v["spec"]["hostnames"], v["spec"].get("parentRefs")), (&json!(["b.example"]), None));
    assert_eq!(entry(&v, "one"), owned(json!({"f:rules":{}})));
    assert_eq!(entry(&v, "two"), owned(json!({"f:hostnames":{}})));
    for (spec, want) in [
        (
            json!({"nope":1}),
            "400 HTTPRoute in version \"v1\" cannot be handled as a HTTPRoute: strict decoding error: ",
        ),
        (
            json!({"rules":[{"backendRefs":[{"name":"s","port":0}]}]}),
            "422 HTTPRoute.gateway.networking.k8s.io \"r\" is invalid: ",
        ),
    ] {
        let got = error(apply(&mut c, "one", true, what, config(spec.clone())));
        assert!(got.starts_with(want), "{spec}\n got {got}\nwant {want}");
    }
}
