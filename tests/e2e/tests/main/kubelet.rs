//! The node's own API on the kubelet's port, as collectors of metrics use it.

use std::process::Command;

use e2e::{Cluster, text, until};
use serde_json::Value;

use crate::api::Raw;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: hello
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
";

/// (code, body) of a GET at the node's port with more of curl's arguments.
fn ask(c: &Raw, port: &str, path: &str, more: &[&str]) -> (u16, String) {
    let out = Command::new("curl")
        .args(["-sS", "-m", "20", "-w", "\n%{http_code}", "--cacert"])
        .arg(c.dir.path().join("ca.pem"))
        .args(more)
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .output()
        .expect("curl runs");
    let all = text(&out.stdout);
    let (body, code) = all.rsplit_once('\n').unwrap_or(("", "0"));
    assert_ne!(code, "000", "{path}: {}", text(&out.stderr));
    (code.parse().unwrap_or(0), body.into())
}

/// A token of a new service account in the namespace `default`, as a header.
fn token(c: &Raw, account: &str) -> String {
    c.cluster.ok(&["create", "serviceaccount", account]);
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let made = c.json(201, "POST", &path, &["-H", "Content-Type: application/json", "-d", request]);
    format!("Authorization: Bearer {}", made["status"]["token"].as_str().unwrap())
}

#[test]
fn the_nodes_api_is_served_as_a_kubelets() {
    let Some(c) = Raw::up() else { return };
    let k = &c.cluster;
    k.apply(POD);
    k.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let port = until("the node tells its port", || {
        let path = "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}";
        Some(text(&k.kubectl(&["get", "node", "copepod", "-o", path]).stdout)).filter(|port| !port.is_empty())
    });

    // The administrator, by certificate.
    let file = |name: &str| c.dir.path().join(name).to_string_lossy().into_owned();
    let (cert, key) = (file("client.pem"), file("client.key"));
    let admin = |path: &str| {
        let (code, body) = ask(&c, &port, path, &["--cert", &cert, "--key", &key]);
        assert_eq!(code, 200, "{path}: {body}");
        body
    };
    let pods: Value = serde_json::from_str(&admin("/pods")).unwrap();
    assert_eq!((&pods["kind"], &pods["items"][0]["metadata"]["name"]), (&"PodList".into(), &"web".into()));
    let summary: Value = serde_json::from_str(&admin("/stats/summary")).unwrap();
    assert_eq!(summary["node"]["nodeName"], "copepod");
    assert!(admin("/metrics").contains("kubelet_node_name{node=\"copepod\"} 1"));
    assert!(admin("/metrics/resource").contains("container_start_time_seconds{container=\"hello\""));
    assert!(admin("/metrics/probes").contains("prober_probe_total{container=\"hello\""));
    let cadvisor = admin("/metrics/cadvisor");
    let line = cadvisor.lines().find(|l| l.starts_with("container_memory_working_set_bytes{container=\"hello\""));
    let line = line.unwrap_or_else(|| panic!("{cadvisor}"));
    assert!(line.contains("image=\"file://examples/hello/hello.wasm\"") && line.contains("pod=\"web\""), "{line}");
    assert!(cadvisor.contains("\nmachine_memory_bytes{"), "{cadvisor}");
    assert_eq!(admin("/healthz"), "ok");
    let config: Value = serde_json::from_str(&admin("/configz")).unwrap();
    assert_eq!(config["kubeletconfig"]["port"].to_string(), port);

    // Nobody, and service accounts by token.
    assert_eq!(ask(&c, &port, "/healthz", &[]), (401, "Unauthorized".into()));
    assert_eq!(ask(&c, &port, "/metrics", &["-H", "Authorization: Bearer x"]), (401, "Unauthorized".into()));
    let refused = |account: &str, subresources: &str| {
        let user = format!("system:serviceaccount:default:{account}");
        (403, format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[{subresources}])"))
    };
    let nobody = token(&c, "nobody");
    assert_eq!(ask(&c, &port, "/metrics", &["--http1.1", "-H", &nobody]), refused("nobody", "metrics"));
    let scraper = token(&c, "scraper");
    k.ok(&["create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics"]);
    k.ok(&["create", "clusterrolebinding", "scraper", "--clusterrole=scraper", "--serviceaccount=default:scraper"]);
    for path in ["/metrics", "/metrics/cadvisor", "/metrics/resource"] {
        assert_eq!(ask(&c, &port, path, &["-H", &scraper]).0, 200, "{path}");
    }
    assert_eq!(ask(&c, &port, "/pods", &["-H", &scraper]), refused("scraper", "pods proxy"));

    // The same by way of the API server, with the port in the name or without; and what it may when it asks over the network.
    for name in ["copepod".to_string(), format!("copepod:{port}")] {
        let path = format!("/api/v1/nodes/{name}/proxy/metrics/cadvisor");
        assert!(k.ok(&["get", "--raw", &path]).contains("\nmachine_cpu_cores{"), "{name}");
    }
    let may = ["auth", "can-i", "get", "nodes", "--subresource=metrics", "--as=kube-apiserver-kubelet-client"];
    assert_eq!(k.ok(&may).trim(), "yes");
}

#[test]
fn the_api_server_asks_a_node_over_the_network_by_its_own_right() {
    let flags = ["--reach-node-by-https", "--metric-resolution", "200ms"];
    let Some((_dir, c)) = Cluster::for_kubectl(&flags) else { return };
    let (role, user) = ("system:kubelet-api-admin", "kube-apiserver-kubelet-client");
    c.ok(&["delete", "clusterrolebinding", role]);
    let proxy = "/api/v1/nodes/copepod/proxy";
    let refused = format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[stats])");
    until("the node refuses the API server", || {
        let out = c.kubectl(&["get", "--raw", &format!("{proxy}/stats/summary")]);
        text(&out.stderr).contains(&refused).then_some(())
    });
    let (role_flag, user_flag) = (format!("--clusterrole={role}"), format!("--user={user}"));
    c.ok(&["create", "clusterrolebinding", role, &role_flag, &user_flag]);
    assert!(c.ok(&["get", "--raw", &format!("{proxy}/metrics")]).contains("kubelet_node_name{node=\"copepod\"} 1"));
    until("the node tells what it uses", || {
        let out = text(&c.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).stdout);
        out.contains("\"name\":\"copepod\"").then_some(())
    });
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {restartPolicy: Never, containers: [\
         {name: c, image: 'file://examples/preview1/preview1.wasm', args: [loop, '3']}]}\n",
    );
    until("the pod has ended", || {
        (c.ok(&["get", "pod", "p", "-o", "jsonpath={.status.phase}"]) == "Succeeded").then_some(())
    });
    assert_eq!(c.ok(&["logs", "-f", "p"]), "tick 1\ntick 2\ntick 3\n");
    assert_eq!(c.ok(&["logs", "p", "--tail=1"]), "tick 3\n");
    assert!(
        c.fails(&["logs", "p", "--previous"]).contains("previous terminated container \"c\" in pod \"p\" not found")
    );
}
