//! ConfigMap.

use serde_json::Value;

use crate::kinds::fields::{Path, check, entries, is_true};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The greatest sum of the sizes of all values of a ConfigMap or Secret.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

/// The kind.
pub fn kind() -> Kind {
    Kind { short_names: &["cm"], ..Kind::new(super::V1, "ConfigMap", ("configmaps", "configmap"), ConfigMap) }
}

struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (data, binary) = (Path::root("data"), Path::root("binaryData"));
        let mut size = 0;
        for (k, v) in entries(object, "data") {
            check(data.key(k), k, names::config_key, errors);
            if !object["binaryData"][k.as_str()].is_null() {
                errors.push(FieldError::invalid(data.key(k), k.as_str(), "duplicate of key present in binaryData"));
            }
            size += v.as_str().map_or(0, str::len);
        }
        for (k, v) in entries(object, "binaryData") {
            check(binary.key(k), k, names::config_key, errors);
            size += decoded_len(v);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long("", MAX_SIZE));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(&["data", "binaryData"], new, old, errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Data", "string", "Data contains the configuration data.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), (entries(o, "data").count() + entries(o, "binaryData").count()).into(), age(o, now)]
    }
}

/// How many bytes a base64 text stands for.
pub(super) fn decoded_len(v: &Value) -> usize {
    v.as_str().map_or(0, |s| s.trim_end_matches('=').len() * 3 / 4)
}

/// Errors of a change of an object whose `immutable` is set.
pub(super) fn immutable(fields: &[&str], new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if !is_true(old, "immutable") {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !is_true(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for name in fields {
        let empty = |v: &Value| v.as_object().is_none_or(serde_json::Map::is_empty);
        if new[*name] != old[*name] && !(empty(&new[*name]) && empty(&old[*name])) {
            errors.push(FieldError::forbidden(*name, why));
        }
    }
}
