//! NamespaceLifecycle: objects are created only in namespaces that exist and stay, and some namespaces cannot be deleted.

use copepod_model::status::Cause;
use copepod_model::{Key, Status};
use copepod_state::Require;
use serde_json::Value;

use super::{Operation, Review};
use crate::call::Call;

const NAMESPACES: &str = "namespaces";
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// Refuses a create in a namespace that is missing or on its way out.
pub(crate) fn exists(call: &Call<'_, '_>) -> Result<(), Status> {
    if !call.kind.namespaced {
        return Ok(());
    }
    let name = &*call.key.namespace;
    let Some(namespace) = call.env.view.get(NAMESPACES, "", name) else {
        return Err(Status::not_found(NAMESPACES, name));
    };
    if namespace.meta.deletion_timestamp.is_none() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(&call.resource(), &call.key.name, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}

/// That the namespace of a create is still as [`exists`] found it. Upstream races here and leaves the rest to the
/// namespace controller; a precondition costs nothing.
pub(crate) fn unchanged(call: &Call<'_, '_>) -> Option<Require> {
    let namespace = call.kind.namespaced.then(|| call.env.view.get(NAMESPACES, "", &call.key.namespace)).flatten()?;
    Some(Require::At(namespace.key.clone(), namespace.revision))
}

pub(super) fn validate(review: &mut Review<'_>, _object: &Value) -> Result<(), Status> {
    let Key { resource, name, .. } = review.key;
    if review.operation == Operation::Delete && &**resource == NAMESPACES && IMMORTAL.contains(&&**name) {
        return Err(review.forbid("this namespace may not be deleted"));
    }
    Ok(())
}
