//! The group `apps`.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use serde_json::Value;

use super::core::podspec;
use super::fields::{Fields, Path, ensure, nonnegative, text};
use super::metadata;
use crate::FieldError;
use crate::selector::LabelSelector;

/// Group and version.
const V1: (&str, &str) = ("apps", "v1");
const SPEC: Path<'static> = Path::root("spec");

/// Defaults of `spec.template`.
fn default_template(spec: &mut Fields) {
    if let Some(spec) = ensure(spec, "template").and_then(|t| ensure(t, "spec")) {
        podspec::default_template(spec);
    }
}

/// Rules that every workload of long-running replicas has: replicas, selector and template.
fn validate_replicated(spec: &Value, errors: &mut Vec<FieldError>) {
    nonnegative(SPEC.child("replicas"), &spec["replicas"], errors);
    nonnegative(SPEC.child("minReadySeconds"), &spec["minReadySeconds"], errors);
    let (selector, template) = (&spec["selector"], &spec["template"]);
    if selector.is_null() {
        errors.push(FieldError::required(SPEC.child("selector"), ""));
    } else {
        let before = errors.len();
        metadata::validate_selector(SPEC.child("selector"), selector, errors);
        let parsed = LabelSelector::from_json(selector).ok().filter(|_| errors.len() == before);
        if let Some(s) = parsed {
            if s.is_empty() {
                let why = "empty selector is invalid for deployment";
                errors.push(FieldError::invalid(SPEC.child("selector"), selector.clone(), why));
            }
            let labels = &template["metadata"]["labels"];
            if !s.matches_with(|k| labels[k].as_str()) {
                let why = "`selector` does not match template `labels`";
                let value = if labels.is_null() { Value::Object(Fields::new()) } else { labels.clone() };
                errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
            }
        }
    }
    podspec::validate_template(SPEC.child("template"), template, errors);
    let pod = &template["spec"];
    let restart = text(pod, "restartPolicy");
    if matches!(restart, "OnFailure" | "Never") {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", restart, &["Always"]));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

/// Whether a `metav1.LabelSelector` asks for nothing.
fn is_empty_selector(selector: &Value) -> bool {
    LabelSelector::from_json(selector).is_ok_and(|s| s.is_empty())
}
