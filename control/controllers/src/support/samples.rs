//! Objects that the tests of several controllers begin with.

use serde_json::{Value, json};

/// The Service `a/web` of the pods `app=web`, with one port to their port `web`.
pub(crate) fn service(change: impl FnOnce(&mut Value)) -> Value {
    let mut v = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "svc", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.7",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
    });
    change(&mut v);
    v
}

/// One of its pods: `p0` with the UID `u0` at 10.244.0.1, and so on.
pub(crate) fn pod(n: usize, ready: bool, port: u16) -> Value {
    json!({
        "metadata": {"name": format!("p{n}"), "namespace": "a", "uid": format!("u{n}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": format!("10.244.{}.{}", n / 200, n % 200 + 1),
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}
