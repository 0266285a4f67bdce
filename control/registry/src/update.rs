//! Changing an object: what PUT, the patches, the status and the scale subresource have in common.

use std::sync::Arc;

use copepod_model::kinds::Kind;
use copepod_model::{Object, Status};
use copepod_state::{Op, Require};
use serde_json::Value;

use crate::adapt;
use crate::admission::{self, Operation, Review};
use crate::call::{Call, Part};
use crate::decision::{Answer, Decision, Reply};
use crate::fields::managers::{self, Applied};
use crate::fields::told;
use crate::value::{self, list, restore, restore_all_but, text};

/// Decides a PUT.
pub(crate) fn update(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (mut object, warnings) = call.object()?;
    match text(&object["metadata"], "name") {
        "" => {
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                call.key.name
            )));
        }
        name if name == &*call.key.name => {}
        name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.key.name
            )));
        }
    }
    call.settle_namespace(&mut object)?;
    let old = call.stored()?;
    let before = call.registry.unseal(call.env.view, &old)?;
    finish(call, Change { old, before, after: object, warnings, applied: None })
}

/// A change that is ready to be judged.
pub(crate) struct Change {
    /// The stored object.
    pub(crate) old: Arc<Object>,
    /// Its value, unsealed.
    pub(crate) before: Value,
    /// What the client wants it to be: decoded and normalised.
    pub(crate) after: Value,
    /// Warnings so far.
    pub(crate) warnings: Vec<String>,
    /// Of server-side apply.
    pub(crate) applied: Option<Applied>,
}

/// Decides the change of an object.
pub(crate) fn finish(call: &mut Call<'_, '_>, change: Change) -> Result<Decision, Status> {
    let (object, effects, change) = match settle(call, change)? {
        Settled::Changed(object, effects, change) => (object, effects, change),
        Settled::Same(object, warnings) => return Ok(Decision::Answer(Answer { code: 200, object, warnings })),
    };
    let at = Require::At(call.key.clone(), change.old.revision);
    if is_gone(&call.kind, &object) {
        return remove(call, at, object, *effects, change.warnings);
    }
    call.put(at, object, *effects, 200, change.warnings)
}

/// What became of a change.
pub(crate) enum Settled {
    /// The object to store, what admission adds, and the change (its `after` taken).
    Changed(Value, Box<admission::Effects>, Box<Change>),
    /// The stored object is already like that.
    Same(Value, Vec<String>),
}

/// Checks a change and completes the object: preconditions, what may not change, defaults, admission, validation,
/// generation and managed fields.
pub(crate) fn settle(call: &mut Call<'_, '_>, mut change: Change) -> Result<Settled, Status> {
    let mut after = std::mem::take(&mut change.after);
    let before = &change.before;
    preconditions(call, &change.old, &after)?;
    let told = told::told(call, &after, before);
    call.kind.strategy.default(&mut after);
    system_metadata(&mut after, before);
    match call.part {
        Part::Status => {
            only_status(&mut after, before);
            call.kind.strategy.prepare_status(&mut after, before);
        }
        Part::Other("finalize") => only_finalizers(&mut after, before),
        part => {
            if call.kind.status && !call.kind.strategy.owns_status(part.name()) {
                restore(value::object(&mut after), before, "status");
            }
            if let Part::Other(name) = part {
                call.kind.strategy.prepare_subresource(name, &mut after, before);
            }
        }
    }
    adapt::complete(&call.registry.schema, call.ty, &mut after);
    let applies = change.applied.is_some();
    let entries = managers::updated(call, before, &after, change.applied.take(), told);
    let managed = entries.differ_from(&before["metadata"]["managedFields"]);
    if matches!(call.part, Part::Whole | Part::Scale(_)) {
        call.kind.strategy.prepare_update(&mut after, before);
    }
    call.kind.strategy.stamp(&mut after, before, call.env.now);
    adapt::complete(&call.registry.schema, call.ty, &mut after);
    let mut review = Review::new(call, Operation::Update, Some(before));
    admission::mutate(&mut review, &mut after)?;
    let mut effects = review.effects;
    if value::same(&after, before) && !applies && !managed {
        // Who may not write may not write the same either.
        let mut review = Review::new(call, Operation::Update, Some(before));
        admission::validate(&mut review, &after)?;
        change.warnings.append(&mut review.effects.warnings);
        return Ok(Settled::Same(change.before, change.warnings));
    }
    if call.kind.generation && !value::same_spec(&after, before) {
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        value::child(&mut after, "metadata").insert("generation".into(), generation.into());
    }
    call.validate(&after, Some(before))?;
    let mut review = Review::new(call, Operation::Update, Some(before));
    admission::validate(&mut review, &after)?;
    effects.merge(review.effects);
    call.refuse(&told::errors(&entries), &call.key.name)?;
    if value::same(&after, before) && !managed {
        return Ok(Settled::Same(change.before, change.warnings));
    }
    entries.write(&mut after, call.env.now);
    // The resource version is the revision of the write, which is not known yet; a dry run answers the old one.
    let meta = value::child(&mut after, "metadata");
    restore(meta, &before["metadata"], "resourceVersion");
    Ok(Settled::Changed(after, Box::new(effects), Box::new(change)))
}

/// The optimistic lock and the uid that a client may send along.
fn preconditions(call: &Call<'_, '_>, old: &Object, after: &Value) -> Result<(), Status> {
    let meta = &after["metadata"];
    let uid = text(meta, "uid");
    if !uid.is_empty() && uid != &*old.meta.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.meta.uid);
        return Err(Status::conflict(&call.resource(), &call.key.name, &why));
    }
    match text(meta, "resourceVersion") {
        "" | "0" => Ok(()),
        version => match version.parse::<u64>() {
            Ok(version) if version == old.revision => Ok(()),
            Ok(_) => Err(Status::stale(&call.resource(), &call.key.name)),
            Err(_) => Err(Status::bad_request(format!("invalid resource version {version:?}"))),
        },
    }
}

/// Metadata that a change keeps, or that is filled in when the client leaves it out. A client that sends another value
/// is told so by validation.
fn system_metadata(after: &mut Value, before: &Value) {
    let old = &before["metadata"];
    let meta = value::child(after, "metadata");
    meta.remove("selfLink");
    for name in ["generation", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        restore(meta, old, name);
    }
    for name in ["uid", "creationTimestamp", "generateName"] {
        if meta.get(name).and_then(Value::as_str).unwrap_or_default().is_empty() {
            restore(meta, old, name);
        }
    }
}

/// A status write takes the status, and of the metadata what upstream's strategies let through.
fn only_status(after: &mut Value, before: &Value) {
    restore_all_but(value::object(after), before, &["metadata", "status"]);
    let own = ["uid", "creationTimestamp", "annotations", "finalizers"];
    restore_all_but(value::child(after, "metadata"), &before["metadata"], &own);
}

/// A write to `finalize` takes `spec.finalizers` alone.
fn only_finalizers(after: &mut Value, before: &Value) {
    restore_all_but(value::object(after), before, &["spec"]);
    restore_all_but(value::child(after, "spec"), &before["spec"], &["finalizers"]);
}

/// Whether nothing keeps a deleted object any longer. Pods wait for the kubelet, which deletes them with no grace; a
/// namespace waits for its own finalizers, which are in its spec.
pub(crate) fn is_gone(kind: &Kind, object: &Value) -> bool {
    let meta = &object["metadata"];
    meta["deletionTimestamp"].is_string()
        && list(meta, "finalizers").is_empty()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && (!keeps_own_finalizers(kind) || list(&object["spec"], "finalizers").is_empty())
}

/// Whether the kind has finalizers in its spec, which its `finalize` subresource takes away.
pub(crate) fn keeps_own_finalizers(kind: &Kind) -> bool {
    kind.subresources.iter().any(|(name, ..)| *name == "finalize")
}

/// Deletes what a change has released, and answers the object as it was last.
fn remove(
    call: &mut Call<'_, '_>,
    at: Require,
    object: Value,
    mut effects: admission::Effects,
    warnings: Vec<String>,
) -> Result<Decision, Status> {
    if call.req.dry_run {
        return Ok(Decision::Answer(Answer { code: 200, object, warnings }));
    }
    let mut review = Review::new(call, Operation::Delete, Some(&object));
    admission::released(&mut review, &object);
    effects.merge(review.effects);
    let op = Op::Delete { key: call.key.clone() };
    Ok(call.write(at, op, effects, object, Reply::Revised, 200, warnings))
}
