//! One writer per field: who may write what, over all changes.

use copepod_state::Change;
use serde_json::Value;

use super::Broken;

/// Whether it is a controller.
fn controls(actor: &str) -> bool {
    !matches!(actor, "user" | "node" | "scheduler")
}

/// A pod's node comes from the scheduler, its status from its node (the condition PodScheduled from the scheduler), specs from
/// users and controllers.
pub fn check(change: &Change, actor: &str) -> Result<(), Broken> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(()) };
    let wrong = |what: &str| Err(("one_writer", format!("{actor} wrote {what} of {}", change.key)));
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
        if rest(&before) != rest(&after) && actor != "node" && !controls(actor) {
            return wrong("status");
        }
    }
    if &*change.key.resource == "deployments.apps" {
        if before["spec"] != after["spec"] && actor != "user" {
            return wrong("spec");
        }
        if before["status"] != after["status"] && !controls(actor) {
            return wrong("status");
        }
    }
    Ok(())
}
