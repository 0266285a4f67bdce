use serde_json::{Value, json};

use super::*;
use crate::kinds::{Plain, Scale, VERBS};

fn kinds() -> Kinds {
    let mut kinds = Kinds::default();
    let kind = |group, version, kind, plural, namespaced| Kind {
        group,
        version,
        kind,
        plural,
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: VERBS,
        status: true,
        scale: None,
        subresources: &[],
        generation: true,
        graceful: false,
        deprecation: None,
        strategy: std::sync::Arc::new(Plain),
    };
    let mut pod = kind("", "v1", "Pod", "pods", true);
    pod.subresources = &[("binding", "Binding", &["create"]), ("eviction", "Eviction", &["create"])];
    let mut deployment = kind("apps", "v1", "Deployment", "deployments", true);
    deployment.scale =
        Some(Scale { spec_replicas: "spec.replicas", status_replicas: "status.replicas", selector: "status.selector" });
    let mut namespace = kind("", "v1", "Namespace", "namespaces", false);
    namespace.verbs = &["create", "get", "list"];
    for kind in [pod, namespace, deployment] {
        kinds.add(kind);
    }
    kinds
}

/// Every reference in the document, with where it points.
fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(String::from));
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn the_index_names_each_version_once() {
    let index = v3_index(Schema::builtin(), &kinds());
    let paths = index["paths"].as_object().unwrap();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["api/v1", "apis/apps/v1", "apis/metrics.k8s.io/v1beta1"]);
    let address = paths["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(address.starts_with("/openapi/v3/apis/apps/v1?hash="), "{address}");
    let fewer: Kinds = {
        let mut k = Kinds::default();
        k.add((**kinds().kind("apps", "Deployment").unwrap()).clone());
        k
    };
    assert_eq!(v3_index(Schema::builtin(), &fewer)["paths"]["apis/apps/v1"]["serverRelativeURL"], address);
    assert_ne!(hash(Schema::builtin(), &fewer, "", "v1"), hash(Schema::builtin(), &kinds(), "", "v1"));
}

#[test]
fn documents_are_closed() {
    let (schema, kinds) = (Schema::builtin(), kinds());
    let group = |group, version| v3(schema, &kinds, group, version).unwrap();
    for (document, many) in [
        (group("", "v1"), 100),
        (group("apps", "v1"), 100),
        (group(METRICS_GROUP, METRICS_VERSION), 10),
        (v2(schema, &kinds), 100),
    ] {
        let mut found = vec![];
        references(&document, &mut found);
        assert!(found.len() > many);
        for reference in found {
            // JSON pointers: no name has a character that would need escaping.
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
    assert_eq!(v3(schema, &kinds, "batch", "v1"), None);
    // Only what is served: no type of batch is in apps.
    let apps = v3(schema, &kinds, "apps", "v1").unwrap();
    assert!(!apps["components"]["schemas"].as_object().unwrap().keys().any(|k| k.contains(".batch.")));
}

#[test]
fn what_explain_reads() {
    let apps = v3(Schema::builtin(), &kinds(), "apps", "v1").unwrap();
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    assert_eq!(
        deployment["properties"]["spec"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}])
    );
    assert!(deployment["description"].as_str().unwrap().starts_with("Deployment "));
    assert!(deployment["properties"]["kind"]["description"].as_str().unwrap().starts_with("Kind is "));
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    assert_eq!(spec["properties"]["replicas"]["format"], "int32");
    let pod = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(
        (&pod["x-kubernetes-patch-merge-key"], &pod["x-kubernetes-list-map-keys"], &pod["x-kubernetes-patch-strategy"]),
        (&json!("name"), &json!(["name"]), &json!("merge"))
    );
    let port = &schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"];
    assert_eq!(port["default"], "TCP");
}

#[test]
fn what_is_measured_is_explained_too() {
    let (schema, kinds) = (Schema::builtin(), kinds());
    let metrics = v3(schema, &kinds, METRICS_GROUP, METRICS_VERSION).unwrap();
    let (v2, name) = (v2(schema, &kinds), "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics");
    for (pod, quantity) in [
        (&metrics["components"]["schemas"][name], "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"),
        (&v2["definitions"][name], "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"),
    ] {
        assert_eq!(
            pod["x-kubernetes-group-version-kind"],
            json!([{"group": "metrics.k8s.io", "kind": "PodMetrics", "version": "v1beta1"}])
        );
        assert_eq!(pod["required"], json!(["timestamp", "window", "containers"]));
        let properties: Vec<&String> = pod["properties"].as_object().unwrap().keys().collect();
        assert_eq!(properties, ["apiVersion", "containers", "kind", "metadata", "timestamp", "window"]);
        let container =
            if pod == &v2["definitions"][name] { &v2["definitions"] } else { &metrics["components"]["schemas"] };
        let container = &container["io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics"];
        assert_eq!(container["properties"]["usage"]["additionalProperties"], json!({"$ref": quantity}));
    }
    let verbs = |path: &str| -> Vec<String> {
        let item = metrics["paths"][path].as_object().unwrap();
        item.keys().filter(|k| *k != "parameters").cloned().collect()
    };
    let base = "/apis/metrics.k8s.io/v1beta1";
    assert_eq!(metrics["paths"].as_object().unwrap().len(), 5);
    for path in
        ["/nodes", "/nodes/{name}", "/pods", "/namespaces/{namespace}/pods", "/namespaces/{namespace}/pods/{name}"]
    {
        assert_eq!(verbs(&format!("{base}{path}")), ["get"], "{path}");
    }
}

#[test]
fn kubectl_finds_dry_run_and_field_validation() {
    let (schema, kinds) = (Schema::builtin(), kinds());
    for document in [v3(schema, &kinds, "apps", "v1").unwrap(), v2(schema, &kinds)] {
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        for wanted in ["dryRun", "fieldValidation"] {
            let found =
                patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == wanted && p["in"] == "query");
            assert!(found, "{wanted}");
        }
        let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
        assert!(scale["responses"]["200"].to_string().contains("io.k8s.api.autoscaling.v1.Scale"));
    }
    let core = v3(schema, &kinds, "", "v1").unwrap();
    assert!(core["paths"]["/api/v1/namespaces/{namespace}/pods"]["delete"].is_object());
    assert!(core["paths"]["/api/v1/namespaces"]["delete"].is_null(), "it has no such verb");
    let evict = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"];
    assert!(evict["requestBody"].to_string().contains("io.k8s.api.policy.v1.Eviction"));
}

#[test]
fn the_protobuf_document_has_the_definitions() {
    let document = v2(Schema::builtin(), &kinds());
    let bytes = v2_protobuf(&document);
    assert!(bytes.starts_with(b"\x0a\x032.0\x12"), "{:?}", &bytes[..20]);
    // Read the definitions' names back: field 9, pairs in its field 1, names in theirs.
    let mut names = vec![];
    for definitions in fields(&bytes, 9) {
        for pair in fields(definitions, 1) {
            names.extend(fields(pair, 1).map(|n| String::from_utf8(n.to_vec()).unwrap()));
        }
    }
    let want: Vec<&String> = document["definitions"].as_object().unwrap().keys().collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), want);
}

/// The values of a length-delimited field.
fn fields(mut message: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    fn varint(m: &mut &[u8]) -> u64 {
        let mut n = 0;
        for shift in (0..).step_by(7) {
            let byte = m[0];
            *m = &m[1..];
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        n
    }
    std::iter::from_fn(move || {
        while !message.is_empty() {
            let key = varint(&mut message);
            let n = varint(&mut message);
            if key & 7 == 2 {
                let (head, rest) = message.split_at(n as usize);
                message = rest;
                if key >> 3 == u64::from(wanted) {
                    return Some(head);
                }
            }
        }
        None
    })
}

#[test]
fn kinds_have_the_operations_of_their_verbs() {
    let mut kinds = Kinds::default();
    kinds.add(crate::kinds::core::binding::kind());
    kinds.add(crate::kinds::core::component_status::kind());
    kinds.add(crate::kinds::core::event::kind());
    let operations = |group: &str| -> Vec<(String, Vec<String>)> {
        let document = v3(Schema::builtin(), &kinds, group, "v1").unwrap();
        let of = |item: &Value| item.as_object().unwrap().keys().filter(|k| *k != "parameters").cloned().collect();
        document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), of(item))).collect()
    };
    let core = operations("");
    for (path, want) in [
        ("/api/v1/namespaces/{namespace}/bindings", "post"),
        ("/api/v1/componentstatuses", "get"),
        ("/api/v1/componentstatuses/{name}", "get"),
    ] {
        let found = core.iter().find(|(p, _)| p == path).map(|(_, o)| o.join(" "));
        assert_eq!(found.as_deref(), Some(want), "{path}");
    }
    assert!(!core.iter().any(|(p, _)| p == "/api/v1/bindings" || p.ends_with("/bindings/{name}")), "{core:?}");
    let other = operations("events.k8s.io");
    assert_eq!((core.len(), other.len()), (6, 3));
    assert!(other.iter().any(|(p, _)| p == "/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}"), "{other:?}");
}
