//! TaintNodesByCondition: nothing is scheduled on a new node before its conditions are known. The controller
//! `node_lifecycle` takes the taint away.

use copepod_model::Status;
use serde_json::{Value, json};

use super::Review;
use crate::value::{self, list};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

pub(super) fn mutate(review: &mut Review<'_>, node: &mut Value) -> Result<(), Status> {
    let has = |t: &Value| t["key"] == NOT_READY && t["effect"] == NO_SCHEDULE;
    if !review.creates("nodes") || list(&node["spec"], "taints").iter().any(has) {
        return Ok(());
    }
    let taint = json!({"key": NOT_READY, "effect": NO_SCHEDULE});
    match value::child(node, "spec").entry("taints").or_insert(Value::Null) {
        Value::Array(all) => all.push(taint),
        other => *other = json!([taint]),
    }
    Ok(())
}
