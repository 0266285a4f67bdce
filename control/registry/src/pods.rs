//! Binding: the subresource of pods by which the scheduler writes, and the older resource that does the same.

use copepod_model::{ApiRequest, FieldError, Status};
use copepod_state::Require;
use serde_json::{Value, json};

use crate::admission::Effects;
use crate::call::Call;
use crate::decision::{Decision, Reply};
use crate::value::{self, list, text};

/// Decides a POST to `bindings`: the binding of the pod that the body names.
pub(crate) fn bind_named(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (mut binding, _) = call.body("v1", "Binding")?;
    call.settle_namespace(&mut binding)?;
    let name = text(&binding["metadata"], "name");
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let request = ApiRequest {
        resource: "pods".into(),
        name: name.into(),
        subresource: Some("binding".into()),
        ..call.req.clone()
    };
    bind(&mut Call::new(call.registry, call.env, &request)?)
}

/// Decides a POST to `pods/NAME/binding`: the scheduler's one write.
pub(crate) fn bind(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (mut binding, warnings) = call.body("v1", "Binding")?;
    call.settle_namespace(&mut binding)?;
    let meta = &binding["metadata"];
    let node = text(&binding["target"], "name");
    let mut errors = Vec::new();
    let kind = text(&binding["target"], "kind");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Binding", text(meta, "name"), &errors));
    }
    if !matches!(text(meta, "name"), name if name.is_empty() || name == &*call.key.name) {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text(meta, "name"),
            call.key.name
        )));
    }
    let old = call.stored()?;
    let conflict = |why: String| Err(Status::conflict("pods/binding", &call.key.name, &why));
    let uid = text(meta, "uid");
    if !uid.is_empty() && uid != &*old.meta.uid {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.meta.uid
        ));
    }
    if old.meta.deletion_timestamp.is_some() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", old.name()));
    }
    if let Some(node) = old.meta.node_name.as_deref().filter(|n| !n.is_empty()) {
        return conflict(format!("pod {} is already assigned to node {node:?}", old.name()));
    }
    let mut pod = call.registry.unseal(call.env.view, &old)?;
    if !list(&pod["spec"], "schedulingGates").is_empty() {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", old.name()));
    }
    value::child(&mut pod, "spec").insert("nodeName".into(), node.into());
    for (name, value) in meta["annotations"].as_object().into_iter().flatten() {
        let annotations = value::child(&mut pod["metadata"], "annotations");
        annotations.insert(name.clone(), value.clone());
    }
    let now = call.env.now.rfc3339();
    set_condition(
        &mut pod,
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now }),
    );
    let at = Require::At(call.key.clone(), old.revision);
    let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(answering(call.put(at, pod, Effects::default(), 201, warnings)?, done, 201))
}

/// Replaces the condition of the same type; the time of transition stays when the status does.
pub(crate) fn set_condition(pod: &mut Value, mut condition: Value) {
    let status = value::child(pod, "status");
    let all = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(all) = all.as_array_mut() else { return };
    match all.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(old) => {
            if old["status"] == condition["status"] {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => all.push(condition),
    }
}

/// The decision, answering something else than the object that it writes.
pub(crate) fn answering(mut decision: Decision, object: Value, code: u16) -> Decision {
    match &mut decision {
        Decision::Write(write) => {
            write.object = object;
            write.code = code;
            write.reply = Reply::Fixed;
        }
        Decision::Answer(answer) => {
            answer.object = object;
            answer.code = code;
        }
    }
    decision
}
