//! Event, which `events.k8s.io` has, too. One with an `eventTime` is of the new style and has rules of its own (upstream's
//! `ValidateEventCreate`).

use serde_json::Value;

use crate::kinds::events;
use crate::kinds::fields::{Path, check, text};
use crate::kinds::table::{col, name, wide};
use crate::kinds::{Column, Kind, Strategy, Version, field_at, names, since};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { short_names: &["ev"], ..Kind::new(super::V1, "Event", ("events", "event"), Event) }
}

struct Event;

const VERSIONS: &[Version] = &[events::V1];
/// Longest name of who reports, of an action and of a reason, and longest message, in bytes.
const WORD: usize = 128;
const MESSAGE: usize = 1024;

impl Strategy for Event {
    fn versions(&self) -> &'static [Version] {
        VERSIONS
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (about, own) = (text(&object["involvedObject"], "namespace"), text(&object["metadata"], "namespace"));
        let new_style = object["eventTime"].is_string();
        // Events about cluster-scoped objects live in the default namespace, and new ones in the system's, too.
        let ok = match (about.is_empty(), new_style) {
            (true, _) => own == "default" || (new_style && own == "kube-system"),
            (false, true) => true,
            (false, false) => about == own,
        };
        if !ok {
            errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
        }
        if !new_style {
            return;
        }
        let component = text(object, "reportingComponent");
        if component.is_empty() {
            errors.push(FieldError::required("reportingComponent", ""));
        }
        check(Path::root("reportingComponent"), component, names::qualified, errors);
        for field in ["reportingInstance", "action", "reason"] {
            if text(object, field).is_empty() {
                errors.push(FieldError::required(field, ""));
            }
            short(object, field, WORD, errors);
        }
        short(object, "message", MESSAGE, errors);
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

fn short(object: &Value, field: &str, most: usize, errors: &mut Vec<FieldError>) {
    if text(object, field).len() > most {
        errors.push(FieldError::invalid(field, "", format!("can have at most {most} characters")));
    }
}

fn source(o: &Value) -> String {
    let either = |a: &str, b: &str| if a.is_empty() { b.to_string() } else { a.to_string() };
    let component = either(text(&o["source"], "component"), text(o, "reportingComponent"));
    let host = either(text(&o["source"], "host"), text(o, "reportingInstance"));
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
