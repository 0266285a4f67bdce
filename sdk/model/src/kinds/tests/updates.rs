use super::*;

fn changed(old: &Value, pointer: &str, value: Value) -> Value {
    let mut new = old.clone();
    let (parent, leaf) = pointer.rsplit_once('/').unwrap();
    match new.pointer_mut(parent).unwrap() {
        Value::Array(a) => a[leaf.parse::<usize>().unwrap()] = value,
        other => other[leaf] = value,
    }
    new
}

#[test]
fn little_of_a_pod_may_change() {
    let only = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,";
    let pod = json!({"spec":{"activeDeadlineSeconds":100,"containers":[{"name":"a","image":"x:1"}],
        "tolerations":[{"key":"a","operator":"Exists"}]}});
    for (pointer, value, want) in [
        ("/spec/containers/0/image", json!("x:1"), None),
        ("/spec/containers/0/image", json!("y:1"), None),
        ("/spec/activeDeadlineSeconds", json!(50), None),
        (
            "/spec/activeDeadlineSeconds",
            json!(200),
            Some("spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value"),
        ),
        ("/spec/tolerations", json!([{"key":"a","operator":"Exists"},{"key":"b","operator":"Exists"}]), None),
        ("/spec/tolerations", json!([]), Some("spec.tolerations: Forbidden: existing toleration can not be modified")),
        ("/spec/nodeName", json!("n2"), Some(only)),
        ("/spec/containers/0/command", json!(["x"]), Some(only)),
        ("/spec/terminationGracePeriodSeconds", json!(1), Some(only)),
        (
            "/spec/containers",
            json!([]),
            Some("spec.containers: Forbidden: pod updates may not add or remove containers"),
        ),
    ] {
        let got = update_errors("pods", pod.clone(), changed(&pod, pointer, value.clone()));
        match want {
            None => assert_eq!(got, Vec::<String>::new(), "{pointer} {value}"),
            Some(want) => assert!(got.len() == 1 && got[0].starts_with(want), "{pointer} {value}: {got:#?}"),
        }
    }
    let gated = json!({"spec":{"schedulingGates":[{"name":"a/b"}],"containers":[{"name":"a","image":"x:1"}]}});
    assert!(update_errors("pods", gated.clone(), changed(&gated, "/spec/schedulingGates", json!([]))).is_empty());
}

#[test]
fn what_is_immutable() {
    for (resource, pointer, value, want) in [
        (
            "deployments.apps",
            "/spec/selector",
            json!({"matchLabels":{"a":"b"}}),
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: field is immutable",
        ),
        ("replicasets.apps", "/spec/selector", json!({}), "spec.selector: Invalid value: {}: field is immutable"),
        ("secrets", "/type", json!("x"), "type: Invalid value: \"x\": field is immutable"),
        (
            "rolebindings.rbac.authorization.k8s.io",
            "/roleRef/name",
            json!("x"),
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"x\"}: \
             cannot change roleRef",
        ),
        (
            "ingressclasses.networking.k8s.io",
            "/spec/controller",
            json!("a.b/c"),
            "spec.controller: Invalid value: \"a.b/c\": field is immutable",
        ),
        (
            "endpointslices.discovery.k8s.io",
            "/addressType",
            json!("IPv6"),
            "addressType: Invalid value: \"IPv6\": field is immutable",
        ),
    ] {
        let old = samples()[resource].clone();
        assert_eq!(update_errors(resource, old.clone(), changed(&old, pointer, value)), [want], "{resource}");
    }
    let frozen = json!({"immutable":true,"data":{"a":"b"}});
    for resource in ["configmaps", "secrets"] {
        let why = "field is immutable when `immutable` is set";
        assert_eq!(
            update_errors(resource, frozen.clone(), json!({"immutable":false,"data":{"a":"c"}})),
            [format!("immutable: Forbidden: {why}"), format!("data: Forbidden: {why}")]
        );
        assert!(update_errors(resource, frozen.clone(), frozen.clone()).is_empty());
    }
}

#[test]
fn a_service_keeps_what_was_allocated_for_it() {
    let old = json!({"spec":{"type":"NodePort","clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],
        "ipFamilyPolicy":"SingleStack","ports":[{"port":80,"nodePort":30080}]}});
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("services").unwrap().strategy;
    let prepared = |new: Value| {
        let (old, mut new) = (defaulted("services", old.clone()), defaulted("services", new));
        strategy.prepare_update(&mut new, &old);
        new["spec"].clone()
    };
    let again = prepared(json!({"spec":{"type":"NodePort","ports":[{"port":80}]}}));
    assert_eq!((&again["clusterIP"], &again["clusterIPs"]), (&json!("10.96.0.9"), &json!(["10.96.0.9"])));
    assert_eq!((&again["ports"][0]["nodePort"], &again["ipFamilies"]), (&json!(30080), &json!(["IPv4"])));
    let closed = prepared(json!({"spec":{"type":"ClusterIP","ports":[{"port":80,"nodePort":30080}],
        "externalTrafficPolicy":"Cluster"}}));
    assert_eq!((&closed["ports"][0].get("nodePort"), closed.get("externalTrafficPolicy")), (&None, None));
    let external = prepared(json!({"spec":{"type":"ExternalName","externalName":"a.b","clusterIP":"10.96.0.9",
        "clusterIPs":["10.96.0.9"]}}));
    assert_eq!(external.get("clusterIP"), None);
    assert_eq!(
        update_errors("services", old.clone(), changed(&old, "/spec/clusterIP", json!("10.96.0.10"))),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"]
    );
}

#[test]
fn a_namespace_keeps_its_finalizers() {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("namespaces").unwrap().strategy;
    let mut new = json!({"metadata":{"name":"a"},"spec":{"finalizers":[]}});
    strategy.prepare_update(&mut new, &json!({"spec":{"finalizers":["kubernetes"]}}));
    assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
}

#[test]
fn a_pods_status_does_not_go_back() {
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("pods").unwrap().strategy;
    let pod = |state: Value| json!({"spec":{"restartPolicy":"Never"},"status":{"containerStatuses":[{"name":"a","state":state}]}});
    let mut errors = Vec::new();
    strategy.validate_status(&pod(json!({"running":{}})), &pod(json!({"terminated":{}})), &mut errors);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    errors.clear();
    strategy.validate_status(&pod(json!({"terminated":{}})), &pod(json!({"running":{}})), &mut errors);
    assert!(errors.is_empty());
}
