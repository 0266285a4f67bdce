//! VolumeAttributesClass.

use serde_json::Value;

use super::storage_class::{driver, parameters};
use crate::kinds::fields::{Path, required, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["vac"],
        namespaced: false,
        ..Kind::new(
            super::V1,
            "VolumeAttributesClass",
            ("volumeattributesclasses", "volumeattributesclass"),
            VolumeAttributesClass,
        )
    }
}

struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        required(Path::root("driverName"), text(object, "driverName"), driver, errors);
        parameters(object, false, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["driverName", "parameters"] {
            if new[field] != old[field] {
                errors.push(FieldError::forbidden(field, format!("updates to {field} are forbidden.")));
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("DriverName", "string", "Name of the CSI driver This field is immutable.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), text(o, "driverName").into(), age(o, now)]
    }
}
