//! RuntimeClass: a pod's class says what running it costs besides, and where it can run.

use copepod_model::Status;
use serde_json::Value;

use super::Review;
use crate::system_objects;
use crate::value::{self, list, text};

const CLASSES: &str = "runtimeclasses.node.k8s.io";
const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) fn mutate(review: &mut Review<'_>, pod: &mut Value) -> Result<(), Status> {
    let Some(class) = class(review, pod)? else { return Ok(()) };
    let overhead = &class["overhead"]["podFixed"];
    if class["overhead"].is_object() {
        let given = &pod["spec"]["overhead"];
        if !given.is_null() && given != overhead {
            return Err(review.forbid(DIFFERS));
        }
        if !overhead.is_null() {
            value::child(pod, "spec").insert("overhead".into(), overhead.clone());
        }
    }
    let scheduling = &class["scheduling"];
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let (given, wanted) = (pod["spec"]["nodeSelector"][key].clone(), wanted.as_str().unwrap_or_default());
        match given.as_str() {
            Some(given) if given != wanted => {
                return Err(review.forbid(&format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
                )));
            }
            _ => drop(value::child(&mut pod["spec"], "nodeSelector").insert(key.clone(), wanted.into())),
        }
    }
    let wanted = list(scheduling, "tolerations");
    if !wanted.is_empty() {
        tolerations(pod, wanted);
    }
    Ok(())
}

pub(super) fn validate(review: &mut Review<'_>, pod: &Value) -> Result<(), Status> {
    if !review.creates("pods") {
        return Ok(());
    }
    let class = class(review, pod)?.unwrap_or_default();
    let given = &pod["spec"]["overhead"];
    match class["overhead"].is_object() {
        true if class["overhead"]["podFixed"] != *given => Err(review.forbid(DIFFERS)),
        false if !given.is_null() => {
            Err(review.forbid("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
        }
        _ => Ok(()),
    }
}

/// The class that a pod which is being created names.
fn class(review: &Review<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let name = text(&pod["spec"], "runtimeClassName");
    if !review.creates("pods") || name.is_empty() {
        return Ok(None);
    }
    match system_objects::class(review.view, CLASSES, name) {
        Some(class) => Ok(Some(class)),
        None => Err(review.forbid(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// Adds the tolerations of the class that the pod's own do not include.
fn tolerations(pod: &mut Value, wanted: &[Value]) {
    let all = value::child(pod, "spec").entry("tolerations").or_insert(Value::Null);
    if !all.is_array() {
        *all = Value::Array(Vec::new());
    }
    let Some(all) = all.as_array_mut() else { return };
    for t in wanted {
        if !all.iter().any(|have| includes(have, t)) {
            all.push(t.clone());
        }
    }
}

/// Whether whatever `t` tolerates `have` tolerates as well, for as long.
fn includes(have: &Value, t: &Value) -> bool {
    let forever = i64::MAX;
    let seconds = |t: &Value| t["tolerationSeconds"].as_i64().unwrap_or(forever);
    let any = |field: &str| text(have, field).is_empty();
    let exists = |t: &Value| text(t, "operator") == "Exists";
    if have == t {
        return true;
    }
    if seconds(have) < seconds(t) || !(any("effect") || have["effect"] == t["effect"]) {
        return false;
    }
    if any("key") && exists(have) {
        return true;
    }
    have["key"] == t["key"] && (exists(have) || (!exists(t) && text(have, "value") == text(t, "value")))
}
