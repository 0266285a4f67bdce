//! The pods of a Job: which there are, how they ended, and new ones.

use std::sync::Arc;

use copepod_machine::Action;
use copepod_model::request::PatchType;
use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::{FINALIZER, GVK, INDEX};
use crate::support::ownership;
use crate::support::pods::Pod;
use crate::support::{int, patch, text};

/// How often pods of an index had failed before this one was made.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// How a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Runs,
    Succeeded,
    Failed,
}

/// Whether a pod has still to be counted before it may go.
pub(super) fn tracked(pod: &Object) -> bool {
    pod.meta.finalizers.iter().any(|f| &**f == FINALIZER)
}

/// How a pod stands. One that is being deleted has failed, unless only what has ended is to be replaced.
pub(super) fn outcome(pod: &Pod, only_ended: bool) -> Outcome {
    match pod.facts.phase.as_str() {
        "Succeeded" => Outcome::Succeeded,
        "Failed" => Outcome::Failed,
        _ if pod.terminating() && !only_ended => Outcome::Failed,
        _ => Outcome::Runs,
    }
}

/// The completion index of a pod.
pub(super) fn index(pod: &Object) -> Option<i64> {
    pod.meta.annotations.get(INDEX).and_then(|i| i.parse().ok())
}

/// How often its index has failed, the pod itself included.
pub(super) fn failures(pod: &Object) -> i64 {
    1 + pod.meta.annotations.get(FAILURES).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0)
}

/// When a pod ended, as far as it is known.
pub(super) fn ended(pod: &Pod) -> Option<Time> {
    let (_, status) = pod.object.spec_and_status();
    let finished = |c: &Value| c["state"]["terminated"]["finishedAt"].as_str().and_then(Time::parse);
    let containers = status["containerStatuses"].as_array().into_iter().flatten();
    let last = containers.filter_map(finished).max();
    last.or_else(|| pod.object.meta.deletion()).or_else(|| pod.object.meta.created())
}

/// Lets a pod go.
pub(super) fn release(pod: &Object) -> Action {
    let rest: Vec<&str> = pod.meta.finalizers.iter().map(|f| &**f).filter(|f| *f != FINALIZER).collect();
    let body = json!({"metadata": {"resourceVersion": pod.revision.to_string(), "finalizers": rest}});
    patch(pod, "", PatchType::Merge, body)
}

/// Deletes a pod.
pub(super) fn delete(pod: &Object) -> Action {
    Action::Delete {
        resource: "pods".into(),
        namespace: pod.namespace().into(),
        name: pod.name().into(),
        uid: pod.meta.uid.to_string(),
        propagation: None,
        grace_seconds: None,
    }
}

/// A pod to be created; with an index, and how often its index has failed where that is counted.
pub(super) fn made(job: &Object, value: &Value, index: Option<i64>, failures: Option<i64>) -> Value {
    let template = &value["spec"]["template"];
    let prefix = index.map_or_else(|| format!("{}-", job.name()), |i| format!("{}-{i}-", job.name()));
    let mut metadata = json!({
        "generateName": prefix, "namespace": job.namespace(),
        "ownerReferences": [ownership::controller_ref(GVK, job)],
    });
    for field in ["labels", "annotations"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let mut finalizers = template["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    metadata["finalizers"] = finalizers.into();
    let mut spec = template["spec"].clone();
    if let Some(index) = index {
        let index = index.to_string();
        metadata["annotations"][INDEX] = index.as_str().into();
        metadata["labels"][INDEX] = index.as_str().into();
        if let Some(n) = failures {
            metadata["annotations"][FAILURES] = n.to_string().into();
        }
        if text(&spec["hostname"]).is_empty() {
            spec["hostname"] = format!("{}-{index}", job.name()).into();
        }
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                tell_index(container);
            }
        }
        // A list that was only looked for is not there.
        if spec["initContainers"].is_null()
            && let Some(spec) = spec.as_object_mut()
        {
            spec.remove("initContainers");
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Adds `JOB_COMPLETION_INDEX` to a container's environment unless it has one.
fn tell_index(container: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let variable = json!({"name": NAME, "valueFrom": {"fieldRef": {
        "fieldPath": format!("metadata.labels['{INDEX}']")}}});
    match container["env"].as_array_mut() {
        Some(env) if env.iter().any(|e| e["name"] == NAME) => {}
        Some(env) => env.push(variable),
        None => container["env"] = json!([variable]),
    }
}

/// What a failure policy says of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Counts,
    Ignored,
    FailsIndex,
    /// With the reason for people.
    FailsJob(String),
}

/// The first rule of `spec.podFailurePolicy` that matches a pod decides.
pub(super) fn judge(spec: &Value, pod: &Arc<Object>) -> Judgement {
    let rules = spec["podFailurePolicy"]["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.is_empty() {
        return Judgement::Counts;
    }
    let (_, status) = pod.spec_and_status();
    let place = format!("{}/{}", pod.namespace(), pod.name());
    for (i, rule) in rules.iter().enumerate() {
        let by_code = exit_code(&rule["onExitCodes"], &status)
            .map(|(container, code)| format!("Container {container} for pod {place} failed with exit code {code}"));
        let by_condition = || condition(rule, &status).map(|kind| format!("Pod {place} has condition {kind}"));
        let Some(what) = by_code.or_else(by_condition) else { continue };
        return match text(&rule["action"]) {
            "Ignore" => Judgement::Ignored,
            "FailIndex" => Judgement::FailsIndex,
            "FailJob" => Judgement::FailsJob(format!("{what} matching FailJob rule at index {i}")),
            _ => Judgement::Counts,
        };
    }
    Judgement::Counts
}

/// The container that ended with a code that the rule asks for.
fn exit_code(rule: &Value, status: &Value) -> Option<(String, i64)> {
    let values = rule["values"].as_array()?;
    let statuses = |list: &str| status[list].as_array().cloned().unwrap_or_default();
    let all = [statuses("containerStatuses"), statuses("initContainerStatuses")].concat();
    all.iter().find_map(|c| {
        let ended = &c["state"]["terminated"];
        let code = int(&ended["exitCode"]);
        let named = rule["containerName"].is_null() || rule["containerName"] == c["name"];
        if !ended.is_object() || code == 0 || !named {
            return None;
        }
        let listed = values.iter().any(|v| int(v) == code);
        (listed == (rule["operator"] == "In")).then(|| (text(&c["name"]).to_string(), code))
    })
}

fn condition(rule: &Value, status: &Value) -> Option<String> {
    let patterns = rule["onPodConditions"].as_array()?;
    let has = |p: &&Value| {
        let all = status["conditions"].as_array();
        all.into_iter().flatten().any(|c| c["type"] == p["type"] && c["status"] == p["status"])
    };
    patterns.iter().find(has).map(|p| text(&p["type"]).to_string())
}
