//! DaemonSet.

use serde_json::Value;

use super::{SPEC, V1};
use crate::kinds::core::podspec;
use crate::kinds::fields::{Fields, Path, ensure, fill, fill_absent, immutable, nonnegative, spec_mut, text};
use crate::kinds::int_or_percent::{Bound, at_most_all};
use crate::kinds::table::{col, columns, labels, name, number, selector};
use crate::kinds::{Column, Kind, Strategy, age, metadata, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["ds"],
        categories: &["all"],
        status: true,
        generation: true,
        ..Kind::new(V1, "DaemonSet", ("daemonsets", "daemonset"), DaemonSet)
    }
}

/// Counts changes of the template. `apps/v1` has no field for it, so it is kept here.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const STRATEGIES: [&str; 2] = ["RollingUpdate", "OnDelete"];

struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        if let Some(strategy) = ensure(spec, "updateStrategy") {
            fill(strategy, "type", "RollingUpdate");
            if strategy["type"] == "RollingUpdate"
                && let Some(rolling) = ensure(strategy, "rollingUpdate")
            {
                fill_absent(rolling, "maxUnavailable", || 1.into());
                fill_absent(rolling, "maxSurge", || 0.into());
            }
        }
        fill_absent(spec, "revisionHistoryLimit", || 10.into());
        workload::default_template(spec);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let (chosen, template) = (&spec["selector"], &spec["template"]);
        metadata::validate_selector(SPEC.child("selector"), chosen, errors);
        workload::matches_template(SPEC.child("template"), chosen, template, errors);
        workload::empty_selector(SPEC.child("selector"), chosen, "daemonset", errors);
        podspec::validate_template(SPEC.child("template"), template, errors);
        workload::runs_always(SPEC.child("template"), template, "DaemonSet", errors);
        nonnegative(SPEC.child("minReadySeconds"), &spec["minReadySeconds"], errors);
        update_strategy(SPEC.child("updateStrategy"), &spec["updateStrategy"], errors);
        nonnegative(SPEC.child("revisionHistoryLimit"), &spec["revisionHistoryLimit"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(SPEC.child("selector"), &new["spec"]["selector"], &old["spec"]["selector"], errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        workload::status_counts(&new["status"], &counts, &[], errors);
        workload::collisions(new, old, errors);
    }

    fn prepare_create(&self, object: &mut Value) {
        set_template_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let kept = old["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|n| n.parse().ok());
        let changed = new["spec"]["template"] != old["spec"]["template"];
        set_template_generation(new, kept.unwrap_or(1i64) + i64::from(changed));
    }

    fn columns(&self) -> Vec<Column> {
        let mut out = columns(
            &[
                col("Desired", "integer", "Number of nodes that should run the daemon pod."),
                col("Current", "integer", "Number of nodes that run a daemon pod and should."),
                col("Ready", "integer", "Number of nodes whose daemon pod is ready."),
                col("Up-to-date", "integer", "Number of nodes whose daemon pod has the current template."),
                col("Available", "integer", "Number of nodes whose daemon pod has been ready for long enough."),
                col("Node Selector", "string", "Labels that a node must have."),
            ],
            &[],
        );
        out.extend(workload::LAYOUT);
        out
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let pod = &spec["template"]["spec"];
        let (names, images) = podspec::layout(pod);
        vec![
            name(o),
            number(&status["desiredNumberScheduled"]),
            number(&status["currentNumberScheduled"]),
            number(&status["numberReady"]),
            number(&status["updatedNumberScheduled"]),
            number(&status["numberAvailable"]),
            labels(&pod["nodeSelector"]),
            age(o, now),
            names.into(),
            images.into(),
            selector(&spec["selector"]),
        ]
    }
}

fn set_template_generation(object: &mut Value, n: i64) {
    let meta = object.as_object_mut().and_then(|o| ensure(o, "metadata"));
    let annotations: Option<&mut Fields> = meta.and_then(|m| ensure(m, "annotations"));
    if let Some(annotations) = annotations {
        annotations.insert(TEMPLATE_GENERATION.into(), n.to_string().into());
    }
}

fn update_strategy(path: Path<'_>, strategy: &Value, errors: &mut Vec<FieldError>) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            let unavailable = at_most_all(path.child("maxUnavailable"), &rolling["maxUnavailable"], errors);
            let surge = at_most_all(path.child("maxSurge"), &rolling["maxSurge"], errors);
            let some = |b: Option<Bound>| matches!(b, Some(Bound::Some | Bound::AboveWhole));
            match (some(unavailable), some(surge)) {
                (true, true) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(path.child("maxSurge"), rolling["maxSurge"].clone(), why));
                }
                (false, false) => {
                    let why = "cannot be 0 when maxSurge is 0";
                    errors.push(FieldError::required(path.child("maxUnavailable"), why));
                }
                _ => {}
            }
        }
        _ => errors.push(FieldError::not_supported(path, strategy.clone(), &STRATEGIES)),
    }
}
