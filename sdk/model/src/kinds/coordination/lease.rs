//! Lease.

use serde_json::Value;

use crate::kinds::fields::{Path, nonnegative, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind::new(("coordination.k8s.io", "v1"), "Lease", ("leases", "lease"), Lease)
}

struct Lease;

impl Strategy for Lease {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|s| *s <= 0) {
            errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
        }
        nonnegative(Path::root("spec.leaseTransitions"), &spec["leaseTransitions"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Holder", "string", "Contains the identity of the holder of a current lease.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(&o["spec"], "holderIdentity").into(), age(o, now)]
    }
}
