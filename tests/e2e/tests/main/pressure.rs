//! A node whose disk is short.

use e2e::{Cluster, has, needs, text, until};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  containers:
  - {name: c, image: file://examples/tcp-echo/tcp-echo.wasm, ports: [{containerPort: 7000}]}
";

#[test]
fn a_node_with_a_short_disk_evicts_who_holds_something_and_takes_nobody() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &[]);
    c.apply(&POD.replace("NAME", "first"));
    c.ok(&["wait", "pod/first", "--for=condition=Ready", "--timeout=60s"]);
    until("it says something", || c.ok(&["logs", "first"]).contains("listening").then_some(()));
    // The same cluster again, with a threshold that no disk reaches.
    c.kill();
    let c = Cluster::up(dir.path(), &["--eviction-hard", "nodefs.available<1Ei"]);
    let field =
        |object: &str, path: &str| text(&c.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).stdout);
    until("the pod is evicted", || (field("pod/first", ".status.reason") == "Evicted").then_some(()));
    let message = field("pod/first", ".status.message");
    let wanted = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Ei, available: ";
    assert!(message.starts_with(wanted) && message.contains("Container c was using "), "{message}");
    assert_eq!(field("pod/first", ".status.phase"), "Failed");
    until("the node says so", || {
        let status = field("node/copepod", ".status.conditions[?(@.type==\"DiskPressure\")].status");
        (status == "True").then_some(())
    });
    until("the node is tainted", || {
        field("node/copepod", ".spec.taints[*].key").contains("node.kubernetes.io/disk-pressure").then_some(())
    });
    c.apply(&POD.replace("NAME", "second"));
    until("the scheduler says why", || {
        let why = field("pod/second", ".status.conditions[?(@.type==\"PodScheduled\")].message");
        why.contains("untolerated taint {node.kubernetes.io/disk-pressure: }").then_some(())
    });
    // A node that finds room again takes it.
    c.kill();
    let c = Cluster::up(dir.path(), &[]);
    c.ok(&["wait", "pod/second", "--for=condition=Ready", "--timeout=60s"]);
    assert!(c.ok(&["get", "events"]).contains("Evicted"));
}
