//! Namespace.

use serde_json::{Value, json};

use crate::kinds::fields::{Fields, Path, ensure, list, spec_mut, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["ns"],
        namespaced: false,
        // No deletecollection.
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        status: true,
        subresources: &[("finalize", "Namespace", &["update"])],
        ..Kind::new(super::V1, "Namespace", ("namespaces", "namespace"), Namespace)
    }
}

struct Namespace;

/// The label by which selectors find a namespace by name.
fn name_label(object: &mut Value) {
    let name = text(&object["metadata"], "name").to_string();
    if !name.is_empty()
        && let Some(labels) =
            object.as_object_mut().and_then(|o| ensure(o, "metadata")).and_then(|m| ensure(m, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        name_label(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        name_label(object); // again: a generated name is known only now
        if !list(&object["spec"], "finalizers").iter().any(|f| f == "kubernetes")
            && let Some(spec) = spec_mut(object)
        {
            match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
                Some(all) => all.push("kubernetes".into()),
                None => drop(spec.insert("finalizers".into(), json!(["kubernetes"]))),
            }
        }
        object["status"] = json!({"phase": "Active"});
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // Only the `finalize` subresource changes these.
        if let Some(spec) = spec_mut(new) {
            restore(spec, &old["spec"], "finalizers");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::root("spec.finalizers");
        for finalizer in list(&object["spec"], "finalizers").iter().filter_map(Value::as_str) {
            metadata::validate_finalizer(path, path, finalizer, errors);
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        let phase = text(&new["status"], "phase");
        let (wanted, when) = match new["metadata"]["deletionTimestamp"].is_string() {
            false => ("Active", "empty"),
            true => ("Terminating", "not empty"),
        };
        if phase != wanted {
            let why = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
            errors.push(FieldError::invalid("status.Phase", phase, why));
        }
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::label(name)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Status", "string", "The status of the namespace")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(&o["status"], "phase").into(), age(o, now)]
    }
}

/// Puts back the old value of a field.
fn restore(new: &mut Fields, old: &Value, name: &str) {
    match &old[name] {
        Value::Null => drop(new.remove(name)),
        value => drop(new.insert(name.into(), value.clone())),
    }
}
