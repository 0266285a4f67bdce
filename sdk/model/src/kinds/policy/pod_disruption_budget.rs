//! PodDisruptionBudget: how many of some pods must stay when pods are evicted.

use serde_json::Value;

use crate::kinds::fields::{Path, nonnegative};
use crate::kinds::int_or_percent::at_most_all;
use crate::kinds::table::{col, columns, name, number};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["pdb"],
        status: true,
        generation: true,
        ..Kind::new(
            super::V1,
            "PodDisruptionBudget",
            ("poddisruptionbudgets", "poddisruptionbudget"),
            PodDisruptionBudget,
        )
    }
}

const SPEC: Path<'static> = Path::root("spec");
const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let (min, max) = (&spec["minAvailable"], &spec["maxUnavailable"]);
        if !min.is_null() && !max.is_null() {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(SPEC, spec.clone(), why));
        }
        for (name, value) in [("minAvailable", min), ("maxUnavailable", max)] {
            if !value.is_null() {
                at_most_all(SPEC.child(name), value, errors);
            }
        }
        metadata::validate_selector(SPEC.child("selector"), &spec["selector"], errors);
        if let Some(policy) = spec["unhealthyPodEvictionPolicy"].as_str()
            && !POLICIES.contains(&policy)
        {
            errors.push(FieldError::not_supported(SPEC.child("unhealthyPodEvictionPolicy"), policy, &POLICIES));
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        const STATUS: Path<'static> = Path::root("status");
        let status = &new["status"];
        metadata::validate_conditions(STATUS.child("conditions"), status, errors);
        for count in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            nonnegative(STATUS.child(count), &status[count], errors);
        }
    }

    /// Upstream has no rule of its own for these names, only that of all objects.
    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Min Available", "string", "The minimum number of pods that must be available."),
                col("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
                col("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let shown = |v: &Value| match v {
            Value::Null => "N/A".into(),
            Value::String(s) => s.as_str().into(),
            other => other.to_string().into(),
        };
        let spec = &o["spec"];
        vec![
            name(o),
            shown(&spec["minAvailable"]),
            shown(&spec["maxUnavailable"]),
            number(&o["status"]["disruptionsAllowed"]),
            age(o, now),
        ]
    }
}
