//! Priority: a pod's class gives it its priority, and there is one default class at most.

use copepod_model::Status;
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::system_objects::class;
use crate::value::{self, text};

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// What upstream has where no class says anything.
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) fn mutate(review: &mut Review<'_>, pod: &mut Value) -> Result<(), Status> {
    if &*review.key.resource != "pods" || !review.whole() {
        return Ok(());
    }
    if let Some(old) = review.old {
        // What was given at the creation stays; validation lets nobody change it.
        for field in ["priority", "preemptionPolicy"] {
            let had = &old["spec"][field];
            if pod["spec"][field].is_null() && !had.is_null() {
                value::child(pod, "spec").insert(field.into(), had.clone());
            }
        }
        return Ok(());
    }
    let name = text(&pod["spec"], "priorityClassName").to_string();
    let (name, class) = match name.as_str() {
        "" => match default(review, "") {
            Some((name, class)) => (name, class),
            None => (String::new(), json!({"preemptionPolicy": PREEMPT})),
        },
        _ => match class(review.view, CLASSES, &name) {
            Some(class) => (name, class),
            None => return Err(review.forbid(&format!("no PriorityClass with name {name} was found"))),
        },
    };
    let priority = class["value"].as_i64().unwrap_or(0);
    let spec = &pod["spec"];
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return Err(review.forbid(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        )));
    }
    let policy = class["preemptionPolicy"].as_str();
    if let (Some(given), Some(policy)) = (spec["preemptionPolicy"].as_str(), policy)
        && given != policy
    {
        return Err(review.forbid(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        )));
    }
    let policy = policy.map(String::from);
    let spec = value::child(pod, "spec");
    if !name.is_empty() {
        spec.insert("priorityClassName".into(), name.into());
    }
    spec.insert("priority".into(), priority.into());
    if let Some(policy) = policy {
        spec.insert("preemptionPolicy".into(), policy.into());
    }
    Ok(())
}

/// The default class, unless it is called `but`. Of several, which two writers at the same time can make, the least counts.
fn default(review: &Review<'_>, but: &str) -> Option<(String, Value)> {
    let classes =
        review.view.list(CLASSES, None).filter(|c| c.name() != but).map(|c| (c.name().to_string(), c.value()));
    classes.filter(|(_, c)| c["globalDefault"] == true).min_by_key(|(_, c)| c["value"].as_i64().unwrap_or(0))
}

pub(super) fn validate(review: &mut Review<'_>, class: &Value) -> Result<(), Status> {
    if &*review.key.resource != CLASSES || !review.whole() {
        return Ok(());
    }
    if review.operation == Operation::Delete {
        return match copepod_model::kinds::scheduling::priority_class::is_system(&review.key.name) {
            true => Err(review.forbid("this is a system priority class and cannot be deleted")),
            false => Ok(()),
        };
    }
    if class["globalDefault"] != true {
        return Ok(());
    }
    match default(review, &review.key.name) {
        Some((other, _)) => {
            Err(review
                .forbid(&format!("PriorityClass {other} is already marked as default. Only one default can exist")))
        }
        None => Ok(()),
    }
}
