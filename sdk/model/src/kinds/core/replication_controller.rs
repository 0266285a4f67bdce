//! ReplicationController, which Deployments took the place of.

use serde_json::Value;

use super::{V1, podspec};
use crate::kinds::fields::{Path, child_mut, ensure, fill_absent, nonnegative, spec_mut};
use crate::kinds::table::labels;
use crate::kinds::{Column, Kind, Strategy, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["rc"],
        categories: &["all"],
        status: true,
        scale: Some(workload::SCALE),
        generation: true,
        ..Kind::new(
            V1,
            "ReplicationController",
            ("replicationcontrollers", "replicationcontroller"),
            ReplicationController,
        )
    }
}

const SPEC: Path<'static> = Path::root("spec");

struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "replicas", || 1.into());
        if let Some(pod) = child_mut(spec, "template").and_then(|t| ensure(t, "spec")) {
            podspec::default_template(pod);
        }
        // Both come from the template's labels where they are not given.
        let labels = spec.get("template").map_or(Value::Null, |t| t["metadata"]["labels"].clone());
        if labels.as_object().is_none_or(|l| l.is_empty()) {
            return;
        }
        let empty = |v: Option<&Value>| v.and_then(Value::as_object).is_none_or(|m| m.is_empty());
        if empty(spec.get("selector")) {
            spec.insert("selector".into(), labels.clone());
        }
        if let Some(meta) = object.as_object_mut().and_then(|o| ensure(o, "metadata"))
            && empty(meta.get("labels"))
        {
            meta.insert("labels".into(), labels);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        nonnegative(SPEC.child("minReadySeconds"), &spec["minReadySeconds"], errors);
        let selector = spec["selector"].as_object().filter(|s| !s.is_empty());
        if selector.is_none() {
            errors.push(FieldError::required(SPEC.child("selector"), ""));
        }
        nonnegative(SPEC.child("replicas"), &spec["replicas"], errors);
        let template = &spec["template"];
        if template.is_null() {
            errors.push(FieldError::required(SPEC.child("template"), ""));
            return;
        }
        let labels = &template["metadata"]["labels"];
        if selector.is_some_and(|s| s.iter().any(|(k, v)| labels[k] != *v)) {
            errors.push(workload::mismatch(SPEC.child("template"), template));
        }
        podspec::validate_template(SPEC.child("template"), template, errors);
        workload::runs_always(SPEC.child("template"), template, "ReplicationController", errors);
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

    fn orphans(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        workload::replica_columns()
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        workload::replica_cells(o, labels(&o["spec"]["selector"]), now)
    }
}
