//! What happens when the disk is short.

use copepod_node_plan::eviction::Amount;

use super::*;

/// Says hello and sleeps.
const CHATTY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 256) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 240) (i32.const 256)) (i32.store (i32.const 244) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 240) (i32.const 1) (i32.const 248)))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn on_a_short_disk_who_holds_something_is_evicted_and_nobody_comes() {
    let mut b = Bench::new().await;
    let image = b.image("chatty.wasm", CHATTY);
    let critical = b.pod("critical", &image, json!({"priority": 2_000_000_000}), json!({}));
    let chatty = b.pod("chatty", &image, json!({}), json!({}));
    for key in [&critical, &chatty] {
        b.api.until(key, phase("Running")).await;
        let path = format!("/containerLogs/default/{}/c", key.name);
        let said = async {
            while b.log(&path).await != (200, "hello\n".into()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), said).await.expect("it says hello");
    }
    // The same node again, with a threshold that no disk reaches.
    b.agent.shutdown().await;
    b.agent =
        start_with(&b.dir, &b.api, |config| config.eviction_disk.nodefs_available = Some(Amount::Exact(1 << 60))).await;
    let pod = b.api.until(&chatty, phase("Failed")).await;
    assert_eq!(pod["status"]["reason"], "Evicted", "{pod:#}");
    let message = pod["status"]["message"].as_str().unwrap();
    let wanted = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Ei, available: ";
    assert!(message.starts_with(wanted), "{message}");
    let larger = ", request is 0, has larger consumption of ephemeral-storage. ";
    assert!(message.contains("Container c was using ") && message.ends_with(larger), "{message}");
    let pressed = |v: &Value| {
        let conditions = v["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = |c: &Value| c["type"] == "DiskPressure" && c["status"] == "True";
        conditions.iter().any(|c| is(c) && c["reason"] == "KubeletHasDiskPressure")
    };
    let node = b.api.until(&Key::new("nodes", "", "n"), |v| v.is_some_and(pressed)).await;
    assert_eq!(node["status"]["allocatable"]["ephemeral-storage"], "0");

    let late = b.pod("late", &image, json!({}), json!({}));
    let pod = b.api.until(&late, phase("Failed")).await;
    let why = "Pod was rejected: The node had condition: [DiskPressure]. ";
    assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&json!("Evicted"), &json!(why)));
    let urgent = b.pod("urgent", &image, json!({"priority": 2_000_000_000}), json!({}));
    b.api.until(&urgent, phase("Running")).await;
    b.api.until(&critical, phase("Running")).await;
    b.agent.shutdown().await;
    assert!(b.api.all("events").iter().any(|e| e.value()["reason"] == "Evicted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_short_disk_unused_images_go_first() {
    let (dir, api) = (tempfile::tempdir().unwrap(), Fake::new());
    let agent = start(&dir, &api).await;
    let mut b = Bench { dir, api, agent };
    let used = b.pod("used", &b.image("used.wasm", CHATTY), json!({"priority": 2_000_000_000}), json!({}));
    let other = HELLO.replace("hello\\n", "hallo\\n");
    let gone = b.pod("gone", &b.image("gone.wasm", &other), json!({"restartPolicy": "Never"}), json!({}));
    b.api.until(&gone, phase("Succeeded")).await;
    b.api.until(&used, phase("Running")).await;
    b.delete(&gone);
    b.api.until(&gone, |v| v.is_none()).await;
    b.agent.shutdown().await;
    b.agent = start_with(&b.dir, &b.api, |config| {
        config.image_gc.min_age = Duration::ZERO;
        config.eviction_disk.nodefs_inodes_free = Some(Amount::Exact(1 << 60));
        config.eviction_disk.nodefs_available = Some(Amount::Exact(1 << 60));
    })
    .await;
    let blobs = b.dir.path().join("data/images/blobs/sha256");
    let one_left = async {
        while std::fs::read_dir(&blobs).unwrap().count() != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), one_left).await.expect("the unused image goes");
    b.api.until(&used, phase("Running")).await;
    b.agent.shutdown().await;
    let events = b.api.all("events");
    assert!(!events.iter().any(|e| e.value()["reason"] == "FreeDiskSpaceFailed"), "nobody has asked for more");
}
