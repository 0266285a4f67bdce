//! `kubectl patch --subresource resize`: limits of containers that run.

use e2e::{Cluster, until};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: grow}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080}]
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 500m, memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: anew}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080}]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {memory: 32Mi}}
";

fn patch(requests: &str, limits: &str) -> String {
    format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{{"requests":{requests},"limits":{limits}}}}}]}}}}"#)
}

fn resize<'a>(pod: &'a str, patch: &'a str) -> [&'a str; 7] {
    ["patch", "pod", pod, "--subresource", "resize", "--patch", patch]
}

#[test]
fn limits_change_while_a_pod_runs() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    if !c.kubectl_is(32) {
        return;
    }
    c.apply(PODS);
    c.ok(&["wait", "--for=condition=Ready", "pod/grow", "pod/anew", "--timeout=60s"]);
    let field = |pod: &str, path: &str| c.ok(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")]);
    let status = |pod: &str, path: &str| field(pod, &format!(".status.containerStatuses[0].{path}"));
    let condition = |kind: &str| field("grow", &format!(".status.conditions[?(@.type==\"{kind}\")].reason"));
    let proxy = |pod: &str, path: &str| format!("/api/v1/namespaces/default/pods/{pod}/proxy{path}");

    c.ok(&resize("grow", &patch("{}", r#"{"memory":"256Mi"}"#)));
    until("the container has the limit", || (status("grow", "resources.limits.memory") == "256Mi").then_some(()));
    assert!(c.ok(&["get", "--raw", &proxy("grow", "/alloc?mb=64")]).contains("64 MiB"));
    assert_eq!(status("grow", "restartCount"), "0");
    until("nothing is under way", || condition("PodResizeInProgress").is_empty().then_some(()));
    assert_eq!(field("grow", ".metadata.generation"), field("grow", ".status.observedGeneration"));

    // More than the machine has, and back.
    c.ok(&resize("grow", &patch(r#"{"cpu":"100000"}"#, r#"{"cpu":"100000"}"#)));
    until("that is said", || (condition("PodResizePending") == "Infeasible").then_some(()));
    assert_eq!(
        (status("grow", "allocatedResources.cpu"), status("grow", "resources.limits.cpu")),
        ("50m".into(), "500m".into())
    );
    c.ok(&resize("grow", &patch(r#"{"cpu":"100m"}"#, r#"{"cpu":"1"}"#)));
    until("it is forgotten", || condition("PodResizePending").is_empty().then_some(()));
    until("the container has it", || (status("grow", "resources.limits.cpu") == "1").then_some(()));
    let events =
        c.ok(&["get", "events", "--field-selector", "involvedObject.name=grow", "-o", "jsonpath={.items[*].reason}"]);
    assert!(["ResizeStarted", "ResizeCompleted", "ResizeInfeasible"].iter().all(|e| events.contains(e)), "{events}");

    c.ok(&resize("anew", &patch("{}", r#"{"memory":"256Mi"}"#)));
    until("it has restarted for it", || (status("anew", "restartCount") == "1").then_some(()));
    c.ok(&["wait", "--for=condition=Ready", "pod/anew", "--timeout=60s"]);
    assert!(c.ok(&["get", "--raw", &proxy("anew", "/alloc?mb=64")]).contains("64 MiB"));

    for (requests, limits, why) in [
        (r#"{"memory":"256Mi","cpu":"1"}"#, "{}", "Pod QOS Class may not change as a result of resizing"),
        ("{}", r#"{"ephemeral-storage":"1Gi"}"#, "only cpu and memory resources are mutable"),
    ] {
        let said = c.fails(&resize("grow", &patch(requests, limits)));
        assert!(said.contains(why), "{said}");
    }
}
