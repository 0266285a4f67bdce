//! ControllerRevision: a state that a controller may go back to.

use serde_json::Value;

use super::V1;
use crate::kinds::fields::{Path, immutable, is_true, list, nonnegative, text};
use crate::kinds::table::{col, columns, name, number};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind::new(V1, "ControllerRevision", ("controllerrevisions", "controllerrevision"), ControllerRevision)
}

struct ControllerRevision;

const DATA: Path<'static> = Path::root("data");

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if object["data"].is_null() {
            errors.push(FieldError::required(DATA, "data is mandatory"));
        }
        nonnegative(Path::root("revision"), &object["revision"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(DATA, &new["data"], &old["data"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Controller", "string", "Controller of the object"),
                col("Revision", "string", "Revision of the state that Data represents."),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let owner = list(&o["metadata"], "ownerReferences").iter().find(|r| is_true(r, "controller"));
        let controller = owner.map_or_else(
            || "<none>".into(),
            |r| {
                let group = text(r, "apiVersion").split_once('/').map_or(String::new(), |(g, _)| format!(".{g}"));
                format!("{}{group}/{}", text(r, "kind"), text(r, "name")).to_lowercase().into()
            },
        );
        vec![name(o), controller, number(&o["revision"]), age(o, now)]
    }
}
