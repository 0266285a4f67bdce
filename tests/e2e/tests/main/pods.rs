//! What a pod does: traps, limits, probes, commands, logs, environment.

use e2e::{Cluster, text, until};

/// A pod of the hello component behind a Service and an Ingress of its name.
fn hello(name: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers:\n  - name: c\n    image: file://examples/hello/hello.wasm\n    ports: [{{containerPort: 8080}}]\n{container}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  rules:\n  - host: {name}.localhost\n    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}\n"
    )
}

fn answers(c: &Cluster, host: &str) {
    until(&format!("{host} answers"), || (c.get(host, "/").0 == 200).then_some(()));
}

fn status(c: &Cluster, pod: &str, path: &str) -> String {
    c.ok(&["get", "pod", pod, "-o", &format!("jsonpath={{.status.containerStatuses[0].{path}}}")])
}

#[test]
fn a_trap_restarts_the_container_and_shows_why() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&hello("t", ""));
    answers(&c, "t.localhost");
    assert_eq!(c.get("t.localhost", "/trap").0, 500);
    until("the container was restarted", || (status(&c, "t", "restartCount") == "1").then_some(()));
    let message = status(&c, "t", "lastState.terminated.message");
    assert!(message.contains("unreachable") && message.contains("hello"), "a wasm backtrace: {message}");
    assert_eq!(status(&c, "t", "lastState.terminated.reason"), "Error");
    answers(&c, "t.localhost");
    let previous = c.ok(&["logs", "t", "--previous"]);
    assert!(previous.contains("unreachable") || previous.contains("panicked"), "{previous}");
}

#[test]
fn too_much_memory_is_oom_killed() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&hello("m", "    resources: {limits: {memory: 32Mi}}"));
    answers(&c, "m.localhost");
    assert_eq!(c.get("m.localhost", "/alloc?mb=4").0, 200);
    assert_ne!(c.get("m.localhost", "/alloc?mb=64").0, 200);
    until("it was killed", || (status(&c, "m", "lastState.terminated.reason") == "OOMKilled").then_some(()));
    assert_eq!(status(&c, "m", "lastState.terminated.exitCode"), "137");
    answers(&c, "m.localhost");
}

#[test]
fn a_spinning_guest_harms_nobody_and_dies_at_once() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&hello("spin", ""));
    c.apply(&hello("calm", ""));
    answers(&c, "spin.localhost");
    answers(&c, "calm.localhost");
    let url = format!("{}/spin", c.ingress);
    let mut spinners: Vec<_> = (0..4)
        .map(|_| {
            std::process::Command::new("curl")
                .args(["-s", "-m", "30", "-H", "Host: spin.localhost", &url])
                .spawn()
                .unwrap()
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(c.get("calm.localhost", "/").0, 200);
    }
    c.ok(&["delete", "pod", "spin", "--grace-period=1", "--timeout=30s"]);
    for s in &mut spinners {
        s.wait().unwrap();
    }
    assert_eq!(c.get("calm.localhost", "/").0, 200);
}

#[test]
fn commands_run_to_completion_with_their_exit_codes() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let pod = |name: &str, policy: &str, args: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  containers:\n  - {{name: c, image: 'file://examples/preview1/preview1.wasm', args: {args}}}\n"
        )
    };
    c.apply(&pod("ok", "Never", "[]"));
    c.apply(&pod("bad", "Never", "['exit', '42']"));
    c.apply(&pod("again", "OnFailure", "['exit', '3']"));
    let phase = |name: &str| c.ok(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]);
    until("ok succeeded", || (phase("ok") == "Succeeded").then_some(()));
    until("bad failed", || (phase("bad") == "Failed").then_some(()));
    assert_eq!(status(&c, "bad", "state.terminated.exitCode"), "42");
    until("again is restarted", || {
        status(&c, "again", "restartCount").parse::<u32>().is_ok_and(|n| n >= 3).then_some(())
    });
    until("the back-off shows", || (status(&c, "again", "state.waiting.reason") == "CrashLoopBackOff").then_some(()));
    c.ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn logs_follow_tail_and_name_their_errors() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&hello("l", ""));
    answers(&c, "l.localhost");
    for i in 0..5 {
        assert_eq!(c.get("l.localhost", &format!("/log?text=line{i}")).0, 200);
    }
    let all = c.ok(&["logs", "l"]);
    assert_eq!(all.lines().filter(|l| l.starts_with("line")).count(), 5, "{all}");
    assert_eq!(c.ok(&["logs", "l", "--tail=2"]), "line3\nline4\n");
    assert!(c.ok(&["logs", "l", "--timestamps", "--tail=1"]).contains("Z line4"));
    assert!(
        c.fails(&["logs", "l", "--previous"]).contains("previous terminated container \"c\" in pod \"l\" not found")
    );
    assert!(c.fails(&["logs", "l", "-c", "nope"]).contains("nope"));
    assert_eq!(c.ok(&["logs", "l", "--limit-bytes=8"]), all[..8]);
    let mut follow = std::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(c.dir.join("kubeconfig"))
        .args(["logs", "-f", "--tail=1", "l"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "line4");
    c.get("l.localhost", "/log?text=live");
    assert_eq!(lines.next().unwrap().unwrap(), "live");
    since(&c);
    c.ok(&["delete", "pod", "l", "--timeout=30s"]);
    assert!(follow.wait().is_ok());
}

/// Logs by time, of which kubectl sends whole seconds.
fn since(c: &Cluster) {
    let second = || {
        let line = c.ok(&["logs", "l", "--timestamps", "--tail=1"]);
        line.split('.').next().unwrap_or_default().to_string()
    };
    let before = second();
    until("a line of another second", || {
        assert_eq!(c.get("l.localhost", "/log?text=new").0, 200);
        (second() != before).then_some(())
    });
    let young = c.ok(&["logs", "l", &format!("--since-time={}Z", second())]);
    assert!(!young.is_empty() && young.lines().all(|l| l == "new"), "{young}");
    assert!(c.ok(&["logs", "l", "--since=1h"]).contains("line0\n"));
    until("nothing is that young", || c.ok(&["logs", "l", "--since=1s"]).is_empty().then_some(()));
}

/// Three containers that say who they are.
const SEVERAL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: both, labels: {logs: several}}
spec:
  restartPolicy: Never
  initContainers:
  - {name: i, image: copepod.dev/toolbox, args: [echo, from i]}
  containers:
  - {name: a, image: copepod.dev/toolbox, args: [echo, from a]}
  - {name: b, image: copepod.dev/toolbox, args: [echo, from b]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {logs: several}}
spec:
  restartPolicy: Never
  containers:
  - {name: b, image: copepod.dev/toolbox, args: [echo, from one]}
";

#[test]
fn logs_of_several_containers_and_pods() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(SEVERAL);
    let phases = ["get", "pods", "-l", "logs=several", "-o", "jsonpath={.items[*].status.phase}"];
    until("they have ended", || (c.ok(&phases) == "Succeeded Succeeded").then_some(()));
    // Of several kubectl asks for one after the other, in no order.
    let lines = |args: &[&str]| {
        let said = c.ok(args);
        let mut lines: Vec<String> = said.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&["logs", "both", "--all-containers"]), ["from a", "from b", "from i"]);
    let mut prefixed = vec!["[pod/both/a] from a", "[pod/both/b] from b", "[pod/both/i] from i"];
    assert_eq!(lines(&["logs", "both", "--all-containers", "--prefix"]), prefixed);
    assert_eq!(lines(&["logs", "-l", "logs=several", "-c", "b"]), ["from b", "from one"]);
    prefixed.push("[pod/one/b] from one");
    assert_eq!(lines(&["logs", "-l", "logs=several", "--all-containers", "--prefix"]), prefixed);
    assert_eq!(text(&c.kubectl(&["logs", "both"]).stdout), "from a\n", "the first by default");
}

#[test]
fn the_environment_comes_from_everywhere() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.ok(&["create", "configmap", "settings", "--from-literal=COLOUR=blue", "--from-literal=size=9"]);
    c.ok(&["create", "secret", "generic", "keys", "--from-literal=token=t0p"]);
    c.apply(&hello(
        "e",
        "    env:\n    - {name: PLAIN, value: a}\n    - {name: EXPANDED, value: '$(PLAIN)-b'}\n    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    - {name: SIZE, valueFrom: {configMapKeyRef: {name: settings, key: size}}}\n    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}\n    envFrom: [{configMapRef: {name: settings}, prefix: CFG_}]",
    ));
    answers(&c, "e.localhost");
    let env = c.get("e.localhost", "/env").1;
    for line in ["PLAIN=a", "EXPANDED=a-b", "POD_IP=10.244.", "SIZE=9", "TOKEN=t0p", "CFG_COLOUR=blue", "HOSTNAME=e"] {
        assert!(env.contains(line), "{line} in {env}");
    }
    // A reference to nothing keeps the container waiting and says why.
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: missing}\nspec:\n  containers:\n  - name: c\n    image: file://examples/hello/hello.wasm\n    env: [{name: X, valueFrom: {secretKeyRef: {name: nothing, key: x}}}]\n",
    );
    until("it says what is missing", || {
        (status(&c, "missing", "state.waiting.reason") == "CreateContainerConfigError").then_some(())
    });
    assert!(status(&c, "missing", "state.waiting.message").contains("secret \"nothing\" not found"));
    c.ok(&["create", "secret", "generic", "nothing", "--from-literal=x=1"]);
    c.ok(&["wait", "--for=condition=Ready", "pod/missing", "--timeout=60s"]);
}

#[test]
fn probes_decide_readiness_and_restarts() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&hello("ready", "    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}"));
    answers(&c, "ready.localhost");
    c.apply(&hello("never", "    readinessProbe: {tcpSocket: {port: 9}, periodSeconds: 1}"));
    until("the probe's failure is an event", || {
        c.ok(&["get", "events", "--field-selector=involvedObject.name=never"])
            .contains("Readiness probe failed")
            .then_some(())
    });
    assert_eq!(c.get("never.localhost", "/").0, 503);
    c.apply(&hello("dead", "    livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1}"));
    until("it is restarted", || status(&c, "dead", "restartCount").parse::<u32>().is_ok_and(|n| n >= 1).then_some(()));
}

#[test]
fn an_image_that_cannot_be_had_says_so() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: gone}\nspec: {containers: [{name: c, image: 'file:///no/such.wasm'}]}\n");
    until("it says so", || {
        let reason = status(&c, "gone", "state.waiting.reason");
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()).then_some(())
    });
    let events = c.ok(&["get", "events", "--field-selector=involvedObject.name=gone"]);
    assert!(events.contains("no/such.wasm"), "{events}");
    c.ok(&["delete", "pod", "gone", "--timeout=30s"]);
}
