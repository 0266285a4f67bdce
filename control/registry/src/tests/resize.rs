use copepod_model::request::PatchType::{Json, Strategic};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod};

const POD: &str = "pods default/p";
const AT: &str = "pods default/p resize";

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    let mut p = pod("p");
    p["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
    c.create("pods default/", p).unwrap();
    c
}

fn to(resources: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
}

#[test]
fn resources_change_there_and_nowhere_else() {
    let mut c = cluster();
    let mut patch = to(json!({"requests": {"cpu": "1000m"}, "limits": {"memory": "256Mi"}}));
    patch["metadata"] = json!({"labels": {"a": "b"}});
    patch["spec"]["containers"][0]["image"] = "other".into();
    let (code, v) = c.patch(Strategic, AT, patch).unwrap();
    let container = &v["spec"]["containers"][0];
    assert_eq!((code, v["metadata"]["generation"].as_i64()), (200, Some(2)));
    let want = json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"memory": "256Mi"}});
    assert_eq!((&container["resources"], &container["image"]), (&want, &json!("i")));
    assert_eq!(v["metadata"].get("labels"), None);
    let managers = v["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|m| m["subresource"] == "resize"), "{managers:?}");

    let text = error(c.patch(Strategic, POD, to(json!({"requests": {"cpu": "2"}}))));
    assert!(text.contains("spec: Forbidden: pod updates may not change fields other than"), "{text}");
    let text = error(c.patch(Strategic, AT, to(json!({"requests": {"memory": "1Gi"}}))));
    assert!(text.contains("must be less than or equal to memory limit of 256Mi"), "{text}");
    let remove = json!([{"op": "remove", "path": "/spec/containers/0/resources/requests/cpu"}]);
    let text = error(c.patch(Json, AT, remove));
    assert!(
        text.contains("spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"),
        "{text}"
    );
    assert!(error(c.patch(Strategic, "pods default/none resize", to(json!({})))).starts_with("404 "));
}

#[test]
fn ranges_and_quotas_hold_for_it() {
    let mut c = cluster();
    let range =
        json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "512Mi"}}]}});
    c.create("limitranges default/", range).unwrap();
    let text = error(c.patch(Strategic, AT, to(json!({"limits": {"memory": "1Gi"}}))));
    assert!(text.starts_with("403 ") && text.contains("maximum memory usage per Container is 512Mi"), "{text}");

    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "500m"}}});
    c.create("resourcequotas default/", quota).unwrap();
    let mut quota = c.value("resourcequotas default/q");
    quota["status"] = json!({"hard": {"requests.cpu": "500m"}, "used": {"requests.cpu": "100m"}});
    c.update("resourcequotas default/q status", quota).unwrap();
    c.patch(Strategic, AT, to(json!({"requests": {"cpu": "400m"}}))).unwrap();
    assert_eq!(c.value("resourcequotas default/q")["status"]["used"]["requests.cpu"], "400m");
    let text = error(c.patch(Strategic, AT, to(json!({"requests": {"cpu": "600m"}}))));
    assert!(
        text.contains(
            "exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=400m, limited: requests.cpu=500m"
        ),
        "{text}"
    );
}
