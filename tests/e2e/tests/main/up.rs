//! `copepod up` itself: what a new user does first, bad flags, restarts.

use std::process::{Command, Stdio};

use e2e::process::Process;
use e2e::{Cluster, binary, has, needs, root, text, until};

const HELLO: &[&str] = &["-f", "examples/hello/hello.yaml"];

#[test]
fn the_first_command_ends_with_an_app_that_answers() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), HELLO);
    let (code, body) = cluster.get("hello.localhost", "/");
    assert_eq!(code, 200);
    assert!(body.starts_with("Hello from hello-"), "{body}");
    assert_eq!(cluster.get("other.localhost", "/").0, 404);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(dir.path().join("kubeconfig")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(cluster.interrupt().success());
}

#[test]
fn a_restart_after_kill_brings_all_of_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), HELLO);
    if needs("kubectl", has("kubectl")) {
        cluster.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
    }
    cluster.kill();
    let cluster = Cluster::up(dir.path(), &[]);
    until("hello answers again", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
    if has("kubectl") {
        assert_eq!(cluster.ok(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), "b");
        // The containers were started anew, and say so.
        let restarts =
            cluster.ok(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}"]);
        assert_eq!(restarts, "1 1");
    }
}

#[test]
fn a_restart_elsewhere_needs_no_files() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Cluster::up(&dir.path().join("data"), HELLO).interrupt().success());
    // The manifest's `file://examples/…` leads nowhere from here.
    let cluster = Cluster::start_in(e2e::copepod(), dir.path(), &dir.path().join("data"), &[]);
    until("hello answers from what the node keeps", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
}

#[test]
fn it_stops_while_everything_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), HELLO);
    let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let spin = format!("{}/spin", cluster.ingress);
    let mut clients = vec![quiet(Command::new("curl").args(["-s", "-H", "Host: hello.localhost", &spin]))];
    if has("kubectl") {
        let config = dir.path().join("kubeconfig");
        for verb in [["get", "pods", "-w"], ["logs", "-f", "deploy/hello"]] {
            clients.push(quiet(Command::new("kubectl").arg("--kubeconfig").arg(&config).args(verb)));
        }
    }
    // Answers while it spins: the request has long arrived.
    until("the other instances answer", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
    assert!(cluster.interrupt().success(), "a clean end");
    for mut client in clients {
        let _ = client.kill();
        client.wait().unwrap();
    }
}

#[test]
fn a_bad_manifest_is_named_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Cluster::up(&data, HELLO).kill();
    let bad = dir.path().join("bad.yaml");
    for (manifest, why) in [
        ("kind: [}", "is not valid YAML"),
        ("apiVersion: foo/v1\nkind: Foo\nmetadata: {name: x}", "no matches for kind \"Foo\" in version \"foo/v1\""),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "spec.containers: Required value"),
    ] {
        std::fs::write(&bad, manifest).unwrap();
        let mut args =
            vec!["--data-dir".to_string(), data.display().to_string(), "-f".into(), bad.display().to_string()];
        for port in ["--api-port", "--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"] {
            args.extend([port.to_string(), "0".into()]);
        }
        let (ok, message) = fails(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!ok && message.contains(why), "{message}");
    }
    let cluster = Cluster::up(&data, &[]);
    until("hello answers again", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
}

#[test]
fn a_second_instance_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), &[]);
    let (ok, message) = fails(&["--data-dir", &dir.path().to_string_lossy(), "--api-port", "0"]);
    assert!(!ok && (message.contains("in use") || message.contains("another")), "{message}");
    let nodes = cluster.copepod(&["get", "nodes"]);
    assert!(nodes.status.success(), "the first one goes on: {}", text(&nodes.stderr));
    assert!(cluster.interrupt().success());
}

#[test]
fn without_a_folder_it_takes_that_of_xdg() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = e2e::copepod();
    command.arg("up").env("XDG_DATA_HOME", dir.path()).env_remove("COPEPOD_DATA_DIR").current_dir(root());
    for port in ["--api-port", "--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"] {
        command.args([port, "0"]);
    }
    let mut up = Process::run(command, "up");
    let config = dir.path().join("copepod/kubeconfig");
    assert_eq!(up.value("Config"), config.display().to_string());
    let mut get = e2e::copepod();
    let out = get.args(["get", "nodes"]).env("KUBECONFIG", &config).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(up.interrupt().success());
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    const FLAGS: [&str; 5] = ["--api-port", "--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"];
    for flag in FLAGS {
        let mut args = vec!["--data-dir".to_string(), dir.path().to_string_lossy().into_owned()];
        for other in FLAGS {
            args.extend([other.to_string(), if other == flag { port.clone() } else { "0".into() }]);
        }
        let (ok, message) = fails(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let named = message.contains(&format!("cannot listen on 127.0.0.1:{port} ({flag})"));
        assert!(!ok && named && message.contains("in use"), "{flag}: {message}");
    }
    // What nobody asked for makes way.
    let _kubelet = std::net::TcpListener::bind("127.0.0.1:10250");
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "kind: [}").unwrap();
    let (data, bad) = (dir.path().to_string_lossy(), bad.to_string_lossy());
    let ports = ["--api-port", "0", "--ingress-port", "0", "--ingress-tls-port", "0", "--dns-port", "0"];
    let (ok, message) = fails(&[&["--data-dir", &*data, "-f", &*bad][..], &ports].concat());
    assert!(!ok && message.contains("is not valid YAML"), "the node is there: {message}");
}

#[test]
fn who_waits_is_told_for_what() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("app.yaml");
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  \
        selector: {matchLabels: {app: x}}\n  template:\n    metadata: {labels: {app: x}}\n    \
        spec: {containers: [{name: c, image: 'file:///nowhere/x.wasm'}]}\n";
    std::fs::write(&manifest, deployment).unwrap();
    let (data, manifest) = (dir.path().join("data"), manifest.to_string_lossy());
    let mut command = e2e::copepod();
    command.arg("up").arg("--data-dir").arg(&data).args(["-f", &*manifest]).current_dir(root());
    for port in ["--api-port", "--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"] {
        command.args([port, "0"]);
    }
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    use std::io::BufRead as _;
    let told = lines
        .lines()
        .map_while(Result::ok)
        .find(|l| l.contains("0 of 1 pods ready; x-") && l.contains("ErrImagePull: "));
    let _ = child.kill();
    child.wait().unwrap();
    assert!(told.is_some_and(|line| line.contains("/nowhere/x.wasm")));
}

#[test]
fn bad_flags_and_a_damaged_folder_are_clear() {
    let (ok, message) = fails(&["--api-port", "notaport"]);
    assert!(!ok && message.contains("notaport"), "{message}");
    let (ok, message) = fails(&["--node-name", "Not A Name"]);
    assert!(!ok && message.contains("node-name"), "{message}");

    let dir = tempfile::tempdir().unwrap();
    Cluster::up(dir.path(), &[]).kill();
    let state = dir.path().join("server/state");
    for entry in
        std::fs::read_dir(&state).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|x| x == "redb"))
    {
        let file = std::fs::OpenOptions::new().write(true).open(entry.path()).unwrap();
        use std::os::unix::fs::FileExt as _;
        file.write_all_at(&[0x5a; 4096], 0).unwrap();
    }
    let path = dir.path().to_string_lossy().into_owned();
    let (ok, message) = fails(&[
        "--data-dir",
        &path,
        "--api-port",
        "0",
        "--ingress-port",
        "0",
        "--dns-port",
        "0",
        "--kubelet-port",
        "0",
    ]);
    assert!(!ok && message.contains("redb"), "{message}");
}

#[test]
fn it_runs_as_an_ordinary_user() {
    let root_user = Command::new("id").arg("-u").output().is_ok_and(|o| text(&o.stdout).trim() == "0");
    if !needs("root, to become somebody else", root_user && has("setpriv")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The binary and the example are copied: an ordinary user may not be able to read the source tree.
    let there = dir.path().join("there");
    std::fs::create_dir_all(there.join("examples/hello")).unwrap();
    std::fs::create_dir(there.join("examples/tcp-echo")).unwrap();
    std::fs::copy(binary(), there.join("copepod")).unwrap();
    for file in ["examples/hello/hello.yaml", "examples/hello/hello.wasm", "examples/tcp-echo/tcp-echo.wasm"] {
        std::fs::copy(root().join(file), there.join(file)).unwrap();
    }
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path()).status().unwrap().success());
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    command.arg(there.join("copepod"));
    let cluster = Cluster::start_in(command, &there, &there.join("data"), HELLO);
    assert_eq!(cluster.get("hello.localhost", "/").0, 200);
    // Its pods call each other by name, over HTTP and TCP, and the machine's processes ask its DNS.
    let called = cluster.get("hello.localhost", "/fetch?url=http://hello/");
    assert!(called.0 == 200 && called.1.contains("200 Hello from "), "{called:?}");
    let image = "file://examples/tcp-echo/tcp-echo.wasm";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: lines, labels: {{app: lines}}}}\nspec:\n  containers:\n  \
         - {{name: c, image: '{image}'}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: lines}}\nspec:\n  \
         selector: {{app: lines}}\n  ports: [{{port: 7000}}]\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: ask}}\n\
         spec:\n  restartPolicy: OnFailure\n  containers:\n  - {{name: c, image: '{image}', args: [connect, 'lines:7000']}}\n"
    ));
    let log = || text(&cluster.copepod(&["logs", "ask"]).stdout);
    until("one pod has the other's answer", || log().contains(" says: hello from ").then_some(()));
    if needs("dig", has("dig")) {
        let (ip, port) = cluster.dns.rsplit_once(':').unwrap();
        let asked = [&format!("@{ip}"), "-p", port, "+short", "hello.default.svc.cluster.local"];
        let out = text(&Command::new("dig").args(asked).output().unwrap().stdout);
        assert!(out.trim().parse::<std::net::Ipv4Addr>().is_ok(), "{out}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid())).unwrap();
    assert!(status.lines().any(|l| l.starts_with("Uid:") && l.contains("65534")), "{status}");
}

fn fails(args: &[&str]) -> (bool, String) {
    let out = e2e::copepod().arg("up").args(args).current_dir(root()).stdin(Stdio::null()).output().unwrap();
    (out.status.success(), text(&out.stderr))
}
