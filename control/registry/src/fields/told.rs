//! What clients say themselves of who manages what: `metadata.managedFields` of the objects that they send (apimachinery
//! `util/managedfields`).

use copepod_model::FieldError;
use serde_json::{Map, Value, json};

use super::Set;
use super::managers::{self, Entries, Entry};
use crate::call::{Call, Part};
use crate::value::{self, list, text};

/// Longest name of a manager in bytes.
const MANAGER: usize = 128;
/// Longest name of a subresource in bytes.
const SUBRESOURCE: usize = 256;

/// Keeps apart from a list that is not there one that is there and empty, which the canonical form has not: an empty entry
/// means the same.
pub(crate) fn keep_reset(object: &mut Value) {
    let reset = object["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty);
    if reset {
        value::child(object, "metadata").insert("managedFields".into(), json!([{}]));
    }
}

/// The entries from which a write goes on, if the object that is sent says others than the stored one (`Null` for none) has. A
/// subresource says none; neither does what cannot be read.
pub(crate) fn told(call: &Call<'_, '_>, object: &Value, stored: &Value) -> Option<Vec<Entry>> {
    let given = &object["metadata"]["managedFields"];
    if !matches!(call.part, Part::Whole) || given.is_null() || *given == stored["metadata"]["managedFields"] {
        return None;
    }
    let given = list(&object["metadata"], "managedFields");
    if let [only] = given
        && only.as_object().is_none_or(Map::is_empty)
    {
        return Some(Vec::new());
    }
    if given.is_empty() || !given.iter().all(is_readable) {
        return None;
    }
    // Of a version that the kind has not there is nothing to compare.
    let served = |entry: &Entry| {
        let (group, version) = entry.api_version.split_once('/').unwrap_or(("", entry.api_version.as_str()));
        call.kind.serves(group, version)
    };
    let mut entries: Vec<Entry> = Vec::new();
    for entry in given.iter().map(Entry::of) {
        // Of two of the same manager the last counts.
        entries.retain(|e| !e.is_like(&entry));
        entries.push(entry);
    }
    Some(entries.into_iter().filter(served).collect())
}

/// Whether an entry can be read (`DecodeManagedFields`).
fn is_readable(entry: &Value) -> bool {
    matches!(text(entry, "operation"), managers::UPDATE | managers::APPLY)
        && !text(entry, "apiVersion").is_empty()
        && text(entry, "fieldsType") == "FieldsV1"
        && are_fields(&entry["fieldsV1"])
}

/// Whether a value is a set of fields. Places of a kind that nobody knows are left out of it.
fn are_fields(value: &Value) -> bool {
    let Some(fields) = value.as_object() else { return value.is_null() };
    fields.iter().all(|(name, below)| {
        let known = match name.split_at_checked(2) {
            _ if name == "." => true,
            Some(("v:", value)) => serde_json::from_str::<Value>(value).is_ok(),
            Some(("k:", keys)) => serde_json::from_str::<Map<String, Value>>(keys).is_ok(),
            Some(("i:", index)) => index.parse::<i64>().is_ok(),
            Some((kind, _)) => kind.ends_with(':'),
            None => false,
        };
        known && are_fields(below)
    })
}

/// What may not be in entries that can be read (apimachinery `ValidateManagedFields`).
pub(crate) fn errors(entries: &Entries) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // Those that stay were looked at when they came.
    let Entries::New(entries) = entries else { return errors };
    for (i, entry) in entries.as_array().into_iter().flatten().enumerate() {
        let at = |field: &str| format!("metadata.managedFields[{i}].{field}");
        let manager = text(entry, "manager");
        if manager.len() > MANAGER {
            errors.push(FieldError::too_long(at("manager"), MANAGER));
        }
        for (position, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {position})", u32::from(c));
            errors.push(FieldError::invalid(at("manager"), manager, why));
        }
        if text(entry, "subresource").len() > SUBRESOURCE {
            errors.push(FieldError::too_long(at("subresource"), SUBRESOURCE));
        }
    }
    errors
}

/// The fields of an entry, without places of a kind that nobody knows.
pub(super) fn fields(value: &Value) -> Set {
    let mut out = Set::from_json(value);
    forget_unknown(&mut out);
    out
}

fn forget_unknown(set: &mut Set) {
    set.children.retain(|name, below| {
        forget_unknown(below);
        !below.is_empty() && matches!(name.get(..2), Some("f:" | "v:" | "k:" | "i:"))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_readable_or_not() {
        let entry = |fields: Value| json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields});
        for fields in [
            json!(null),
            json!({}),
            json!({"f:a": {".": {}, "k:{\"a\":1}": {}, "v:\"x\"": {}, "i:1": {}}}),
            json!({"f:": {}}),
            json!({"x:new": {}}),
        ] {
            assert!(is_readable(&entry(fields.clone())), "{fields}");
        }
        for fields in [
            json!({"f": {}}),
            json!({"field": {}}),
            json!({"k:[1]": {}}),
            json!({"v:x": {}}),
            json!({"i:x": {}}),
            json!({"f:a": 1}),
            json!([]),
        ] {
            assert!(!is_readable(&entry(fields.clone())), "{fields}");
        }
        for (field, value) in
            [("operation", "Delete"), ("apiVersion", ""), ("fieldsType", ""), ("fieldsType", "FieldsV2")]
        {
            let mut bad = entry(json!({}));
            bad[field] = value.into();
            assert!(!is_readable(&bad), "{field}: {value:?}");
        }
        assert_eq!(fields(&json!({"f:a": {"x:b": {}}, "f:b": {}, "x:c": {}})).to_json(), json!({"f:b": {}}));
    }
}
