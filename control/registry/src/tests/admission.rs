//! The rules that give pods and volumes what they do not say, and those that say no.

use copepod_model::request::Body;
use copepod_model::{Key, Verb};
use copepod_state::{Op, Outcome, Txn, apply};
use serde_json::{Value, json};

use crate::testing::{Cluster, deployment, error, pod, request, user};
use crate::{Decision, Env, Evaluation};

#[test]
fn a_pod_gets_its_priority_from_its_class() {
    let mut c = Cluster::new();
    let class = |name: &str, more: Value| {
        let mut class = json!({"metadata": {"name": name}, "value": 5});
        class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        class
    };
    const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
    let of = |v: &Value| {
        let s = &v["spec"];
        (s["priorityClassName"].clone(), s["priority"].clone(), s["preemptionPolicy"].clone())
    };
    let (_, v) = c.create("pods default/", pod("none")).unwrap();
    assert_eq!(of(&v), (Value::Null, json!(0), json!("PreemptLowerPriority")));
    c.create(CLASSES, class("polite", json!({"preemptionPolicy": "Never"}))).unwrap();
    c.create(CLASSES, class("usual", json!({"value": 7, "globalDefault": true}))).unwrap();
    let (_, v) = c.create("pods default/", pod("default")).unwrap();
    assert_eq!(of(&v), (json!("usual"), json!(7), json!("PreemptLowerPriority")));
    let with = |name: &str, spec: Value| {
        let mut p = pod(name);
        p["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        p
    };
    let (_, v) = c.create("pods default/", with("p", json!({"priorityClassName": "polite"}))).unwrap();
    assert_eq!(of(&v), (json!("polite"), json!(5), json!("Never")));
    // The system's classes are for pods of all namespaces.
    let (_, v) = c.create("pods default/", with("s", json!({"priorityClassName": "system-node-critical"}))).unwrap();
    assert_eq!(v["spec"]["priority"], 2_000_001_000);
    for (spec, want) in [
        (
            json!({"priorityClassName": "none"}),
            "403 pods \"x\" is forbidden: no PriorityClass with name none was found",
        ),
        (
            json!({"priorityClassName": "polite", "priority": 6}),
            "403 pods \"x\" is forbidden: the integer value of priority (6) must not be provided in pod spec; priority admission \
             controller computed 5 from the given PriorityClass name",
        ),
        (
            json!({"priorityClassName": "polite", "preemptionPolicy": "PreemptLowerPriority"}),
            "403 pods \"x\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod \
             spec; priority admission controller computed Never from the given PriorityClass name",
        ),
    ] {
        assert_eq!(error(c.create("pods default/", with("x", spec))), want);
    }
    for (name, more, want) in [
        (
            "second",
            json!({"globalDefault": true}),
            "403 priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass usual is already marked as default. Only \
             one default can exist",
        ),
        (
            "system-mine",
            json!({}),
            "422 PriorityClass.scheduling.k8s.io \"system-mine\" is invalid: metadata.name: Forbidden: priority class names with \
             'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
        ),
    ] {
        assert_eq!(error(c.create(CLASSES, class(name, more))), want);
    }
    assert_eq!(
        error(c.delete("priorityclasses.scheduling.k8s.io system-node-critical")),
        "403 priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot \
         be deleted"
    );
    // Whoever updates a pod need not know of any of this.
    let mut v = c.value("pods default/p");
    for field in ["priority", "preemptionPolicy"] {
        v["spec"].as_object_mut().unwrap().remove(field);
    }
    v["metadata"]["labels"] = json!({"a": "b"});
    let (_, v) = c.update("pods default/p", v).unwrap();
    assert_eq!(of(&v), (json!("polite"), json!(5), json!("Never")));
}

#[test]
fn the_clusters_own_classes_are_there_before_they_are_stored() {
    let mut c = Cluster::new();
    for (resource, name) in
        [("priorityclasses.scheduling.k8s.io", "system-cluster-critical"), ("runtimeclasses.node.k8s.io", "wasm")]
    {
        // An earlier release did not have them, and writes none while it leads.
        let gone = Txn { ops: vec![Op::Delete { key: Key::new(resource, "", name) }], ..Txn::default() };
        assert!(matches!(apply(&mut c.tables, 1, &gone).0, Outcome::Applied(_)));
        assert!(c.find(&format!("{resource} {name}")).is_none());
    }
    let mut p = pod("p");
    p["spec"]["priorityClassName"] = "system-cluster-critical".into();
    p["spec"]["runtimeClassName"] = "wasm".into();
    let (_, v) = c.create("pods default/", p).unwrap();
    assert_eq!(v["spec"]["priority"], 2_000_000_000);
}

#[test]
fn pods_stay_five_minutes_on_a_node_that_is_lost() {
    let mut c = Cluster::new();
    let toleration = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    for (given, want) in [
        (json!([]), json!([toleration("not-ready"), toleration("unreachable")])),
        (json!([{"operator": "Exists"}]), json!([{"operator": "Exists"}])),
        (
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]),
            json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}, toleration("unreachable")]),
        ),
        (
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}, toleration("not-ready"), toleration("unreachable")]),
        ),
    ] {
        let mut p = json!({"metadata": {"generateName": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        p["spec"]["tolerations"] = given;
        let (_, v) = c.create("pods default/", p).unwrap();
        assert_eq!(v["spec"]["tolerations"], want);
    }
}

#[test]
fn claims_get_the_default_class_and_are_protected() {
    let mut c = Cluster::new();
    let claim = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let (_, v) = c.create("persistentvolumeclaims default/", claim("early")).unwrap();
    assert!(v["spec"].get("storageClassName").is_none());
    assert_eq!(v["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(v["status"], json!({"phase": "Pending"}));
    for (name, default) in [("a", "false"), ("b", "true"), ("c", "true")] {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": default});
        let class = json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": "example.com/x"});
        c.create("storageclasses.storage.k8s.io", class).unwrap();
    }
    let (_, v) = c.create("persistentvolumeclaims default/", claim("usual")).unwrap();
    assert_eq!(v["spec"]["storageClassName"], "b");
    let mut none = claim("none");
    none["spec"]["storageClassName"] = "".into();
    let (_, v) = c.create("persistentvolumeclaims default/", none).unwrap();
    assert_eq!(v["spec"]["storageClassName"], "", "who wants no class says so");
    let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/data"}}});
    let (_, v) = c.create("persistentvolumes", volume).unwrap();
    assert_eq!(v["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    c.delete("persistentvolumes v").unwrap();
    assert!(c.find("persistentvolumes v").is_some(), "it waits for its finalizer");
}

#[test]
fn a_runtime_class_says_what_its_pods_cost_and_where_they_run() {
    let mut c = Cluster::new();
    let class = json!({"metadata": {"name": "heavy"}, "handler": "wasm", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"big": "yes"}, "tolerations": [{"key": "big", "operator": "Exists"}]}});
    c.create("runtimeclasses.node.k8s.io", class).unwrap();
    let with = |name: &str, more: Value| {
        let mut p = pod(name);
        p["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        p
    };
    let (_, v) = c.create("pods default/", with("p", json!({"runtimeClassName": "heavy"}))).unwrap();
    assert_eq!(v["spec"]["overhead"], json!({"memory": "64Mi"}));
    assert_eq!(v["spec"]["nodeSelector"], json!({"big": "yes"}));
    assert!(v["spec"]["tolerations"].as_array().unwrap().contains(&json!({"key": "big", "operator": "Exists"})));
    c.create("pods default/", with("w", json!({"runtimeClassName": "wasm"}))).unwrap();
    for (more, want) in [
        (json!({"runtimeClassName": "runc"}), "pod rejected: RuntimeClass \"runc\" not found"),
        (
            json!({"runtimeClassName": "heavy", "overhead": {"memory": "1Mi"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"memory": "1Mi"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "heavy", "nodeSelector": {"big": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[big] = yes; pod.spec.nodeSelector[big] = no",
        ),
    ] {
        let got = error(c.create("pods default/", with("x", more)));
        assert_eq!(got, format!("403 pods \"x\" is forbidden: {want}"));
    }
}

#[test]
fn nothing_is_scheduled_on_a_node_before_it_reports() {
    let mut c = Cluster::new();
    let (_, v) = c.create("nodes", json!({"metadata": {"name": "n"}})).unwrap();
    assert_eq!(v["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
}

fn labelled(name: &str, labels: Value) -> Value {
    let labels: Value = labels
        .as_object()
        .unwrap()
        .iter()
        .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), v.clone()))
        .collect();
    json!({"metadata": {"name": name, "labels": labels}})
}

/// What a decision says besides.
fn warnings(c: &mut Cluster, verb: Verb, what: &str, object: Value) -> Vec<String> {
    let mut req = request(verb, what);
    req.body = Body::Object(object);
    let mut env = Env::new(&c.tables, c.now, &mut c.ids);
    match c.registry.decide(&mut env, &req).unwrap() {
        Decision::Write(write) => write.warnings,
        Decision::Answer(answer) => answer.warnings,
    }
}

#[test]
fn a_namespace_enforces_a_level_and_warns_of_another() {
    let mut c = Cluster::new();
    c.create("namespaces", labelled("safe", json!({"enforce": "baseline", "warn": "restricted"}))).unwrap();
    c.create("serviceaccounts safe/", json!({"metadata": {"name": "default"}})).unwrap();
    let mut bad = pod("p");
    bad["spec"]["hostPID"] = true.into();
    let e = c.create("pods safe/", bad.clone()).unwrap_err();
    assert_eq!(
        (e.code, e.reason, e.message.as_str()),
        (
            403,
            "Forbidden",
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
        )
    );
    c.create("pods default/", bad.clone()).unwrap();
    let restricted = "would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
        securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
        securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
        securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
        securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(warnings(&mut c, Verb::Create, "pods safe/", pod("p")), [restricted]);
    // What will make pods is let in, with a warning.
    assert_eq!(warnings(&mut c, Verb::Create, "deployments.apps safe/", deployment("d")), [restricted]);
    assert_eq!(warnings(&mut c, Verb::Create, "deployments.apps default/", deployment("d")), Vec::<String>::new());
    // A change of what does not matter is no new offence.
    c.create("pods safe/", pod("p")).unwrap();
    let mut relabelled = c.value("pods safe/p");
    relabelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(warnings(&mut c, Verb::Update, "pods safe/p", relabelled), Vec::<String>::new());
}

#[test]
fn what_the_standards_say_is_counted() {
    let mut c = Cluster::new();
    let labels = json!({"enforce": "baseline", "enforce-version": "v1.30", "audit": "restricted", "warn": "restricted",
        "warn-version": "v1.99"});
    c.create("namespaces", labelled("safe", labels)).unwrap();
    c.create("serviceaccounts safe/", json!({"metadata": {"name": "default"}})).unwrap();
    let mut bad = pod("p");
    bad["spec"]["hostPID"] = true.into();
    for (what, object, want) in [
        (
            "pods safe/",
            pod("p"),
            &[
                "allow baseline v1.30 enforce create pod ",
                "deny restricted latest audit create pod ",
                "deny restricted future warn create pod ",
            ][..],
        ),
        // Who is refused is not warned.
        (
            "pods safe/",
            bad.clone(),
            &["deny baseline v1.30 enforce create pod ", "deny restricted latest audit create pod "],
        ),
        ("pods default/", bad, &["allow privileged latest enforce create pod "]),
        (
            "deployments.apps safe/",
            deployment("d"),
            &["deny restricted latest audit create controller ", "deny restricted future warn create controller "],
        ),
        ("deployments.apps default/", deployment("d"), &[]),
    ] {
        let mut req = request(Verb::Create, what);
        req.body = Body::Object(object);
        let mut env = Env::new(&c.tables, c.now, &mut c.ids);
        let _ = c.registry.decide(&mut env, &req);
        let labels = |e: &Evaluation| {
            [e.decision, e.level, e.version.as_str(), e.mode, e.operation, e.resource, e.subresource].join(" ")
        };
        assert_eq!(env.evaluations.iter().map(labels).collect::<Vec<_>>(), want, "{what}");
    }
}

#[test]
fn a_namespace_is_told_which_of_its_pods_do_not_fit() {
    let mut c = Cluster::new();
    for name in ["b", "a", "c"] {
        let mut p = pod(name);
        if name != "c" {
            p["spec"]["hostIPC"] = true.into();
        }
        c.create("pods default/", p).unwrap();
    }
    let mut namespace = c.value("namespaces default");
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline".into();
    assert_eq!(
        warnings(&mut c, Verb::Update, "namespaces default", namespace.clone()),
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
        ]
    );
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "strict".into();
    let e = c.update("namespaces default", namespace).unwrap_err();
    assert_eq!(
        (e.code, e.reason, e.message.as_str()),
        (
            422,
            "Invalid",
            "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must \
             be one of privileged, baseline, restricted"
        )
    );
    let causes = e.details.unwrap().causes;
    assert_eq!(causes[0].field, "metadata.labels[pod-security.kubernetes.io/enforce]");
    assert_eq!(causes[0].reason, "FieldValueInvalid");
}

#[test]
fn an_agent_sets_no_labels_and_mirrors_that_are_not_its_own() {
    let mut c = Cluster::new();
    c.create("nodes", json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}})).unwrap();
    let agent = user("system:node:n1", &["system:nodes", "system:authenticated"]);
    let as_agent = |c: &mut Cluster, verb: Verb, what: &str, object: Value| {
        let mut req = request(verb, what);
        req.user = agent.clone();
        req.body = Body::Object(object);
        error(c.send(&req))
    };
    for (label, allowed) in [
        ("example.com/a", true),
        ("kubernetes.io/hostname", true),
        ("node.kubernetes.io/instance-type", true),
        ("x.kubelet.kubernetes.io/a", true),
        ("node-role.kubernetes.io/master", false),
        ("node-restriction.kubernetes.io/a", false),
        ("a.node-restriction.kubernetes.io/a", false),
        ("k8s.io/a", false),
    ] {
        let mut node = c.value("nodes n1");
        node["metadata"]["labels"] = json!({"kubernetes.io/os": "linux"});
        node["metadata"]["labels"][label] = "x".into();
        let got = as_agent(&mut c, Verb::Update, "nodes n1", node);
        let want = format!("403 nodes \"n1\" is forbidden: is not allowed to modify labels: {label}");
        assert_eq!(!got.starts_with("403"), allowed, "{label}: {got}");
        assert!(allowed || got == want, "{got}");
    }
    let mut owned = c.value("nodes n1");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u"}]);
    let want = "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify ownerReferences";
    assert_eq!(as_agent(&mut c, Verb::Update, "nodes n1", owned), want);
    let mirror = |spec: Value| {
        let mut p = json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        p["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        p
    };
    let volume = |source: Value| {
        let mut v = json!({"name": "v"});
        v.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({ "volumes": [v] })
    };
    for (spec, what) in [
        (json!({"serviceAccountName": "default"}), "a service account"),
        (volume(json!({"secret": {"secretName": "s"}})), "secrets"),
        (volume(json!({"configMap": {"name": "m"}})), "configmaps"),
        (volume(json!({"persistentVolumeClaim": {"claimName": "c"}})), "persistentvolumeclaims"),
        (json!({"imagePullSecrets": [{"name": "s"}]}), "secrets"),
    ] {
        let got = as_agent(&mut c, Verb::Create, "pods default/", mirror(spec));
        let why = format!("403 pods \"m\" is forbidden: node \"n1\" can not create pods that reference {what}");
        assert_eq!(got, why);
    }
    let got = as_agent(&mut c, Verb::Create, "pods default/", mirror(json!({})));
    assert!(got.starts_with("201"), "{got}");
    let mut relabelled = c.value("pods default/m");
    relabelled["metadata"]["labels"] = json!({"app": "web"});
    let (_, _) = c.update("pods default/m", relabelled).unwrap();
    let drivers = json!({"metadata": {"name": "n2"}, "spec": {"drivers": []}});
    assert_eq!(
        as_agent(&mut c, Verb::Create, "csinodes.storage.k8s.io", drivers),
        "403 csinodes.storage.k8s.io \"n2\" is forbidden: can only access CSINode with the same name as the requesting node"
    );
}

#[test]
fn who_writes_what_acts_on_nothing_is_told_so() {
    let mut c = Cluster::new();
    let range = json!({"metadata":{"name":"more"},"spec":{"cidrs":["10.97.0.0/16"]}});
    let hooks = json!({"metadata":{"name":"w"}});
    let schema = json!({"metadata":{"name":"f"},"spec":{"priorityLevelConfiguration":{"name":"workload-low"}}});
    let level =
        json!({"metadata":{"name":"l"},"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}}});
    let remote = json!({"metadata":{"name":"v1.a.b"},"spec":{"group":"a.b","version":"v1","groupPriorityMinimum":1,
        "versionPriority":1,"service":{"namespace":"n","name":"s"}}});
    for (what, object, want) in [
        (
            "servicecidrs.networking.k8s.io",
            range,
            "Services get their addresses from the ServiceCIDR \"kubernetes\" alone: ServiceCIDR is kept and has no effect",
        ),
        (
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            hooks,
            "admission webhooks are not called: ValidatingWebhookConfiguration is kept and has no effect",
        ),
        (
            "apiservices.apiregistration.k8s.io",
            remote.clone(),
            "requests are not handed on to other API servers: APIService is kept and has no effect",
        ),
        (
            "flowschemas.flowcontrol.apiserver.k8s.io",
            schema,
            "requests are not queued by priority: FlowSchema is kept and has no effect",
        ),
        (
            "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
            level,
            "requests are not queued by priority: PriorityLevelConfiguration is kept and has no effect",
        ),
    ] {
        assert_eq!(warnings(&mut c, Verb::Create, what, object), [want]);
    }
    let mut local = remote;
    local["spec"]["service"] = Value::Null;
    assert_eq!(warnings(&mut c, Verb::Create, "apiservices.apiregistration.k8s.io", local), Vec::<String>::new());
    let shown = c.value("apiservices.apiregistration.k8s.io v1.apps");
    assert_eq!(shown["status"]["conditions"][0]["reason"], "Local");
    assert_eq!(
        c.value("servicecidrs.networking.k8s.io kubernetes")["spec"]["cidrs"],
        json!(["10.96.0.0/16", "fd00:10:96::/112"])
    );
}

#[test]
fn mirrors_refer_to_neither_accounts_nor_secrets() {
    let mut c = Cluster::new();
    let mirror = |more: Value| {
        let mut p = pod("m");
        p["spec"]["nodeName"] = "n".into();
        p["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        p["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        p
    };
    let with = |more: Value| {
        let mut container = json!({"name": "c", "image": "i"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let secrets = "a mirror pod may not reference secrets";
    let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
    for (more, want) in [
        (json!({"serviceAccountName": "default"}), "a mirror pod may not reference service accounts"),
        (json!({"imagePullSecrets": [{"name": "s"}]}), secrets),
        (volume(json!({"secret": {"secretName": "s"}})), secrets),
        (volume(json!({"projected": {"sources": [{"secret": {"name": "s"}}]}})), secrets),
        (volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})), secrets),
        (with(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), secrets),
        (with(json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]})), secrets),
    ] {
        let got = error(c.create("pods default/", mirror(more.clone())));
        assert_eq!(got, format!("403 pods \"m\" is forbidden: {want}"), "{more}");
    }
    let got = error(c.create("pods default/", mirror(volume(token))));
    assert!(
        got.contains("serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"),
        "{got}"
    );
    c.create("pods default/", mirror(json!({}))).unwrap();
}

#[test]
fn an_account_may_say_which_secrets_its_pods_refer_to() {
    let mut c = Cluster::new();
    let account = json!({"metadata": {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "own"}], "imagePullSecrets": [{"name": "pull"}]});
    c.create("serviceaccounts default/", account).unwrap();
    let run = |name: &str, spec: Value| {
        let mut p = pod(name);
        p["spec"]["serviceAccountName"] = "strict".into();
        p["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        p
    };
    let volume = |secret: &str| json!({"volumes": [{"name": "v", "secret": {"secretName": secret}}]});
    let reads = |list: &str, env: Value| json!({list: [{"name": "c2", "image": "i", "env": env["env"], "envFrom": env["envFrom"]}]});
    let variable = json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]});
    let but = "is not allowed because service account strict does not reference that";
    for (spec, want) in [
        (volume("x"), format!("volume with secret.secretName=\"x\" {but} secret")),
        (
            reads("containers", variable.clone()),
            format!("container c2 with envVar E referencing secret.secretName=\"x\" {but} secret"),
        ),
        (
            reads("initContainers", json!({"envFrom": [{"secretRef": {"name": "x"}}]})),
            format!("init container c2 with envFrom referencing secret.secretName=\"x\" {but} secret"),
        ),
        (
            json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}),
            format!("imagePullSecrets[1].name=\"x\" {but} imagePullSecret"),
        ),
    ] {
        let got = error(c.create("pods default/", run("p", spec.clone())));
        assert_eq!(got, format!("403 pods \"p\" is forbidden: {want}"), "{spec}");
    }
    c.create("pods default/", run("p", volume("own"))).unwrap();
    let debugger = json!({"name": "d", "image": "i", "env": variable["env"]});
    let patch = json!({"spec": {"ephemeralContainers": [debugger]}});
    let got = error(c.patch(copepod_model::request::PatchType::Strategic, "pods default/p ephemeralcontainers", patch));
    assert!(
        got.ends_with(&format!("ephemeral container d with envVar E referencing secret.secretName=\"x\" {but} secret")),
        "{got}"
    );
    let mut free = run("free", volume("x"));
    free["spec"]["serviceAccountName"] = "default".into();
    c.create("pods default/", free).unwrap();
}
