//! A pod's life from its first init container to its last words: sidecars, hooks, probes, what it is told of itself.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use e2e::{Cluster, until};

fn field(c: &Cluster, pod: &str, path: &str) -> String {
    c.ok(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")])
}

const FULL: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: full
  labels: {app: full}
  annotations: {copepod.dev/main.readiness.periodMilliseconds: '50'}
spec:
  terminationGracePeriodSeconds: 20
  hostname: web
  subdomain: full
  setHostnameAsFQDN: true
  hostAliases: [{ip: 127.0.0.1, hostnames: [beside.example]}]
  initContainers:
  - name: sidecar
    image: file://examples/hello/hello.wasm
    restartPolicy: Always
    ports: [{containerPort: 8081, name: side}]
    startupProbe: {httpGet: {path: /, port: side}, periodSeconds: 1}
    lifecycle: {preStop: {httpGet: {path: '/log?text=sidecar-stops', port: side}}}
  - name: first
    image: file://examples/preview1/preview1.wasm
  containers:
  - name: main
    image: file://examples/hello/hello.wasm
    ports: [{containerPort: 8080, name: web}]
    resources: {requests: {memory: 3Mi}, limits: {cpu: 250m}}
    env:
    - {name: MILLIS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEBI, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: DISK, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    readinessProbe: {httpGet: {path: /, port: web}}
    livenessProbe: {tcpSocket: {port: web}}
    lifecycle:
      postStart: {httpGet: {path: '/log?text=main-starts', port: web}}
      preStop: {httpGet: {path: '/log?text=main-stops', port: web}}
---
apiVersion: v1
kind: Service
metadata: {name: full}
spec: {selector: {app: full}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: full}
spec:
  rules:
  - host: full.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: full, port: {number: 80}}}}]}
";

#[test]
fn sidecars_hooks_and_probes_frame_a_pods_life() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(FULL);
    c.ok(&["wait", "--for=condition=Ready", "pod/full", "--timeout=60s"]);
    assert_eq!(field(&c, "full", ".status.initContainerStatuses[*].state.terminated.reason"), "Completed");
    assert_eq!(field(&c, "full", ".status.initContainerStatuses[0].started"), "true");
    until("the postStart hook was called", || {
        c.ok(&["logs", "full", "-c", "main"]).contains("main-starts").then_some(())
    });
    until("it answers", || (c.get("full.localhost", "/").0 == 200).then_some(()));
    let env = c.get("full.localhost", "/env").1;
    for line in ["MILLIS=250", "MEBI=3", "NODE=copepod", "APP=full", "HOSTNAME=web.full.default.svc.cluster.local"] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    let disk = env.lines().find_map(|l| l.strip_prefix("DISK=")).unwrap();
    assert!(disk.parse::<u64>().unwrap() > 1 << 20, "without a limit it is the node's: {disk}");
    for beside in ["127.0.0.1", "beside.example"] {
        let (code, text) = c.get("full.localhost", &format!("/fetch?url=http://{beside}:8081/"));
        assert!(code == 200 && text.contains("Hello"), "{beside}: {code} {text}");
    }
    assert_eq!(c.get("full.localhost", "/fetch?url=http://127.0.0.1:8081/log?text=sidecar-runs").0, 200);
    // A follower that has read its first line will read the last one; one that still connects may find no pod.
    let follow = |container: &str| {
        let mut child = std::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(c.dir.join("kubeconfig"))
            .args(["logs", "-f", "full", "-c", container])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "the log of {container} is followed");
        (child, out)
    };
    let logs = [(follow("main"), "main-stops"), (follow("sidecar"), "sidecar-stops")];
    c.ok(&["delete", "pod", "full", "--timeout=60s"]);
    for ((mut child, mut out), said) in logs {
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        child.wait().unwrap();
        assert!(rest.contains(said), "{said} in {rest}");
    }
}

#[test]
fn ends_are_told_and_bad_hooks_kill() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: words}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: file://examples/preview1/preview1.wasm
    args: ['bogus']
    terminationMessagePolicy: FallbackToLogsOnError
---
apiVersion: v1
kind: Pod
metadata: {name: hook}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    lifecycle: {postStart: {tcpSocket: {port: 9}}}
---
apiVersion: v1
kind: Pod
metadata: {name: grpc}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    readinessProbe: {grpc: {port: 80, service: shop}, periodSeconds: 1}
",
    );
    until("words failed", || (field(&c, "words", ".status.phase") == "Failed").then_some(()));
    let ended = ".status.containerStatuses[0].state.terminated";
    assert_eq!(field(&c, "words", &format!("{ended}.exitCode")), "2");
    let said = c.ok(&["logs", "words"]);
    assert!(!said.is_empty());
    assert_eq!(field(&c, "words", &format!("{ended}.message")), said.trim_end_matches('\n').to_owned() + "\n");
    let events = |pod: &str| c.ok(&["get", "events", &format!("--field-selector=involvedObject.name={pod}")]);
    until("the hook's failure is an event", || {
        let events = events("hook");
        (events.contains("FailedPostStartHook")
            && events.contains("Back-off restarting failed container c in pod hook_"))
        .then_some(())
    });
    until("the back-off shows", || {
        let message = field(&c, "hook", ".status.containerStatuses[0].state.waiting.message");
        (message.starts_with("back-off ") && message.contains("ms restarting failed container=c pod=hook_default("))
            .then_some(())
    });
    until("the probe speaks gRPC", || events("grpc").contains("Readiness probe failed").then_some(()));
    let refused =
        c.fails(&["annotate", "--overwrite", "pod", "grpc", "copepod.dev/c.readiness.periodMilliseconds=soon"]);
    assert!(refused.contains("must be a number of milliseconds"), "{refused}");
}

#[test]
fn commands_probe_and_hook() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: cmd, annotations: {copepod.dev/c.readiness.periodMilliseconds: '50'}}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {exec: {command: [ls, /data/ready]}, timeoutSeconds: 20}
    lifecycle: {postStart: {exec: {command: [mkdir, /data/started]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  containers:
  - name: c
    image: file://examples/hello/hello.wasm
    livenessProbe: {exec: {command: [nothing]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: late, annotations: {copepod.dev/c.readiness.periodMilliseconds: '50'}}
spec:
  containers:
  - name: c
    image: file://examples/preview1/preview1.wasm
    args: [loop]
    readinessProbe: {exec: {command: [preview1, sleep]}}
---
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  containers:
  - name: c
    image: file://examples/preview1/preview1.wasm
    args: [loop]
    lifecycle: {postStart: {exec: {command: [preview1, exit, '3']}}}
",
    );
    let events = |pod: &str| c.ok(&["get", "events", &format!("--field-selector=involvedObject.name={pod}")]);
    let told = |pod: &str, text: &str| until(&format!("{text} of {pod}"), || events(pod).contains(text).then_some(()));
    // What the command says is why the pod is not ready; and it runs in the container's mounts.
    told("cmd", "Readiness probe failed: ls: /data/ready");
    assert_eq!(c.ok(&["exec", "cmd", "--", "ls", "/data"]), "started\n");
    c.ok(&["exec", "cmd", "--", "mkdir", "/data/ready"]);
    c.ok(&["wait", "--for=condition=Ready", "pod/cmd", "--timeout=60s"]);
    told("missing", "Liveness probe failed: failed to exec in container: exec: \"nothing\": executable file not found");
    told("missing", "Container c failed liveness probe, will be restarted");
    told("late", "Readiness probe failed: command \"preview1 sleep\" timed out");
    told("hooked", "PostStartHook failed");
    told("hooked", "Back-off restarting failed container c in pod hooked_");
}

#[test]
fn the_node_judges_what_is_bound_to_it_and_runs_what_its_files_say() {
    let manifests = tempfile::tempdir().unwrap();
    let folder = manifests.path().to_str().unwrap().to_string();
    let pod = |text: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: '{}/examples/hello/hello.wasm', env: [{{name: A, value: {text}}}]}}]}}\n",
            format_args!("file://{}", e2e::root().display())
        )
    };
    let file = manifests.path().join("web.yaml");
    std::fs::write(manifests.path().join("bad.yaml"), "kind: [").unwrap();
    std::fs::write(&file, pod("one")).unwrap();
    let Some((_dir, c)) = Cluster::for_kubectl(&["--static-pods", &folder]) else { return };
    let name = "web-copepod";
    until("the mirror is there", || c.kubectl(&["get", "pod", name]).status.success().then_some(()));
    c.ok(&["wait", "--for=condition=Ready", "pod/web-copepod", "--timeout=60s"]);
    let mark = r".metadata.annotations.kubernetes\.io/config\.mirror";
    let (uid, hash) = (field(&c, name, ".metadata.uid"), field(&c, name, mark));
    assert_eq!(field(&c, name, r".metadata.annotations.kubernetes\.io/config\.source"), "file");
    assert_eq!(field(&c, name, ".metadata.ownerReferences[0].kind"), "Node");
    let ip = field(&c, name, ".status.podIP");
    c.ok(&["delete", "pod", name, "--wait=false"]);
    let now = |path: &str| e2e::text(&c.kubectl(&["get", "pod", name, "-o", &format!("jsonpath={{{path}}}")]).stdout);
    until("it is mirrored anew", || {
        let again = now(".metadata.uid");
        (!again.is_empty() && again != uid && now(".status.phase") == "Running").then_some(())
    });
    assert_eq!(
        (now(mark), now(".status.podIP"), now(".status.containerStatuses[0].restartCount")),
        (hash.clone(), ip, "0".into())
    );
    std::fs::write(&file, pod("two")).unwrap();
    until("another file replaces it", || {
        let other = now(mark);
        (!other.is_empty() && other != hash && now(".status.phase") == "Running").then_some(())
    });
    std::fs::remove_file(&file).unwrap();
    until("it goes with its file", || (!c.kubectl(&["get", "pod", name]).status.success()).then_some(()));

    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: large}\nspec:\n  nodeName: copepod\n  containers: [{name: c, image: x, resources: {requests: {cpu: 5k}}}]\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: choosy}\nspec:\n  nodeName: copepod\n  nodeSelector: {disk: ssd}\n  containers: [{name: c, image: x}]\n",
    );
    for (pod, reason, message) in [
        ("large", "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000000, used: "),
        ("choosy", "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: "),
    ] {
        until(&format!("{pod} is refused"), || (field(&c, pod, ".status.phase") == "Failed").then_some(()));
        assert_eq!(field(&c, pod, ".status.reason"), reason);
        assert!(field(&c, pod, ".status.message").starts_with(message), "{}", field(&c, pod, ".status.message"));
    }
}
