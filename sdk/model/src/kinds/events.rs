//! `events.k8s.io/v1` Event: the Events of core by other names, and with stricter rules for who writes them by this version
//! (upstream's `pkg/apis/events/v1` and `pkg/apis/core/validation/events.go`).

use serde_json::Value;

use super::fields::{Path, check, immutable, text};
use super::{Version, names};
use crate::FieldError;

/// The version.
pub(super) const V1: Version = Version {
    group: Some("events.k8s.io"),
    fields: Some(SELECTABLE),
    validate,
    ..Version::new("v1", |_| {}, to_storage, from_storage)
};

/// What fields are called here, and in core.
const NAMES: [(&str, &str); 7] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
const SELECTABLE: &[(&str, &str)] = &[
    ("reason", "reason"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.uid", "involvedObject.uid"),
    ("reportingController", "reportingComponent"),
    ("source", "source"),
    ("type", "type"),
];
/// What of an Event never changes, by core's names.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

fn to_storage(object: &mut Value) {
    rename(object, NAMES.into_iter());
}

fn from_storage(object: &mut Value) {
    rename(object, NAMES.into_iter().map(|(here, core)| (core, here)));
    // Core shows these though they be empty, this version does not.
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, v| !matches!(name.as_str(), "reportingController" | "reportingInstance") || *v != "");
    }
}

fn rename(object: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.into(), value);
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    match old {
        None => validate_create(new, errors),
        Some(old) => {
            if new["series"] != old["series"] {
                series(&new["series"], errors);
            }
            FIXED.iter().for_each(|field| immutable(Path::root(field), &new[*field], &old[*field], errors));
        }
    }
    for error in errors.iter_mut().filter(|e| e.field == "reportingComponent") {
        error.field = "reportingController".into();
    }
}

fn validate_create(event: &Value, errors: &mut Vec<FieldError>) {
    check(Path::root("metadata.name"), text(&event["metadata"], "name"), names::subdomain, errors);
    series(&event["series"], errors);
    if !event["eventTime"].is_string() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    let given = |field: &str| match &event[field] {
        Value::String(time) => !time.is_empty(),
        Value::Number(n) => n.as_i64() != Some(0),
        source => ["component", "host"].iter().any(|part| !text(source, part).is_empty()),
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"].into_iter().filter(|f| given(f)) {
        errors.push(FieldError::invalid(field, "", "needs to be unset"));
    }
}

fn series(series: &Value, errors: &mut Vec<FieldError>) {
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    if !series["lastObservedTime"].is_string() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}
