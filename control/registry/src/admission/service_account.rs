//! ServiceAccount: every pod runs as a service account of its namespace, and that exists.
//!
//! Here is also where the projected token volume will be added to pods whose account asks for it, once the server issues
//! tokens for pods: between the two steps below.

use copepod_model::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::value::{self, list, text};

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn mutate(review: &mut Review<'_>, object: &mut Value) -> Result<(), Status> {
    let create = review.operation == Operation::Create && review.whole();
    if !create || &*review.key.resource != "pods" || object["metadata"]["annotations"].get(MIRROR).is_some() {
        return Ok(());
    }
    let spec = value::child(object, "spec");
    let unset = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().is_empty();
    if unset(spec.get("serviceAccountName")) {
        // The old name of the field still counts.
        let name = spec.get("serviceAccount").filter(|v| !unset(Some(v))).cloned().unwrap_or_else(|| DEFAULT.into());
        spec.insert("serviceAccountName".into(), name);
    }
    let name = spec.get("serviceAccountName").cloned().unwrap_or_default();
    spec.insert("serviceAccount".into(), name);
    let name = text(&object["spec"], "serviceAccountName");
    let namespace = &*review.key.namespace;
    let Some(account) = review.view.get("serviceaccounts", namespace, name) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(review.forbid(&why));
    };
    // The account's pull secrets are those of pods that bring none of their own.
    let secrets = account.value()["imagePullSecrets"].take();
    if list(&object["spec"], "imagePullSecrets").is_empty() && secrets.as_array().is_some_and(|s| !s.is_empty()) {
        value::child(object, "spec").insert("imagePullSecrets".into(), secrets);
    }
    Ok(())
}
