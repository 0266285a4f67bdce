//! ReferenceGrant.

use serde_json::Value;

use super::{AGE, CATEGORIES, Outline, structure};
use crate::kinds::table::name;
use crate::kinds::{Column, Kind, NAME, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let version = ("gateway.networking.k8s.io", "v1beta1");
    Kind {
        short_names: &["refgrant"],
        categories: CATEGORIES,
        generation: true,
        ..Kind::new(version, "ReferenceGrant", ("referencegrants", "referencegrant"), ReferenceGrant)
    }
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"));

struct ReferenceGrant;

impl Strategy for ReferenceGrant {
    fn default(&self, object: &mut Value) {
        OUTLINE.fill(object, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        OUTLINE.check(object, "spec", errors);
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), age(o, now)]
    }
}
