//! Patches: JSON (RFC 6902), JSON merge (RFC 7386), strategic merge and server-side apply.

mod bounds;

use std::borrow::Cow;

use copepod_model::request::{Body, PatchType};
use copepod_model::{FieldError, Object, Status};
use serde_json::Value;

use crate::adapt::{self, Ty};
use crate::call::Call;
use crate::decision::Decision;
use crate::fields::{apply, told};
use crate::update::{self, Change};
use crate::value::{self, text};
use bounds::Bounds;

/// Decides a PATCH of an object, or of its status.
pub(crate) fn patch(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let Body::Patch(format, patch) = &call.req.body else {
        return Err(Status::bad_request("the request's body is no patch"));
    };
    if *format == PatchType::Apply {
        return apply::apply(call, patch);
    }
    let old = call.stored()?;
    let before = call.registry.unseal(call.env.view, &old)?;
    let (api_version, kind) = (call.api_version(), call.kind.kind);
    let mut seen = Cow::Borrowed(&before);
    if call.version.is_some() {
        call.shown(seen.to_mut());
    }
    let (mut after, warnings) = patched(call, *format, patch, &seen, call.client_ty(), &api_version, kind)?;
    call.taken(&mut after);
    same_place(call, &after, &old)?;
    update::finish(call, Change { old, before, after, warnings, applied: None })
}

/// `current`, an object of type `ty`, with a patch applied: checked and normalised, and warnings.
pub(crate) fn patched(
    call: &Call<'_, '_>,
    format: PatchType,
    patch: &Value,
    current: &Value,
    ty: Option<Ty>,
    api_version: &str,
    kind: &str,
) -> Result<(Value, Vec<String>), Status> {
    let refuse = |why: String| {
        let error = FieldError::invalid("patch", patch.to_string(), why);
        Status::invalid("", "", "", &[error])
    };
    let schema = &call.registry.schema;
    let mut unknown = Vec::new();
    let mut after = match format {
        PatchType::Json => json(current, patch)?,
        PatchType::Merge => adapt::merge_patch(current, patch_object(patch)?),
        PatchType::Strategic => adapt::strategic_merge(schema, ty, current, patch_object(patch)?)?,
        PatchType::Apply => return Err(Status::bad_request("an apply patch is no change of an object")),
    };
    if !after.is_object() {
        return Err(refuse("the patched object is no JSON object".into()));
    }
    unknown.extend(adapt::conform(schema, ty, &mut after).map_err(refuse)?);
    let warnings = call.judge_unknown(unknown, refuse)?;
    told::keep_reset(&mut after);
    adapt::normalise(schema, ty, &mut after);
    for (name, want) in [("apiVersion", api_version), ("kind", kind)] {
        let given = text(&after, name);
        if !given.is_empty() && given != want {
            let why = format!("the {name} in the data ({given}) does not match the expected {name} ({want})");
            return Err(Status::bad_request(why));
        }
        value::object(&mut after).insert(name.into(), want.into());
    }
    value::child(&mut after, "metadata");
    Ok((after, warnings))
}

fn patch_object(patch: &Value) -> Result<&Value, Status> {
    if patch.is_object() {
        return Ok(patch);
    }
    let why = mistyped(patch, "map[string]interface {}");
    Err(Status::bad_request(format!("error decoding patch: {why}")))
}

/// What Go's JSON says of a value that is none of a type.
fn mistyped(value: &Value, go_type: &str) -> String {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {is} into Go value of type {go_type}")
}

/// The number of operations that a JSON patch may have, as upstream.
const OPERATIONS: usize = 10_000;

fn json(current: &Value, patch: &Value) -> Result<Value, Status> {
    let wrong = match patch.as_array() {
        None => Some(mistyped(patch, "jsonpatch.Patch")),
        Some(all) => all.iter().find(|o| !o.is_object()).map(|o| mistyped(o, "jsonpatch.Operation")),
    };
    if let Some(why) = wrong {
        return Err(Status::bad_request(why));
    }
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if operations.0.len() > OPERATIONS {
        return Err(Status::too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS}, got {}",
            operations.0.len()
        )));
    }
    // Upstream answers in these words whatever it was that failed.
    let failed = || Status::unprocessable("the server rejected our request due to an error in our request");
    let (mut after, mut bounds) = (current.clone(), Bounds::of(current));
    for operation in &operations.0 {
        bounds.take(&after, operation).ok_or_else(failed)?;
        if is_absent(&after, operation) {
            continue;
        }
        json_patch::patch_unsafe(&mut after, std::slice::from_ref(operation)).map_err(|_| failed())?;
    }
    Ok(after)
}

/// Whether an operation tests for null where an object has no such field: that holds, as upstream, and is how clients make
/// sure that they are the first to add one.
fn is_absent(document: &Value, operation: &json_patch::PatchOperation) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else { return false };
    let around = test.path.split_back().and_then(|(around, _)| document.pointer(around.as_str()));
    test.value.is_null() && around.is_some_and(Value::is_object) && document.pointer(test.path.as_str()).is_none()
}

/// A patch cannot move an object.
fn same_place(call: &Call<'_, '_>, after: &Value, old: &Object) -> Result<(), Status> {
    let meta = &after["metadata"];
    if text(meta, "name") != old.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text(meta, "name"),
            old.name()
        )));
    }
    if call.kind.namespaced && text(meta, "namespace") != old.namespace() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
