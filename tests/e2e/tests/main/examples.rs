//! The examples as committed, and as rebuilt from their sources where a guest toolchain is there; images from a registry.

use e2e::{Cluster, needs, root, until};

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
    let out = e2e::text(&get.stdout);
    assert!(get.status.success() && out.contains("NAME") && out.contains("hello-"), "{out}{}", e2e::text(&get.stderr));
    let missing = cluster.copepod(&["get", "pod", "nope"]);
    assert!(!missing.status.success());
    assert!(e2e::text(&missing.stderr).contains("Error from server (NotFound): pods \"nope\" not found"));
    let described = cluster.copepod(&["describe", "deployment", "hello"]);
    assert!(described.status.success() && e2e::text(&described.stdout).contains("hello"));
    assert!(cluster.copepod(&["delete", "-f", "examples/hello/hello.yaml"]).status.success());
}
