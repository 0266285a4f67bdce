//! The agent with its real data plane against an API in memory.

mod disks;
mod fake;
mod images;
mod kubelet;
mod usage;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use copepod_client::body;
use copepod_model::Key;
use copepod_node_network::{HttpOptions, Source};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use fake::Fake;

struct Bench {
    dir: tempfile::TempDir,
    api: Arc<Fake>,
    agent: Agent,
}

impl Bench {
    async fn new() -> Bench {
        let (dir, api) = (tempfile::tempdir().unwrap(), Fake::new());
        let agent = start(&dir, &api).await;
        Bench { dir, api, agent }
    }

    /// A module from its text, as an image.
    fn image(&self, name: &str, wat: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, wat::parse_str(wat).unwrap()).unwrap();
        format!("file://{}", path.display())
    }

    fn pod(&self, name: &str, image: &str, mut spec: Value, container: Value) -> Key {
        let mut c = container;
        c["name"] = "c".into();
        c["image"] = image.into();
        c["imagePullPolicy"] = "IfNotPresent".into();
        spec["containers"] = json!([c]);
        spec["nodeName"] = "n".into();
        if spec["restartPolicy"].is_null() {
            spec["restartPolicy"] = "Always".into();
        }
        let key = Key::new("pods", "default", name);
        let metadata = json!({"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"});
        self.api.put(key.clone(), json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
        key
    }

    fn delete(&self, key: &Key) {
        let marked = self.api.change::<()>(key, |value| {
            value["metadata"]["deletionTimestamp"] = clock::now().rfc3339().into();
            value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            Ok(())
        });
        assert!(marked.is_some(), "{key} is not there");
    }

    async fn log(&self, path: &str) -> (u16, String) {
        let request = http::Request::get(path).body(body("")).unwrap();
        let response = self.agent.node_api(request).await;
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }
}

async fn start(dir: &tempfile::TempDir, api: &Arc<Fake>) -> Agent {
    start_with(dir, api, |_| {}).await
}

async fn start_with(dir: &tempfile::TempDir, api: &Arc<Fake>, set: impl FnOnce(&mut AgentConfig)) -> Agent {
    let mut config = AgentConfig::new("n", dir.path().join("data"), api.client());
    config.allow_file_images = true;
    config.allow_host_path = true;
    config.volume_check = Duration::from_millis(20);
    config.ingress_addr = Some(([127, 0, 0, 1], 0).into());
    config.dns_addr = Some(([127, 0, 0, 1], 0).into());
    // The machine's disk may be fuller than the kubelet would have it.
    (config.eviction_disk.nodefs_available, config.eviction_disk.imagefs_available) = (None, None);
    config.image_gc.high = 100;
    set(&mut config);
    Agent::start(config).await.unwrap()
}

fn phase(want: &'static str) -> impl Fn(Option<&Value>) -> bool {
    move |v| v.is_some_and(|v| v["status"]["phase"] == want)
}

const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;
const TRAP: &str =
    r#"(module (memory (export "memory") 1) (func $boom unreachable) (func (export "_start") call $boom))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_to_completion_and_leaves_its_log() {
    let b = Bench::new().await;
    let key = b.pod("p", &b.image("hello.wasm", HELLO), json!({"restartPolicy": "Never"}), json!({}));
    let pod = b.api.until(&key, phase("Succeeded")).await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(0), &json!("Completed")), "{pod:#}");
    assert_eq!(pod["status"]["podIP"], "10.244.0.2");
    assert_eq!(b.log("/containerLogs/default/p/c").await, (200, "hello\n".into()));
    assert_eq!(b.log("/containerLogs/default/p/c?follow=true").await, (200, "hello\n".into()));
    let missing = "previous terminated container \"c\" in pod \"p\" not found";
    assert_eq!(b.log("/containerLogs/default/p/c?previous=true").await, (400, missing.into()));
    assert_eq!(b.log("/containerLogs/default/nope/c").await.0, 404);
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    let node =
        b.api.until(&Key::new("nodes", "", "n"), |v| v.is_some_and(|v| v["status"]["conditions"][0].is_object())).await;
    assert_eq!(node["metadata"]["annotations"][register::BLOCKS], "10.244.0.0/24");
    b.api.until(&Key::new("leases.coordination.k8s.io", "kube-node-lease", "n"), |v| v.is_some()).await;
    b.agent.shutdown().await;
    let reasons: Vec<String> =
        b.api.all("events").iter().map(|e| e.value()["reason"].as_str().unwrap().to_string()).collect();
    assert!(["Pulled", "Created", "Started"].iter().all(|r| reasons.iter().any(|x| x == r)), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_restarts_the_container_and_shows_why() {
    let b = Bench::new().await;
    let key = b.pod("p", &b.image("trap.wasm", TRAP), json!({"restartPolicy": "OnFailure"}), json!({}));
    let pod = b
        .api
        .until(&key, |v| v.is_some_and(|v| v["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(2)))
        .await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert!(last["message"].as_str().unwrap().contains("unreachable"), "{pod:#}");
    assert_ne!(last["exitCode"], 0);
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_config_map_is_waited_for() {
    let b = Bench::new().await;
    let env = json!({"envFrom": [{"configMapRef": {"name": "m"}}]});
    let key = b.pod("p", &b.image("hello.wasm", HELLO), json!({"restartPolicy": "Never"}), env);
    let waiting =
        |v: &Value| v["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    b.api.until(&key, |v| v.is_some_and(waiting)).await;
    let refusal = b.log("/containerLogs/default/p/c").await;
    assert_eq!(refusal, (400, "container \"c\" in pod \"p\" is waiting to start: CreateContainerConfigError".into()));
    let metadata = json!({"name": "m", "namespace": "default"});
    b.api.put(
        Key::new("configmaps", "default", "m"),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"A": "1"}}),
    );
    b.api.until(&key, phase("Succeeded")).await;
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_component_becomes_ready_and_comes_back_with_its_address() {
    let hello = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/hello.wasm");
    let image = format!("file://{}", hello.canonicalize().expect("examples/hello/hello.wasm is committed").display());
    let mut b = Bench::new().await;
    let container = json!({"ports": [{"containerPort": 8080, "name": "web"}], "readinessProbe": {"httpGet": {"port": "web", "path": "/"}}});
    let key = b.pod("p", &image, json!({}), container);
    let ready = |restarts: u64| {
        move |v: Option<&Value>| {
            let c = |v: &Value| v["status"]["containerStatuses"][0].clone();
            v.is_some_and(|v| c(v)["ready"] == true && c(v)["restartCount"] == restarts)
        }
    };
    let pod = b.api.until(&key, ready(0)).await;
    let to: SocketAddr = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    let get = http::Request::get("/").body(body("")).unwrap();
    let answer = b.agent.network().request(Source::Node, to, get, HttpOptions::default()).await.unwrap();
    assert_eq!(answer.status(), 200);

    b.agent.shutdown().await;
    b.agent = start(&b.dir, &b.api).await;
    let again = b.api.until(&key, ready(1)).await;
    assert_eq!(again["status"]["podIP"], pod["status"]["podIP"]);
    let last = &again["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(255), &json!("Unknown")));
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    b.agent.shutdown().await;
}

const SLEEP: &str = r#"(module (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32))) (memory (export "memory") 20)
  (func (export "_start") (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn short_of_memory_the_node_evicts_who_uses_more_than_it_asked_for() {
    let (dir, api) = (tempfile::tempdir().unwrap(), Fake::new());
    // With a threshold that no machine reaches, memory is always short; what is above it is allocatable.
    let agent =
        start_with(&dir, &api, |config| config.eviction_memory = host::Host::read(dir.path()).memory - (16 << 20))
            .await;
    let b = Bench { dir, api, agent };
    let image = b.image("sleep.wasm", SLEEP);
    let resources = json!({"resources": {"requests": {"memory": "1Mi"}, "limits": {"memory": "1Mi"}}});
    let modest = b.pod("modest", &image, json!({"priority": 2_000_000_000}), resources);
    let greedy = b.pod("greedy", &image, json!({}), json!({}));
    let pod = b.api.until(&greedy, phase("Failed")).await;
    assert_eq!(pod["status"]["reason"], "Evicted", "{pod:#}");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: memory. Threshold quantity: "), "{message}");
    assert!(message.contains("Container c was using ") && message.contains(", request is 0, has larger"), "{message}");
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    let pressed = |v: &Value| {
        let conditions = v["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "MemoryPressure" && c["status"] == "True")
    };
    let node = b.api.until(&Key::new("nodes", "", "n"), |v| v.is_some_and(pressed)).await;
    let memory = |of: &str| {
        let amount = node["status"][of]["memory"].as_str().unwrap();
        amount.parse::<copepod_model::quantity::Quantity>().unwrap().value()
    };
    let capacity = host::Host::read(b.dir.path()).memory;
    assert_eq!((memory("capacity"), memory("allocatable")), (capacity, 16 << 20), "less the threshold");
    b.api.until(&modest, phase("Running")).await;
    b.agent.shutdown().await;
    assert!(b.api.all("events").iter().any(|e| e.value()["reason"] == "Evicted"));
}
