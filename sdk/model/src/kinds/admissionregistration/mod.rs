//! The group `admissionregistration.k8s.io`, `v1`: what webhooks and policies share. The objects are served, checked and kept;
//! neither are webhooks called nor expressions (CEL) compiled or evaluated.

mod match_resources;
pub mod mutating_webhook_configuration;
mod rules;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;
mod webhook;

use serde_json::Value;

use super::fields::{Path, list, text};
use super::{Kind, Strategy, names};
use crate::FieldError;

/// The group's name.
pub const GROUP: &str = "admissionregistration.k8s.io";
/// Group and version.
const V1: (&str, &str) = (GROUP, "v1");
const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];

/// A kind of the group.
/// Why policies and their bindings have no effect.
const UNEVALUATED: &str = "admission policies are not evaluated";

fn kind(name: &'static str, plural: (&'static str, &'static str), strategy: impl Strategy + 'static) -> Kind {
    let kind = Kind::new(V1, name, plural, strategy);
    Kind { namespaced: false, generation: true, categories: &["api-extensions"], ..kind }
}

/// Rules of `matchConditions`.
fn match_conditions(path: Path<'_>, of: &Value, errors: &mut Vec<FieldError>) {
    let all = list(of, "matchConditions");
    if all.len() > 64 {
        errors.push(FieldError::too_many(path, all.len(), 64));
    }
    for (i, condition) in all.iter().enumerate() {
        let path = path.index(i);
        if text(condition, "expression").trim().is_empty() {
            errors.push(FieldError::required(path.child("expression"), ""));
        }
        let name = text(condition, "name");
        super::fields::required(path.child("name"), name, names::qualified, errors);
        if !name.is_empty() && all[..i].iter().any(|other| text(other, "name") == name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
    }
}
