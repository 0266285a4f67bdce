//! StatefulSet.

use serde_json::{Value, json};

use super::{SPEC, V1};
use crate::kinds::core::podspec;
use crate::kinds::fields::{
    Fields, Path, check, ensure, fill, fill_absent, items_mut, list, nonnegative, one_of, spec_mut, text,
};
use crate::kinds::int_or_percent::{Bound, at_most_all};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["sts"],
        categories: &["all"],
        status: true,
        scale: Some(workload::SCALE),
        generation: true,
        ..Kind::new(V1, "StatefulSet", ("statefulsets", "statefulset"), StatefulSet)
    }
}

struct StatefulSet;

/// The fields of the spec that may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const RETENTION: [&str; 2] = ["Retain", "Delete"];

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = ensure(spec, "updateStrategy") {
            if text_of(strategy, "type").is_empty() {
                fill(strategy, "type", "RollingUpdate");
                ensure(strategy, "rollingUpdate");
            }
            let rolling = strategy["type"] == "RollingUpdate";
            if let Some(r) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut).filter(|_| rolling) {
                fill_absent(r, "partition", || 0.into());
                fill_absent(r, "maxUnavailable", || 1.into());
            }
        }
        if let Some(policy) = ensure(spec, "persistentVolumeClaimRetentionPolicy") {
            fill(policy, "whenDeleted", "Retain");
            fill(policy, "whenScaled", "Retain");
        }
        fill_absent(spec, "replicas", || 1.into());
        fill_absent(spec, "revisionHistoryLimit", || 10.into());
        workload::default_template(spec);
        for claim in items_mut(spec, "volumeClaimTemplates") {
            fill(claim, "apiVersion", "v1");
            fill(claim, "kind", "PersistentVolumeClaim");
            if let Some(claim) = ensure(claim, "spec") {
                fill_absent(claim, "volumeMode", || "Filesystem".into());
            }
            if let Some(status) = ensure(claim, "status") {
                fill(status, "phase", "Pending");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let policy = text(spec, "podManagementPolicy");
        if !matches!(policy, "OrderedReady" | "Parallel") {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(SPEC.child("podManagementPolicy"), policy, why));
        }
        update_strategy(SPEC.child("updateStrategy"), &spec["updateStrategy"], errors);
        let retention = SPEC.child("persistentVolumeClaimRetentionPolicy");
        for when in ["whenDeleted", "whenScaled"] {
            let given = text(&spec["persistentVolumeClaimRetentionPolicy"], when);
            one_of(retention.child(when), given, &RETENTION, errors);
        }
        for count in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
            nonnegative(SPEC.child(count), &spec[count], errors);
        }
        nonnegative(SPEC.child("ordinals.start"), &spec["ordinals"]["start"], errors);
        if let Some(service) = spec["serviceName"].as_str().filter(|s| !s.is_empty()) {
            check(SPEC.child("serviceName"), service, names::label, errors);
        }
        let chosen = &spec["selector"];
        if chosen.is_null() {
            errors.push(FieldError::required(SPEC.child("selector"), ""));
        }
        metadata::validate_selector(SPEC.child("selector"), chosen, errors);
        if !workload::empty_selector(SPEC.child("selector"), chosen, "statefulset", errors) {
            workload::matches_template(SPEC.child("template"), chosen, &spec["template"], errors);
        }
        podspec::validate_template(SPEC.child("template"), &with_claims(spec), errors);
        workload::runs_always(SPEC.child("template"), &spec["template"], "StatefulSet", errors);
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::label(name)
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let fixed = |o: &Value| {
            let mut spec = o["spec"].as_object().cloned().unwrap_or_default();
            spec.retain(|k, v| !MUTABLE.contains(&k.as_str()) && !v.is_null());
            spec
        };
        if fixed(new) != fixed(old) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden("spec", why));
        }
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let counts = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let at_most = [
            ("readyReplicas", "status.replicas"),
            ("currentReplicas", "status.replicas"),
            ("updatedReplicas", "status.replicas"),
            ("availableReplicas", "status.replicas"),
            ("availableReplicas", "status.readyReplicas"),
        ];
        workload::status_counts(&new["status"], &counts, &at_most, errors);
        workload::collisions(new, old, errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Ready", "string", "Number of the pod with ready state")], &workload::LAYOUT[..2])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let count = |v: &Value| v.as_i64().unwrap_or(0);
        let (names, images) = podspec::layout(&o["spec"]["template"]["spec"]);
        let ready = format!("{}/{}", count(&o["status"]["readyReplicas"]), count(&o["spec"]["replicas"]));
        vec![name(o), ready.into(), age(o, now), names.into(), images.into()]
    }
}

fn text_of<'a>(m: &'a Fields, name: &str) -> &'a str {
    m.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The template with a volume for each claim: its containers may mount them.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let claims = list(spec, "volumeClaimTemplates").iter().map(|c| text(&c["metadata"], "name"));
    let pod = template.as_object_mut().and_then(|t| ensure(t, "spec"));
    if let Some(volumes) = pod.map(|p| p.entry("volumes").or_insert_with(|| json!([])))
        && let Some(volumes) = volumes.as_array_mut()
    {
        for claim in claims {
            // A claim takes the place of a volume of its name.
            volumes.retain(|v| v["name"] != claim);
            volumes.push(json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
        }
    }
    template
}

fn update_strategy(path: Path<'_>, strategy: &Value, errors: &mut Vec<FieldError>) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "OnDelete" if !rolling.is_null() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(path.child("rollingUpdate"), rolling.clone(), why));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            nonnegative(path.child("partition"), &rolling["partition"], errors);
            let unavailable = &rolling["maxUnavailable"];
            let at = path.child("maxUnavailable");
            if !unavailable.is_null() && at_most_all(at, unavailable, errors) == Some(Bound::Zero) {
                errors.push(FieldError::invalid(at, unavailable.clone(), "cannot be 0"));
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), why));
        }
    }
}
