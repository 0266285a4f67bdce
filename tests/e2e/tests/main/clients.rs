//! Clients that nobody here wrote: those for Python and JavaScript, Helm, and the kube crate.

mod helm;
mod kube_runtime;

use std::process::Command;

use e2e::{Cluster, has, needs, text};

/// Runs a script of a client against a cluster of its own.
fn script(interpreter: &str, script: &str, flags: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(dir.path(), flags);
    let script = format!("{}/tests/main/{script}", env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(interpreter).arg(script).env("KUBECONFIG", cluster.dir.join("kubeconfig")).output().unwrap();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stdout).contains("all well"));
}

#[test]
fn the_python_client() {
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_default();
    if needs("the Python client (COPEPOD_TEST_PYTHON)", !python.is_empty()) {
        script(&python, "client.py", &[]);
    }
}

#[test]
fn the_asynchronous_python_client() {
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_default();
    if needs("the asynchronous Python client (COPEPOD_TEST_PYTHON)", !python.is_empty()) {
        script(&python, "clients/asyncio_client.py", &[]);
    }
}

#[test]
fn the_javascript_client() {
    let there = std::env::var("COPEPOD_TEST_NODE_MODULES").is_ok_and(|m| !m.is_empty()) && has("node");
    if needs("the JavaScript client (node, COPEPOD_TEST_NODE_MODULES)", there) {
        script("node", "clients/client.mjs", &["--metric-resolution", "200ms"]);
    }
}

/// A cluster and the kube crate's client of it.
async fn kube_client() -> (tempfile::TempDir, Cluster, kube::Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let cluster = tokio::task::spawn_blocking(move || Cluster::up(&path, &[])).await.unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.dir.join("kubeconfig")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    (dir, cluster, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kube_crate() {
    use futures_util::TryStreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
    let (_dir, _cluster, client) = kube_client().await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "35");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let start = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let map: ConfigMap =
        serde_json::from_value(serde_json::json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(made.metadata.uid.is_some());
    let patch = serde_json::json!({"data": {"a": "2"}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let stale = maps.replace("m", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(e) if e.code == 409));
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    let watch = maps.watch(&WatchParams::default().fields("metadata.name=m"), &start).await.unwrap();
    let mut watch = std::pin::pin!(watch);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match watch.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(o) => seen.push(("added", o.data.unwrap()["a"].clone())),
            WatchEvent::Modified(o) => seen.push(("modified", o.data.unwrap()["a"].clone())),
            WatchEvent::Deleted(o) => seen.push(("deleted", o.data.unwrap()["a"].clone())),
            _ => {}
        }
    }
    assert_eq!(seen, [("added", "1".into()), ("modified", "2".into()), ("deleted", "2".into())]);
}
