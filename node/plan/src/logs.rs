//! Which attempt's log a request means, by the container's status, or why there is none: in the kubelet's words.

use serde_json::Value;

/// The attempt whose log is wanted. `status` is the pod's status as JSON.
pub fn log_attempt(pod: &str, status: &Value, container: &str, previous: bool) -> Result<u32, String> {
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.iter().flat_map(|l| status[*l].as_array().into_iter().flatten());
    let Some(c) = all.find(|c| c["name"] == container) else {
        return Err(format!("container \"{container}\" in pod \"{pod}\" is not available"));
    };
    let attempt = |id: &Value| id.as_str().and_then(|id| id.rsplit('.').next()).and_then(|n| n.parse::<u32>().ok());
    let last = attempt(&c["lastState"]["terminated"]["containerID"]);
    if previous {
        return last.ok_or_else(|| format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"));
    }
    let state = &c["state"];
    let current = if state["terminated"].is_object() {
        attempt(&state["terminated"]["containerID"])
    } else if state["running"].is_object() {
        attempt(&c["containerID"])
    } else {
        last
    };
    current.ok_or_else(|| {
        let why = match state["waiting"]["reason"].as_str() {
            Some("ErrImagePull") => ": image can't be pulled".into(),
            Some("ImagePullBackOff") => ": trying and failing to pull image".into(),
            Some(reason) => format!(": {reason}"),
            None => " - no logs yet".into(),
        };
        format!("container \"{container}\" in pod \"{pod}\" is waiting to start{why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_lead_to_attempts_or_reasons() {
        let status = |c: Value| {
            let mut c = c;
            c["name"] = "c".into();
            json!({"containerStatuses": [c]})
        };
        let ended = |n: u32| json!({"terminated": {"containerID": format!("wasm://u.c.{n}")}});
        let look = |c: Value, previous| log_attempt("p", &status(c), "c", previous);
        let running = json!({"containerID": "wasm://u.c.2", "state": {"running": {}}, "lastState": ended(1)});
        assert_eq!((look(running.clone(), false), look(running, true)), (Ok(2), Ok(1)));
        let crashing = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(3)});
        assert_eq!((look(crashing.clone(), false), look(crashing, true)), (Ok(3), Ok(3)));
        let done = json!({"state": ended(0), "lastState": {}});
        assert_eq!(look(done.clone(), false), Ok(0));
        assert_eq!(look(done, true).unwrap_err(), "previous terminated container \"c\" in pod \"p\" not found");
        let waiting = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
        assert_eq!(
            look(waiting, false).unwrap_err(),
            "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"
        );
        assert_eq!(
            log_attempt("p", &json!({}), "x", false).unwrap_err(),
            "container \"x\" in pod \"p\" is not available"
        );
    }
}
