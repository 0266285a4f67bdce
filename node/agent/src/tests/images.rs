//! What becomes of images.

use super::*;

/// `hello` with other bytes of the same length.
fn greeting(text: &str) -> String {
    HELLO.replace("hello\\n", text)
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_images_go_and_used_ones_stay() {
    let (dir, api) = (tempfile::tempdir().unwrap(), Fake::new());
    let agent = start_with(&dir, &api, |config| {
        config.image_gc.min_age = Duration::ZERO;
        (config.image_gc.high, config.image_gc.budget) = (85, Some(1));
        config.image_gc_period = Duration::from_millis(20);
    })
    .await;
    let b = Bench { dir, api, agent };
    let kept = b.pod("kept", &b.image("kept.wasm", &greeting("hold on")), json!({"restartPolicy": "Never"}), json!({}));
    b.api.until(&kept, phase("Succeeded")).await;
    let gone = b.pod("gone", &b.image("gone.wasm", HELLO), json!({"restartPolicy": "Never"}), json!({}));
    b.api.until(&gone, phase("Succeeded")).await;
    b.delete(&gone);
    b.api.until(&gone, |v| v.is_none()).await;
    // The image of a pod that is still there stays although there is no room for it, and that is said.
    let names = |folder: &std::path::Path| -> Vec<_> {
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    let state = || {
        let images = names(&b.dir.path().join("data/images/blobs/sha256"));
        let compiled = std::fs::read_dir(b.dir.path().join("data/compiled")).unwrap().map(|e| e.unwrap().path());
        let artifacts = names(&compiled.into_iter().find(|p| p.is_dir()).unwrap());
        let said: std::collections::BTreeSet<_> =
            b.api.all("events").iter().map(|e| e.value()["reason"].to_string()).collect();
        (images, artifacts, said)
    };
    let wait = async {
        loop {
            let (images, artifacts, said) = state();
            // One artifact and its tag.
            let all = ["\"FreeDiskSpaceFailed\"", "\"ImageGCFailed\""].iter().all(|reason| said.contains(*reason));
            if (images.len(), artifacts.len()) == (1, 2) && all {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(ended.is_ok(), "the collection comes to its end: {:?}", state());
    let events = b.api.all("events");
    let event = events.iter().map(|e| e.value()).find(|v| v["reason"] == "FreeDiskSpaceFailed").unwrap();
    assert_eq!((&event["involvedObject"]["kind"], &event["involvedObject"]["name"]), (&json!("Node"), &json!("n")));
    assert_eq!(event["metadata"]["namespace"], "default");
    b.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_lacks_is_said_before_it_runs() {
    let b = Bench::new().await;
    let lacking = r#"(module (import "env" "magic" (func)) (func (export "_start")))"#;
    let key = b.pod("p", &b.image("lacking.wasm", lacking), json!({}), json!({}));
    let waiting = |v: &Value| v["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let pod = b.api.until(&key, |v| v.is_some_and(|v| waiting(v)["reason"] == "CreateContainerError")).await;
    assert_eq!(waiting(&pod)["message"], "imports env.magic, which this host does not have");
    b.agent.shutdown().await;
}
