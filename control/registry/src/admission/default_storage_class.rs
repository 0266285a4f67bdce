//! DefaultStorageClass: a claim that names no class gets the one that is marked as default.

use copepod_model::Status;
use copepod_model::kinds::storage::storage_class::IS_DEFAULT;
use serde_json::Value;

use super::Review;
use crate::value;

const CLASSES: &str = "storageclasses.storage.k8s.io";
/// The annotation that named the class before there was a field for it.
const OLD: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn mutate(review: &mut Review<'_>, claim: &mut Value) -> Result<(), Status> {
    if !review.creates("persistentvolumeclaims")
        || claim["spec"].get("storageClassName").is_some_and(|c| !c.is_null())
        || claim["metadata"]["annotations"].get(OLD).is_some()
    {
        return Ok(());
    }
    let marked = |v: Option<&Box<str>>| v.is_some_and(|v| &**v == "true");
    let default = review
        .view
        .list(CLASSES, None)
        .filter(|c| IS_DEFAULT.iter().any(|a| marked(c.meta.annotations.get(*a))))
        // The newest wins; of two as new, the first by name.
        .max_by(|a, b| a.meta.created().cmp(&b.meta.created()).then_with(|| b.name().cmp(a.name())));
    if let Some(class) = default {
        value::child(claim, "spec").insert("storageClassName".into(), class.name().into());
    }
    Ok(())
}
