//! The group `gateway.networking.k8s.io` (Gateway API): upstream has it by CustomResourceDefinitions, so their structural schemas
//! say what is well formed and what is filled in; what their validation rules say besides is written here, in their words.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::FieldError;
use crate::kinds::fields::{Path, list, text};
use crate::kinds::{Column, Kind, Strategy};
use crate::schema::Schema;
use crate::schema::structural::Structure;

pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod reference_grant;
mod route;

#[cfg(test)]
mod tests;

/// Group and version.
const V1: (&str, &str) = ("gateway.networking.k8s.io", "v1");
const CATEGORIES: &[&str] = &["gateway-api"];
const SPEC: Path<'static> = Path::root("spec");

/// A kind of the group.
fn kind(name: &'static str, plural: (&'static str, &'static str), strategy: impl Strategy + 'static) -> Kind {
    Kind { status: true, generation: true, categories: CATEGORIES, ..Kind::new(V1, name, plural, strategy) }
}

/// The schema of one of the kinds, made when it is first asked.
struct Outline(LazyLock<Structure>);

impl Outline {
    const fn new(of: fn() -> Structure) -> Outline {
        Outline(LazyLock::new(of))
    }

    /// Fills in the defaults of a part of an object.
    fn fill(&self, object: &mut Value, part: &str) {
        if let (Some(schema), Some(value)) = (self.0.property(part), object.get_mut(part)) {
            schema.fill(value);
        }
    }

    /// Adds what is malformed in a part of an object; answers whether anything is.
    fn check(&self, object: &Value, part: &'static str, errors: &mut Vec<FieldError>) -> bool {
        let before = errors.len();
        match (self.0.property(part), object.get(part)) {
            (Some(schema), Some(value)) => schema.check(Path::root(part), value, errors),
            (Some(_), None) if part == "spec" => errors.push(FieldError::required(Path::root(part), "")),
            _ => {}
        }
        errors.len() > before
    }
}

fn structure(version: &str, kind: &str) -> Structure {
    Schema::outlined(version, kind).unwrap_or_default()
}

/// Adds a validation rule's message unless it holds; `ty` is the JSON type of what it is about.
fn rule(path: Path<'_>, ty: &str, holds: bool, message: &str, errors: &mut Vec<FieldError>) {
    if !holds {
        errors.push(FieldError::invalid(path, ty, message));
    }
}

/// The status of a new object, until a controller has a word.
fn pending(types: &[&str]) -> Value {
    let condition = |ty: &&str| {
        json!({"type": ty, "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z"})
    };
    json!({"conditions": types.iter().map(condition).collect::<Vec<_>>()})
}

/// A printer column of a CustomResourceDefinition.
const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", priority: 0, description }
}

const AGE: Column = Column {
    name: "Age",
    kind: "date",
    format: "",
    priority: 0,
    description: "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp",
};

/// The cell of a text: null where it is absent.
fn cell(v: &Value, field: &str) -> Value {
    v.get(field).filter(|v| v.is_string()).cloned().unwrap_or_default()
}

/// The cell of a condition's status.
fn condition(object: &Value, ty: &str) -> Value {
    let found = list(&object["status"], "conditions").iter().find(|c| text(c, "type") == ty);
    found.map(|c| cell(c, "status")).unwrap_or_default()
}
