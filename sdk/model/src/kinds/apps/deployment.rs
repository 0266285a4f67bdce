//! Deployment.

use serde_json::Value;

use super::{SPEC, V1};
use crate::kinds::core::podspec;
use crate::kinds::fields::{Path, ensure, fill, fill_absent, immutable, nonnegative, spec_mut, text};
use crate::kinds::int_or_percent::{Bound, bound};
use crate::kinds::table::{col, columns, name, number, selector};
use crate::kinds::{Column, Kind, Strategy, age, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["deploy"],
        categories: &["all"],
        status: true,
        scale: Some(workload::SCALE),
        generation: true,
        ..Kind::new(V1, "Deployment", ("deployments", "deployment"), Deployment)
    }
}

struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "replicas", || 1.into());
        if let Some(strategy) = ensure(spec, "strategy") {
            fill(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = ensure(strategy, "rollingUpdate")
            {
                fill_absent(rolling, "maxUnavailable", || "25%".into());
                fill_absent(rolling, "maxSurge", || "25%".into());
            }
        }
        fill_absent(spec, "revisionHistoryLimit", || 10.into());
        fill_absent(spec, "progressDeadlineSeconds", || 600.into());
        workload::default_template(spec);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        super::validate_replicated(spec, errors);
        strategy(SPEC.child("strategy"), &spec["strategy"], errors);
        nonnegative(SPEC.child("revisionHistoryLimit"), &spec["revisionHistoryLimit"], errors);
        let deadline = &spec["progressDeadlineSeconds"];
        nonnegative(SPEC.child("progressDeadlineSeconds"), deadline, errors);
        if deadline.as_i64().is_some_and(|d| d <= spec["minReadySeconds"].as_i64().unwrap_or(0)) {
            let why = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid(SPEC.child("progressDeadlineSeconds"), deadline.clone(), why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(SPEC.child("selector"), &new["spec"]["selector"], &old["spec"]["selector"], errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let counts = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
        ];
        workload::status_counts(&new["status"], &counts, &[("updatedReplicas", "status.replicas")], errors);
        workload::status_counts(&new["status"], &[], &workload::AT_MOST, errors);
        workload::collisions(new, old, errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Ready", "string", "Number of the pod with ready state"),
                col("Up-to-date", "string", "Number of pods that have the current template."),
                col("Available", "string", "Number of pods that have been ready for long enough."),
            ],
            &workload::LAYOUT,
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let count = |v: &Value| v.as_i64().unwrap_or(0);
        let (names, images) = podspec::layout(&spec["template"]["spec"]);
        vec![
            name(o),
            format!("{}/{}", count(&status["readyReplicas"]), count(&spec["replicas"])).into(),
            number(&status["updatedReplicas"]),
            number(&status["availableReplicas"]),
            age(o, now),
            names.into(),
            images.into(),
            selector(&spec["selector"]),
        ]
    }
}

fn strategy(path: Path<'_>, strategy: &Value, errors: &mut Vec<FieldError>) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "Recreate" if !rolling.is_null() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(path.child("rollingUpdate"), why));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let unavailable = bound(path.child("maxUnavailable"), &rolling["maxUnavailable"], errors);
            let surge = bound(path.child("maxSurge"), &rolling["maxSurge"], errors);
            if unavailable == Some(Bound::Zero) && surge == Some(Bound::Zero) {
                let value = rolling["maxUnavailable"].clone();
                errors.push(FieldError::invalid(
                    path.child("maxUnavailable"),
                    value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            if unavailable == Some(Bound::AboveWhole) {
                let value = rolling["maxUnavailable"].clone();
                errors.push(FieldError::invalid(path.child("maxUnavailable"), value, "must not be greater than 100%"));
            }
        }
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}
