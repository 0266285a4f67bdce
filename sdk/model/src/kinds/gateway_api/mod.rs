//! The group `gateway.networking.k8s.io` (Gateway API): upstream has it by CustomResourceDefinitions, so their structural schemas
//! say what is well formed and what is filled in; what their validation rules say besides is written here, in their words.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::kinds::fields::{Path, list, text};
use crate::kinds::{Column, Kind, Strategy};
use crate::schema::Schema;
use crate::schema::structural::Structure;
use crate::{FieldError, Time};

pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod reference_grant;
mod route;
pub mod tcp_route;
pub mod tls_route;

#[cfg(test)]
mod tests;

/// Group and version.
const V1: (&str, &str) = ("gateway.networking.k8s.io", "v1");
const CATEGORIES: &[&str] = &["gateway-api"];
const SPEC: Path<'static> = Path::root("spec");

/// A kind of the group.
fn kind(name: &'static str, plural: (&'static str, &'static str), rules: impl Rules) -> Kind {
    Kind { status: true, generation: true, categories: CATEGORIES, ..Kind::new(V1, name, plural, Defined(rules)) }
}

/// What a kind of the group has besides its names.
trait Rules: Send + Sync + 'static {
    /// Its schema.
    fn outline(&self) -> &'static Outline;

    /// Errors of a spec that the schema takes.
    fn validate(&self, _spec: &Value, _errors: &mut Vec<FieldError>) {}

    /// Further errors of a change.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// The conditions of a new object, until a controller has a word.
    fn pending(&self) -> &'static [&'static str] {
        &[]
    }

    /// The columns of its Table.
    fn columns(&self) -> Vec<Column>;

    /// The cells of one row.
    fn cells(&self, o: &Value, now: Time) -> Vec<Value>;
}

/// The strategy of such a kind.
struct Defined<R>(R);

impl<R: Rules> Strategy for Defined<R> {
    fn default(&self, object: &mut Value) {
        self.0.outline().fill(object, "spec");
        self.0.outline().fill(object, "status");
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if !self.0.outline().check(object, "spec", errors) {
            self.0.validate(&object["spec"], errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.0.validate_update(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        self.0.outline().check(new, "status", errors);
    }

    fn prepare_create(&self, object: &mut Value) {
        let types = self.0.pending();
        if object.is_object() && !types.is_empty() {
            object["status"] = pending(types);
        }
    }

    fn columns(&self) -> Vec<Column> {
        self.0.columns()
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        self.0.cells(o, now)
    }
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

/// The status of a new object.
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
