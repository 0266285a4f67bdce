//! Volumes, as a real guest sees them.

use super::*;

fn files() -> String {
    let wasm = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/files/files.wasm");
    format!("file://{}", wasm.canonicalize().expect("examples/files/files.wasm is committed").display())
}

fn config_map(b: &Bench, value: &str) {
    let metadata = json!({"name": "m", "namespace": "default"});
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}});
    b.api.put(Key::new("configmaps", "default", "m"), object);
}

async fn wait_for_log(b: &Bench, path: &str, part: &str) {
    let wait = async {
        loop {
            let (_, text) = b.log(path).await;
            if text.contains(part) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
        panic!("no {part:?} in {}", b.log(path).await.1);
    }
}

fn words(text: &str) -> Value {
    text.split(' ').collect::<Vec<_>>().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sees_its_volumes_and_their_changes() {
    let mut b = Bench::new().await;
    let mounts = json!([{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"},
        {"name": "own", "mountPath": "/own"}, {"name": "config", "mountPath": "/one/file", "subPath": "k"}]);
    let spec = json!({
        "initContainers": [{"name": "i", "image": files(), "args": words("write /data/kept yes"),
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "config", "configMap": {"name": "m"}}, {"name": "data", "emptyDir": {}},
            {"name": "own", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    });
    let watch = json!({"args": words("cat /data/kept , cat /own/token , cat /one/file , watch /config/k"), "volumeMounts": mounts});
    let key = b.pod("p", &files(), spec, watch);
    // Nothing starts before its volumes are there.
    let message = "MountVolume.SetUp failed for volume \"config\" : configmap \"m\" not found";
    let said = || b.api.all("events").iter().any(|e| e.value()["message"] == message);
    b.api.until(&key, |v| v.is_some_and(|v| v["status"]["phase"] == "Pending") && said()).await;
    config_map(&b, "one");
    let log = "/containerLogs/default/p/c";
    wait_for_log(&b, log, "/config/k: one").await;
    let text = b.log(log).await.1;
    assert!(text.contains("/data/kept: yes\n/own/token: token 1 for default\n/one/file: one\n"), "{text}");
    config_map(&b, "two");
    wait_for_log(&b, log, "/config/k: two").await;

    // The directory outlives the agent, and goes with the pod.
    let uid = b.api.get(&key).unwrap().meta.uid.to_string();
    let dir = b.dir.path().join("data/pods").join(&uid);
    let orphan = b.dir.path().join("data/pods/orphan/volumes");
    b.agent.shutdown().await;
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(dir.join("volumes/kubernetes.io~empty-dir/data/kept"), "still").unwrap();
    let mut pod = b.api.get(&key).unwrap().value();
    pod["spec"]["initContainers"] = json!([]);
    b.api.put(key.clone(), pod);
    b.agent = start(&b.dir, &b.api).await;
    wait_for_log(&b, log, "/data/kept: still").await;
    assert!(!orphan.exists(), "what belongs to no pod is swept");
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    b.agent.shutdown().await;
    tokio::task::spawn_blocking(move || {
        let gone = std::time::Instant::now() + Duration::from_secs(60);
        while dir.exists() && std::time::Instant::now() < gone {
            std::thread::yield_now();
        }
        assert!(!dir.exists(), "its volumes are deleted");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_dir_that_outgrows_its_limit_ends_its_pod() {
    let b = Bench::new().await;
    let spec =
        json!({"volumes": [{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}], "terminationGracePeriodSeconds": 0});
    let container =
        json!({"args": words("append /d/f 3 , sleep 3600"), "volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    let key = b.pod("p", &files(), spec, container);
    let pod = b.api.until(&key, phase("Failed")).await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    assert_eq!(pod["status"]["message"], "Usage of EmptyDir volume \"d\" exceeds the limit \"1Mi\". ");
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_holds_more_of_the_disk_than_it_may_ends() {
    let b = Bench::new().await;
    let spec = json!({"volumes": [{"name": "d", "emptyDir": {}}], "terminationGracePeriodSeconds": 0});
    let container = json!({"args": words("append /d/f 3 , sleep 3600"),
        "resources": {"limits": {"ephemeral-storage": "1Mi"}}, "volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    let key = b.pod("p", &files(), spec, container);
    let pod = b.api.until(&key, phase("Failed")).await;
    let why = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&json!("Evicted"), &json!(why)));
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_node_has_not_is_refused() {
    let b = Bench::new().await;
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]});
    let key = b.pod("p", &files(), spec, json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    let said = || {
        b.api.all("events").iter().any(|e| {
            let v = e.value();
            v["reason"] == "FailedMount"
                && v["message"]
                    .as_str()
                    .is_some_and(|m| m.ends_with("type persistentVolumeClaim are not supported on this node"))
        })
    };
    let waiting = |v: &Value| v["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating";
    b.api.until(&key, |v| v.is_some_and(waiting) && said()).await;
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_leaves_a_message() {
    let b = Bench::new().await;
    let mounts = json!([{"name": "d", "mountPath": "/d"}]);
    let container = |name: &str, path: &str, args: &str| {
        json!({"name": name, "image": files(), "args": words(args), "terminationMessagePath": path,
            "terminationMessagePolicy": "FallbackToLogsOnError", "volumeMounts": mounts})
    };
    let spec = json!({"restartPolicy": "Never", "volumes": [{"name": "d", "emptyDir": {}}], "initContainers": [
        container("own", "/dev/termination-log", "write /dev/termination-log bye"),
        container("mounted", "/d/log", "write /d/log in-a-volume"),
        container("silent", "/d/log", "sleep 0"),
    ]});
    let mut last = container("c", "dev/termination-log", "write /dev/termination-log why , cat /none");
    last.as_object_mut().unwrap().remove("name");
    let key = b.pod("p", &files(), spec, last);
    let pod = b.api.until(&key, phase("Failed")).await;
    let ended = |list: &str, i: usize| pod["status"][list][i]["state"]["terminated"]["message"].clone();
    let inits = [0, 1, 2].map(|i| ended("initContainerStatuses", i));
    assert_eq!(inits, [json!("bye"), json!("in-a-volume"), Value::Null], "the third has left nothing itself");
    assert_eq!(ended("containerStatuses", 0), "why", "the log is for those who leave nothing");
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_volume_in_memory_is_memory_of_its_pod() {
    if !std::path::Path::new("/dev/shm").is_dir() {
        assert!(std::env::var_os("CI").is_none(), "CI must have a file system in memory");
        println!("skipped: needs a file system in memory at /dev/shm");
        return;
    }
    let b = Bench::new().await;
    let spec = json!({"volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}]});
    let container = json!({
        "args": words("append /data/big 6 , append /data/more 6 , rm /data/more , sleep 600"),
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let key = b.pod("p", &files(), spec, container);
    b.api.until(&key, phase("Running")).await;
    wait_for_log(&b, "/containerLogs/default/p/c", "append /data/more 6: I/O error").await;
    let used = async |path: &str| {
        let summary: Value = serde_json::from_str(&b.log(path).await.1).unwrap();
        summary["pods"][0]["memory"]["workingSetBytes"].as_u64().unwrap_or(0)
    };
    let found = used("/stats/summary").await;
    assert!((6 << 20..16 << 20).contains(&found), "{found}");
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    b.agent.shutdown().await;
}
