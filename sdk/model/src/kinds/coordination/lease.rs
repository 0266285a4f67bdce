//! Lease.

use serde_json::Value;

use crate::kinds::fields::{Path, check, child_mut, nonnegative, one_of, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind::new(("coordination.k8s.io", "v1"), "Lease", ("leases", "lease"), Lease)
}

struct Lease;

const SPEC: Path<'static> = Path::root("spec");

impl Strategy for Lease {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let strategy = text(spec, "strategy");
        if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|s| *s <= 0) {
            errors.push(FieldError::invalid(SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        nonnegative(SPEC.child("leaseTransitions"), &spec["leaseTransitions"], errors);
        if spec["strategy"].is_string() {
            // Upstream's path names the field twice.
            let path = SPEC.child("strategy");
            let path = path.child("strategy");
            match strategy.contains('/') {
                true => check(path, strategy, names::qualified, errors),
                false => one_of(path, strategy, &["OldestEmulationVersion"], errors),
            }
        }
        if strategy.is_empty() && !text(spec, "preferredHolder").is_empty() {
            let why = "may only be specified if `strategy` is defined";
            errors.push(FieldError::forbidden(SPEC.child("preferredHolder"), why));
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        leave_out(object, &Value::Null);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        leave_out(new, old);
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Holder", "string", "Contains the identity of the holder of a current lease.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(&o["spec"], "holderIdentity").into(), age(o, now)]
    }
}

/// Leaders are not elected by coordination (KEP-4355), which is off in upstream, too, unless somebody asks for it: what is
/// said to it is kept where it is, and not taken anew.
fn leave_out(new: &mut Value, old: &Value) {
    let Some(spec) = new.as_object_mut().and_then(|o| child_mut(o, "spec")) else { return };
    for field in ["strategy", "preferredHolder"] {
        if old["spec"][field].is_null() {
            spec.remove(field);
        }
    }
}
