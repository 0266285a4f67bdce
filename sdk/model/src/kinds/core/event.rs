//! Event.

use serde_json::Value;

use crate::kinds::fields::text;
use crate::kinds::table::{col, name, wide};
use crate::kinds::{Column, Kind, Strategy, field_at, since};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { short_names: &["ev"], ..Kind::new(super::V1, "Event", ("events", "event"), Event) }
}

struct Event;

impl Strategy for Event {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (about, own) = (text(&object["involvedObject"], "namespace"), text(&object["metadata"], "namespace"));
        // Events about cluster-scoped objects live in the default namespace.
        let ok = if about.is_empty() { own == "default" || own == "kube-system" } else { about == own };
        if !ok {
            errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        match path {
            "source" => match text(&object["source"], "component") {
                "" => text(object, "reportingComponent").into(),
                component => component.into(),
            },
            _ => field_at(object, path),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let object = "The object that this event is about.";
        vec![
            col("Last Seen", "string", "The time at which the most recent occurrence of this event was recorded."),
            col("Type", "string", "Type of this event (Normal, Warning), new types could be added in the future"),
            col("Reason", "string", "A short, machine understandable reason for the transition."),
            col("Object", "string", object),
            wide("Subobject", "string", "The part of the object that this event is about."),
            wide("Source", "string", "The component reporting this event."),
            col("Message", "string", "A human-readable description of the status of this operation."),
            wide("First Seen", "string", "The time at which the event was first recorded."),
            wide("Count", "string", "The number of times this event has occurred."),
            wide("Name", "string", "Name must be unique within a namespace."),
        ]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let first = if o["firstTimestamp"].is_null() { &o["eventTime"] } else { &o["firstTimestamp"] };
        let mut last = if o["lastTimestamp"].is_null() { first } else { &o["lastTimestamp"] };
        let mut count = o["count"].as_i64().filter(|n| *n != 0).unwrap_or(1);
        if o["series"].is_object() {
            last = &o["series"]["lastObservedTime"];
            count = o["series"]["count"].as_i64().unwrap_or(0);
        }
        let about = &o["involvedObject"];
        let kind = text(about, "kind").to_lowercase();
        let target = if text(about, "name").is_empty() { kind } else { format!("{kind}/{}", text(about, "name")) };
        vec![
            since(last, now),
            text(o, "type").into(),
            text(o, "reason").into(),
            target.into(),
            text(about, "fieldPath").into(),
            source(o).into(),
            text(o, "message").trim().into(),
            since(first, now),
            count.to_string().into(),
            name(o),
        ]
    }
}

fn source(o: &Value) -> String {
    let either = |a: &str, b: &str| if a.is_empty() { b.to_string() } else { a.to_string() };
    let component = either(text(&o["source"], "component"), text(o, "reportingComponent"));
    let host = either(text(&o["source"], "host"), text(o, "reportingInstance"));
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
