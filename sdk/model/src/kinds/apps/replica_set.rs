//! ReplicaSet.

use serde_json::Value;

use super::{SPEC, V1};
use crate::kinds::fields::{fill_absent, immutable, spec_mut};
use crate::kinds::table::selector;
use crate::kinds::{Column, Kind, Strategy, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["rs"],
        categories: &["all"],
        status: true,
        scale: Some(workload::SCALE),
        generation: true,
        ..Kind::new(V1, "ReplicaSet", ("replicasets", "replicaset"), ReplicaSet)
    }
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "replicas", || 1.into());
        workload::default_template(spec);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        super::validate_replicated(&object["spec"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(SPEC.child("selector"), &new["spec"]["selector"], &old["spec"]["selector"], errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        workload::replica_counts(&new["status"], errors);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[workload::REPLICAS]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        workload::replicas_field(object, path)
    }

    fn columns(&self) -> Vec<Column> {
        workload::replica_columns()
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        workload::replica_cells(o, selector(&o["spec"]["selector"]), now)
    }
}
