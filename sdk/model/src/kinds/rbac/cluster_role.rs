//! ClusterRole.

use serde_json::Value;

use crate::kinds::fields::{Path, list};
use crate::kinds::{Column, Kind, Strategy, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { namespaced: false, ..Kind::new(super::V1, "ClusterRole", ("clusterroles", "clusterrole"), ClusterRole) }
}

struct ClusterRole;

impl Strategy for ClusterRole {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        super::validate_rules(object, false, errors);
        let aggregation = &object["aggregationRule"];
        if aggregation.is_object() {
            let path = Path::root("aggregationRule");
            let path = path.child("clusterRoleSelectors");
            let selectors = list(aggregation, "clusterRoleSelectors");
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(path, why));
            }
            for (i, s) in selectors.iter().enumerate() {
                metadata::validate_selector(path.index(i), s, errors);
            }
        }
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
