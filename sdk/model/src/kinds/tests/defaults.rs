use super::*;

#[test]
fn of_pods() {
    let pod = defaulted(
        "pods",
        json!({"spec":{
            "serviceAccount":"robot",
            "containers":[
                {"name":"a","image":"web","ports":[{"containerPort":80}],
                 "resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m"}},
                 "env":[{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
                 "livenessProbe":{"httpGet":{"port":80}}},
                {"name":"b","image":"web:1","imagePullPolicy":"Never","terminationMessagePolicy":"",
                 "readinessProbe":{"tcpSocket":{"port":1},"periodSeconds":3}}],
            "volumes":[{"name":"e"},{"name":"c","configMap":{"name":"c"}},{"name":"s","secret":{"secretName":"s","defaultMode":0}},
                {"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]
        }}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "serviceAccount":"robot","serviceAccountName":"robot","restartPolicy":"Always","dnsPolicy":"ClusterFirst",
            "schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},
            "enableServiceLinks":true,
            "containers":[
                {"name":"a","image":"web","imagePullPolicy":"Always","ports":[{"containerPort":80,"protocol":"TCP"}],
                 "resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m","memory":"1Gi"}},
                 "env":[{"name":"IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}}],
                 "livenessProbe":{"httpGet":{"port":80,"path":"/","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,
                    "successThreshold":1,"failureThreshold":3},
                 "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},
                {"name":"b","image":"web:1","imagePullPolicy":"Never",
                 "readinessProbe":{"tcpSocket":{"port":1},"periodSeconds":3,"timeoutSeconds":1,"successThreshold":1,
                    "failureThreshold":3},
                 "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
            "volumes":[{"name":"e","emptyDir":{}},{"name":"c","configMap":{"name":"c","defaultMode":420}},
                {"name":"s","secret":{"secretName":"s","defaultMode":0}},
                {"name":"p","projected":{"defaultMode":420,
                    "sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":3600}}]}}]
        })
    );
}

#[test]
fn of_pods_on_the_host_network_and_with_their_own_limits() {
    let pod = defaulted(
        "pods",
        json!({"spec":{"hostNetwork":true,"resources":{"limits":{"cpu":"2","memory":"1Gi"}},
            "containers":[{"name":"a","image":"x","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"250m"}}},
                {"name":"b","image":"x","resources":{"requests":{"cpu":"250m"}}}]}}),
    );
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu":"500m","memory":"1Gi"}));
}

#[test]
fn the_tag_decides_the_pull_policy() {
    for (image, want) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("host:5000/a:2", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
        ("a:latest@sha256:00", "Always"),
        ("file:///srv/app.wasm", "IfNotPresent"),
        ("", "IfNotPresent"),
    ] {
        let pod = defaulted("pods", json!({"spec":{"containers":[{"image":image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], want, "{image}");
    }
}

#[test]
fn of_workloads() {
    let d = defaulted(
        "deployments.apps",
        json!({"spec":{"template":{"spec":{"containers":[{"name":"a","image":"b:1"}]}}}}),
    );
    assert_eq!(
        d["spec"],
        json!({"replicas":1,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},
            "revisionHistoryLimit":10,"progressDeadlineSeconds":600,
            "template":{"spec":{"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler",
                "terminationGracePeriodSeconds":30,"securityContext":{},
                "containers":[{"name":"a","image":"b:1","imagePullPolicy":"IfNotPresent",
                    "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}]}}})
    );
    let kept = json!({"spec":{"replicas":0,"revisionHistoryLimit":0,"strategy":{"type":"Recreate"}}});
    let d = defaulted("deployments.apps", kept);
    assert_eq!((&d["spec"]["replicas"], &d["spec"]["revisionHistoryLimit"]), (&json!(0), &json!(0)));
    assert_eq!(d["spec"]["strategy"], json!({"type":"Recreate"}));
    assert_eq!(defaulted("replicasets.apps", json!({}))["spec"]["replicas"], 1);
}

#[test]
fn of_services() {
    let s =
        defaulted("services", json!({"spec":{"ports":[{"port":80},{"port":81,"targetPort":"http","protocol":"UDP"}]}}));
    assert_eq!(
        s["spec"],
        json!({"type":"ClusterIP","sessionAffinity":"None","internalTrafficPolicy":"Cluster","ports":[
            {"port":80,"targetPort":80,"protocol":"TCP"},{"port":81,"targetPort":"http","protocol":"UDP"}]})
    );
    let s = defaulted("services", json!({"spec":{"type":"LoadBalancer","sessionAffinity":"ClientIP"}}));
    assert_eq!(s["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    assert_eq!(s["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(s["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        defaulted("services", json!({"spec":{"type":"ExternalName"}}))["spec"]["internalTrafficPolicy"],
        Value::Null
    );
}

#[test]
fn of_the_rest() {
    let secret = defaulted("secrets", json!({"stringData":{"a":"hi"},"data":{"a":"eA==","b":"eA=="}}));
    assert_eq!(secret, json!({"type":"Opaque","data":{"a":"aGk=","b":"eA=="}}));
    let n = defaulted("namespaces", json!({"metadata":{"name":"x"}}));
    assert_eq!(n["metadata"]["labels"], json!({"kubernetes.io/metadata.name":"x"}));
    let b = defaulted(
        "rolebindings.rbac.authorization.k8s.io",
        json!({"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"Group","name":"g"},{"kind":"ServiceAccount","name":"s"}]}),
    );
    assert_eq!(b["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(b["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(b["subjects"][1].get("apiGroup"), None);
    let e = defaulted("endpointslices.discovery.k8s.io", json!({"ports":[{"port":1}]}));
    assert_eq!(e["ports"], json!([{"name":"","port":1,"protocol":"TCP"}]));
    let e = defaulted("endpoints", json!({"subsets":[{"ports":[{"port":1},{"port":2,"protocol":"UDP"}]}]}));
    assert_eq!(e["subsets"][0]["ports"], json!([{"port":1,"protocol":"TCP"},{"port":2,"protocol":"UDP"}]));
    let c = defaulted("ingressclasses.networking.k8s.io", json!({"spec":{"parameters":{}}}));
    assert_eq!(c["spec"]["parameters"]["scope"], "Cluster");
    let n = defaulted("nodes", json!({"status":{"capacity":{"cpu":"2"}}}));
    assert_eq!(n["status"]["allocatable"], json!({"cpu":"2"}));
}

#[test]
fn what_a_new_object_gets() {
    let kinds = Kinds::builtin();
    let prepare = |resource: &str, mut object: Value| {
        kinds.group_resource(resource).unwrap().strategy.prepare_create(&mut object);
        object
    };
    let pod = prepare("pods", json!({"spec":{},"status":{"phase":"Running","podIP":"1.2.3.4"}}));
    assert_eq!(pod["status"], json!({"phase":"Pending","qosClass":"BestEffort"}));
    let gated = prepare("pods", json!({"spec":{"schedulingGates":[{"name":"a/b"}]}}));
    assert_eq!(gated["status"]["conditions"][0]["reason"], "SchedulingGated");
    let n = prepare("namespaces", json!({"metadata":{"name":"x"},"spec":{"finalizers":["a/b"]}}));
    assert_eq!(n["spec"]["finalizers"], json!(["a/b", "kubernetes"]));
    assert_eq!(n["status"]["phase"], "Active");
    assert_eq!(prepare("services", json!({}))["status"], json!({"loadBalancer":{}}));
}

#[test]
fn of_network_policies() {
    let spec = |spec: Value| defaulted("networkpolicies.networking.k8s.io", json!({ "spec": spec }))["spec"].clone();
    assert_eq!(spec(json!({"podSelector":{}})), json!({"podSelector":{},"policyTypes":["Ingress"]}));
    assert_eq!(spec(json!({"podSelector":{},"egress":[]}))["policyTypes"], json!(["Ingress"]));
    assert_eq!(
        spec(
            json!({"podSelector":{},"ingress":[{"ports":[{"port":80},{"protocol":"UDP"}]}],"egress":[{"ports":[{}]}]})
        ),
        json!({"podSelector":{},"policyTypes":["Ingress","Egress"],
            "ingress":[{"ports":[{"port":80,"protocol":"TCP"},{"protocol":"UDP"}]}],
            "egress":[{"ports":[{"protocol":"TCP"}]}]})
    );
    assert_eq!(spec(json!({"policyTypes":["Egress"],"ingress":[{}]}))["policyTypes"], json!(["Egress"]));
}
