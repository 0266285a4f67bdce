//! What `up` waits for, and why it is not there yet.

use copepod_model::selector::LabelSelector;
use serde_json::Value;

/// Why an object is not ready yet, for the kinds that can be.
pub(super) fn not_ready(object: &Value) -> Option<String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |v: &Value| v.as_i64().unwrap_or(0);
    match object["kind"].as_str()? {
        "Deployment" | "ReplicaSet" => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let seen = number(&status["observedGeneration"]) >= number(&object["metadata"]["generation"]);
            let ready = number(&status["readyReplicas"]);
            (!seen || ready < wanted).then(|| format!("{ready} of {wanted} pods ready"))
        }
        "Pod" => {
            let over = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
            let waiting = status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
            let word = || waiting.or(status["phase"].as_str()).unwrap_or("Pending").to_string();
            (!has(status, "Ready", "True") && !over).then(|| trouble(object).unwrap_or_else(word))
        }
        _ => None,
    }
}

/// Which pods of its namespace are a workload's; none where it has none.
pub(super) fn pods_of(object: &Value) -> Option<String> {
    let selector = LabelSelector::from_json(&object["spec"]["selector"]).ok()?;
    (!selector.is_empty()).then(|| selector.to_string())
}

/// What keeps a workload's pods from being ready, or from being there.
pub(super) fn troubles(workload: &Value, pods: &[Value]) -> Option<String> {
    let of_pod = |pod: &Value| Some(format!("{}: {}", pod["metadata"]["name"].as_str()?, trouble(pod)?));
    let not_made = || {
        let failed = list(&workload["status"]["conditions"]).iter().find(|c| is(c, "ReplicaFailure", "True"))?;
        said(&failed["reason"], &failed["message"])
    };
    pods.iter().find_map(of_pod).or_else(not_made)
}

/// What keeps a pod from being ready, besides that it is starting. The same words as long as it is the same trouble: a container
/// that crashes again and again is waiting, runs and has ended in turn.
fn trouble(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    if has(status, "Ready", "True") || status["phase"] == "Succeeded" {
        return None;
    }
    let containers = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|l| list(&status[l]));
    let of_container = |c: &Value| {
        let waiting = &c["state"]["waiting"];
        let last = [&c["state"]["terminated"], &c["lastState"]["terminated"]].into_iter().find(|t| t.is_object());
        match (waiting["reason"].as_str(), last) {
            (Some("ContainerCreating" | "PodInitializing") | None, None) => None,
            (Some(reason), _) if !["CrashLoopBackOff", "ContainerCreating", "PodInitializing"].contains(&reason) => {
                said(&waiting["reason"], &waiting["message"])
            }
            (_, Some(ended)) if ended["exitCode"] != 0 || c["restartCount"].as_i64().is_some_and(|n| n > 0) => {
                let how = said(&ended["reason"], &ended["message"]).unwrap_or_default();
                let code = ended["exitCode"].as_i64().unwrap_or_default();
                Some(format!("CrashLoopBackOff: exit code {code}, {how}"))
            }
            _ => None,
        }
    };
    let unscheduled = || {
        let condition = list(&status["conditions"]).iter().find(|c| is(c, "PodScheduled", "False"))?;
        said(&condition["reason"], &condition["message"])
    };
    let failed = || said(&status["reason"], &status["message"]);
    containers.filter(|c| c["ready"] != true).find_map(of_container).or_else(unscheduled).or_else(failed)
}

/// `Reason: message`, of the message what stands in its first line.
fn said(reason: &Value, message: &Value) -> Option<String> {
    let reason = reason.as_str().filter(|r| !r.is_empty())?;
    let line = message.as_str().and_then(|m| m.lines().next()).unwrap_or_default();
    Some(if line.is_empty() { reason.into() } else { format!("{reason}: {line}") })
}

fn has(status: &Value, condition: &str, value: &str) -> bool {
    list(&status["conditions"]).iter().any(|c| is(c, condition, value))
}

fn is(condition: &Value, kind: &str, value: &str) -> bool {
    condition["type"] == kind && condition["status"] == value
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p"}, "status": status})
    }

    fn container(state: Value, last: Value, restarts: i64) -> Value {
        json!({"phase": "Running", "containerStatuses":
            [{"name": "c", "ready": false, "restartCount": restarts, "state": state, "lastState": last}]})
    }

    #[test]
    fn what_keeps_a_pod_is_said() {
        let no_image = json!({"waiting": {"reason": "ErrImagePull", "message": "no such file\nmore"}});
        let ended =
            json!({"terminated": {"reason": "Error", "exitCode": 3, "message": "trap: unreachable\nbacktrace"}});
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20ms restarting"}});
        let crash = "CrashLoopBackOff: exit code 3, Error: trap: unreachable";
        let init = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": no_image}],
            "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "PodInitializing"}}}]});
        let nowhere = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
        for (status, want) in [
            (container(no_image.clone(), json!({}), 0), Some("ErrImagePull: no such file")),
            (init, Some("ErrImagePull: no such file")),
            (container(ended.clone(), json!({}), 0), Some(crash)),
            (container(back_off, ended.clone(), 1), Some(crash)),
            (container(json!({"running": {}}), ended, 2), Some(crash)),
            (container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0), None),
            (container(json!({"running": {}}), json!({}), 0), None),
            (nowhere, Some("Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.")),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                Some("Evicted: low on memory"),
            ),
            (json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}), None),
        ] {
            assert_eq!(trouble(&pod(status.clone())).as_deref(), want, "{status}");
        }
        let status = container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0);
        assert_eq!(not_ready(&pod(status)).as_deref(), Some("ContainerCreating"));
        assert_eq!(not_ready(&pod(json!({"phase": "Succeeded"}))), None);
    }

    #[test]
    fn a_workload_says_what_keeps_its_pods() {
        let failure =
            json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]);
        let workload = json!({"kind": "Deployment", "metadata": {"generation": 1},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}},
            "status": {"observedGeneration": 1, "readyReplicas": 1, "conditions": failure}});
        assert_eq!(not_ready(&workload).as_deref(), Some("1 of 2 pods ready"));
        assert_eq!(pods_of(&workload).as_deref(), Some("app=a"));
        assert_eq!(pods_of(&json!({"kind": "Pod"})), None);
        assert_eq!(troubles(&workload, &[]).as_deref(), Some("FailedCreate: quota"));
        let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let stuck = pod(container(json!({"waiting": {"reason": "ErrImagePull", "message": "x"}}), json!({}), 0));
        assert_eq!(troubles(&workload, &[ready, stuck]).as_deref(), Some("p: ErrImagePull: x"));
    }
}
