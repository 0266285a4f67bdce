//! ClusterRoleBinding.

use serde_json::Value;

use crate::kinds::{Column, Kind, Strategy, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        ..Kind::new(super::V1, "ClusterRoleBinding", ("clusterrolebindings", "clusterrolebinding"), ClusterRoleBinding)
    }
}

struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {
    fn default(&self, object: &mut Value) {
        super::default_binding(object);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        super::validate_binding(object, false, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        super::validate_binding_update(new, old, errors);
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn columns(&self) -> Vec<Column> {
        super::binding_columns()
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        super::binding_cells(o, now)
    }
}
