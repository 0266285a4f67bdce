//! CSINode.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::core::persistent_volume::csi_driver_name;
use crate::kinds::fields::{Path, any, check, immutable, list, nonnegative, required, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { namespaced: false, ..Kind::new(super::V1, "CSINode", ("csinodes", "csinode"), CsiNode) }
}

struct CsiNode;

const DRIVERS: Path<'static> = Path::root("spec.drivers");
/// How long a node's id may be, in bytes.
const NODE_ID: usize = 256;

impl Strategy for CsiNode {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut seen = BTreeSet::new();
        for (i, driver) in list(&object["spec"], "drivers").iter().enumerate() {
            let path = DRIVERS.index(i);
            let driver_name = text(driver, "name");
            required(path.child("name"), driver_name, csi_driver_name, errors);
            let id = text(driver, "nodeID");
            required(path.child("nodeID"), id, any, errors);
            if id.len() > NODE_ID {
                let why = format!("must be {NODE_ID} characters or less");
                errors.push(FieldError::invalid(path.child("nodeID"), id, why));
            }
            let allocatable = path.child("allocatable");
            nonnegative(allocatable.child("count"), &driver["allocatable"]["count"], errors);
            if !seen.insert(driver_name) {
                errors.push(FieldError::duplicate(path.child("name"), driver_name));
            }
            let mut keys = BTreeSet::new();
            // Upstream's errors of the keys name the driver.
            for key in list(driver, "topologyKeys").iter().filter_map(Value::as_str) {
                if key.is_empty() {
                    errors.push(FieldError::required(path, ""));
                }
                if !keys.insert(key) {
                    errors.push(FieldError::duplicate(path, key));
                }
                check(path, key, names::qualified, errors);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for was in list(&old["spec"], "drivers") {
            for driver in list(&new["spec"], "drivers").iter().filter(|d| d["name"] == was["name"]) {
                immutable(DRIVERS, &fixed(driver), &fixed(was), errors);
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Drivers", "integer", "Drivers indicates the number of CSI drivers registered on the node")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), list(&o["spec"], "drivers").len().into(), age(o, now)]
    }
}

/// A driver without how many volumes the node takes, which it may find out anew (KEP-4876).
fn fixed(driver: &Value) -> Value {
    let mut out = driver.clone();
    if let Some(fields) = out.as_object_mut() {
        fields.remove("allocatable");
    }
    out
}
