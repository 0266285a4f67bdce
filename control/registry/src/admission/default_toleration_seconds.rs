//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not heard of, unless it says otherwise.

use copepod_model::Status;
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::value::{self, list, text};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: u32 = 300;

pub(super) fn mutate(review: &mut Review<'_>, pod: &mut Value) -> Result<(), Status> {
    if &*review.key.resource != "pods" || !review.whole() || review.operation == Operation::Delete {
        return Ok(());
    }
    let tolerates = |taint: &str| {
        list(&pod["spec"], "tolerations").iter().any(|t| {
            let (key, effect) = (text(t, "key"), text(t, "effect"));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        })
    };
    let missing: Vec<Value> = TAINTS
        .into_iter()
        .filter(|taint| !tolerates(taint))
        .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
        .collect();
    if !missing.is_empty() {
        let all = value::child(pod, "spec").entry("tolerations").or_insert(Value::Null);
        match all {
            Value::Array(all) => all.extend(missing),
            other => *other = missing.into(),
        }
    }
    Ok(())
}
