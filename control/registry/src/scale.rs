//! The scale subresource: `autoscaling/v1` Scale over the fields that a kind names.

use copepod_machine::View;
use copepod_model::kinds::Scale;
use copepod_model::request::{Body, PatchType};
use copepod_model::selector::LabelSelector;
use copepod_model::{ApiRequest, FieldError, Status};
use serde_json::{Value, json};

use crate::call::{Call, Part, resolve};
use crate::decision::{Decision, Reply};
use crate::fields::managers::{self, Applied, Entry};
use crate::fields::{Set, apply};
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
    if *format == PatchType::Apply {
        return apply_to(call, scale, patch);
    }
    let old = call.stored()?;
    let before = old.value();
    let ty = call.registry.schema.lookup(API_VERSION, "Scale");
    let current = scale_of(scale, &before);
    let (after, warnings) = patched(call, *format, patch, &current, ty, API_VERSION, "Scale")?;
    rescale(call, Change { old, before, after, warnings, applied: None })
}

/// Decides an apply patch of a scale: whoever owns the replicas of its object owns those of the scale, and the other way round
/// (upstream's `ScaleHandler`).
fn apply_to(call: &mut Call<'_, '_>, scale: Scale, config: &Value) -> Result<Decision, Status> {
    let ty = call.registry.schema.lookup(API_VERSION, "Scale");
    let config = apply::checked(call, config, ty, API_VERSION, "Scale")?;
    let old = call.stored()?;
    let before = old.value();
    let current = at(&before, scale.spec_replicas).as_i64().unwrap_or(0);
    let theirs = place(scale.spec_replicas);
    let mut owners = managers::entries(&before);
    owners.retain(|entry| !entry.fields.common(&theirs).is_empty());
    let first = (owners.is_empty() && current != 0).then(|| apply::before_first_apply(call, theirs.clone()));
    owners.extend(first.clone());
    let (mine, others): (Vec<Entry>, Vec<Entry>) = owners.into_iter().partition(|e| e.is_of(call, true));
    let named = config["spec"]["replicas"].as_i64();
    let replicas = match named {
        Some(replicas) => replicas,
        // What nobody wants any longer goes, and an unset number is zero.
        None if !mine.is_empty() && others.is_empty() => 0,
        None => current,
    };
    if replicas != current && !call.req.force {
        let ours = place("spec.replicas");
        let seen = |e: Entry| Entry { api_version: API_VERSION.into(), fields: ours.clone(), ..e };
        let others: Vec<Entry> = others.into_iter().map(seen).collect();
        apply::conflicts(&others, &ours)?;
    }
    let after = json!({ "metadata": config["metadata"], "spec": { "replicas": replicas } });
    let fields = named.map(|_| theirs).unwrap_or_default();
    let applied = Some(Applied { fields, first });
    rescale(call, Change { old, before, after, warnings: Vec::new(), applied })
}

/// The set of one field at a path.
fn place(path: &str) -> Set {
    path.split('.').rev().fold(Set::leaf(), |below, name| {
        let mut around = Set::default();
        around.add(format!("f:{name}"), below);
        around
    })
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
