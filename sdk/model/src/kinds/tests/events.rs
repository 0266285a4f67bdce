//! Events by core's names and by those of `events.k8s.io`.

use serde_json::json;

use super::{errors, row};
use crate::Time;
use crate::kinds::Kinds;

#[test]
fn both_versions_show_the_same_rows() {
    let object = json!({"apiVersion":"v1","kind":"Event","metadata":{"name":"e"},
        "involvedObject":{"kind":"Pod","name":"web"},"type":"Normal","reason":"Started","message":"hello",
        "source":{"component":"kubelet","host":"n1"},"reportingComponent":"","reportingInstance":"",
        "firstTimestamp":"2026-01-01T00:00:00Z","lastTimestamp":"2026-01-01T00:58:00Z","count":4});
    let want = ["2m", "Normal", "Started", "pod/web", "", "kubelet, n1", "hello", "60m", "4", "e"];
    assert_eq!(row("events", object.clone()), want);
    let kinds = Kinds::builtin();
    let stored = kinds.resource("", "events").unwrap();
    let other = kinds.served("events.k8s.io", "events", "v1").unwrap();
    assert_eq!((other.group_resource().as_str(), other.short_names), ("events.events.k8s.io", &["ev"][..]));
    assert!(kinds.resource("events.k8s.io", "events").is_none(), "it is stored once");
    assert_eq!(kinds.stored("events.k8s.io", "events").unwrap().group_resource(), "events");
    assert!(kinds.stored("other", "events").is_none());
    let mut converted = object.clone();
    stored.from_storage(stored.other_version("events.k8s.io", "v1").unwrap(), &mut converted);
    assert_eq!((&converted["apiVersion"], &converted["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let cells = other.strategy.cells(&converted, Time::parse("2026-01-01T01:00:00Z").unwrap());
    let cells: Vec<&str> = cells.iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(cells, want);
    assert!(!stored.serves("", "v2") && !stored.serves("events.k8s.io", "v1beta1"));
    assert_eq!(kinds.gvk("events.k8s.io/v1", "Event").unwrap().group, "events.k8s.io");
}

#[test]
fn events_live_where_what_they_are_about_lives() {
    let of = |own: &str, about: &str, more: &[&str]| {
        let mut event = json!({"metadata":{"namespace":own},"involvedObject":{"namespace":about}});
        for field in more {
            event[*field] = "2026-01-01T00:00:00.000000Z".into();
        }
        errors("events", event)
    };
    let wrong = |about: &str| {
        vec![format!("involvedObject.namespace: Invalid value: {about:?}: does not match event.namespace")]
    };
    assert_eq!(of("a", "b", &[]), wrong("b"));
    assert_eq!(of("kube-system", "", &[]), wrong(""));
    assert_eq!(of("default", "", &[]), Vec::<String>::new());
    // Those of the new style may live elsewhere.
    let new = ["eventTime", "reportingInstance", "action", "reason"];
    assert_eq!(of("a", "b", &new).len(), 2, "who reports is missing, and is no name");
    assert_eq!(of("kube-system", "", &new).len(), 2);
    assert_eq!(of("a", "", &new)[0], wrong("")[0]);
}
