//! The group `networking.k8s.io`.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;

use serde_json::Value;

use super::fields::{Path, check, required, text};
use super::names;
use crate::FieldError;

/// Group and version.
const V1: (&str, &str) = ("networking.k8s.io", "v1");

/// Rules of a reference to an object of any kind: the backend of an Ingress, the parameters of its class.
fn reference(path: Path<'_>, reference: &Value, errors: &mut Vec<FieldError>) {
    if let Some(group) = reference["apiGroup"].as_str() {
        check(path.child("apiGroup"), group, names::subdomain, errors);
    }
    for field in ["kind", "name"] {
        required(path.child(field), text(reference, field), names::path_segment, errors);
    }
}
