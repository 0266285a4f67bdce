//! One writer per field: who may write what, over all changes.

use copepod_state::Change;
use serde_json::Value;

/// A pod's node comes from the scheduler, its status from its node (the condition PodScheduled from the scheduler), specs from
/// users and controllers.
pub fn check(change: &Change, actor: &str) -> Result<(), String> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(()) };
    let wrong = |what: &str| Err(format!("{actor} wrote {what} of {}", change.key));
    let (before, after) = (old.value(), new.value());
    if &*change.key.resource == "pods" {
        if before["spec"] != after["spec"] && actor != "scheduler" {
            return wrong("spec");
        }
        let rest = |v: &Value| {
            let mut status = v["status"].clone();
            if let Some(list) = status["conditions"].as_array_mut() {
                list.retain(|c| c["type"] != "PodScheduled");
            }
            if status["conditions"].as_array().is_none_or(Vec::is_empty) {
                status["conditions"] = Value::Null;
            }
            status
        };
        // The deletion of a pod on a lost node may mark it; that is the control plane's part.
        if rest(&before) != rest(&after) && !matches!(actor, "node" | "control") {
            return wrong("status");
        }
    }
    if &*change.key.resource == "deployments.apps" {
        if before["spec"] != after["spec"] && actor != "user" {
            return wrong("spec");
        }
        if before["status"] != after["status"] && actor != "control" {
            return wrong("status");
        }
    }
    Ok(())
}
