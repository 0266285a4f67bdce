//! CSIDriver.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kinds::fields::{Path, fill_absent, immutable, is_true, list, one_of, spec_mut, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { namespaced: false, ..Kind::new(super::V1, "CSIDriver", ("csidrivers", "csidriver"), CsiDriver) }
}

struct CsiDriver;

const SPEC: Path<'static> = Path::root("spec");
/// The shortest time between two looks at how many volumes a node takes, in seconds.
const SHORTEST_PERIOD: i64 = 10;

impl Strategy for CsiDriver {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "attachRequired", || true.into());
        for off in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
            fill_absent(spec, off, || false.into());
        }
        fill_absent(spec, "fsGroupPolicy", || "ReadWriteOnceWithFSType".into());
        if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        for (field, shown) in [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ] {
            if spec[field].is_null() {
                errors.push(FieldError::required(SPEC.child(shown), ""));
            }
        }
        if let Some(policy) = spec["fsGroupPolicy"].as_str() {
            let all = ["File", "None", "ReadWriteOnceWithFSType"];
            one_of(SPEC.child("fsGroupPolicy"), policy, &all, errors);
        }
        let path = SPEC.child("tokenRequests");
        let mut audiences = BTreeSet::new();
        for (i, request) in list(spec, "tokenRequests").iter().enumerate() {
            let path = path.index(i);
            let audience = text(request, "audience");
            if !audiences.insert(audience) {
                errors.push(FieldError::duplicate(path.child("audience"), audience));
                continue;
            }
            if let Some(seconds) = request["expirationSeconds"].as_i64() {
                let at = path.child("expirationSeconds");
                if seconds < 600 {
                    let why = "may not specify a duration less than 10 minutes";
                    errors.push(FieldError::invalid(at, seconds, why));
                }
                if seconds > 1 << 32 {
                    let why = "may not specify a duration larger than 2^32 seconds";
                    errors.push(FieldError::invalid(at, seconds, why));
                }
            }
        }
        for mode in list(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
            one_of(SPEC.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"], errors);
        }
        if spec["seLinuxMount"].is_null() {
            errors.push(FieldError::required(SPEC.child("seLinuxMount"), ""));
        }
        let period = "nodeAllocatableUpdatePeriodSeconds";
        if let Some(seconds) = spec[period].as_i64().filter(|s| *s < SHORTEST_PERIOD) {
            let why = format!("must be greater than or equal to {SHORTEST_PERIOD} seconds");
            errors.push(FieldError::invalid(SPEC.child(period), seconds, why));
        }
        let secret = "serviceAccountTokenInSecrets";
        if !spec[secret].is_null() && list(spec, "tokenRequests").is_empty() {
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(FieldError::invalid(SPEC.child(secret), spec[secret].clone(), why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (n, o) = (&new["spec"], &old["spec"]);
        immutable(SPEC.child("attachedRequired"), &n["attachRequired"], &o["attachRequired"], errors);
        let path = SPEC.child("volumeLifecycleModes");
        immutable(path, &n["volumeLifecycleModes"], &o["volumeLifecycleModes"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "AttachRequired",
                    "boolean",
                    "attachRequired indicates this CSI volume driver requires an attach operation.",
                ),
                col(
                    "PodInfoOnMount",
                    "boolean",
                    "podInfoOnMount indicates this CSI volume driver requires additional pod information.",
                ),
                col(
                    "StorageCapacity",
                    "boolean",
                    "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity.",
                ),
                col(
                    "TokenRequests",
                    "string",
                    "tokenRequests indicates the CSI driver needs pods' service account tokens.",
                ),
                col(
                    "RequiresRepublish",
                    "boolean",
                    "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called.",
                ),
                col(
                    "Modes",
                    "string",
                    "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports.",
                ),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        let join = |all: Vec<&str>, none: &'static str| match all.is_empty() {
            true => none.to_string(),
            false => all.join(","),
        };
        let tokens = list(spec, "tokenRequests").iter().map(|t| text(t, "audience")).collect();
        let modes = list(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
        vec![
            name(o),
            spec["attachRequired"].as_bool().unwrap_or(true).into(),
            is_true(spec, "podInfoOnMount").into(),
            is_true(spec, "storageCapacity").into(),
            join(tokens, "<unset>").into(),
            is_true(spec, "requiresRepublish").into(),
            join(modes, "<none>").into(),
            age(o, now),
        ]
    }
}
