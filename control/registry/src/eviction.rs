//! The eviction of a pod: a delete that disruption budgets allow. What it spends of a budget and the delete are one
//! transaction, so that two evictions never share the last place.

use std::sync::Arc;

use copepod_machine::View;
use copepod_model::request::{Body, DeleteOptions, Propagation};
use copepod_model::selector::LabelSelector;
use copepod_model::status::Cause;
use copepod_model::{ApiRequest, Object, Status, UserInfo, Verb};
use serde_json::{Value, json};

use crate::call::Call;
use crate::decision::{Decision, Write};
use crate::delete;
use crate::pods::{answering, set_condition};
use crate::update;
use crate::value::{self, list, text};

const BUDGETS: &str = "poddisruptionbudgets.policy";
/// So many evictions may wait for the controller to notice them.
const DISRUPTED: usize = 2000;
/// When to try again while a budget has not been looked at, in seconds.
const LATER: u32 = 10;

/// Decides a POST to `pods/NAME/eviction`.
pub(crate) fn evict(call: &mut Call<'_, '_>) -> Result<Decision, Status> {
    let (eviction, warnings) = call.body("policy/v1", "Eviction")?;
    if text(&eviction["metadata"], "name") != &*call.key.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = &eviction["deleteOptions"];
    let request = ApiRequest {
        verb: Verb::Delete,
        subresource: None,
        dry_run: call.req.dry_run || list(options, "dryRun").iter().any(|d| d == "All"),
        delete: delete_options(options),
        body: Default::default(),
        ..call.req.clone()
    };
    let pod = call.stored()?;
    let spent = spend(call, &pod, request.dry_run)?;
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": call.env.now.rfc3339(),
    });
    let mut inner = Call::new(call.registry, call.env, &request)?;
    let mut decision = delete::delete_and(&mut inner, |pod| set_condition(pod, condition))?;
    match &mut decision {
        Decision::Write(write) => {
            write.warnings = warnings;
            if let Some(spent) = spent {
                write.txn.require.extend(spent.txn.require);
                write.txn.ops.extend(spent.txn.ops);
            }
        }
        Decision::Answer(answer) => answer.warnings = warnings,
    }
    let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(answering(decision, done, 201))
}

/// What the eviction writes to the pod's budget, if it has one that it counts for; or the refusal.
fn spend(call: &mut Call<'_, '_>, pod: &Object, dry_run: bool) -> Result<Option<Box<Write>>, Status> {
    let status = pod.spec_and_status().1;
    // What has ended or not begun, or goes anyway, disrupts nobody.
    let gone = matches!(text(&status, "phase"), "Succeeded" | "Failed" | "Pending");
    if gone || pod.meta.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let mut budgets = budgets(call.env.view, pod);
    let Some(budget) = budgets.pop() else { return Ok(None) };
    if !budgets.is_empty() {
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status { code: 500, reason: "", message: message.into(), details: None });
    }
    let mut value = budget.value();
    let ready = list(&status, "conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    if !ready && unhealthy_may_go(&value) {
        return Ok(None);
    }
    check(&budget, &value)?;
    if dry_run {
        return Ok(None);
    }
    take(&mut value, pod.name(), &call.env.now.rfc3339());
    let user = Arc::new(UserInfo::system("system:apiserver"));
    let mut request = ApiRequest::new(user, Verb::Update, "policy", "v1", "poddisruptionbudgets");
    request.namespace = pod.namespace().into();
    request.name = budget.name().into();
    request.subresource = Some("status".into());
    request.field_manager = "kube-apiserver".into();
    request.body = Body::Object(value);
    match update::update(&mut Call::new(call.registry, call.env, &request)?)? {
        Decision::Write(write) => Ok(Some(write)),
        Decision::Answer(_) => Ok(None),
    }
}

/// The budgets that select a pod. One without a selector selects none, one with an empty selector all of its namespace.
fn budgets(view: &dyn View, pod: &Object) -> Vec<Arc<Object>> {
    let selects = |budget: &Arc<Object>| {
        let (spec, _) = budget.spec_and_status();
        let selector = LabelSelector::from_json(&spec["selector"]);
        !spec["selector"].is_null() && selector.is_ok_and(|s| s.matches(&pod.meta.labels))
    };
    view.list(BUDGETS, Some(pod.namespace())).filter(selects).collect()
}

fn count(budget: &Value, name: &str) -> i64 {
    budget["status"][name].as_i64().unwrap_or(0)
}

/// Whether a pod that is not ready goes at nobody's expense.
fn unhealthy_may_go(budget: &Value) -> bool {
    let desired = count(budget, "desiredHealthy");
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (desired > 0 && count(budget, "currentHealthy") >= desired)
}

/// Whether a budget has a place left.
fn check(budget: &Object, value: &Value) -> Result<(), Status> {
    let name = budget.name();
    if count(value, "observedGeneration") < budget.meta.generation {
        return Err(refused(LATER, format!("The disruption budget {name} is still being processed by the server.")));
    }
    let forbidden = |why| Err(Status::forbidden("poddisruptionbudget.policy", name, why));
    if count(value, "disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if value["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if count(value, "disruptionsAllowed") == 0 {
        let (desired, current) = (count(value, "desiredHealthy"), count(value, "currentHealthy"));
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
        return Err(refused(0, why));
    }
    Ok(())
}

/// The 429, with upstream's words.
fn refused(retry_after_seconds: u32, why: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_after_seconds);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: "DisruptionBudget".into(), message: why, field: String::new() });
    }
    status
}

/// Takes one place of a budget for a pod.
fn take(budget: &mut Value, pod: &str, now: &str) {
    let left = count(budget, "disruptionsAllowed") - 1;
    let observed = count(budget, "observedGeneration");
    let status = value::child(budget, "status");
    status.insert("disruptionsAllowed".into(), left.into());
    let disrupted = status.entry("disruptedPods").or_insert_with(|| json!({}));
    value::object(disrupted).insert(pod.into(), now.into());
    if left == 0 {
        let none = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": observed, "lastTransitionTime": now,
        });
        set_condition(budget, none);
    }
}

fn delete_options(v: &Value) -> DeleteOptions {
    let preconditions = &v["preconditions"];
    let owned = |v: &Value| v.as_str().map(String::from);
    DeleteOptions {
        grace_period_seconds: v["gracePeriodSeconds"].as_i64(),
        uid: owned(&preconditions["uid"]),
        resource_version: owned(&preconditions["resourceVersion"]),
        propagation: match text(v, "propagationPolicy") {
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            _ => None,
        },
    }
}
