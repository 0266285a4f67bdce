use serde_json::{Value, json};

use super::*;

fn pod(target: Value, patch: Value) -> Result<Value, String> {
    Schema::builtin().strategic_merge(ty("v1", "Pod"), &target, &patch).map_err(|e| e.to_string())
}

fn spec(target: Value, patch: Value) -> Value {
    pod(json!({"spec":target}), json!({"spec":patch})).unwrap()["spec"].take()
}

#[test]
fn lists_merge_by_their_keys() {
    for (target, patch, want) in [
        // Elements merge, new ones come first as upstream orders them.
        (
            json!({"containers":[{"name":"a","image":"1"},{"name":"b"}]}),
            json!({"containers":[{"name":"a","image":"2"},{"name":"c"}]}),
            json!({"containers":[{"name":"a","image":"2"},{"name":"c"},{"name":"b"}]}),
        ),
        (
            json!({"containers":[{"name":"a"},{"name":"b"}]}),
            json!({"containers":[{"name":"a","$patch":"delete"}]}),
            json!({"containers":[{"name":"b"}]}),
        ),
        (
            json!({"containers":[{"name":"a"},{"name":"b"}]}),
            json!({"containers":[{"name":"c"},{"$patch":"replace"}]}),
            json!({"containers":[{"name":"c"}]}),
        ),
        // Atomic lists are replaced.
        (
            json!({"tolerations":[{"key":"a"}]}),
            json!({"tolerations":[{"key":"b"}]}),
            json!({"tolerations":[{"key":"b"}]}),
        ),
        (
            json!({"containers":[{"name":"a","args":["x"],"ports":[{"containerPort":1,"name":"p"}]}]}),
            json!({"containers":[{"name":"a","args":["y"],"ports":[{"containerPort":1,"name":"q"},{"containerPort":2}]}]}),
            json!({"containers":[{"name":"a","args":["y"],"ports":[{"containerPort":1,"name":"q"},{"containerPort":2}]}]}),
        ),
        // Order by directive.
        (
            json!({"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}),
            json!({"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"c","image":"1"}]}),
            json!({"containers":[{"name":"b"},{"name":"c","image":"1"},{"name":"a"}]}),
        ),
        // null deletes, a null in what is new is dropped.
        (
            json!({"nodeName":"n","containers":[{"name":"a","image":"1"}]}),
            json!({"nodeName":null,"containers":[{"name":"a","image":null}],"securityContext":{"fsGroup":null,"runAsUser":1}}),
            json!({"containers":[{"name":"a"}],"securityContext":{"runAsUser":1}}),
        ),
        (
            json!({"securityContext":{"fsGroup":1}}),
            json!({"securityContext":{"$patch":"replace","runAsUser":1}}),
            json!({"securityContext":{"runAsUser":1}}),
        ),
        (
            json!({"securityContext":{"fsGroup":1}}),
            json!({"securityContext":{"$patch":"delete"}}),
            json!({"securityContext":{}}),
        ),
        // retainKeys
        (
            json!({"volumes":[{"name":"v","emptyDir":{}}]}),
            json!({"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/"}}]}),
            json!({"volumes":[{"name":"v","hostPath":{"path":"/"}}]}),
        ),
    ] {
        assert_eq!(spec(target.clone(), patch.clone()), want, "{target} + {patch}");
    }
}

#[test]
fn metadata_merges() {
    let merged = pod(
        json!({"metadata":{"labels":{"a":"1","b":"2"},"finalizers":["x","y"]}}),
        json!({"metadata":{"labels":{"a":null,"c":"3"},"$deleteFromPrimitiveList/finalizers":["x"]}}),
    );
    assert_eq!(merged, Ok(json!({"metadata":{"labels":{"b":"2","c":"3"},"finalizers":["y"]}})));
    let merged = pod(json!({"metadata":{"finalizers":["x","y"]}}), json!({"metadata":{"finalizers":["z","x"]}}));
    assert_eq!(merged, Ok(json!({"metadata":{"finalizers":["z","x","y"]}})));
}

#[test]
fn errors_as_upstream() {
    for (target, patch, want) in [
        (
            json!({"spec":{"containers":[{"name":"a"}]}}),
            json!({"spec":{"containers":[{"image":"x"}]}}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"spec":{"nodeName":"a"}}),
            json!({"spec":{"$patch":"bogus"}}),
            "unknown patch type: bogus in map: map[$patch:bogus]",
        ),
        (
            json!({"spec":{"containers":[{"name":"a"}]}}),
            json!({"spec":{"containers":[{"$patch":"merge"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec":{"volumes":[{"name":"v"}]}}),
            json!({"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"emptyDir":{}}]}}),
            "invalid patch format of retainKeys",
        ),
        (json!({}), json!([]), "invalid JSON document"),
    ] {
        assert_eq!(pod(target, patch), Err(want.into()));
    }
}
