//! StorageObjectInUseProtection: volumes and claims are kept while something uses them. The controller
//! `storage_protection` lets them go.

use copepod_model::Status;
use serde_json::Value;

use super::Review;
use crate::value;

pub(super) fn mutate(review: &mut Review<'_>, object: &mut Value) -> Result<(), Status> {
    let finalizer = if review.creates("persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if review.creates("persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else {
        return Ok(());
    };
    let all = value::child(object, "metadata").entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
    if let Some(all) = all.as_array_mut()
        && !all.iter().any(|f| f == finalizer)
    {
        all.push(finalizer.into());
    }
    Ok(())
}
