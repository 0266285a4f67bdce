//! The group `apps`.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use serde_json::Value;

use super::core::podspec;
use super::fields::{Path, nonnegative};
use super::{metadata, workload};
use crate::FieldError;

/// Group and version.
const V1: (&str, &str) = ("apps", "v1");
const SPEC: Path<'static> = Path::root("spec");

/// Rules that every workload of long-running replicas has: replicas, selector and template.
fn validate_replicated(spec: &Value, errors: &mut Vec<FieldError>) {
    nonnegative(SPEC.child("replicas"), &spec["replicas"], errors);
    nonnegative(SPEC.child("minReadySeconds"), &spec["minReadySeconds"], errors);
    let (selector, template) = (&spec["selector"], &spec["template"]);
    let (at, before) = (SPEC.child("selector"), errors.len());
    metadata::validate_selector(at, selector, errors);
    if errors.len() > before {
        return errors.push(FieldError::invalid(at, selector.clone(), "invalid label selector"));
    }
    if selector.is_null() {
        errors.push(FieldError::required(at, ""));
    }
    // Upstream has these words, and those below, for ReplicaSets and Deployments alike.
    workload::empty_selector(at, selector, "deployment", errors);
    workload::matches_template(SPEC.child("template"), selector, template, errors);
    podspec::validate_template(SPEC.child("template"), template, errors);
    workload::runs_always(SPEC.child("template"), template, "ReplicaSet", errors);
}
