//! Streams into pods with the real kubectl, over both protocols that it speaks: SPDY alone before 1.30, WebSockets by default
//! from 1.31 on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use e2e::{Cluster, has, needs, text, until};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: c
    image: file://examples/preview1/preview1.wasm
    args: [loop]
    env: [{name: GREETING, value: ahoy}]
---
apiVersion: v1
kind: Pod
metadata: {name: h}
spec:
  containers:
  - {name: c, image: file://examples/hello/hello.wasm, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: copepod.dev/toolbox, stdin: true, stdinOnce: true}
";

const FILES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: f}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: c
    image: file://examples/preview1/preview1.wasm
    args: [loop]
    volumeMounts: [{name: data, mountPath: /data}]
";

fn spawn(c: &Cluster, args: &[&str]) -> Child {
    Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(c.dir.join("kubeconfig"))
        .args(args)
        .envs(c.kubectl_env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn kubectl_execs_attaches_and_forwards() {
    stream(&[], &[]);
}

#[test]
fn the_same_over_spdy() {
    stream(&[], &[("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")]);
}

/// A command that ends at once says what it has to say before some clients have made their streams.
#[test]
fn short_commands_lose_nothing() {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let c = Cluster::up(dir.path(), &[]);
    c.apply(POD);
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    for i in 0..50 {
        let out = c.kubectl(&["exec", "p", "--", "echo", &format!("word {i}")]);
        assert_eq!((text(&out.stdout), text(&out.stderr)), (format!("word {i}\n"), String::new()), "the {i}th");
        let out = c.kubectl(&["exec", "p", "--", "ls", "/none"]);
        let said = text(&out.stderr);
        assert!(said.contains("/none") && !said.contains("nknown stream"), "the {i}th: {said}");
    }
}

#[test]
fn the_same_goes_through_to_a_node_over_the_network() {
    stream(&["--reach-node-by-https"], &[]);
}

fn stream(flags: &[&str], kubectl_env: &'static [(&'static str, &'static str)]) {
    if !needs("kubectl", has("kubectl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut c = Cluster::up(dir.path(), flags);
    c.kubectl_env = kubectl_env;
    c.apply(POD);
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "pod/h", "pod/box", "--timeout=60s"]);

    // The toolbox beside any image, in the container's own environment and network.
    assert!(c.ok(&["exec", "p", "--", "env"]).contains("GREETING=ahoy"));
    let ip = c.ok(&["get", "pod", "h", "-o", "jsonpath={.status.podIP}"]);
    let fetched = c.ok(&["exec", "box", "--", "wget", "-qO-", &format!("http://{ip}:8080/")]);
    assert!(fetched.contains("Hello from h"), "{fetched}");
    let own = c.ok(&["exec", "h", "--", "wget", "-qO-", "http://127.0.0.1:8080/"]);
    assert!(own.contains("Hello from h"), "the container's own loopback: {own}");
    // The image's own program, with its exit code.
    let out = c.kubectl(&["exec", "p", "--", "preview1", "exit", "42"]);
    assert_eq!(out.status.code(), Some(42), "{}", text(&out.stderr));
    let out = c.kubectl(&["exec", "p", "--", "preview1", "err"]);
    assert!(!text(&out.stderr).is_empty() && out.stdout.is_empty(), "the two outputs are told apart");
    // A component that is only served has no program to run.
    let refused = c.fails(&["exec", "h", "--", "sh"]);
    assert!(refused.contains("exec: \"sh\": executable file not found in $PATH"), "{refused}");
    assert!(c.fails(&["exec", "h", "-c", "x", "--", "ls"]).contains("container x is not valid for pod h"));
    assert!(c.fails(&["exec", "nobody", "--", "ls"]).contains("pods \"nobody\" not found"));

    // Input through a pipe, to its end and back.
    let mut child = spawn(&c, &["exec", "-i", "h", "--", "cat"]);
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());

    // Attach feeds the container's own program, whose end is its input's.
    let mut child = spawn(&c, &["attach", "-i", "box"]);
    child.stdin.take().unwrap().write_all(b"echo from outside\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && text(&out.stdout).contains("from outside"), "{}", text(&out.stderr));
    until("the container has ended", || {
        (c.ok(&["get", "pod", "box", "-o", "jsonpath={.status.phase}"]) == "Succeeded").then_some(())
    });
    assert_eq!(c.ok(&["logs", "box"]), "from outside\n");

    // A port of a pod, for several connections.
    let mut child = spawn(&c, &["port-forward", "pod/h", ":8080"]);
    let mut line = String::new();
    // Kept open: kubectl says of each connection that it handles it.
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let at = line.split_whitespace().nth(2).unwrap().to_string();
    for _ in 0..3 {
        let out = Command::new("curl").args(["-s", "-m", "20", &format!("http://{at}/")]).output().unwrap();
        assert!(text(&out.stdout).contains("Hello from h"), "{}", text(&out.stdout));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(c.ok(&["get", "--raw", "/api/v1/nodes/copepod/proxy/healthz"]).trim(), "ok");
}

/// A toolbox at a terminal, and a program with a second command that its image exports.
const TERMINAL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: t}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: copepod.dev/toolbox, stdin: true, tty: true}
---
apiVersion: v1
kind: Pod
metadata: {name: jobs}
spec:
  containers:
  - {name: c, image: 'IMAGE'}
";

/// Sleeps for an hour; `migrate` says that it has run and ends with 7.
const JOBS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 80) "\64\00\00\00\09\00\00\00")
    (data (i32.const 100) "migrated\n")
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 200) (i32.const 1) (i32.const 300))))
    (func (export "migrate") (result i32)
        (drop (call $write (i32.const 1) (i32.const 80) (i32.const 1) (i32.const 300)))
        (i32.const 7)))"#;

/// kubectl at a terminal of its own, as `script` makes one. What is written is typed.
fn at_a_terminal(c: &Cluster, args: &str) -> Child {
    let kubectl = format!("kubectl --kubeconfig {} {args}", c.dir.join("kubeconfig").display());
    Command::new("script")
        .args(["-qec", &kubectl, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until `what` has come.
fn expect(out: &mut impl std::io::Read, what: &str) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(what.as_bytes()) {
        assert!(out.read(&mut byte).unwrap() > 0, "no {what:?} in {:?}", text(&seen));
        seen.push(byte[0]);
    }
}

#[test]
fn terminals_edit_echo_and_interrupt() {
    if !needs("script", has("script")) {
        return;
    }
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(&TERMINAL.replace("IMAGE", &e2e::image(dir.path(), "jobs", JOBS)));
    c.ok(&["wait", "--for=condition=Ready", "pod/t", "pod/jobs", "--timeout=60s"]);

    let mut child = at_a_terminal(&c, "exec -it jobs -- toolbox");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    expect(&mut screen, "toolbox$ ");
    keys.write_all(b"ecko\x7f\x7fho edited\r").unwrap();
    expect(&mut screen, "\nedited\r\n");
    keys.write_all(b"sleep 600\r").unwrap();
    expect(&mut screen, "sleep 600\r\n");
    keys.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "^C ends the program as SIGINT would");

    // The container's own program, at its terminal.
    let mut child = at_a_terminal(&c, "attach -it t");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    keys.write_all(b"\r").unwrap();
    expect(&mut screen, "toolbox$ ");
    keys.write_all(b"echo attached\r").unwrap();
    expect(&mut screen, "\nattached\r\n");
    keys.write_all(b"exit\r").unwrap();
    assert!(child.wait().unwrap().success());
    let phase = || c.ok(&["get", "pod", "t", "-o", "jsonpath={.status.phase}"]);
    until("its end is the container's", || (phase() == "Succeeded").then_some(()));

    // Another command that the image exports.
    for name in ["migrate", "./migrate"] {
        let out = c.kubectl(&["exec", "jobs", "--", name]);
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(7), "migrated\n"), "{}", text(&out.stderr));
    }
}

#[test]
fn kubectl_debugs_and_copies() {
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(FILES);
    c.ok(&["wait", "--for=condition=Ready", "pod/f", "--timeout=60s"]);

    // A toolbox with someone at its prompt, in the pod's network.
    let image = "--image=copepod.dev/toolbox";
    let mut child = spawn(&c, &["debug", "-i", "f", image, "-c", "dbg", "--target=c"]);
    child.stdin.take().unwrap().write_all(b"echo from debug\nexit\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && text(&out.stdout).contains("from debug"), "{}", text(&out.stderr));
    let field = |path: &str| c.ok(&["get", "pod", "f", "-o", &format!("jsonpath={{{path}}}")]);
    let status = ".status.ephemeralContainerStatuses[?(@.name==\"dbg\")]";
    until("the debugger has ended", || (field(&format!("{status}.state.terminated.exitCode")) == "0").then_some(()));
    assert!(c.ok(&["logs", "f", "-c", "dbg"]).contains("from debug"));
    // One with a command; and what has ended stays so, whatever the pod's restart policy.
    c.ok(&["debug", "f", image, "-c", "once", "--", "echo", "hello"]);
    until("its command has run", || (text(&c.kubectl(&["logs", "f", "-c", "once"]).stdout) == "hello\n").then_some(()));
    c.ok(&["debug", "f", image, "-c", "names", "--", "nslookup", "kubernetes.default"]);
    let ip = c.ok(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    let answer = format!("Name:    kubernetes.default\nAddress: {ip}\n");
    until("names resolve", || (text(&c.kubectl(&["logs", "f", "-c", "names"]).stdout) == answer).then_some(()));
    assert_eq!(field(&format!("{status}.restartCount")), "0");
    assert_eq!(field(".status.conditions[?(@.type==\"Ready\")].status"), "True");
    let refused = c.fails(&["debug", "f", image, "-c", "c"]);
    assert!(refused.contains("Duplicate value: \"c\"") || refused.contains("already exists"), "{refused}");
    // A node is debugged by a pod that asks for more of it than a toolbox needs.
    let node = c.ok(&["get", "nodes", "-o", "name"]);
    let mut child = spawn(&c, &["debug", "-i", node.trim(), image]);
    child.stdin.take().unwrap().write_all(b"ls /host\nexit\n").unwrap();
    let out = child.wait_with_output().unwrap();
    let told = text(&out.stdout);
    assert!(out.status.success() && told.lines().any(|l| l == "etc"), "{told}{}", text(&out.stderr));
    // A copy is a pod like any other.
    c.ok(&["debug", "f", "--copy-to=g", image, "-c", "dbg", "--attach=false", "--", "sleep", "3600"]);
    c.ok(&["wait", "--for=condition=Ready", "pod/g", "--timeout=60s"]);

    // Files in and out.
    let (local, back) = (dir.path().join("in"), dir.path().join("out"));
    let sent: Vec<u8> = (0..300_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    std::fs::write(&local, &sent).unwrap();
    c.ok(&["cp", local.to_str().unwrap(), "f:/data/x"]);
    assert_eq!(c.ok(&["exec", "f", "--", "ls", "/data"]), "x\n");
    c.ok(&["cp", "f:/data/x", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == sent, "what comes back is what was sent");
    c.fails(&["cp", "f:/data/nothing", back.to_str().unwrap()]);
    let line = dir.path().join("line");
    std::fs::write(&line, "by its path\n").unwrap();
    c.ok(&["cp", line.to_str().unwrap(), "f:/data/t"]);
    assert_eq!(c.ok(&["exec", "f", "--", "cat", "/data/t"]), "by its path\n");
}
