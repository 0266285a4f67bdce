//! StorageClass.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kinds::fields::{Path, check, entries, fill_absent, immutable, is_true, list, one_of, required, text};
use crate::kinds::table::{col, columns};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// Marks the class of claims that name none.
pub const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The greatest number of parameters, and the greatest sum of their sizes in bytes.
const PARAMETERS: (usize, usize) = (512, 256 * 1024);

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["sc"],
        namespaced: false,
        ..Kind::new(super::V1, "StorageClass", ("storageclasses", "storageclass"), StorageClass)
    }
}

struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, object: &mut Value) {
        if let Some(o) = object.as_object_mut() {
            fill_absent(o, "reclaimPolicy", || "Delete".into());
            fill_absent(o, "volumeBindingMode", || "Immediate".into());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        required(Path::root("provisioner"), text(object, "provisioner"), driver, errors);
        parameters(object, true, errors);
        let policy = text(object, "reclaimPolicy");
        if !policy.is_empty() {
            one_of(Path::root("reclaimPolicy"), policy, &["Delete", "Retain"], errors);
        }
        let mode = Path::root("volumeBindingMode");
        match object["volumeBindingMode"].as_str() {
            None => errors.push(FieldError::required(mode, "")),
            Some(given) => one_of(mode, given, &["Immediate", "WaitForFirstConsumer"], errors),
        }
        let path = Path::root("allowedTopologies");
        let terms = list(object, "allowedTopologies");
        for (i, term) in terms.iter().enumerate() {
            let path = path.index(i);
            topology(path, term, errors);
            let asked = wanted(term);
            let same = terms[..i].iter().filter(|other| wanted(other) == asked).count();
            // Upstream compares with as many terms that ask for nothing as there are terms, too.
            let empty = if asked.is_empty() { terms.len() } else { 0 };
            for _ in 0..same + empty {
                errors.push(FieldError::duplicate(path.child("matchLabelExpressions"), ""));
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            let absent = |v: &Value| v.is_null() || v.as_object().is_some_and(|m| m.is_empty());
            if new[field] != old[field] && !(absent(&new[field]) && absent(&old[field])) {
                errors.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
            }
        }
        immutable(Path::root("volumeBindingMode"), &new["volumeBindingMode"], &old["volumeBindingMode"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Provisioner", "string", "provisioner indicates the type of the provisioner."),
                col(
                    "ReclaimPolicy",
                    "string",
                    "reclaimPolicy controls the reclaimPolicy for dynamically provisioned volumes.",
                ),
                col(
                    "VolumeBindingMode",
                    "string",
                    "volumeBindingMode indicates how claims should be provisioned and bound.",
                ),
                col(
                    "AllowVolumeExpansion",
                    "boolean",
                    "allowVolumeExpansion shows whether the storage class allow volume expand.",
                ),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let mut name = text(&o["metadata"], "name").to_string();
        if IS_DEFAULT.iter().any(|a| o["metadata"]["annotations"][*a] == "true") {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            text(o, "provisioner").into(),
            text(o, "reclaimPolicy").into(),
            text(o, "volumeBindingMode").into(),
            is_true(o, "allowVolumeExpansion").into(),
            age(o, now),
        ]
    }
}

/// The name of a provisioner or driver.
pub(super) fn driver(name: &str) -> Result<(), String> {
    names::qualified(&name.to_lowercase())
}

/// Rules of `parameters`, which may be `empty` or not.
pub(super) fn parameters(object: &Value, empty: bool, errors: &mut Vec<FieldError>) {
    let path = Path::root("parameters");
    if !empty && entries(object, "parameters").count() == 0 {
        errors.push(FieldError::required(path, "must contain at least one key/value pair"));
        return;
    }
    if entries(object, "parameters").count() > PARAMETERS.0 {
        errors.push(FieldError::too_long(path, PARAMETERS.0));
        return;
    }
    let mut size = 0;
    for (k, v) in entries(object, "parameters") {
        if k.is_empty() {
            errors.push(FieldError::invalid(path, k.as_str(), "field can not be empty."));
        }
        size += k.len() + v.as_str().map_or(0, str::len);
    }
    if size > PARAMETERS.1 {
        errors.push(FieldError::too_long(path, PARAMETERS.1));
    }
}

/// What a term asks for: the values of each key.
fn wanted(term: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let requirements = list(term, "matchLabelExpressions").iter();
    requirements.map(|e| (text(e, "key"), list(e, "values").iter().filter_map(Value::as_str).collect())).collect()
}

fn topology(path: Path<'_>, term: &Value, errors: &mut Vec<FieldError>) {
    let mut keys = BTreeSet::new();
    for (i, e) in list(term, "matchLabelExpressions").iter().enumerate() {
        let path = path.child("matchLabelExpressions");
        let path = path.index(i);
        let key = text(e, "key");
        let values = list(e, "values");
        if values.is_empty() {
            errors.push(FieldError::required(path.child("values"), ""));
        }
        let mut seen = BTreeSet::new();
        for (j, v) in values.iter().filter_map(Value::as_str).enumerate() {
            if !seen.insert(v) {
                let path = path.child("values");
                errors.push(FieldError::duplicate(path.index(j), v));
            }
        }
        check(path.child("key"), key, names::qualified, errors);
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(path.child("key"), key));
        }
    }
}
