//! What a node tells of its use, with guests that really use something.

use super::*;

const SPIN: &str = r#"(module (memory (export "memory") 20) (func (export "_start") (loop $again (br $again))))"#;

/// Asks until the answer has what is looked for.
async fn ask<T>(b: &Bench, path: &str, found: impl Fn(&str) -> Option<T>) -> T {
    let wait = async {
        loop {
            let (code, text) = b.log(path).await;
            assert_eq!(code, 200, "{path}: {text}");
            if let Some(found) = found(&text) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), wait).await {
        Ok(found) => found,
        Err(_) => panic!("{path} still says {}", b.log(path).await.1),
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_what_it_and_its_pods_use() {
    let (dir, api) = (tempfile::tempdir().unwrap(), Fake::new());
    let agent = start_with(&dir, &api, |config| config.usage_period = Duration::from_millis(50)).await;
    let b = Bench { dir, api, agent };
    // A tenth of a processor, and a probe that nobody answers.
    let spec = json!({
        "resources": {"limits": {"cpu": "100m"}},
        "readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "timeoutSeconds": 1},
    });
    let key = b.pod("spin", &b.image("spin.wasm", SPIN), json!({}), spec);
    b.api.until(&key, phase("Running")).await;
    let uid = b.api.get(&key).unwrap().meta.uid.to_string();

    // The memory of the guest, and CPU that grows.
    let spinning = |text: &str| {
        let pods = json_of(text)["items"].as_array().cloned().unwrap_or_default();
        pods.into_iter().find(|p| p["metadata"]["name"] == "spin" && p["containers"][0]["usage"]["cpu"] != "0")
    };
    let pod = ask(&b, "/apis/metrics.k8s.io/v1beta1/pods", spinning).await;
    assert_eq!((&pod["metadata"]["namespace"], &pod["containers"][0]["name"]), (&json!("default"), &json!("c")));
    let quantity = |v: &Value| v.as_str().unwrap().parse::<copepod_model::quantity::Quantity>().unwrap();
    assert!(quantity(&pod["containers"][0]["usage"]["memory"]).value() >= 20 << 16, "{pod}");
    let by_name = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?fieldSelector=metadata.name%3D";
    assert!(ask(&b, &format!("{by_name}spin"), spinning).await["window"].is_string());
    assert_eq!(json_of(&b.log(&format!("{by_name}other")).await.1)["items"], json!([]));
    assert_eq!(b.log("/apis/metrics.k8s.io/v1beta1/pods?fieldSelector=x").await.0, 400);
    assert_eq!(b.log("/apis/metrics.k8s.io/v1beta1/services").await.0, 404);
    let node = ask(&b, "/apis/metrics.k8s.io/v1beta1/nodes", |text| json_of(text)["items"].get(0).cloned()).await;
    assert_eq!(node["metadata"]["name"], "n");
    assert!(quantity(&node["usage"]["memory"]).value() > 0, "{node}");

    let summary = json_of(&b.log("/stats/summary").await.1);
    let (node, pod) = (&summary["node"], &summary["pods"][0]);
    assert_eq!((&node["nodeName"], &pod["podRef"]["uid"]), (&json!("n"), &json!(uid)));
    assert!(
        node["fs"]["capacityBytes"].as_u64() > Some(0) && node["runtime"]["imageFs"]["usedBytes"].as_u64() > Some(0)
    );
    assert!(pod["containers"][0]["cpu"]["usageCoreNanoSeconds"].as_u64() > Some(0), "{pod}");
    let brief = json_of(&b.log("/stats/summary?only_cpu_and_memory=true").await.1);
    assert!(brief["node"]["fs"].is_null() && brief["node"]["memory"]["workingSetBytes"].is_number(), "{brief}");

    let text = b.log("/metrics/resource").await.1;
    let labels = "{container=\"c\",namespace=\"default\",pod=\"spin\"}";
    for name in
        ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds"]
    {
        assert!(text.contains(&format!("\n{name}{labels} ")), "{name}: {text}");
    }
    assert!(text.ends_with("\nresource_scrape_error 0\n"), "{text}");
    let own = b.log("/metrics").await.1;
    assert!(own.contains("kubelet_running_pods 1\n") && own.contains("process_start_time_seconds 1"), "{own}");
    let failed = format!(
        "prober_probe_total{{container=\"c\",namespace=\"default\",pod=\"spin\",pod_uid=\"{uid}\",probe_type=\"Readiness\",result=\"failed\"}} "
    );
    ask(&b, "/metrics/probes", |text| text.contains(&failed).then_some(())).await;

    // Who is gone uses nothing.
    b.delete(&key);
    b.api.until(&key, |v| v.is_none()).await;
    ask(&b, "/stats/summary", |text| (json_of(text)["pods"] == json!([])).then_some(())).await;
    b.agent.shutdown().await;
}
