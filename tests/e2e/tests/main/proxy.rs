//! `pods/proxy` and `services/proxy` with kubectl: the API server's way into the pod network.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use e2e::{Cluster, has, needs, text, until};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata:
  name: shown
  namespace: kube-system
  labels: {kubernetes.io/cluster-service: 'true', kubernetes.io/name: Shown}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ws, labels: {app: ws}}
spec:
  containers:
  - {name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [serve-websocket], ports: [{containerPort: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: ws}
spec: {selector: {app: ws}, ports: [{port: 80, targetPort: 7000}]}
";

fn cluster() -> Option<(tempfile::TempDir, Cluster)> {
    let (dir, c) = Cluster::for_kubectl(&[])?;
    c.apply(WEB);
    c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let raw = |path: &str| c.kubectl(&["get", "--raw", path]);
    until("the Service has endpoints", || raw(&service("web", "/")).status.success().then_some(()));
    Some((dir, c))
}

fn service(id: &str, path: &str) -> String {
    format!("/api/v1/namespaces/default/services/{id}/proxy{path}")
}

#[test]
fn kubectl_reads_through_services_and_pods() {
    let Some((_dir, c)) = cluster() else { return };
    let raw = |path: &str| c.ok(&["get", "--raw", path]);
    for id in ["web", "web:80", "http:web:", "named:http", "named:80"] {
        assert!(raw(&service(id, "/")).contains("Hello from web-"), "{id}");
    }
    let pod = c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    for id in [pod.clone(), format!("{pod}:8080"), format!("http:{pod}:8080")] {
        let path = format!("/api/v1/namespaces/default/pods/{id}/proxy/some/where");
        assert!(raw(&path).contains(&format!("Hello from {pod}")), "{id}");
    }
    let refused = |path: &str, why: &str| {
        let said = c.fails(&["get", "--raw", path]);
        assert!(said.contains(why), "{path}: {said}");
    };
    refused(&service("nobody", "/"), "no endpoints available for service \"nobody\"");
    // Unnamed ports only are found without a name.
    refused(&service("named", "/"), "no endpoints available for service \"named\"");
    refused(&service("web:81", "/"), "no service port 81 found for service \"web\"");
    refused(&service("ftp:web:80", "/"), "invalid service request \"ftp:web:80\"");
    refused("/api/v1/namespaces/default/pods/gone/proxy/", "pods \"gone\" not found");
    refused(&format!("/api/v1/namespaces/default/pods/{pod}:9/proxy/"), "connect: connection refused");
    c.ok(&["create", "clusterrolebinding", "viewer", "--clusterrole=view", "--user=bob"]);
    let said = c.fails(&["--as=bob", "get", "--raw", &service("web", "/")]);
    assert!(said.contains("cannot get resource \"services/proxy\""), "{said}");

    // The address that it prints leads there.
    let info = c.ok(&["cluster-info"]);
    let path = "/api/v1/namespaces/kube-system/services/shown:http/proxy";
    assert!(info.contains("Kubernetes control plane") && info.contains(&format!("{}{path}", c.api)), "{info}");
    let said = c.fails(&["get", "--raw", &format!("{path}/")]);
    assert!(said.contains("no endpoints available for service \"shown"), "{said}");
    let resources = c.ok(&["get", "--raw", "/api/v1"]);
    assert!(resources.contains("\"pods/proxy\"") && resources.contains("\"services/proxy\""), "{resources}");
}

/// `kubectl proxy`, ended with the test.
struct Proxy {
    child: Child,
    at: String,
}

impl Proxy {
    fn start(c: &Cluster) -> Proxy {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(c.dir.join("kubeconfig"))
            .args(["proxy", "--port=0", "--accept-hosts=.*"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("kubectl says where it is");
        let at = line.trim().rsplit(' ').next().unwrap_or_default().to_string();
        Proxy { child, at }
    }

    /// What curl prints.
    fn curl(&self, args: &[&str], path: &str) -> String {
        let mut out = Command::new("curl");
        out.args(["-sS", "-m", "30"]).args(args).arg(format!("http://{}{path}", self.at));
        text(&out.output().expect("curl runs").stdout)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn bodies_redirects_and_websockets_go_through() {
    let Some((_dir, c)) = cluster() else { return };
    if !needs("curl", has("curl")) {
        return;
    }
    let proxy = Proxy::start(&c);
    assert!(proxy.curl(&["-L"], &service("web", "")).contains("Hello from web-"), "a slash is added");
    let head = proxy.curl(&["-i"], &service("web", "?a=b"));
    assert!(head.starts_with("HTTP/1.1 301") && head.contains(&service("web", "/?a=b")), "{head}");
    assert_eq!(proxy.curl(&["-d", "ahoy"], &service("web", "/echo")), "ahoy");
    let many = "x".repeat(100_000);
    assert_eq!(proxy.curl(&["-X", "PUT", "-d", &many], &service("web", "/echo")).len(), many.len());
    let query = proxy.curl(&[], &service("web", "/deep/er?limit=x&watch=1"));
    assert!(query.contains("path: /deep/er\nquery: limit=x&watch=1\n"), "{query}");
    // A guest that traps has been reached: its node answers for it, as through the ingress.
    let trap = proxy.curl(&["-w", "%{http_code}"], &service("web", "/trap"));
    assert!(trap.ends_with("500"), "{trap}");

    c.ok(&["wait", "--for=condition=Ready", "pod/ws", "--timeout=60s"]);
    until("the TCP guest answers", || proxy.curl(&[], &service("ws", "/")).contains("WebSocket only").then_some(()));
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_default();
    if !needs("websocket-client for Python (COPEPOD_TEST_PYTHON)", !python.is_empty()) {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/main/echo_client.py");
    for path in [service("ws", "/"), "/api/v1/namespaces/default/pods/ws:7000/proxy/".into()] {
        let out = Command::new(&python).arg(script).arg(format!("ws://{}{path}", proxy.at)).output().unwrap();
        assert!(text(&out.stdout).contains("all well"), "{path}: {}{}", text(&out.stdout), text(&out.stderr));
    }
}
