//! DefaultIngressClass: an Ingress that names no class gets the one that is marked as default.

use copepod_model::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::value;

const INGRESSES: &str = "ingresses.networking.k8s.io";
const CLASSES: &str = "ingressclasses.networking.k8s.io";
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The annotation that named the class before there was a field for it.
const OLD: &str = "kubernetes.io/ingress.class";

pub(super) fn mutate(review: &mut Review<'_>, object: &mut Value) -> Result<(), Status> {
    let create = review.operation == Operation::Create && review.whole();
    if !create
        || &*review.key.resource != INGRESSES
        || object["spec"].get("ingressClassName").is_some_and(|c| !c.is_null())
        || object["metadata"]["annotations"].get(OLD).is_some()
    {
        return Ok(());
    }
    let default = review
        .view
        .list(CLASSES, None)
        .filter(|c| c.meta.annotations.get(IS_DEFAULT).is_some_and(|v| &**v == "true"))
        // The newest wins; of two as new, the first by name.
        .max_by(|a, b| a.meta.created().cmp(&b.meta.created()).then_with(|| b.name().cmp(a.name())));
    if let Some(class) = default {
        value::child(object, "spec").insert("ingressClassName".into(), class.name().into());
    }
    Ok(())
}
