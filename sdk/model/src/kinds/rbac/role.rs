//! Role.

use serde_json::Value;

use crate::kinds::{Column, Kind, Strategy, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { namespaced: true, ..Kind::new(super::V1, "Role", ("roles", "role"), Role) }
}

struct Role;

impl Strategy for Role {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        super::validate_rules(object, true, errors);
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn columns(&self) -> Vec<Column> {
        super::role_columns()
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        super::role_cells(o)
    }
}
