//! What nodes and pods use, as kubectl and collectors of metrics see it.

use e2e::{Cluster, text, until};
use serde_json::Value;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: hello
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  containers:
  - {name: toolbox, image: copepod.dev/toolbox, stdin: true}
";

const BUSY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  containers:
  - {name: c, image: 'file://examples/preview1/preview1.wasm', args: [spin]}
";

#[test]
fn kubectl_top_shows_nodes_pods_and_containers() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["--metric-resolution", "200ms"]) else { return };
    c.apply(PODS);
    c.ok(&["wait", "--for=condition=Ready", "pod/web", "pod/box", "--timeout=60s"]);
    // The line of a name, once there are two measurements.
    let line = |args: &[&str], name: &str| -> Vec<String> {
        until(&format!("kubectl {args:?} prints {name}"), || {
            let out = text(&c.kubectl(args).stdout);
            let mut lines = out.lines().map(|l| l.split_whitespace().map(String::from).collect::<Vec<_>>());
            lines.find(|words| words.first().is_some_and(|w| w == name))
        })
    };
    let pod = line(&["top", "pods"], "box");
    assert!(
        pod[1].ends_with('m') && pod[2].ends_with("Mi") && pod[2] != "0Mi",
        "a guest that waits for input: {pod:?}"
    );
    assert_eq!(line(&["top", "pods", "--containers"], "box")[1], "toolbox");
    let node = line(&["top", "nodes"], "copepod");
    assert!(
        node[1].ends_with('m') && node[2].ends_with('%') && node[3].ends_with("Mi") && node[4].ends_with('%'),
        "{node:?}"
    );
    line(&["top", "pods", "-A", "--no-headers"], "default");
    line(&["top", "pod", "web"], "web");
    let selected = c.ok(&["top", "pods", "-l", "app=box", "--no-headers"]);
    assert!(selected.starts_with("box ") && selected.lines().count() == 1, "{selected}");
    assert!(c.fails(&["top", "pod", "nobody"]).contains("pods \"nobody\" not found"));
    assert!(c.ok(&["get", "nodes.metrics.k8s.io"]).contains("copepod"));
    let listed = c.ok(&["get", "pods.metrics.k8s.io", "-o", "jsonpath={.items[*].metadata.labels.app}"]);
    assert_eq!(listed, "box web");
    assert!(c.ok(&["get", "pods", "-o", "name"]).contains("pod/web"), "a pod is still a pod");
    // What they are, from OpenAPI.
    let explained = c.ok(&["explain", "podmetrics.containers"]);
    assert!(explained.contains("usage") && explained.contains("Memory is the working set"), "{explained}");
    assert!(c.ok(&["explain", "nodemetrics"]).contains("window"));
    let index: Value = serde_json::from_str(&c.ok(&["get", "--raw", "/openapi/v3"])).unwrap();
    let address = index["paths"]["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().unwrap();
    assert!(c.ok(&["get", "--raw", address]).contains("v1beta1.PodMetricsList"));

    // Who may view a namespace may see what its pods use, and not what nodes do.
    c.ok(&["create", "rolebinding", "bob", "--clusterrole=view", "--user=bob"]);
    assert!(c.ok(&["--as=bob", "top", "pods"]).contains("web"));
    for args in [&["--as=bob", "top", "nodes"][..], &["--as=bob", "top", "pods", "-A"], &["--as=ann", "top", "pods"]] {
        let refused = c.fails(args);
        assert!(refused.contains("forbidden") && refused.contains("metrics.k8s.io"), "{refused}");
    }

    // The kubelet's paths, through the API server.
    let proxy = |path: &str| c.ok(&["get", "--raw", &format!("/api/v1/nodes/copepod/proxy/{path}")]);
    let summary: Value = serde_json::from_str(&proxy("stats/summary")).unwrap();
    let pods: Vec<&str> =
        summary["pods"].as_array().unwrap().iter().filter_map(|p| p["podRef"]["name"].as_str()).collect();
    assert!(pods.contains(&"web") && pods.contains(&"box"), "{pods:?}");
    assert!(proxy("pods").contains("\"PodList\""));
    assert!(proxy("metrics").contains("kubelet_running_pods 2"));
    assert!(proxy("metrics/resource").contains("pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"}"));
    let probes = proxy("metrics/probes");
    assert!(probes.contains("container=\"hello\"") && probes.contains("result=\"successful\""), "{probes}");
    assert!(c.fails(&["--as=bob", "get", "--raw", "/api/v1/nodes/copepod/proxy/metrics"]).contains("forbidden"));

    // Who computes is seen to.
    c.apply(BUSY);
    until("a guest that loops uses the CPU", || {
        let cpu = line(&["top", "pods"], "busy")[1].trim_end_matches('m').parse::<u32>();
        cpu.is_ok_and(|millis| millis > 0).then_some(())
    });
}
