//! A guest that speaks HTTP itself, over its own TCP socket, behind the ingress: WebSocket, and clients of HTTP/2.

use std::process::Command;

use e2e::{Cluster, has, needs, text, until};

const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ws, labels: {app: ws}}
spec:
  containers:
  - name: c
    image: file://examples/tcp-echo/tcp-echo.wasm
    args: [serve-websocket]
    ports: [{containerPort: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: ws}
spec: {selector: {app: ws}, ports: [{port: 80, targetPort: 7000}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: ws}
spec:
  tls: [{hosts: [ws.localhost], secretName: ws}]
  rules:
  - host: ws.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: ws, port: {number: 80}}}}]}
";

#[test]
fn a_websocket_client_talks_to_a_tcp_guest_through_the_ingress() {
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_default();
    if !needs("websocket-client for Python (COPEPOD_TEST_PYTHON)", !python.is_empty())
        || !needs("openssl", has("openssl"))
    {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let [cert, key] = ["crt", "key"].map(|end| dir.path().join(format!("ws.{end}")).to_string_lossy().into_owned());
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=ws.localhost", "-addext", "subjectAltName=DNS:ws.localhost"])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    c.ok(&["create", "secret", "tls", "ws", "--cert", &cert, "--key", &key]);
    c.apply(SERVER);
    // Who does not ask for WebSocket hears so, over HTTP/1 and HTTP/2.
    until("the guest answers", || (c.get("ws.localhost", "/").0 == 426).then_some(()));
    let out = Command::new("curl")
        .args(["-s", "-m", "10", "--http2-prior-knowledge", "-H", "Host: ws.localhost", "-w", "%{http_version}"])
        .arg(format!("{}/", c.ingress))
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "WebSocket only, here\n2");

    let talk = |url: &str, ca: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/main/echo_client.py");
        Command::new(&python).arg(script).arg(url).args(ca).output().unwrap()
    };
    let clear = talk(&c.ingress.replace("http://", "ws://"), &[]);
    assert!(text(&clear.stdout).contains("all well"), "{}{}", text(&clear.stdout), text(&clear.stderr));
    until("the Secret's certificate is shown, and trusted", || {
        let out = talk(&format!("wss://{}", c.ingress_tls), &[&cert]);
        let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
        assert!(out.status.success() || stderr.contains("certificate verify failed"), "{stdout}{stderr}");
        stdout.contains("all well").then_some(())
    });
    until("the guest has counted the messages", || c.ok(&["logs", "ws"]).contains("sent 8 messages").then_some(()));
}
