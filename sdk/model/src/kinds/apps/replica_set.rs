//! ReplicaSet.

use serde_json::Value;

use super::deployment::SCALE;
use super::{SPEC, V1};
use crate::kinds::core::podspec;
use crate::kinds::fields::{fill_absent, immutable, spec_mut};
use crate::kinds::table::{col, columns, name, number, selector, wide};
use crate::kinds::{Column, Kind, Strategy, age, field_at};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["rs"],
        categories: &["all"],
        status: true,
        scale: Some(SCALE),
        generation: true,
        ..Kind::new(V1, "ReplicaSet", ("replicasets", "replicaset"), ReplicaSet)
    }
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "replicas", || 1.into());
        super::default_template(spec);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        super::validate_replicated(&object["spec"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(SPEC.child("selector"), &new["spec"]["selector"], &old["spec"]["selector"], errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        match path {
            "status.replicas" => object["status"]["replicas"].as_i64().unwrap_or(0).to_string(),
            _ => field_at(object, path),
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Desired", "integer", "Number of desired replicas."),
                col("Current", "integer", "Number of pods that exist."),
                col("Ready", "integer", "Number of pods that are ready."),
            ],
            &[
                wide("Containers", "string", "Names of each container in the template."),
                wide("Images", "string", "Images referenced by each container in the template."),
                wide("Selector", "string", "Label selector for pods."),
            ],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let (names, images) = podspec::layout(&spec["template"]["spec"]);
        vec![
            name(o),
            number(&spec["replicas"]),
            number(&status["replicas"]),
            number(&status["readyReplicas"]),
            age(o, now),
            names.into(),
            images.into(),
            selector(&spec["selector"]),
        ]
    }
}
