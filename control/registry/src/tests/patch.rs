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
