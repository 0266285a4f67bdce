//! CSIStorageCapacity.

use serde_json::Value;

use crate::kinds::fields::{Path, check, immutable, text};
use crate::kinds::table::{col, name};
use crate::kinds::{Column, Kind, NAME, Strategy, metadata, names};
use crate::quantity::{ParseError, Quantity};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let words = ("csistoragecapacities", "csistoragecapacity");
    Kind::new(super::V1, "CSIStorageCapacity", words, CsiStorageCapacity)
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        metadata::validate_selector(Path::root("nodeTopology"), &object["nodeTopology"], errors);
        check(Path::root("storageClassName"), text(object, "storageClassName"), names::subdomain, errors);
        for field in ["capacity", "maximumVolumeSize"] {
            let Some(amount) = object[field].as_str() else { continue };
            let why = match amount.parse::<Quantity>() {
                Err(ParseError) => ParseError.to_string(),
                // Upstream does not ask it of the size of a volume.
                Ok(q) if q.is_negative() && field == "capacity" => "must be greater than or equal to 0".into(),
                Ok(_) => continue,
            };
            errors.push(FieldError::invalid(field, amount, why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["nodeTopology", "storageClassName"] {
            immutable(Path::root(field), &new[field], &old[field], errors);
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            col(
                "StorageClassName",
                "string",
                "storageClassName represents the name of the StorageClass that the reported capacity applies to.",
            ),
            col("Capacity", "string", "capacity is the value reported by the CSI driver in its GetCapacityResponse."),
        ]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        let capacity = o["capacity"].as_str().unwrap_or("<unset>");
        vec![name(o), text(o, "storageClassName").into(), capacity.into()]
    }
}
