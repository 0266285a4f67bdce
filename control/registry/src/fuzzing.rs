//! What decodes fields of stored objects, for tests/fuzz alone.

use serde_json::Value;

use crate::fields::Set;

/// A `FieldsV1` as it is written again, and the paths in it.
pub fn fields(value: &Value) -> (Value, Vec<String>) {
    let set = Set::from_json(value);
    (set.to_json(), set.paths())
}
