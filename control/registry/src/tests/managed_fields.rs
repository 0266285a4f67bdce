//! Who manages what, as clients say it themselves.

use copepod_machine::Time;
use copepod_model::Verb;
use copepod_model::request::{Body, PatchType};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, request};

const MAP: &str = "configmaps default/m";

/// A ConfigMap, and what it says of its managers.
fn map(data: Value, managed: Value) -> Value {
    json!({"metadata": {"name": "m", "managedFields": managed}, "data": data})
}

fn entry(manager: &str, fields: Value) -> Value {
    json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2020-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// Managers and their fields.
fn managers(object: &Value) -> Vec<(String, Value)> {
    let all = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    all.iter().map(|e| (e["manager"].as_str().unwrap().to_string(), e["fieldsV1"].clone())).collect()
}

fn managed(object: &Value) -> Value {
    json!(managers(object))
}

#[test]
fn a_new_object_keeps_what_others_manage_of_what_it_has_not() {
    let mut c = Cluster::new();
    let given = json!([
        entry("other", json!({"f:data": {"f:a": {}, "f:gone": {}}})),
        entry("of-a-version-that-there-is-not", json!({"f:data": {"f:gone": {}}})),
    ]);
    let mut object = map(json!({"a": "1"}), given);
    object["metadata"]["managedFields"][1]["apiVersion"] = "v9".into();
    let (_, v) = c.create("configmaps default/", object).unwrap();
    assert_eq!(managed(&v), json!([["other", {"f:data": {"f:gone": {}}}], ["test", {"f:data": {".": {}, "f:a": {}}}]]));
    assert_eq!(v["metadata"]["managedFields"][0]["time"], "2020-01-01T00:00:00Z");
}

#[test]
fn what_cannot_be_read_counts_as_nothing() {
    let mut c = Cluster::new();
    let good = || entry("other", json!({"f:data": {"f:gone": {}}}));
    let mut all = vec![json!([{"manager": "x"}]), json!([good(), {"operation": "Update"}]), json!(null)];
    for (field, value) in [("operation", "Delete"), ("apiVersion", ""), ("fieldsType", ""), ("fieldsType", "V2")] {
        let mut bad = good();
        bad[field] = value.into();
        all.push(json!([bad]));
    }
    all.push(json!([entry("other", json!({"data": {}}))]));
    for managed_fields in all {
        let mut object = map(json!({"a": "1"}), managed_fields.clone());
        object["metadata"]["name"] = "n".into();
        let (_, v) = c.create("configmaps default/", object).unwrap();
        assert_eq!(managers(&v).len(), 1, "{managed_fields}: {v}");
        c.delete("configmaps default/n").unwrap();
        // In an update the stored ones stay.
        c.create("configmaps default/", map(json!({"a": "1"}), json!(null))).unwrap();
        let before = c.tables.revision();
        let (_, v) = c.update(MAP, map(json!({"a": "1"}), managed_fields.clone())).unwrap();
        assert_eq!(managed(&v), json!([["test", {"f:data": {".": {}, "f:a": {}}}]]), "{managed_fields}");
        assert_eq!(c.tables.revision(), before);
        c.delete(MAP).unwrap();
    }
}

#[test]
fn what_can_be_read_is_validated() {
    let mut c = Cluster::new();
    let with = |field: &str, value: String| {
        let mut entry = entry("other", json!({"f:data": {"f:gone": {}}}));
        entry[field] = value.into();
        map(json!({"a": "1"}), json!([entry]))
    };
    let at = "422 ConfigMap \"m\" is invalid: metadata.managedFields[0]";
    for (object, want) in [
        (with("manager", "m".repeat(129)), format!("{at}.manager: Too long: may not be more than 128 bytes")),
        (with("subresource", "s".repeat(257)), format!("{at}.subresource: Too long: may not be more than 256 bytes")),
        (with("manager", "a\u{7}".into()), "invalid character U+0007 (at position 1)".into()),
    ] {
        let said = error(c.create("configmaps default/", object.clone()));
        assert!(said.starts_with(at) && said.ends_with(&want), "{said}");
        c.create("configmaps default/", map(json!({"a": "1"}), json!(null))).unwrap();
        assert_eq!(error(c.update(MAP, object)), said);
        c.delete(MAP).unwrap();
    }
}

#[test]
fn an_empty_list_or_an_empty_entry_forgets_who_manages() {
    let mut c = Cluster::new();
    for reset in [json!([]), json!([{}])] {
        c.create("configmaps default/", map(json!({"a": "1"}), json!(null))).unwrap();
        let before = c.tables.revision();
        let (_, v) = c.update(MAP, map(json!({"a": "1"}), reset.clone())).unwrap();
        assert_eq!((managed(&v), c.tables.revision()), (json!([]), before + 1), "{reset}");
        // From then on no account is kept, until somebody applies.
        let (_, v) = c.update(MAP, json!({"metadata": {"name": "m"}, "data": {"a": "2"}})).unwrap();
        assert_eq!(managed(&v), json!([]));
        let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"b": "1"}});
        let (_, v) = c.patch(PatchType::Apply, MAP, applied).unwrap();
        let all = managed(&v);
        assert_eq!(all[0], json!(["test", {"f:data": {"f:b": {}}}]));
        assert_eq!((&all[1][0], &all[1][1]["f:data"]["f:a"]), (&json!("before-first-apply"), &json!({})));
        for (patch, format) in [
            (json!({"metadata": {"managedFields": reset}}), PatchType::Merge),
            (json!([{"op": "replace", "path": "/metadata/managedFields", "value": reset}]), PatchType::Json),
        ] {
            let (_, v) = c.patch(format, MAP, patch).unwrap();
            assert_eq!(managed(&v), json!([]), "{reset}");
            let applied =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"b": "1"}});
            c.patch(PatchType::Apply, MAP, applied).unwrap();
        }
        c.delete(MAP).unwrap();
    }
}

#[test]
fn a_write_goes_on_from_the_managers_that_it_names() {
    let mut c = Cluster::new();
    c.create("configmaps default/", map(json!({"a": "1", "b": "1"}), json!(null))).unwrap();
    let told = json!([entry("other", json!({"f:data": {"f:a": {}, "f:b": {}}}))]);
    let mut req = request(Verb::Update, MAP);
    req.body = Body::Object(map(json!({"a": "1", "b": "2"}), told));
    let (_, v) = c.send(&req).unwrap();
    assert_eq!(managed(&v), json!([["other", {"f:data": {"f:a": {}}}], ["test", {"f:data": {"f:b": {}}}]]));
    // Nobody can give them away by a subresource.
    let pods = "pods default/p";
    c.create("pods default/", crate::testing::pod("p")).unwrap();
    let mut pod = c.value(pods);
    let before = managed(&pod);
    pod["metadata"]["managedFields"] = json!([]);
    pod["status"]["reason"] = "x".into();
    let (_, v) = c.update(&format!("{pods} status"), pod).unwrap();
    assert_eq!(managed(&v)[0], before[0]);
}

#[test]
fn other_times_alone_are_no_change() {
    let mut c = Cluster::new();
    let (_, stored) = c.create("configmaps default/", map(json!({"a": "1"}), json!(null))).unwrap();
    let mut same = stored.clone();
    same["metadata"]["managedFields"][0]["time"] = "2020-01-01T00:00:00Z".into();
    c.now = Time::from_secs(1_900_000_000);
    let (code, v) = c.update(MAP, same.clone()).unwrap();
    assert_eq!((code, v), (200, stored.clone()));
    // Beside a change they are taken.
    same["metadata"]["labels"] = json!({"x": "y"});
    same["metadata"]["managedFields"][0]["manager"] = "renamed".into();
    let (_, v) = c.update(MAP, same).unwrap();
    assert_eq!(v["metadata"]["managedFields"][0]["time"], "2020-01-01T00:00:00Z");
    assert_eq!(managers(&v)[0].0, "renamed");
}
