use serde_json::{Value, json};

use super::Set;
use super::walk::{self, compare};
use crate::adapt;
use copepod_model::schema::Schema;

fn set(v: Value) -> Set {
    Set::from_json(&v)
}

#[test]
fn sets_survive_json_and_print_as_upstream() {
    let v = json!({"f:metadata":{"f:labels":{".":{},"f:app":{}}},
        "f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}},"f:finalizers":{"v:\"x\"":{}}}});
    let s = set(v.clone());
    assert_eq!(s.to_json(), v);
    assert_eq!(
        s.paths(),
        [
            ".metadata.labels",
            ".metadata.labels.app",
            ".spec.containers[name=\"a\"]",
            ".spec.containers[name=\"a\"].image",
            ".spec.finalizers[=\"x\"]",
        ]
    );
}

#[test]
fn sets_add_subtract_and_intersect() {
    let a = set(json!({"f:a":{},"f:b":{".":{},"f:c":{},"f:d":{}}}));
    let b = set(json!({"f:b":{"f:c":{}},"f:e":{}}));
    let mut sum = a.clone();
    sum.union(&b);
    assert_eq!(sum.to_json(), json!({"f:a":{},"f:b":{".":{},"f:c":{},"f:d":{}},"f:e":{}}));
    let mut rest = a.clone();
    rest.subtract(&b);
    assert_eq!(rest.to_json(), json!({"f:a":{},"f:b":{".":{},"f:d":{}}}));
    assert_eq!(a.common(&b).to_json(), json!({"f:b":{"f:c":{}}}));
    let mut none = a.clone();
    none.subtract(&set(json!({"f:a":{},"f:b":{}})));
    assert!(none.is_empty(), "a leaf takes along what is below it");
}

#[test]
fn differences_are_found_field_by_field() {
    let schema = Schema::builtin();
    let root = adapt::root(schema.lookup("apps/v1", "Deployment"));
    let old = json!({"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}}}});
    let new = json!({"metadata":{"labels":{"x":"y"}},
        "spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c","image":"i"},{"name":"a","image":"j","args":["x"]}]}}}});
    let diff = compare(schema, root, Some(&old), Some(&new));
    let containers = |v: Value| json!({"f:template":{"f:spec":{"f:containers":v}}});
    assert_eq!(
        diff.changed.to_json(),
        json!({"f:metadata":{"f:labels":{".":{},"f:x":{}}}, "f:spec": containers(json!({
            "k:{\"name\":\"a\"}":{"f:args":{},"f:image":{}}, "k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}))})
    );
    assert_eq!(
        diff.removed.to_json(),
        json!({"f:spec": containers(json!({"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}))})
    );
    assert_eq!(compare(schema, root, Some(&old), Some(&old)), Default::default());
}

#[test]
fn what_an_object_names_is_all_of_it() {
    let schema = Schema::builtin();
    let root = adapt::root(schema.lookup("v1", "Pod"));
    let v = json!({"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","ports":[{"containerPort":1}]}],
        "volumes":[{"name":"v","emptyDir":{}}]}});
    assert_eq!(
        walk::named(schema, root, &v).to_json(),
        json!({"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{
            "f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},
                "f:ports":{"k:{\"containerPort\":1,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},
            "f:volumes":{"k:{\"name\":\"v\"}":{".":{},"f:emptyDir":{},"f:name":{}}}}})
    );
}

#[test]
fn what_others_keep_is_not_taken_away() {
    let schema = Schema::builtin();
    let root = adapt::root(schema.lookup("v1", "ConfigMap"));
    let mut v = json!({"metadata":{"labels":{"a":"b"}},"data":{"x":"1","y":"2"}});
    let gone = set(json!({"f:metadata":{"f:labels":{"f:a":{}}},"f:data":{"f:x":{},"f:y":{}}}));
    walk::take_away(schema, root, &mut v, &gone, &set(json!({"f:data":{"f:y":{}}})));
    assert_eq!(v, json!({"data":{"y":"2"}}));
}
