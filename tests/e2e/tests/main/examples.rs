//! The examples as committed, and as rebuilt from their sources where a guest toolchain is there; images from a registry.

use std::process::Output;

use e2e::{Cluster, needs, root, text, until};
use serde_json::Value;

#[test]
fn rebuilt_guests_serve_like_the_committed_ones() {
    let rebuilt = std::env::var("COPEPOD_REBUILT_GUESTS").unwrap_or_default();
    if !needs("the guest toolchain (COPEPOD_REBUILT_GUESTS)", !rebuilt.is_empty()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("examples/hello/hello.yaml")).unwrap();
    let manifest = dir.path().join("hello.yaml");
    let image = format!("file://{rebuilt}/hello.wasm");
    assert!(text.contains("file://examples/hello/hello.wasm"));
    std::fs::write(&manifest, text.replace("file://examples/hello/hello.wasm", &image)).unwrap();
    let cluster = Cluster::up(&dir.path().join("data"), &["-f", &manifest.to_string_lossy()]);
    let (code, body) = cluster.get("hello.localhost", "/");
    assert_eq!((code, body.starts_with("Hello from hello-")), (200, true));
}

#[test]
fn every_example_runs() {
    let dir = tempfile::tempdir().unwrap();
    let files =
        ["hello/hello.yaml", "tcp-echo/tcp-echo.yaml", "preview1/preview1.yaml"].map(|f| format!("examples/{f}"));
    let args: Vec<&str> = files.iter().flat_map(|f| ["-f", f.as_str()]).collect();
    let cluster = Cluster::up(dir.path(), &args);
    until("hello answers", || (cluster.get("hello.localhost", "/").0 == 200).then_some(()));
    // The client verbs of the binary itself.
    let get = cluster.copepod(&["get", "pods", "-A"]);
    let out = text(&get.stdout);
    assert!(get.status.success() && out.contains("NAME") && out.contains("hello-"), "{out}{}", text(&get.stderr));
    let missing = cluster.copepod(&["get", "pod", "nope"]);
    assert!(!missing.status.success());
    assert!(text(&missing.stderr).contains("Error from server (NotFound): pods \"nope\" not found"));
    let described = cluster.copepod(&["describe", "deployment", "hello"]);
    assert!(described.status.success() && text(&described.stdout).contains("hello"));
    forms_of_output(&cluster);
    logs_and_help(&cluster);
    assert!(cluster.copepod(&["delete", "-f", "examples/hello/hello.yaml"]).status.success());
}

/// What the examples have said, by `logs` and its flags, and what a verb says of itself.
fn logs_and_help(cluster: &Cluster) {
    let ok = |args: &[&str]| {
        let out = cluster.copepod(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let ended = || ok(&["get", "pod", "preview1"]).contains("Completed").then_some(());
    until("the command has ended", ended);
    let all = ok(&["logs", "preview1"]);
    assert!(all.lines().filter(|l| l.contains("tick ")).count() == 10, "{all}");
    let last = all.lines().last().unwrap_or_default();
    assert_eq!(ok(&["logs", "preview1", "--tail", "1"]).trim_end(), last);
    // Of what has ended everything comes, and then the end.
    assert_eq!(ok(&["logs", "-f", "preview1"]), all);
    assert!(ok(&["logs", "deployment/tcp-echo"]).contains("listening"));
    let previous = cluster.copepod(&["logs", "--previous", "preview1"]);
    let said = text(&previous.stderr);
    assert!(!previous.status.success() && said.contains("previous terminated container"), "{said}");
    for verb in ["up", "apply", "get", "describe", "logs", "delete", "server", "agent", "token", "members", "snapshot"]
    {
        let help = ok(&[verb, "--help"]);
        assert!(help.contains(&format!("Usage: copepod {verb}")), "{help}");
    }
}

/// `get -o` in all its forms, and what becomes of a verb whose reader has seen enough.
fn forms_of_output(cluster: &Cluster) {
    let ok = |args: &[&str]| {
        let out = cluster.copepod(args);
        assert!(out.status.success() && out.stderr.is_empty(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let list: Value = serde_json::from_str(&ok(&["get", "deployments,services", "-o", "json"])).unwrap();
    let named = |v: &Value| format!("{} {}", v["kind"].as_str().unwrap(), v["metadata"]["name"].as_str().unwrap());
    let found: Vec<String> = list["items"].as_array().unwrap().iter().map(named).collect();
    assert!(list["kind"] == "List" && found.contains(&"Deployment hello".into()), "{found:?}");
    assert!(found.contains(&"Service hello".into()), "{found:?}");
    let one: Value = serde_json::from_str(&ok(&["get", "deployment", "hello", "-o", "json"])).unwrap();
    assert_eq!((named(&one), one["apiVersion"].as_str()), ("Deployment hello".into(), Some("apps/v1")));
    let yaml = ok(&["get", "deployment/hello", "-o", "yaml"]);
    assert!(
        yaml.starts_with("apiVersion: apps/v1\nkind: Deployment\n") && yaml.contains("\n  name: hello\n"),
        "{yaml}"
    );
    assert_eq!(ok(&["get", "deployments,services", "hello", "-o", "name"]), "deployment.apps/hello\nservice/hello\n");
    let heading = |args: &[&str]| ok(args).lines().next().unwrap_or_default().to_string();
    assert!(!heading(&["get", "pods"]).contains("NODE") && heading(&["get", "pods", "-o", "wide"]).contains("NODE"));
    let script = ok(&["completion", "bash"]);
    assert!(script.contains("complete -F _copepod") && script.contains("describe"), "{script}");
    // A pipe that nobody reads, as `| head` leaves it.
    let unread = |args: &[&str]| -> Output {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let kubeconfig = cluster.dir.join("kubeconfig");
        e2e::copepod().args(args).env("KUBECONFIG", kubeconfig).stdout(writer).output().unwrap()
    };
    for args in [
        &["get", "pods"][..],
        &["get", "pods", "-o", "json"],
        &["get", "pods", "-o", "yaml"],
        &["get", "pods", "-o", "name"],
        &["describe", "pods"],
        &["completion", "bash"],
    ] {
        let out = unread(args);
        assert_eq!((out.status.code(), text(&out.stderr).as_str()), (Some(141), ""), "{args:?}");
    }
}
