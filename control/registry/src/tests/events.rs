//! Events, which are the same by core's names and by those of `events.k8s.io`.

use copepod_model::request::PatchType;
use copepod_model::{ApiRequest, Verb};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, request};

const CORE: &str = "events default/";
const OTHER: &str = "events.events.k8s.io default/";

fn event() -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "example.com/ctl", "reportingInstance": "ctl-1",
        "action": "Doing", "reason": "Done", "type": "Normal", "note": "well",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}})
}

fn read(c: &Cluster, what: &str) -> Value {
    c.registry.get(&c.tables, &request(Verb::Get, what)).unwrap().value()
}

/// How many Events a selector of fields finds.
fn found(c: &Cluster, what: &str, fields: &str) -> Result<usize, String> {
    let mut req: ApiRequest = request(Verb::List, what);
    req.list.field_selector = fields.into();
    c.registry.list(&c.tables, &req).map(|page| page.items.len()).map_err(|e| format!("{} {}", e.code, e.message))
}

#[test]
fn an_event_of_one_group_is_seen_in_the_other() {
    let mut c = Cluster::new();
    let (code, made) = c.create(OTHER, event()).unwrap();
    assert_eq!((code, &made["apiVersion"], &made["note"]), (201, &json!("events.k8s.io/v1"), &json!("well")));
    assert_eq!((&made["deprecatedSource"], &made["deprecatedFirstTimestamp"]), (&json!({}), &Value::Null));
    let core = read(&c, &format!("{CORE}e"));
    assert_eq!(core, c.value(&format!("{CORE}e")), "it is stored by core's names");
    assert_eq!((&core["apiVersion"], &core["message"]), (&json!("v1"), &json!("well")));
    assert_eq!(
        (&core["involvedObject"], &core["reportingComponent"]),
        (&event()["regarding"], &json!("example.com/ctl"))
    );
    assert!(core.get("note").is_none() && core.get("regarding").is_none(), "{core}");
    assert_eq!(read(&c, &format!("{OTHER}e")), made);

    let old = json!({"metadata": {"name": "old"}, "involvedObject": {"kind": "Node", "name": "n", "namespace": "default"},
        "reason": "Up", "message": "m", "type": "Normal", "count": 3, "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z"});
    c.create(CORE, old).unwrap();
    let seen = read(&c, &format!("{OTHER}old"));
    assert_eq!(
        (&seen["deprecatedCount"], &seen["deprecatedLastTimestamp"]),
        (&json!(3), &json!("2026-01-01T00:01:00Z"))
    );
    assert_eq!((&seen["deprecatedSource"]["component"], &seen["eventTime"]), (&json!("kubelet"), &Value::Null));
    assert!(seen.get("reportingController").is_none() && seen.get("count").is_none(), "{seen}");

    assert_eq!((found(&c, CORE, ""), found(&c, OTHER, "")), (Ok(2), Ok(2)));
    assert_eq!(found(&c, OTHER, "regarding.kind=Pod,reportingController=example.com/ctl"), Ok(1));
    assert_eq!(found(&c, OTHER, "source=kubelet"), Ok(1));
    assert_eq!(found(&c, CORE, "involvedObject.kind=Pod"), Ok(1));
    for (what, field) in [(OTHER, "involvedObject.kind"), (CORE, "regarding.kind")] {
        let want = format!("400 field label not supported: {field}");
        assert_eq!(found(&c, what, &format!("{field}=Pod")), Err(want), "{what}");
    }
    let mut watch = request(Verb::Watch, OTHER);
    watch.list.field_selector = "regarding.name=n".into();
    let filter = c.registry.watch_filter(&watch).unwrap();
    let matches = |name: &str| filter.matches(&c.find(&format!("{CORE}{name}")).unwrap());
    assert_eq!((matches("old"), matches("e")), (true, false));
    assert_eq!(c.registry.stored_as(&watch), "events");

    let (_, v) = c.delete(&format!("{OTHER}e")).unwrap();
    assert_eq!((&v["details"]["group"], &v["details"]["kind"]), (&json!("events.k8s.io"), &json!("events")));
    assert_eq!(error(c.delete(&format!("{CORE}e"))), "404 events \"e\" not found");
    assert_eq!(error(c.delete(&format!("{OTHER}e"))), "404 events.events.k8s.io \"e\" not found");
    let twice = |c: &mut Cluster| c.create(OTHER, event());
    twice(&mut c).unwrap();
    assert_eq!(error(twice(&mut c)), "409 events.events.k8s.io \"e\" already exists");
}

#[test]
fn the_newer_version_asks_for_more() {
    let with = |field: &str, value: Value| {
        let mut event = event();
        event[field] = value;
        event
    };
    let seen = "2026-01-01T00:00:00.000000Z";
    for (object, want) in [
        (with("eventTime", Value::Null), "eventTime: Required value"),
        (with("type", json!("Odd")), "type: Invalid value: \"\": has invalid value: Odd"),
        (with("deprecatedCount", json!(1)), "count: Invalid value: \"\": needs to be unset"),
        (with("deprecatedSource", json!({"host": "h"})), "source: Invalid value: \"\": needs to be unset"),
        (
            with("deprecatedLastTimestamp", json!("2026-01-01T00:00:00Z")),
            "lastTimestamp: Invalid value: \"\": needs to be unset",
        ),
        (
            with("series", json!({"count": 1, "lastObservedTime": seen})),
            "series.count: Invalid value: \"\": should be at least 2",
        ),
        (with("series", json!({"count": 2, "lastObservedTime": null})), "series.lastObservedTime: Required value"),
        (with("reportingController", json!("a b")), "reportingController: Invalid value: \"a b\": "),
        (with("reportingInstance", json!("")), "reportingInstance: Required value"),
        (with("action", json!("x".repeat(129))), "action: Invalid value: \"\": can have at most 128 characters"),
        (with("note", json!("x".repeat(1025))), "message: Invalid value: \"\": can have at most 1024 characters"),
        (with("metadata", json!({"name": "Big"})), "metadata.name: Invalid value: \"Big\": "),
    ] {
        let got = error(Cluster::new().create(OTHER, object));
        let head = "422 Event \"";
        assert!(got.starts_with(head) && got.contains(&format!("is invalid: {want}")), "want {want}\ngot  {got}");
    }
    let mut c = Cluster::new();
    // By core's version all that may be, but an Event of the new style says who reports.
    let mut old = json!({"metadata": {"name": "Big_Name"}, "involvedObject": {"namespace": "default"}, "type": "Odd"});
    c.create(CORE, old.clone()).unwrap();
    old["metadata"]["name"] = "new".into();
    old["eventTime"] = seen.into();
    let got = error(c.create(CORE, old));
    for want in ["reportingComponent: Required value", "action: Required value", "reason: Required value"] {
        assert!(got.contains(want), "{got}");
    }
}

#[test]
fn only_the_series_of_an_event_changes() {
    let mut c = Cluster::new();
    c.create(OTHER, event()).unwrap();
    let (core, other) = (format!("{CORE}e"), format!("{OTHER}e"));
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:05:00.000000Z"}});
    let (_, v) = c.patch(PatchType::Strategic, &other, series.clone()).unwrap();
    assert_eq!((&v["series"], &v["note"]), (&series["series"], &json!("well")));
    assert_eq!(c.value(&core)["series"], series["series"]);
    assert_eq!(
        error(c.patch(PatchType::Merge, &other, json!({"note": "x"}))),
        "422 Event \"e\" is invalid: message: Invalid value: \"x\": field is immutable"
    );
    let got = error(c.patch(PatchType::Merge, &other, json!({"reportingController": "b", "series": {"count": 1}})));
    assert!(
        got.contains("series.count: Invalid value") && got.contains("reportingController: Invalid value: \"b\""),
        "{got}"
    );
    let (_, v) = c.patch(PatchType::Merge, &core, json!({"message": "x"})).unwrap();
    assert_eq!((&v["message"], &read(&c, &other)["note"]), (&json!("x"), &json!("x")));
}
