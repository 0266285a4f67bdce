use proptest::prelude::*;
use serde_json::{Value, json};

use super::walk::{self, Diff, compare};
use super::{Set, managers};
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
    let mut below = a.clone();
    below.subtract(&set(json!({"f:a":{},"f:b":{}})));
    assert_eq!(below.to_json(), json!({"f:b":{"f:c":{},"f:d":{}}}), "a place goes alone, as upstream");
}

#[test]
fn differences_are_found_field_by_field() {
    let schema = Schema::builtin();
    let root = adapt::root(schema.lookup("apps/v1", "Deployment"));
    let old = json!({"metadata":{},"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}}}});
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

#[test]
fn items_that_are_the_same_by_their_keys_count_together() {
    let schema = Schema::builtin();
    let root = adapt::root(schema.lookup("v1", "Pod"));
    let pod = |env: Value| json!({"spec":{"containers":[{"name":"c","env":env}]}});
    let (a, b) = (json!({"name":"x","value":"1"}), json!({"name":"x","value":"2"}));
    let at = |set: &Set| set.to_json()["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"].clone();
    let key = "k:{\"name\":\"x\"}";
    let (alone, full) = (json!({key: {}}), json!({key: {".":{},"f:name":{},"f:value":{}}}));
    let (one, two, swapped) = (pod(json!([a])), pod(json!([a, b])), pod(json!([b, a])));
    for (old, new, changed, removed) in [
        (&one, &two, alone.clone(), full.clone()),
        (&two, &one, full, alone.clone()),
        (&two, &swapped, alone.clone(), Value::Null),
        (&pod(json!([])), &two, alone.clone(), Value::Null),
        (&two, &pod(json!([{"name":"y"}])), json!({"k:{\"name\":\"y\"}": {".":{},"f:name":{}}}), alone.clone()),
    ] {
        let diff = compare(schema, root, Some(old), Some(new));
        assert_eq!((at(&diff.changed), at(&diff.removed)), (changed, removed), "{old} {new}");
    }
    assert_eq!(at(&walk::named(schema, root, &two)), alone);
}

/// Objects with some of the shapes that there are: maps, lists with keys, sets, structs and what is owned as a whole.
fn pods() -> impl Strategy<Value = Value> {
    let map = || proptest::option::of(prop::collection::btree_map("[ab]", "[12]", 0..3));
    let container = ("[abc]", "[ij]", proptest::option::of("[st]"), proptest::option::of(1..3u32));
    let containers = prop::collection::vec(container, 1..4);
    (map(), map(), containers, prop::collection::btree_set("[fgh]", 0..3)).prop_map(|(labels, selector, list, set)| {
        let containers: Vec<Value> = list
            .into_iter()
            .map(|(name, image, arg, port)| {
                json!({"name": name, "image": image, "args": arg.map(|a| [a]),
                    "ports": port.map(|p| json!([{"containerPort": p}]))})
            })
            .collect();
        let mut pod = json!({"metadata": {"labels": labels, "finalizers": set},
            "spec": {"nodeSelector": selector, "containers": containers}});
        let schema = Schema::builtin();
        let ty = schema.lookup("v1", "Pod");
        adapt::normalise(schema, ty, &mut pod);
        adapt::complete(schema, ty, &mut pod);
        pod
    })
}

proptest! {
    #[test]
    fn whoever_makes_an_object_step_by_step_owns_what_it_names(all in prop::collection::vec(pods(), 1..5)) {
        let schema = Schema::builtin();
        let root = adapt::root(schema.lookup("v1", "Pod"));
        let mut empty = json!({});
        adapt::complete(schema, schema.lookup("v1", "Pod"), &mut empty);
        let mut old = empty.clone();
        let mut owned = Set::default();
        for new in all {
            let Diff { changed, removed } = compare(schema, root, Some(&old), Some(&new));
            let back = compare(schema, root, Some(&new), Some(&old));
            prop_assert_eq!(back.removed.paths().len() + back.changed.paths().len(),
                changed.paths().len() + removed.paths().len(), "the way back is as long");
            owned.subtract(&removed);
            owned.union(&changed);
            let mut missing = walk::named(schema, root, &new);
            missing.subtract(&owned);
            missing.subtract(&walk::named(schema, root, &empty));
            prop_assert!(missing.is_empty(), "{:?} is nobody's in {}", missing.paths(), new);
            old = new;
        }
    }

    #[test]
    fn what_is_stored_is_looked_at_as_if_it_were_read(held in sets(), other in sets()) {
        let stored = held.to_json();
        let (mut rest, mut sum) = (held.clone(), held.clone());
        rest.subtract(&other);
        sum.union(&other);
        prop_assert_eq!(managers::touches(&stored, &other), rest != held, "{:?} {:?}", held, other);
        prop_assert_eq!(managers::holds(&stored, &other), sum == held, "{:?} {:?}", held, other);
    }
}

/// Sets with places of few names, as an object's fields have them: what has nothing below it is a member.
fn sets() -> impl Strategy<Value = Set> {
    let leaf = Just(Set::leaf());
    let all = leaf.prop_recursive(3, 20, 3, |below| {
        (any::<bool>(), prop::collection::btree_map("f:[abc]", below, 1..4)).prop_map(|(member, children)| Set {
            member,
            children: children.into_iter().map(|(name, child)| (name.into(), child)).collect(),
        })
    });
    all.prop_map(|set| Set { member: false, ..set })
}
