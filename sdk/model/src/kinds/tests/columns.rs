use super::*;

const BORN: &str = "2026-01-01T00:58:00Z";

fn pod(status: Value) -> Value {
    json!({"metadata":{"name":"web","creationTimestamp":BORN},"spec":{"nodeName":"n1","containers":[{"name":"a"},{"name":"b"}],
        "initContainers":[{"name":"i"}]},"status":status})
}

#[test]
fn of_pods() {
    let up = json!({"name":"a","ready":true,"restartCount":0,"state":{"running":{}}});
    let done = json!({"name":"i","state":{"terminated":{"exitCode":0,"reason":"Completed"}}});
    let crash = json!({"name":"b","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
        "lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-01-01T00:55:00Z"}}});
    for (status, ready, shown, restarts) in [
        (json!({"phase":"Pending"}), "0/2", "Pending", "0"),
        (
            json!({"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"running":{}}}]}),
            "0/2",
            "Init:0/1",
            "0",
        ),
        (
            json!({"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"waiting":{"reason":"ErrImagePull"}}}]}),
            "0/2",
            "Init:ErrImagePull",
            "0",
        ),
        (
            json!({"phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":2,"state":{"terminated":{"exitCode":7}}}]}),
            "0/2",
            "Init:ExitCode:7",
            "2",
        ),
        (json!({"phase":"Running","initContainerStatuses":[done],"containerStatuses":[up, up]}), "2/2", "Running", "0"),
        (json!({"phase":"Running","containerStatuses":[up, crash]}), "1/2", "CrashLoopBackOff", "3 (5m ago)"),
        (
            json!({"phase":"Running","conditions":[{"type":"Ready","status":"False"}],
                "containerStatuses":[{"name":"a","state":{"terminated":{"reason":"Completed"}}}, up]}),
            "1/2",
            "NotReady",
            "0",
        ),
        (
            json!({"phase":"Failed","containerStatuses":[{"state":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}),
            "0/2",
            "OOMKilled",
            "0",
        ),
        (json!({"phase":"Failed","containerStatuses":[{"state":{"terminated":{"signal":9}}}]}), "0/2", "Signal:9", "0"),
        (json!({"phase":"Failed","reason":"Evicted"}), "0/2", "Evicted", "0"),
    ] {
        let got = row("pods", pod(status.clone()));
        assert_eq!(got[..5], ["web", ready, shown, restarts, "2m"], "{status}");
    }
    let mut going = pod(json!({"phase":"Running","podIPs":[{"ip":"10.244.0.7"}],"containerStatuses":[up]}));
    going["metadata"]["deletionTimestamp"] = BORN.into();
    assert_eq!(row("pods", going), ["web", "1/2", "Terminating", "0", "2m", "10.244.0.7", "n1", "<none>", "<none>"]);
    let mut gates = pod(json!({"conditions":[{"type":"a/b","status":"True"}]}));
    gates["spec"]["readinessGates"] = json!([{"conditionType":"a/b"},{"conditionType":"c/d"}]);
    assert_eq!(row("pods", gates)[8], "1/2");
}

#[test]
fn of_workloads_and_services() {
    let spec = json!({"replicas":3,"selector":{"matchLabels":{"app":"web"}},
        "template":{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b","image":"y"}]}}});
    let meta = json!({"name":"web","creationTimestamp":BORN});
    let d = json!({"metadata":meta,"spec":spec,"status":{"replicas":3,"readyReplicas":2,"updatedReplicas":1}});
    assert_eq!(row("deployments.apps", d.clone()), ["web", "2/3", "1", "0", "2m", "a,b", "x,y", "app=web"]);
    assert_eq!(row("replicasets.apps", d), ["web", "3", "3", "2", "2m", "a,b", "x,y", "app=web"]);
    for (spec, status, want) in [
        (
            json!({"type":"ClusterIP","clusterIP":"10.96.0.1","ports":[{"port":80,"protocol":"TCP"}],"selector":{"a":"b"}}),
            json!({}),
            ["ClusterIP", "10.96.0.1", "<none>", "80/TCP", "2m", "a=b"],
        ),
        (
            json!({"type":"NodePort","clusterIP":"1.1.1.1","ports":[{"port":80,"nodePort":30080,"protocol":"TCP"},
                {"port":53,"protocol":"UDP"}]}),
            json!({}),
            ["NodePort", "1.1.1.1", "<none>", "80:30080/TCP,53/UDP", "2m", "<none>"],
        ),
        (json!({"type":"LoadBalancer"}), json!({}), ["LoadBalancer", "<none>", "<pending>", "<none>", "2m", "<none>"]),
        (
            json!({"type":"LoadBalancer","externalIPs":["9.9.9.9"]}),
            json!({"loadBalancer":{"ingress":[{"ip":"8.8.8.8"}]}}),
            ["LoadBalancer", "<none>", "8.8.8.8,9.9.9.9", "<none>", "2m", "<none>"],
        ),
        (
            json!({"type":"ExternalName","externalName":"a.b"}),
            json!({}),
            ["ExternalName", "<none>", "a.b", "<none>", "2m", "<none>"],
        ),
    ] {
        assert_eq!(row("services", json!({"metadata":meta,"spec":spec,"status":status}))[1..], want, "{spec}");
    }
}

#[test]
fn of_nodes_and_events() {
    let node = json!({"metadata":{"name":"n1","creationTimestamp":BORN,
            "labels":{"node-role.kubernetes.io/worker":"","node-role.kubernetes.io/control-plane":""}},
        "spec":{"unschedulable":true},
        "status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"10.0.0.1"}],
            "nodeInfo":{"kubeletVersion":"v1.35.0","osImage":"Debian"}}});
    assert_eq!(
        row("nodes", node),
        [
            "n1",
            "Ready,SchedulingDisabled",
            "control-plane,worker",
            "2m",
            "v1.35.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>"
        ]
    );
    let event = json!({"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","name":"web","fieldPath":"spec.containers{a}"},
        "type":"Normal","reason":"Started","message":" hello\n","source":{"component":"kubelet","host":"n1"},
        "firstTimestamp":"2026-01-01T00:00:00Z","lastTimestamp":BORN,"count":4});
    assert_eq!(
        row("events", event),
        ["2m", "Normal", "Started", "pod/web", "spec.containers{a}", "kubelet, n1", "hello", "60m", "4", "e"]
    );
    let series = json!({"eventTime":"2026-01-01T00:00:00.000000Z","reportingComponent":"c",
        "series":{"count":9,"lastObservedTime":"2026-01-01T00:59:00.000000Z"}});
    let got = row("events", series);
    assert_eq!((&got[0], &got[5], &got[7], &got[8]), (&"60s".into(), &"c".into(), &"60m".into(), &"9".into()));
}

#[test]
fn of_the_rest() {
    let meta = json!({"name":"x","creationTimestamp":BORN});
    for (resource, object, want) in [
        ("configmaps", json!({"data":{"a":"b"},"binaryData":{"c":""}}), vec!["x", "2", "2m"]),
        ("secrets", json!({"type":"Opaque","data":{"a":""}}), vec!["x", "Opaque", "1", "2m"]),
        ("serviceaccounts", json!({}), vec!["x", "0", "2m"]),
        ("namespaces", json!({"status":{"phase":"Active"}}), vec!["x", "Active", "2m"]),
        ("leases.coordination.k8s.io", json!({"spec":{"holderIdentity":"n1"}}), vec!["x", "n1", "2m"]),
        ("endpoints", json!({}), vec!["x", "<none>", "2m"]),
        (
            "endpoints",
            json!({"subsets":[{"addresses":[{"ip":"1.1.1.1"},{"ip":"fd00::1"}],"notReadyAddresses":[{"ip":"1.1.1.9"}],
                "ports":[{"port":80},{"port":81}]},{"addresses":[{"ip":"1.1.1.2"}]}]}),
            vec!["x", "1.1.1.1:80,[fd00::1]:80,1.1.1.1:81 + 2 more...", "2m"],
        ),
        (
            "endpoints",
            json!({"subsets":[{"addresses":[{"ip":"1.1.1.2"}]},{"notReadyAddresses":[{"ip":"1.1.1.9"}],"ports":[{"port":80}]}]}),
            vec!["x", "1.1.1.2", "2m"],
        ),
        (
            "endpointslices.discovery.k8s.io",
            json!({"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["1.1.1.1"]},{"addresses":["1.1.1.2"]},
                {"addresses":["1.1.1.3"]},{"addresses":["1.1.1.4"]}]}),
            vec!["x", "IPv4", "80", "1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...", "2m"],
        ),
        (
            "ingresses.networking.k8s.io",
            json!({"spec":{"ingressClassName":"c","rules":[{"host":"a"},{"host":"b"},{"host":"c"},{"host":"d"}],"tls":[{}]},
                "status":{"loadBalancer":{"ingress":[{"ip":"127.0.0.1"}]}}}),
            vec!["x", "c", "a,b,c + 1 more...", "127.0.0.1", "80, 443", "2m"],
        ),
        ("ingresses.networking.k8s.io", json!({"spec":{"rules":[{}]}}), vec!["x", "<none>", "*", "", "80", "2m"]),
        (
            "ingressclasses.networking.k8s.io",
            json!({"spec":{"controller":"a.b/c","parameters":{"apiGroup":"g","kind":"K","name":"n"}}}),
            vec!["x", "a.b/c", "K.g/n", "2m"],
        ),
        (
            "networkpolicies.networking.k8s.io",
            json!({"spec":{"podSelector":{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"tier","operator":"Exists"}]}}}),
            vec!["x", "app=web,tier", "2m"],
        ),
        ("networkpolicies.networking.k8s.io", json!({"spec":{"podSelector":{}}}), vec!["x", "<none>", "2m"]),
        ("roles.rbac.authorization.k8s.io", json!({}), vec!["x", BORN]),
        (
            "rolebindings.rbac.authorization.k8s.io",
            json!({"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"},{"kind":"User","name":"v"},
                {"kind":"ServiceAccount","namespace":"d","name":"s"}]}),
            vec!["x", "Role/r", "2m", "u, v", "", "d/s"],
        ),
    ] {
        let mut object = object;
        object["metadata"] = meta.clone();
        assert_eq!(row(resource, object), want, "{resource}");
    }
}

#[test]
fn selectable_fields_have_values() {
    let kinds = Kinds::builtin();
    let field = |resource: &str, object: Value, path: &str| {
        let strategy = &kinds.group_resource(resource).unwrap().strategy;
        assert!(strategy.selectable_fields().contains(&path), "{resource} {path}");
        strategy.field(&object, path)
    };
    assert_eq!(field("pods", json!({}), "spec.hostNetwork"), "false");
    assert_eq!(field("pods", json!({"spec":{"nodeName":"n"}}), "spec.nodeName"), "n");
    assert_eq!(field("nodes", json!({"spec":{"unschedulable":true}}), "spec.unschedulable"), "true");
    assert_eq!(field("events", json!({"reportingComponent":"c"}), "source"), "c");
    assert_eq!(field("replicasets.apps", json!({}), "status.replicas"), "0");
    assert_eq!(field("secrets", json!({"type":"t"}), "type"), "t");
    assert_eq!(field("services", json!({"spec":{"type":"ClusterIP"}}), "spec.type"), "ClusterIP");
    assert_eq!(field("namespaces", json!({"status":{"phase":"Active"}}), "status.phase"), "Active");
}
