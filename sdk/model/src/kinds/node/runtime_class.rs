//! RuntimeClass.

use serde_json::{Value, json};

use crate::kinds::core::podspec;
use crate::kinds::fields::{Path, check, immutable, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        ..Kind::new(("node.k8s.io", "v1"), "RuntimeClass", ("runtimeclasses", "runtimeclass"), RuntimeClass)
    }
}

struct RuntimeClass;

const HANDLER: Path<'static> = Path::root("handler");

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        check(HANDLER, text(object, "handler"), names::label, errors);
        let overhead = &object["overhead"];
        if overhead.is_object() {
            let limits = json!({"limits": overhead["podFixed"]});
            podspec::validate_resources(Path::root("overhead"), &limits, &[], errors);
        }
        let scheduling = &object["scheduling"];
        if scheduling.is_object() {
            let path = Path::root("scheduling");
            metadata::validate_labels(path.child("nodeSelector"), &scheduling["nodeSelector"], errors);
            podspec::validate_tolerations(path.child("tolerations"), scheduling, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(HANDLER, &new["handler"], &old["handler"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let what = "handler specifies the underlying runtime and configuration that handles pods of this class.";
        columns(&[col("Handler", "string", what)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(o, "handler").into(), age(o, now)]
    }
}
