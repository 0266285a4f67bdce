//! The scale subresource: `autoscaling/v1` Scale over the fields that a kind names.

use copepod_machine::View;
use copepod_model::kinds::Scale;
use copepod_model::request::{Body, PatchType};
use copepod_model::selector::LabelSelector;
use copepod_model::{ApiRequest, FieldError, Status};
use serde_json::{Value, json};

use crate::call::{Call, Part, resolve};
use crate::decision::{Decision, Reply};
use crate::patch::patched;
use crate::update::{self, Change};
use crate::value::{self, at, text};
use crate::{Registry, read};

const API_VERSION: &str = "autoscaling/v1";

/// The Scale of the object that the request names.
pub(crate) fn get(registry: &Registry, view: &dyn View, req: &ApiRequest) -> Result<Value, Status> {
    let (_, part) = resolve(registry, req)?;
    let Part::Scale(scale) = part else { return Err(Status::no_such_path()) };
    Ok(scale_of(scale, &read::get(registry, view, req)?.value()))
}

/// Decides a PUT of a scale.
pub(crate) fn update(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (wanted, warnings) = call.body(API_VERSION, "Scale")?;
    let name = text(&wanted["metadata"], "name");
    if name != &*call.key.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.key.name
        )));
    }
    let old = call.stored()?;
    let before = old.value();
    rescale(call, Change { old, before, after: wanted, warnings, applied: None })
}

/// Decides a PATCH of a scale.
pub(crate) fn patch(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (Body::Patch(format, patch), Part::Scale(scale)) = (&call.req.body, call.part) else {
        return Err(Status::bad_request("the request's body is no patch"));
    };
    // A Scale has two fields that a client can set and no lists: applying one is merging it.
    let format = if *format == PatchType::Apply { PatchType::Merge } else { *format };
    let old = call.stored()?;
    let before = old.value();
    let ty = call.registry.schema.lookup(API_VERSION, "Scale");
    let current = scale_of(scale, &before);
    let (after, warnings) = patched(call, format, patch, &current, ty, API_VERSION, "Scale")?;
    rescale(call, Change { old, before, after, warnings, applied: None })
}

/// Turns the change of a Scale into one of its object.
fn rescale(call: &mut Call<'_, '_>, mut change: Change) -> Result<Decision, Status> {
    let Part::Scale(scale) = call.part else { return Err(Status::no_such_path()) };
    let wanted = std::mem::take(&mut change.after);
    // An unset number is zero, as in Go.
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", &call.key.name, &[error]));
    }
    change.after = change.before.clone();
    value::set_at(&mut change.after, scale.spec_replicas, replicas.into());
    let meta = value::child(&mut change.after, "metadata");
    for name in ["resourceVersion", "uid"] {
        value::restore(meta, &wanted["metadata"], name);
    }
    let mut decision = update::finish(call, change)?;
    match &mut decision {
        Decision::Write(write) => {
            write.object = scale_of(scale, &write.object);
            write.reply = Reply::Revised;
        }
        Decision::Answer(answer) => answer.object = scale_of(scale, &answer.object),
    }
    Ok(decision)
}

/// The Scale that an object shows.
pub(crate) fn scale_of(scale: Scale, object: &Value) -> Value {
    let mut meta = serde_json::Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        value::restore(&mut meta, &object["metadata"], name);
    }
    let selector = at(object, scale.selector);
    let labelled =
        selector.get("matchLabels").is_some_and(Value::is_object) || selector.get("matchExpressions").is_some();
    let selector = if labelled {
        LabelSelector::from_json(selector).unwrap_or_default()
    } else {
        // ReplicationControllers select by a plain map.
        let pairs = selector.as_object().into_iter().flatten();
        LabelSelector::from_pairs(pairs.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))))
    };
    let count = |path| at(object, path).as_i64().unwrap_or(0);
    let mut status = json!({ "replicas": count(scale.status_replicas) });
    if !selector.is_empty() {
        status["selector"] = selector.to_string().into();
    }
    json!({
        "apiVersion": API_VERSION, "kind": "Scale", "metadata": meta,
        "spec": { "replicas": count(scale.spec_replicas) }, "status": status,
    })
}
