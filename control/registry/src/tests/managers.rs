//! Whose is which field, as kube-apiserver shows it: what the client has sent and its defaults, never what admission or
//! the storage add.

use copepod_model::Verb;
use copepod_model::request::Body;
use copepod_model::request::PatchType::{Merge, Strategic};
use serde_json::{Value, json};

use crate::testing::{Cluster, request};

/// Sends as `manager`.
fn by(c: &mut Cluster, manager: &str, verb: Verb, what: &str, body: Body) -> Value {
    let mut req = request(verb, what);
    req.field_manager = manager.into();
    req.body = body;
    c.send(&req).unwrap_or_else(|e| panic!("{what}: {e}")).1
}

fn create(c: &mut Cluster, what: &str, object: Value) -> Value {
    by(c, "kubectl-create", Verb::Create, what, Body::Object(object))
}

/// What a manager has; null if it has no entry.
fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn of_new_objects_they_are_those_that_kube_apiserver_shows() {
    let mut c = Cluster::new();
    let container = json!({".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}});
    let mut in_pod = json!({"f:containers": {"k:{\"name\":\"nginx\"}": container}, "f:dnsPolicy": {},
        "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}});
    // kubectl create deployment web --image=nginx
    let labels = json!({".": {}, "f:app": {}});
    let sent = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}}, "strategy": {}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"image": "nginx", "name": "nginx", "resources": {}}]}}}});
    let made = create(&mut c, "deployments.apps default/", sent);
    let want = json!({"f:metadata": {"f:labels": labels}, "f:spec": {
        "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
        "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
        "f:template": {"f:metadata": {"f:labels": labels}, "f:spec": in_pod}}});
    assert_eq!(fields(&made, "kubectl-create"), want);
    // kubectl run nginx --image=nginx --port=80: the service account, its volume and the tolerations are admission's.
    let sent = json!({"metadata": {"name": "nginx", "labels": {"run": "nginx"}}, "spec": {
        "containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"memory": "1Mi"}}, "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}]}});
    let made = create(&mut c, "pods default/", sent);
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    in_pod["f:enableServiceLinks"] = json!({});
    in_pod["f:volumes"] = json!({".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}});
    let container = &mut in_pod["f:containers"]["k:{\"name\":\"nginx\"}"];
    container["f:ports"] = json!({".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
        {".": {}, "f:containerPort": {}, "f:protocol": {}}});
    container["f:resources"] =
        json!({".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:memory": {}}});
    container["f:livenessProbe"] = json!({".": {}, "f:failureThreshold": {}, "f:periodSeconds": {},
        "f:successThreshold": {}, "f:timeoutSeconds": {},
        "f:httpGet": {".": {}, "f:path": {}, "f:port": {}, "f:scheme": {}}});
    container["f:env"] = json!({".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}});
    container["f:volumeMounts"] =
        json!({".": {}, "k:{\"mountPath\":\"/v\"}": {".": {}, "f:mountPath": {}, "f:name": {}}});
    let want = json!({"f:metadata": {"f:labels": {".": {}, "f:run": {}}}, "f:spec": in_pod});
    assert_eq!(fields(&made, "kubectl-create"), want);
    // kubectl create service nodeport: neither addresses nor ports nor families.
    let sent = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]}});
    let made = create(&mut c, "services default/", sent);
    let port = json!({".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}});
    let want = json!({"f:spec": {"f:externalTrafficPolicy": {}, "f:internalTrafficPolicy": {},
        "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": port}, "f:selector": {},
        "f:sessionAffinity": {}, "f:type": {}}});
    assert_eq!(fields(&made, "kubectl-create"), want);
    // kubectl create namespace, job and configmap.
    let made = create(&mut c, "namespaces", json!({"metadata": {"name": "n"}}));
    let want = json!({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}});
    assert_eq!(fields(&made, "kubectl-create"), want);
    let sent = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "nginx", "image": "nginx"}]}}}});
    let made = create(&mut c, "jobs.batch default/", sent);
    let spec = fields(&made, "kubectl-create")["f:spec"].clone();
    let names: Vec<_> = spec.as_object().unwrap().keys().map(String::as_str).collect();
    let want = ["f:backoffLimit", "f:completionMode", "f:completions", "f:manualSelector", "f:parallelism"];
    assert_eq!(names, [&want[..], &["f:podReplacementPolicy", "f:suspend", "f:template"][..]].concat());
    assert_eq!(spec["f:template"].get("f:metadata"), None, "the labels of its selector are the storage's");
    let made = create(&mut c, "configmaps default/", json!({"metadata": {"name": "m"}, "data": {"a": "b"}}));
    assert_eq!(fields(&made, "kubectl-create"), json!({"f:data": {".": {}, "f:a": {}}}));
}

#[test]
fn what_a_service_is_given_is_nobodys_and_what_its_client_names_is_the_clients() {
    let mut c = Cluster::new();
    let web = "services default/web";
    let mut sent = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    create(&mut c, "services default/", sent.clone());
    let patch = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}});
    let v = by(&mut c, "edit", Verb::Patch, web, Body::Patch(Merge, patch));
    assert!(v["spec"]["healthCheckNodePort"].is_number() && v["spec"]["ports"][0]["nodePort"].is_number(), "{v}");
    let want = json!({"f:spec": {"f:allocateLoadBalancerNodePorts": {}, "f:externalTrafficPolicy": {}, "f:type": {}}});
    assert_eq!(fields(&v, "edit"), want);
    // Who replaces it by the manifest changes nothing of that and owns nothing of it.
    sent["spec"]["type"] = "LoadBalancer".into();
    sent["spec"]["externalTrafficPolicy"] = "Local".into();
    let v = by(&mut c, "replace", Verb::Update, web, Body::Object(sent.clone()));
    assert_eq!(fields(&v, "replace"), Value::Null);
    let named = json!({"metadata": {"name": "named"}, "spec": {"clusterIP": "10.96.0.77", "type": "NodePort",
        "ports": [{"port": 80, "nodePort": 30077}]}});
    let v = create(&mut c, "services default/", named);
    let spec = &fields(&v, "kubectl-create")["f:spec"];
    assert_eq!((&spec["f:clusterIP"], spec.get("f:clusterIPs")), (&json!({}), None));
    assert_eq!(spec["f:ports"]["k:{\"port\":80,\"protocol\":\"TCP\"}"]["f:nodePort"], json!({}));
}

#[test]
fn changes_move_fields_and_say_when() {
    let mut c = Cluster::new();
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "1", "b": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let v = create(&mut c, "pods default/", pod);
    let time = |v: &Value, manager: &str| {
        let entries = v["metadata"]["managedFields"].as_array().unwrap();
        entries.iter().find(|e| e["manager"] == manager).map(|e| e["time"].clone())
    };
    let (at, made) = ("pods default/p", time(&v, "kubectl-create"));
    c.now = copepod_machine::Time::from_secs(1_800_000_060);
    // Another's label, the first annotation, and an image.
    let patch = json!({"metadata": {"labels": {"b": "2"}, "annotations": {"x": "y"}},
        "spec": {"containers": [{"name": "c", "image": "j"}]}});
    let v = by(&mut c, "kubectl-patch", Verb::Patch, at, Body::Patch(Strategic, patch));
    let want = json!({"f:metadata": {"f:annotations": {".": {}, "f:x": {}}, "f:labels": {"f:b": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}});
    assert_eq!(fields(&v, "kubectl-patch"), want);
    let old = fields(&v, "kubectl-create");
    assert_eq!(old["f:metadata"]["f:labels"], json!({".": {}, "f:a": {}}));
    assert_eq!(old["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"].get("f:image"), None);
    assert_eq!(time(&v, "kubectl-create"), made, "who changes nothing is not there anew");
    // A map that goes takes its place along, from all.
    let patch = json!({"metadata": {"labels": null, "annotations": null}});
    let v = by(&mut c, "other", Verb::Patch, at, Body::Patch(Merge, patch));
    assert_eq!(fields(&v, "other"), Value::Null);
    assert_eq!(fields(&v, "kubectl-create").get("f:metadata"), None);
    assert_eq!(
        fields(&v, "kubectl-patch"),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}})
    );
    // The same manager writes another value: the same fields, another time.
    let before = time(&v, "kubectl-patch");
    c.now = copepod_machine::Time::from_secs(1_800_000_120);
    let patch = json!({"spec": {"containers": [{"name": "c", "image": "k"}]}});
    let v = by(&mut c, "kubectl-patch", Verb::Patch, at, Body::Patch(Strategic, patch.clone()));
    let then = time(&v, "kubectl-patch");
    assert_ne!(then, before);
    // And the same value: nothing.
    c.now = copepod_machine::Time::from_secs(1_800_000_180);
    let v = by(&mut c, "kubectl-patch", Verb::Patch, at, Body::Patch(Strategic, patch));
    assert_eq!(time(&v, "kubectl-patch"), then);
    // A kubelet's first status: every item of a keyed list is there itself.
    let status = json!({"metadata": {"labels": {"not": "here"}}, "status": {"phase": "Running",
        "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}});
    let v = by(&mut c, "kubelet", Verb::Patch, "pods default/p status", Body::Patch(Strategic, status));
    let want = json!({"f:status": {"f:phase": {}, "f:podIP": {},
        "f:podIPs": {".": {}, "k:{\"ip\":\"10.244.0.9\"}": {".": {}, "f:ip": {}}}}});
    assert_eq!(fields(&v, "kubelet"), want);
}
