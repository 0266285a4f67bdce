//! Creating an object.

use copepod_model::{FieldError, Status};
use copepod_state::Require;
use serde_json::Value;

use crate::adapt;
use crate::admission::{self, Operation, Review};
use crate::call::Call;
use crate::decision::Decision;
use crate::fields::{managers, told};
use crate::value::{self, text};

/// Characters that a generated name ends in.
const SUFFIX: usize = 5;
/// How long a prefix may be so that the name is one of at most 63 characters.
const PREFIX: usize = 63 - SUFFIX;

/// Decides a POST of an object.
pub(crate) fn create(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (mut object, warnings) = call.object()?;
    call.settle_namespace(&mut object)?;
    let name = text(&object["metadata"], "name").to_string();
    if !name.is_empty() {
        call.key.name = name.into();
    }
    let told = told::told(call, &object, &Value::Null);
    value::child(&mut object, "metadata").remove("managedFields");
    create_object(call, object, warnings, None, told)
}

/// Creates `object`, whose form is checked and whose namespace is the request's. `applied` is set by server-side apply:
/// the manager's fields, which are those that it named. Who manages fields besides is `told`.
pub(crate) fn create_object(
    call: &mut Call<'_, '_>,
    mut object: Value,
    warnings: Vec<String>,
    applied: Option<managers::Applied>,
    told: Option<Vec<managers::Entry>>,
) -> Result<Decision, Status> {
    if !text(&object["metadata"], "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    admission::namespace_exists(call)?;
    name(call, &mut object)?;
    stamp(call, &mut object);

    call.kind.strategy.default(&mut object);
    if call.kind.status {
        value::remove(&mut object, "status");
    }
    adapt::complete(&call.registry.schema, call.ty, &mut object);
    let entries = managers::created(call, &object, applied, told);
    call.kind.strategy.prepare_create(&mut object);
    call.kind.strategy.record_requester(&mut object, &call.req.user);
    adapt::complete(&call.registry.schema, call.ty, &mut object);
    let mut review = Review::new(call, Operation::Create, None);
    admission::mutate(&mut review, &mut object)?;
    let mut effects = review.effects;
    call.validate(&object, None)?;
    let mut review = Review::new(call, Operation::Create, None);
    admission::validate(&mut review, &object)?;
    effects.merge(review.effects);

    if call.env.view.get(&call.key.resource, &call.key.namespace, &call.key.name).is_some() {
        return Err(Status::already_exists(&call.resource(), &call.key.name));
    }
    call.refuse(&told::errors(&entries), &call.key.name)?;
    entries.write(&mut object, call.env.now);
    effects.require.extend(admission::namespace_unchanged(call));
    let absent = Require::Absent(call.key.clone());
    call.put(absent, object, effects, 201, warnings)
}

/// Generates a name if only a prefix is given, one that nothing has yet.
fn name(call: &mut Call<'_, '_>, object: &mut Value) -> Result<(), Status> {
    if !call.key.name.is_empty() {
        return Ok(());
    }
    let prefix = text(&object["metadata"], "generateName");
    if prefix.is_empty() {
        let missing = FieldError::required("metadata.name", "name or generateName is required");
        return call.refuse(&[missing], "");
    }
    let end = (0..=prefix.len().min(PREFIX)).rev().find(|i| prefix.is_char_boundary(*i)).unwrap_or(0);
    for _ in 0..8 {
        let name = format!("{}{}", &prefix[..end], call.env.ids.suffix(SUFFIX));
        let free = call.env.view.get(&call.key.resource, &call.key.namespace, &name).is_none();
        call.key.name = name.into();
        if free {
            break;
        }
    }
    value::child(object, "metadata").insert("name".into(), (*call.key.name).into());
    Ok(())
}

/// Sets the metadata that only the server sets.
fn stamp(call: &mut Call<'_, '_>, object: &mut Value) {
    let meta = value::child(object, "metadata");
    for name in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        meta.remove(name);
    }
    meta.insert("uid".into(), call.env.ids.uid().into());
    meta.insert("creationTimestamp".into(), call.env.now.rfc3339().into());
    if call.kind.generation {
        meta.insert("generation".into(), 1.into());
    }
}
