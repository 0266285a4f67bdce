//! ReferenceGrant.

use serde_json::Value;

use super::{AGE, CATEGORIES, Defined, Outline, Rules, structure};
use crate::Time;
use crate::kinds::table::name;
use crate::kinds::{Column, Kind, NAME, age};

/// The kind.
pub fn kind() -> Kind {
    let version = ("gateway.networking.k8s.io", "v1beta1");
    Kind {
        short_names: &["refgrant"],
        categories: CATEGORIES,
        generation: true,
        ..Kind::new(version, "ReferenceGrant", ("referencegrants", "referencegrant"), Defined(ReferenceGrant))
    }
}

struct ReferenceGrant;

impl Rules for ReferenceGrant {
    fn outline(&self) -> &'static Outline {
        static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"));
        &OUTLINE
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), age(o, now)]
    }
}
