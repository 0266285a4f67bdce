//! Lists of conditions.

use copepod_model::Time;
use serde_json::{Value, json};

/// The condition of a type.
pub(crate) fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|c| c["type"] == kind)
}

/// Conditions of an object's status.
pub(crate) fn of(object: &Value) -> Vec<Value> {
    object["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

/// Drops the condition of a type.
pub(crate) fn remove(conditions: &mut Vec<Value>, kind: &str) {
    conditions.retain(|c| c["type"] != kind);
}

/// A condition as it should be, before times are filled in.
pub(crate) struct Wanted<'a> {
    pub kind: &'a str,
    pub status: &'a str,
    pub reason: &'a str,
    pub message: String,
}

/// Sets a condition unless it already has this status and reason; the transition time survives unless the status turns.
/// `updated` is for the kinds whose conditions also have `lastUpdateTime`.
pub(crate) fn set(conditions: &mut Vec<Value>, wanted: &Wanted<'_>, updated: bool, now: Time) {
    if find(conditions, wanted.kind).is_some_and(|c| c["status"] == wanted.status && c["reason"] == wanted.reason) {
        return;
    }
    replace(conditions, wanted, updated, now);
}

/// The same, but also when only the message or the update time differs.
pub(crate) fn replace(conditions: &mut Vec<Value>, wanted: &Wanted<'_>, updated: bool, now: Time) {
    let turned = find(conditions, wanted.kind)
        .filter(|c| c["status"] == wanted.status && c["lastTransitionTime"].is_string())
        .map_or_else(|| now.rfc3339().into(), |c| c["lastTransitionTime"].clone());
    let mut new = json!({
        "type": wanted.kind, "status": wanted.status, "reason": wanted.reason, "message": wanted.message,
        "lastTransitionTime": turned,
    });
    if updated {
        new["lastUpdateTime"] = now.rfc3339().into();
    }
    remove(conditions, wanted.kind);
    conditions.push(new);
}
