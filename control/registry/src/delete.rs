//! Deleting an object: grace, finalizers, propagation.

use std::sync::Arc;
use std::time::Duration;

use copepod_machine::View;
use copepod_model::request::Propagation;
use copepod_model::{ApiRequest, Object, Status, Time, Verb};
use copepod_state::{Op, Require};
use serde_json::{Value, json};

use crate::Registry;
use crate::admission::{self, Operation, Review};
use crate::call::{Call, resolve};
use crate::decision::{Answer, Decision, Reply};
use crate::read;
use crate::update::{is_gone, keeps_own_finalizers};
use crate::value::{self, text};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Resources whose deletion answers the deleted object, as upstream's `ReturnDeletedObject` says; others a Status.
const ANSWER_OBJECT: &[&str] = &[
    "pods",
    "podtemplates",
    "services",
    "serviceaccounts",
    "resourcequotas",
    "persistentvolumes",
    "persistentvolumeclaims",
    "storageclasses.storage.k8s.io",
];

/// Decides a DELETE.
pub(crate) fn delete(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    delete_and(call, |_| {})
}

/// The same, and changes the object further if it stays for a while.
pub(crate) fn delete_and(call: &mut Call<'_, '_>, also: impl FnOnce(&mut Value)) -> Result<Decision, Status> {
    let old = call.stored()?;
    preconditions(call, &old)?;
    let before = call.registry.unseal(call.env.view, &old)?;
    let mut review = Review::new(call, Operation::Delete, Some(&before));
    admission::validate(&mut review, &before)?;
    let mut after = before.clone();
    let warnings = warnings(call);
    if let Intent::Remove = intent(call, &mut after) {
        return remove(call, &old, before, warnings);
    }
    if value::same(&after, &before) {
        return Ok(Decision::Answer(Answer { code: 200, object: before, warnings }));
    }
    also(&mut after);
    let at = Require::At(call.key.clone(), old.revision);
    call.put(at, after, admission::Effects::default(), 200, warnings)
}

/// What who deletes without saying how should know.
fn warnings(call: &Call<'_, '_>) -> Vec<String> {
    let warning = call.kind.strategy.orphans_warning().filter(|_| call.req.delete.propagation.is_none());
    warning.map(String::from).into_iter().collect()
}

/// What a delete does to the object.
enum Intent {
    /// It is removed.
    Remove,
    /// It is stored with what the delete set, or stays as it is.
    Mark,
}

fn preconditions(call: &Call<'_, '_>, old: &Object) -> Result<(), Status> {
    let options = &call.req.delete;
    let conflict = |why: String| Err(Status::conflict(&call.resource(), &call.key.name, &why));
    if let Some(uid) = options.uid.as_deref().filter(|uid| **uid != *old.meta.uid) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted \
             and then recreated",
            old.meta.uid
        ));
    }
    let revision = old.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|v| *v != revision) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({revision}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

fn intent(call: &Call<'_, '_>, object: &mut Value) -> Intent {
    let now = call.env.now;
    if keeps_own_finalizers(&call.kind) && !object["metadata"]["deletionTimestamp"].is_string() {
        finalizers(object, propagation(call, object));
        mark(object, now, None);
        value::child(object, "status").insert("phase".into(), "Terminating".into());
        return if is_gone(&call.kind, object) { Intent::Remove } else { Intent::Mark };
    }
    if call.kind.graceful {
        return gracefully(call, object);
    }
    finalizers(object, propagation(call, object));
    let kept = keeps_own_finalizers(&call.kind) && !value::list(&object["spec"], "finalizers").is_empty();
    if !kept && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
        return Intent::Remove;
    }
    if !keeps_own_finalizers(&call.kind) {
        mark(object, now, Some(0));
    }
    Intent::Mark
}

/// Pods end in their own time: the first delete sets when, a later one can only shorten it.
fn gracefully(call: &Call<'_, '_>, object: &mut Value) -> Intent {
    let asked = call.req.delete.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
    let meta = &object["metadata"];
    if let Some(at) = meta["deletionTimestamp"].as_str().and_then(Time::parse) {
        let pending = meta["deletionGracePeriodSeconds"].as_i64();
        if let (Some(asked), Some(pending)) = (asked, pending)
            && asked < pending
        {
            let begun = Time(at.0.saturating_sub(seconds(pending).as_nanos() as u64));
            let meta = value::child(object, "metadata");
            meta.insert("deletionTimestamp".into(), (begun + seconds(asked)).rfc3339().into());
            meta.insert("deletionGracePeriodSeconds".into(), asked.into());
        }
        return if is_gone(&call.kind, object) { Intent::Remove } else { Intent::Mark };
    }
    let unscheduled = text(&object["spec"], "nodeName").is_empty();
    let finished = matches!(text(&object["status"], "phase"), "Succeeded" | "Failed");
    let grace = match asked {
        _ if unscheduled || finished => 0,
        Some(asked) => asked,
        None => object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30).max(0),
    };
    finalizers(object, propagation(call, object));
    mark(object, call.env.now + seconds(grace), Some(grace));
    if is_gone(&call.kind, object) { Intent::Remove } else { Intent::Mark }
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

/// Sets the time of deletion, once, and counts that as a change of the spec.
fn mark(object: &mut Value, at: Time, grace: Option<i64>) {
    let meta = value::child(object, "metadata");
    if meta.get("deletionTimestamp").is_some_and(Value::is_string) {
        return;
    }
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
        meta.insert("generation".into(), (generation + 1).into());
    }
    meta.insert("deletionTimestamp".into(), at.rfc3339().into());
    if let Some(grace) = grace {
        meta.insert("deletionGracePeriodSeconds".into(), grace.into());
    }
}

/// What becomes of the dependents: what the client says, or else the finalizers, or else the kind.
fn propagation(call: &Call<'_, '_>, object: &Value) -> Option<Propagation> {
    let decided = || {
        let mut all = value::texts(&object["metadata"], "finalizers");
        all.any(|f| f == ORPHAN || f == FOREGROUND)
    };
    let orphan = || call.kind.strategy.orphans() && !decided();
    call.req.delete.propagation.or_else(|| orphan().then_some(Propagation::Orphan))
}

/// The collector's finalizers follow the propagation policy; without one they stay as they are, which is Background where
/// there are none.
fn finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let meta = value::child(object, "metadata");
    let mut all: Vec<Value> = meta.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    all.retain(|f| (f != ORPHAN && f != FOREGROUND) || wanted.is_some_and(|w| f == w));
    if let Some(wanted) = wanted.filter(|w| !all.iter().any(|f| f == w)) {
        all.push(wanted.into());
    }
    if all.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), all.into());
    }
}

fn remove(
    call: &mut Call<'_, '_>,
    old: &Arc<Object>,
    before: Value,
    warnings: Vec<String>,
) -> Result<Decision, Status> {
    let mut review = Review::new(call, Operation::Delete, Some(&before));
    admission::released(&mut review, &before);
    let effects = review.effects;
    let whole = ANSWER_OBJECT.contains(&&*call.key.resource);
    let object = if whole { before } else { success(call, old) };
    if call.req.dry_run {
        return Ok(Decision::Answer(Answer { code: 200, object, warnings }));
    }
    let at = Require::At(call.key.clone(), old.revision);
    let op = Op::Delete { key: call.key.clone() };
    let reply = if whole { Reply::Revised } else { Reply::Fixed };
    Ok(call.write(at, op, effects, object, reply, 200, warnings))
}

fn success(call: &Call<'_, '_>, old: &Object) -> Value {
    let mut details = json!({ "name": old.name(), "kind": call.kind.plural, "uid": &*old.meta.uid });
    if !call.req.group.is_empty() {
        details["group"] = call.req.group.as_str().into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

/// One delete request for each object that a deletecollection means.
pub(crate) fn deletions(registry: &Registry, view: &dyn View, req: &ApiRequest) -> Result<Vec<ApiRequest>, Status> {
    let (kind, _) = resolve(registry, req)?;
    if req.verb != Verb::DeleteCollection || (kind.namespaced && req.namespace.is_empty()) {
        return Err(Status::method_not_supported(&req.group_resource(), req.verb.as_str()));
    }
    let page = read::list(registry, view, req)?;
    let one = |object: &Arc<Object>| ApiRequest {
        verb: Verb::Delete,
        name: object.name().to_string(),
        list: Default::default(),
        body: Default::default(),
        ..req.clone()
    };
    Ok(page.items.iter().map(one).collect())
}
