//! Server-side apply: the configuration is merged into the stored object, field by field, and fields that its manager
//! applied before and no longer names go away.

use copepod_model::status::{Cause, Details};
use copepod_model::{FieldError, Status};
use serde_json::Value;

use super::managers::{self, Applied, Entry};
use super::{Set, walk};
use crate::adapt::{self, Ty};
use crate::call::{Call, Part};
use crate::create::create_object;
use crate::decision::Decision;
use crate::update::{self, Change};
use crate::value::{self, text};

/// The manager of all that was set before the first apply to an object of which nobody kept account.
const BEFORE: &str = "before-first-apply";

/// Decides an apply patch.
pub(crate) fn apply(call: &mut Call<'_, '_>, config: &Value) -> Result<Decision, Status> {
    let (config, fields) = configuration(call, config)?;
    let Some(old) = call.env.view.get(&call.key.resource, &call.key.namespace, &call.key.name) else {
        if !matches!(call.part, Part::Whole) {
            return Err(Status::not_found(&call.resource(), &call.key.name));
        }
        let uid = text(&config["metadata"], "uid");
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&call.resource(), &call.key.name, &why));
        }
        return create_object(call, config, Vec::new(), Some(Applied { fields, first: None }), None);
    };
    let before = call.registry.unseal(call.env.view, &old)?;
    let schema = &call.registry.schema;
    let root = adapt::root(call.ty);
    let mut after = before.clone();
    walk::merge(schema, root, &mut after, &config);

    let mut entries = managers::entries(&before);
    // From now on account is kept of what was there before, too.
    let first = entries.is_empty().then(|| {
        let mut fields = managers::difference(schema, call.ty, None, &before).changed;
        fields.children.remove("f:status");
        before_first_apply(call, fields)
    });
    entries.extend(first.clone());
    let (mine, others): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|e| e.is_of(call, true));
    if let Some(mut gone) = mine.into_iter().next().map(|e| e.fields) {
        let mut kept = fields.clone();
        others.iter().for_each(|e| kept.union(&e.fields));
        // An empty list in a configuration does not name the items that it had before.
        gone.subtract(&fields);
        walk::take_away(schema, root, &mut after, &gone, &kept);
    }
    if !call.req.force {
        let changed = managers::difference(schema, call.ty, Some(&before), &after).changed;
        conflicts(&others, &changed)?;
    }
    adapt::normalise(schema, call.ty, &mut after);
    let meta = value::child(&mut after, "metadata");
    for name in ["resourceVersion", "uid"] {
        value::restore(meta, &config["metadata"], name);
    }
    update::finish(call, Change { old, before, after, warnings: Vec::new(), applied: Some(Applied { fields, first }) })
}

/// The applied configuration, checked, and the fields that it names.
fn configuration(call: &Call<'_, '_>, config: &Value) -> Result<(Value, Set), Status> {
    let mut config = checked(call, config, call.client_ty(), &call.api_version(), call.kind.kind)?;
    let meta = value::child(&mut config, "metadata");
    for name in ["managedFields", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        meta.remove(name);
    }
    if call.kind.status && !matches!(call.part, Part::Status) {
        value::remove(&mut config, "status");
    }
    if matches!(call.part, Part::Status) {
        // What a write of the status does not change nobody owns by it either.
        value::object(&mut config)
            .retain(|name, _| ["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()));
        let meta = value::child(&mut config, "metadata");
        for name in ["labels", "ownerReferences"] {
            meta.remove(name);
        }
    }
    // Who owns which field is kept in the stored version's words.
    call.taken(&mut config);
    adapt::normalise(&call.registry.schema, call.ty, &mut config);
    let mut fields = walk::named(&call.registry.schema, adapt::root(call.ty), &config);
    managers::strip(&mut fields);
    Ok((config, fields))
}

/// An applied configuration that is one of an object of type `ty`, with the name and the namespace of the request.
pub(crate) fn checked(
    call: &Call<'_, '_>,
    config: &Value,
    ty: Option<Ty>,
    api_version: &str,
    kind: &str,
) -> Result<Value, Status> {
    if call.req.field_manager.is_empty() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let mut config = config.clone();
    if text(&config, "apiVersion") != api_version || text(&config, "kind") != kind {
        return Err(Status::bad_request(format!(
            "the applied object must be of apiVersion {api_version:?} and kind {kind:?}, not {:?} and {:?}",
            text(&config, "apiVersion"),
            text(&config, "kind")
        )));
    }
    let wrong = |why: String| {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    // Whatever fieldValidation says: nobody can own a field that does not exist.
    let unknown = adapt::conform(&call.registry.schema, ty, &mut config).map_err(wrong)?;
    if !unknown.is_empty() {
        return Err(wrong(format!("strict decoding error: {}", unknown.join(", "))));
    }
    if config["metadata"].get("managedFields").is_some_and(|m| m.as_array().is_some_and(|m| !m.is_empty())) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    match text(&config["metadata"], "name") {
        "" => {
            let name = &*call.key.name;
            value::child(&mut config, "metadata").insert("name".into(), name.into());
        }
        name if name == &*call.key.name => {}
        name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.key.name
            )));
        }
    }
    call.settle_namespace(&mut config)?;
    Ok(config)
}

/// The entry of whoever set these fields before anyone applied.
pub(crate) fn before_first_apply(call: &Call<'_, '_>, fields: Set) -> Entry {
    Entry {
        manager: BEFORE.into(),
        operation: managers::UPDATE.into(),
        api_version: call.kind.api_version(),
        time: call.env.now.rfc3339(),
        subresource: String::new(),
        fields,
    }
}

/// The 409 if the apply changes what others own.
pub(crate) fn conflicts(others: &[Entry], changed: &Set) -> Result<(), Status> {
    let mut causes = Vec::new();
    let mut parts = Vec::new();
    for entry in others {
        let paths = entry.fields.common(changed).paths();
        if paths.is_empty() {
            continue;
        }
        let who = entry.describe();
        parts.push(format!("conflicts with {who}:"));
        for path in paths {
            parts.push(format!("- {path}"));
            let message = format!("conflict with {who}");
            causes.push(Cause { reason: "FieldManagerConflict".into(), message, field: path });
        }
    }
    let message = match &*causes {
        [] => return Ok(()),
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => format!("Apply failed with {} conflicts: {}", many.len(), parts.join("\n")),
    };
    let details = Details { causes, ..Details::default() };
    Err(Status { code: 409, reason: "Conflict", message, details: Some(Box::new(details)) })
}
