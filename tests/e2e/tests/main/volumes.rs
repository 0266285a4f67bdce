//! Volumes as kubectl's user and the guests see them.

use e2e::{Cluster, has, needs, until};

const FULL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: full}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: d, emptyDir: {}}]
  containers:
  - name: c
    image: file://examples/files/files.wasm
    args: [append, /d/f, '3', ',', sleep, '3600']
    resources: {limits: {ephemeral-storage: 2Mi}}
    volumeMounts: [{name: d, mountPath: /d}]
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers:
  - name: c
    image: file://examples/files/files.wasm
    args: [sleep, '3600']
    resources: {requests: {ephemeral-storage: 100Pi}}
";

#[test]
fn ephemeral_storage_has_limits() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(FULL);
    let field = |object: &str, path: &str| c.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    until("there is no room for that much", || {
        let why = field("pod/huge", ".status.conditions[?(@.type==\"PodScheduled\")].message");
        why.contains("1 Insufficient ephemeral-storage").then_some(())
    });
    until("the pod is evicted", || (field("pod/full", ".status.reason") == "Evicted").then_some(()));
    let why = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
    assert_eq!(
        (field("pod/full", ".status.phase").as_str(), field("pod/full", ".status.message").as_str()),
        ("Failed", why)
    );
    assert_eq!(field("pod/full", ".spec.containers[0].resources.requests.ephemeral-storage"), "2Mi");
}

const POD: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {k: first}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {s: hush}
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec:
  volumes:
  - {name: shared, emptyDir: {sizeLimit: 10Mi}}
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400, items: [{key: s, path: deep/s}]}}
  - name: tokens
    projected:
      sources:
      - serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  containers:
  - name: a
    image: file://examples/files/files.wasm
    args: [write, /shared/greeting, from-a, ',', watch, /config/k]
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: config, mountPath: /config}
  - name: b
    image: file://examples/files/files.wasm
    workingDir: /shared
    args: [cat, /secret/deep/s, ',', cat, /tokens/vault, ',', cat, /tokens/labels, ',', write, /secret/deep/s, x, ',',
      cat, /one/settings, ',', cat, /var/run/secrets/kubernetes.io/serviceaccount/namespace, ',',
      cat, /var/run/secrets/kubernetes.io/serviceaccount/ca.crt, ',',
      cat, /var/run/secrets/kubernetes.io/serviceaccount/token, ',', watch, greeting]
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: secret, mountPath: /secret}
    - {name: tokens, mountPath: /tokens}
    - {name: config, mountPath: /one/settings, subPath: k}
";

#[test]
fn two_containers_see_the_volumes_of_their_pod() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &[]);
    c.apply(POD);
    let log = |container: &str| c.ok(&["logs", "two", "-c", container]);
    let shows = |container: &str, part: &str| {
        until(&format!("{container} shows {part}"), || {
            let out = c.kubectl(&["logs", "two", "-c", container]);
            e2e::text(&out.stdout).contains(part).then_some(())
        });
    };
    shows("a", "/config/k: first");
    shows("b", "greeting: from-a");
    let text = log("b");
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    for line in [
        "/secret/deep/s: hush\n",
        "/tokens/labels: app=\"two\"\n",
        "/one/settings: first\n",
        &format!("{account}/namespace: default\n"),
        &format!("{account}/ca.crt: -----BEGIN CERTIFICATE-----"),
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("write /secret/deep/s x: "), "a Secret is read-only: {text}");
    for path in ["/tokens/vault", &format!("{account}/token")] {
        let token = text.lines().find_map(|l| l.strip_prefix(&format!("{path}: "))).unwrap();
        assert_eq!(token.split('.').count(), 3, "{token}");
    }
    let patch = r#"{"data":{"k":"second"}}"#;
    c.ok(&["patch", "configmap", "settings", "--type=merge", "-p", patch]);
    shows("a", "/config/k: second");
    assert!(!log("b").contains("/one/settings: second"), "a subPath does not follow");
    // "loud" in base64.
    c.ok(&["patch", "secret", "keys", "--type=merge", "-p", r#"{"data":{"s":"bG91ZA=="}}"#]);
    until("a Secret follows as well", || {
        let out = c.kubectl(&["exec", "two", "-c", "b", "--", "cat", "/secret/deep/s"]);
        (e2e::text(&out.stdout) == "loud").then_some(())
    });
    c.ok(&["delete", "pod", "two", "--grace-period=1", "--timeout=30s"]);
}
