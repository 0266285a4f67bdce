use copepod_machine::View as _;
use copepod_model::Verb;
use copepod_model::request::Body;
use serde_json::json;

use crate::Attributes;
use crate::testing::{Cluster, error, pod, request, user};

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    let role = |name: &str, rules| json!({"metadata":{"name":name},"rules":rules});
    let binding = |name: &str, kind: &str, role: &str, subject| json!({"metadata":{"name":name},"roleRef":{"kind":kind,"name":role},"subjects":[subject]});
    let rbac = |plural: &str, ns: &str| format!("{plural}.rbac.authorization.k8s.io {ns}");
    let pods = json!([{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","pods/log"]},
        {"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["one"]}]);
    c.create(&rbac("roles", "default/"), role("reader", pods)).unwrap();
    c.create(&rbac("rolebindings", "default/"), binding("r", "Role", "reader", json!({"kind":"User","name":"ann"})))
        .unwrap();
    c.create(
        &rbac("rolebindings", "default/"),
        binding("v", "ClusterRole", "view", json!({"kind":"Group","name":"viewers"})),
    )
    .unwrap();
    let account = json!({"kind":"ServiceAccount","name":"bot","namespace":"default"});
    c.create(&rbac("clusterrolebindings", ""), binding("bot", "ClusterRole", "edit", account)).unwrap();
    c
}

#[test]
fn rules_allow_what_they_say() {
    let c = cluster();
    for (who, groups, verb, what, want) in [
        ("ann", &[][..], Verb::List, "pods default/", true),
        ("ann", &[], Verb::Get, "pods default/p log", true),
        ("ann", &[], Verb::Get, "pods default/p exec", false),
        ("ann", &[], Verb::Delete, "pods default/p", false),
        ("ann", &[], Verb::List, "pods kube-system/", false),
        ("ann", &[], Verb::List, "pods", false),
        ("ann", &[], Verb::Get, "secrets default/one", true),
        ("ann", &[], Verb::Get, "secrets default/two", false),
        ("ann", &[], Verb::List, "secrets default/", false),
        ("bob", &["viewers"], Verb::List, "deployments.apps default/", true),
        ("bob", &["viewers"], Verb::List, "pods.metrics.k8s.io default/", true),
        ("bob", &["viewers"], Verb::List, "pods.metrics.k8s.io", false),
        ("ann", &[], Verb::List, "pods.metrics.k8s.io default/", false),
        ("system:serviceaccount:default:bot", &[], Verb::Get, "nodes.metrics.k8s.io n", true),
        ("bob", &["viewers"], Verb::Get, "namespaces default", true),
        ("bob", &["viewers"], Verb::Get, "namespaces kube-system", false),
        ("bob", &["viewers"], Verb::Get, "secrets default/one", false),
        ("system:serviceaccount:default:bot", &[], Verb::Update, "deployments.apps kube-system/x scale", true),
        ("system:serviceaccount:default:bot", &[], Verb::Create, "roles.rbac.authorization.k8s.io default/", false),
        ("system:serviceaccount:other:bot", &[], Verb::Get, "pods default/p", false),
        ("root", &["system:masters"], Verb::Delete, "nodes n", true),
        ("bob", &["system:authenticated"], Verb::Create, "selfsubjectaccessreviews.authorization.k8s.io", true),
        ("kube-apiserver-kubelet-client", &["system:authenticated"], Verb::Get, "nodes n metrics", true),
        ("kube-apiserver-kubelet-client", &["system:authenticated"], Verb::Create, "nodes n proxy", true),
        ("kube-apiserver-kubelet-client", &["system:authenticated"], Verb::Delete, "nodes n", false),
        ("kube-apiserver-kubelet-client", &["system:authenticated"], Verb::List, "pods", false),
        ("system:node:n", &["system:nodes"], Verb::Create, "tokenreviews.authentication.k8s.io", true),
        ("system:node:n", &["system:nodes"], Verb::Create, "subjectaccessreviews.authorization.k8s.io", true),
        ("bob", &["system:authenticated"], Verb::Create, "subjectaccessreviews.authorization.k8s.io", false),
    ] {
        let mut req = request(verb, what);
        req.user = user(who, groups);
        let authz = c.registry.authorize(&c.tables, &Attributes::of(&req));
        assert_eq!(authz.allowed, want, "{who} {} {what}: {}", verb.as_str(), authz.reason);
    }
    let bob = user("bob", &["system:authenticated"]);
    for (path, want) in [("/version", true), ("/apis/apps/v1", true), ("/metrics", false), ("/healthz", true)] {
        assert_eq!(c.registry.authorize(&c.tables, &Attributes::of_path(&bob, "get", path)).allowed, want, "{path}");
    }
}

/// The names of the default roles and bindings, as `kubectl get` of each lists them in a new cluster of 1.35, but for those of the
/// certificates' signers.
#[test]
fn default_roles_are_upstreams() {
    let c = Cluster::new();
    let names = |resource: &str, namespace: Option<&str>| -> Vec<String> {
        let resource = format!("{resource}.rbac.authorization.k8s.io");
        c.tables.list(&resource, namespace).map(|o| o.name().to_string()).collect()
    };
    let controllers = "attachdetach-controller certificate-controller clusterrole-aggregation-controller cronjob-controller \
        daemon-set-controller deployment-controller disruption-controller endpoint-controller endpointslice-controller \
        endpointslicemirroring-controller ephemeral-volume-controller expand-controller generic-garbage-collector \
        horizontal-pod-autoscaler job-controller legacy-service-account-token-cleaner namespace-controller node-controller \
        persistent-volume-binder pod-garbage-collector pv-protection-controller pvc-protection-controller \
        replicaset-controller replication-controller resource-claim-controller resourcequota-controller \
        root-ca-cert-publisher route-controller selinux-warning-controller service-account-controller \
        service-cidrs-controller service-controller statefulset-controller ttl-after-finished-controller ttl-controller \
        validatingadmissionpolicy-status-controller volumeattributesclass-protection-controller";
    let controllers = controllers.split_whitespace().map(|c| format!("system:controller:{c}"));
    let roles = "admin cluster-admin edit system:aggregate-to-admin system:aggregate-to-edit system:aggregate-to-view \
        system:auth-delegator system:basic-user system:discovery system:heapster system:kube-aggregator \
        system:kube-controller-manager system:kube-dns system:kube-scheduler system:kubelet-api-admin system:monitoring \
        system:node system:node-bootstrapper system:node-problem-detector system:node-proxier \
        system:persistent-volume-provisioner system:public-info-viewer system:service-account-issuer-discovery \
        system:volume-scheduler view";
    let found = names("clusterroles", None);
    for name in roles.split_whitespace().map(String::from).chain(controllers.clone()) {
        assert!(found.contains(&name), "{name}");
    }
    let bindings = "cluster-admin system:basic-user system:discovery system:kube-controller-manager system:kube-dns \
        system:kube-scheduler system:monitoring system:node system:node-proxier system:public-info-viewer \
        system:service-account-issuer-discovery system:volume-scheduler";
    let found = names("clusterrolebindings", None);
    for name in bindings.split_whitespace().map(String::from).chain(controllers) {
        assert!(found.contains(&name), "{name}");
    }
    let local = ["bootstrap-signer", "cloud-provider", "token-cleaner"].map(|c| format!("system:controller:{c}"));
    let locking = ["system::leader-locking-kube-controller-manager", "system::leader-locking-kube-scheduler"];
    let shared: Vec<String> = locking.map(String::from).into_iter().chain(local.clone()).collect();
    let with = |first: &str| [vec![first.to_string()], shared.clone()].concat();
    assert_eq!(names("roles", Some("kube-system")), with("extension-apiserver-authentication-reader"));
    assert_eq!(names("rolebindings", Some("kube-system")), with("system::extension-apiserver-authentication-reader"));
    for resource in ["roles", "rolebindings"] {
        assert_eq!(names(resource, Some("kube-public")), local[..1]);
    }
}

#[test]
fn components_may_do_their_work() {
    let c = Cluster::new();
    for (who, verb, what, want) in [
        ("system:kube-scheduler", Verb::Create, "pods default/p binding", true),
        ("system:kube-scheduler", Verb::Get, "leases.coordination.k8s.io kube-system/kube-scheduler", true),
        ("system:kube-scheduler", Verb::Get, "leases.coordination.k8s.io kube-system/other", false),
        ("system:kube-scheduler", Verb::Update, "persistentvolumeclaims default/c", true),
        ("system:kube-scheduler", Verb::Get, "configmaps kube-system/extension-apiserver-authentication", true),
        ("system:kube-scheduler", Verb::Get, "secrets default/s", false),
        ("system:kube-controller-manager", Verb::List, "secrets", true),
        ("system:kube-proxy", Verb::List, "endpointslices.discovery.k8s.io", true),
        ("system:serviceaccount:kube-system:token-cleaner", Verb::Delete, "secrets kube-system/s", true),
        ("system:serviceaccount:kube-system:token-cleaner", Verb::Delete, "secrets default/s", false),
        ("system:serviceaccount:kube-system:job-controller", Verb::Create, "pods default/", true),
        ("system:serviceaccount:default:job-controller", Verb::Create, "pods default/", false),
        (
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
            Verb::Update,
            "deployments.apps d/w scale",
            true,
        ),
        ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", Verb::Update, "deployments.apps d/w", false),
        (
            "system:serviceaccount:kube-system:bootstrap-signer",
            Verb::Update,
            "configmaps kube-public/cluster-info",
            true,
        ),
    ] {
        let mut req = request(verb, what);
        req.user = user(who, &["system:authenticated"]);
        let authz = c.registry.authorize(&c.tables, &Attributes::of(&req));
        assert_eq!(authz.allowed, want, "{who} {} {what}: {}", verb.as_str(), authz.reason);
    }
}

#[test]
fn answers_say_why() {
    let c = cluster();
    let mut req = request(Verb::List, "pods default/");
    req.user = user("ann", &[]);
    let authz = c.registry.authorize(&c.tables, &Attributes::of(&req));
    assert_eq!(authz.reason, "RBAC: allowed by RoleBinding \"r/default\" of Role \"reader\" to User \"ann\"");
    for (verb, what, want) in [
        (
            Verb::List,
            "pods d/",
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"d\"",
        ),
        (
            Verb::Get,
            "nodes n",
            "nodes \"n\" is forbidden: User \"x\" cannot get resource \"nodes\" in API group \"\" at the cluster scope",
        ),
        (
            Verb::Update,
            "deployments.apps d/w scale",
            "deployments.apps \"w\" is forbidden: User \"x\" cannot update resource \"deployments/scale\" in API group \"apps\" in \
             the namespace \"d\"",
        ),
    ] {
        let mut req = request(verb, what);
        req.user = user("x", &[]);
        assert_eq!(Attributes::of(&req).forbidden("").message, want);
    }
    let x = user("x", &[]);
    let status = Attributes::of_path(&x, "get", "/metrics").forbidden("");
    assert_eq!((status.code, &*status.message), (403, "forbidden: User \"x\" cannot get path \"/metrics\""));
}

#[test]
fn roles_aggregate_what_is_labelled_later() {
    let mut c = cluster();
    let mut req = request(Verb::List, "widgets.example.com default/");
    req.user = user("bob", &["viewers"]);
    assert!(!c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed);
    let role = json!({"metadata":{"name":"widgets","labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},
        "rules":[{"verbs":["list"],"apiGroups":["example.com"],"resources":["widgets"]}]});
    c.create("clusterroles.rbac.authorization.k8s.io", role).unwrap();
    assert!(c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed);
    // edit takes view, so it has it too.
    req.user = user("system:serviceaccount:default:bot", &[]);
    assert!(c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed);
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let mut c = cluster();
    let ann = user("ann", &["g"]);
    let mut send = |what: &str, object| {
        let mut req = request(Verb::Create, what);
        req.user = ann.clone();
        req.body = Body::Object(object);
        error(c.send(&req))
    };
    let roles = "roles.rbac.authorization.k8s.io default/";
    let rules = |verb: &str| json!([{"verbs":[verb],"apiGroups":[""],"resources":["pods"]}]);
    assert!(send(roles, json!({"metadata":{"name":"a"},"rules":rules("get")})).starts_with("201"));
    assert_eq!(
        send(roles, json!({"metadata":{"name":"b"},"rules":rules("delete")})),
        "403 roles.rbac.authorization.k8s.io \"b\" is forbidden: user \"ann\" (groups=[\"g\"]) is attempting to grant RBAC \
         permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    let bindings = "rolebindings.rbac.authorization.k8s.io default/";
    let binding =
        |name: &str, kind: &str, role: &str| json!({"metadata":{"name":name},"roleRef":{"kind":kind,"name":role}});
    assert!(send(bindings, binding("a", "Role", "reader")).starts_with("201"));
    assert!(send(bindings, binding("b", "ClusterRole", "admin")).starts_with("403"));
    assert_eq!(
        send(bindings, binding("c", "ClusterRole", "nope")),
        "404 clusterroles.rbac.authorization.k8s.io \"nope\" not found"
    );
    // Whoever may bind a role need not hold it.
    let bind = json!({"metadata":{"name":"binder"},"rules":[{"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],
        "resources":["clusterroles"],"resourceNames":["admin"]}]});
    c.create(roles, bind).unwrap();
    c.create(
        bindings,
        json!({"metadata":{"name":"binder"},"roleRef":{"kind":"Role","name":"binder"},
        "subjects":[{"kind":"User","name":"ann"}]}),
    )
    .unwrap();
    let mut req = request(Verb::Create, bindings);
    req.user = ann.clone();
    req.body = Body::Object(binding("b", "ClusterRole", "admin"));
    assert_eq!(c.send(&req).unwrap().0, 201);
}

#[test]
fn an_agent_reads_what_its_pods_refer_to() {
    let mut c = cluster();
    let mut p = pod("p");
    p["spec"]["volumes"] = json!([{"name":"v","secret":{"secretName":"mine"}},
        {"name":"w","persistentVolumeClaim":{"claimName":"data"}}]);
    c.create("pods default/", p).unwrap();
    c.create("pods default/p binding", json!({"target":{"name":"n1"}})).unwrap();
    for (node, verb, what, want) in [
        ("n1", Verb::Get, "secrets default/mine", true),
        ("n2", Verb::Get, "secrets default/mine", false),
        ("n1", Verb::Get, "secrets default/other", false),
        ("n1", Verb::List, "secrets default/", false),
        ("n1", Verb::Watch, "pods", true),
        ("n1", Verb::Get, "persistentvolumeclaims default/theirs", true),
        ("n1", Verb::Patch, "persistentvolumeclaims default/data status", true),
        ("n2", Verb::Patch, "persistentvolumeclaims default/data status", false),
        ("n1", Verb::Update, "persistentvolumeclaims default/theirs status", false),
        ("n1", Verb::Update, "leases.coordination.k8s.io kube-node-lease/n1", true),
        ("n1", Verb::Update, "leases.coordination.k8s.io kube-node-lease/n2", false),
        ("n1", Verb::Delete, "deployments.apps default/x", false),
    ] {
        let mut req = request(verb, what);
        req.user = user(&format!("system:node:{node}"), &["system:nodes"]);
        assert_eq!(c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed, want, "{node} {what}");
    }
    let class = json!({"metadata":{"name":"copepod"},"spec":{"controllerName":"copepod.dev/gateway-controller"}});
    c.create("gatewayclasses.gateway.networking.k8s.io", class).unwrap();
    let refs = json!([{"name":"cert"}, {"name":"cert","namespace":"kube-system"}]);
    let gateway = json!({"metadata":{"name":"g"},"spec":{"gatewayClassName":"copepod",
        "listeners":[{"name":"a","port":443,"protocol":"HTTPS","tls":{"certificateRefs":refs}}]}});
    c.create("gateways.gateway.networking.k8s.io default/", gateway).unwrap();
    let reads = |c: &Cluster, what: &str| {
        let mut req = request(Verb::Get, what);
        req.user = user("system:node:n2", &["system:nodes"]);
        c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed
    };
    assert!(reads(&c, "secrets default/cert") && !reads(&c, "secrets default/other"));
    assert!(!reads(&c, "secrets kube-system/cert"), "nobody in that namespace permits it");
    let grant = json!({"metadata":{"name":"g"},"spec":{
        "from":[{"group":"gateway.networking.k8s.io","kind":"Gateway","namespace":"default"}],
        "to":[{"group":"","kind":"Secret","name":"cert"}]}});
    let mut req = request(Verb::Create, "referencegrants.gateway.networking.k8s.io kube-system/");
    req.version = "v1beta1".into();
    req.body = Body::Object(grant);
    c.send(&req).unwrap();
    assert!(reads(&c, "secrets kube-system/cert"));
    let mut req = request(Verb::Watch, "pods");
    req.user = user("system:node:n1", &[]);
    assert!(!c.registry.authorize(&c.tables, &Attributes::of(&req)).allowed, "the group makes the agent");
}

const INVALID: &str = "422 .authorization.k8s.io \"\" is invalid:";
const NOBODY: &str = "spec.user: Invalid value: \"\": at least one of user or group must be specified";

#[test]
fn reviews_that_are_not_valid_get_field_errors() {
    let mut c = cluster();
    let mut ask = |kind: &str, object| {
        let namespace = if kind == "local" { " default/" } else { "" };
        let mut req = request(Verb::Create, &format!("{kind}subjectaccessreviews.authorization.k8s.io{namespace}"));
        req.user = user("ann", &["system:authenticated"]);
        req.body = Body::Object(object);
        c.send(&req)
    };
    let resource = json!({"verb":"list","resource":"pods","namespace":"default"});
    let path = json!({"path":"/x"});
    let both = "spec.nonResourceAttributes: Invalid value: {\"path\":\"/x\"}: cannot be specified in combination with \
                resourceAttributes";
    let none = "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                resourceAttributes must be specified";
    let not_here = "spec.nonResourceAttributes: Invalid value: {\"path\":\"/x\"}: disallowed on this kind of request";
    for (kind, spec, errors) in [
        ("self", json!({}), none.to_string()),
        ("self", json!({"resourceAttributes":resource,"nonResourceAttributes":path}), both.to_string()),
        ("", json!({}), format!("[{none}, {NOBODY}]")),
        ("", json!({"user":"ann"}), none.to_string()),
        ("", json!({"groups":["g"],"resourceAttributes":resource,"nonResourceAttributes":path}), both.to_string()),
        ("", json!({"resourceAttributes":resource}), NOBODY.to_string()),
        ("", json!({"user":"","groups":[],"nonResourceAttributes":path}), NOBODY.to_string()),
        ("local", json!({"user":"ann"}), none.to_string()),
        ("local", json!({"user":"ann","nonResourceAttributes":path}), not_here.to_string()),
        (
            "local",
            json!({"user":"ann","resourceAttributes":resource,"nonResourceAttributes":path}),
            format!("[{both}, {not_here}]"),
        ),
    ] {
        let got = ask(kind, json!({"spec":spec}));
        let details = got.as_ref().unwrap_err().details.as_ref().unwrap();
        assert!(!details.causes.is_empty() && details.causes.iter().all(|c| c.reason == "FieldValueInvalid"), "{kind}");
        assert_eq!(error(got), format!("{INVALID} {errors}"), "{kind}");
    }
}

#[test]
fn reviews_have_no_metadata_but_what_is_the_systems() {
    let mut c = cluster();
    let mut ask = |kind: &str, metadata: serde_json::Value| {
        let namespace = if kind == "local" { " default/" } else { "" };
        let mut req = request(Verb::Create, &format!("{kind}subjectaccessreviews.authorization.k8s.io{namespace}"));
        req.user = user("ann", &["system:authenticated"]);
        let resource = json!({"verb":"list","resource":"pods","namespace":"default"});
        req.body = Body::Object(json!({"metadata":metadata,"spec":{"user":"ann","resourceAttributes":resource}}));
        c.send(&req)
    };
    for (kind, metadata, error_text) in [
        ("", json!({"name":"x"}), r#"{"name":"x"}: must be empty"#),
        ("self", json!({"labels":{"a":"b"}}), r#"{"labels":{"a":"b"}}: must be empty"#),
        ("", json!({"generation":1,"uid":"u"}), r#"{"generation":1}: must be empty"#),
        (
            "local",
            json!({"annotations":{"a":"b"}}),
            r#"{"annotations":{"a":"b"},"namespace":"default"}: must be empty except for namespace"#,
        ),
    ] {
        let want = format!("{INVALID} metadata: Invalid value: {error_text}");
        assert_eq!(error(ask(kind, metadata)), want, "{kind}");
    }
    let other = "400 the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(error(ask("local", json!({"namespace":"kube-system"}))), other);
    for (kind, metadata, left) in [
        ("", json!({"creationTimestamp":null,"namespace":"default","uid":"u"}), json!({})),
        (
            "self",
            json!({"managedFields":[{}],"name":"","labels":{}}),
            json!({"managedFields":[{}],"name":"","labels":{}}),
        ),
        ("local", json!({"namespace":"default"}), json!({"namespace":"default"})),
        ("local", json!(null), json!({"namespace":"default"})),
    ] {
        let (code, review) = ask(kind, metadata).unwrap();
        assert_eq!((code, &review["metadata"], &review["status"]["allowed"]), (201, &left, &json!(true)), "{kind}");
    }
}

#[test]
fn reviews_answer_without_storing() {
    let mut c = cluster();
    let mut ask = |resource: &str, object| {
        let mut req = request(Verb::Create, resource);
        req.user = user("ann", &["system:authenticated"]);
        req.body = Body::Object(object);
        c.send(&req)
    };
    let access = "selfsubjectaccessreviews.authorization.k8s.io";
    let attributes =
        |verb: &str| json!({"spec":{"resourceAttributes":{"verb":verb,"resource":"pods","namespace":"default"}}});
    let (code, v) = ask(access, attributes("list")).unwrap();
    assert_eq!((code, v["status"]["allowed"].as_bool()), (201, Some(true)));
    assert_eq!(ask(access, attributes("delete")).unwrap().1["status"], json!({"allowed": false}));
    let (_, v) = ask(
        "subjectaccessreviews.authorization.k8s.io",
        json!({"spec":{"groups":["viewers"],
        "resourceAttributes":{"verb":"get","resource":"pods","namespace":"default"}}}),
    )
    .unwrap();
    assert_eq!(v["status"]["allowed"], true);
    let local = "localsubjectaccessreviews.authorization.k8s.io default/";
    let of = |user: &str, verb: &str, namespace: &str| json!({"spec":{"user":user,"resourceAttributes":{"verb":verb,"resource":"pods","namespace":namespace}}});
    let (code, v) = ask(local, of("ann", "list", "default")).unwrap();
    assert_eq!((code, v["status"]["allowed"].as_bool()), (201, Some(true)));
    assert_eq!(ask(local, of("ann", "delete", "default")).unwrap().1["status"], json!({"allowed": false}));
    assert_eq!(ask(local, of("bob", "list", "default")).unwrap().1["status"], json!({"allowed": false}));
    for other in ["kube-system", ""] {
        let got = error(ask(local, of("ann", "list", other)));
        let want = format!(
            "{INVALID} spec.resourceAttributes.namespace: Invalid value: \"{other}\": must match metadata.namespace"
        );
        assert_eq!(got, want);
    }
    let nobody = json!({"spec":{"resourceAttributes":{"verb":"list","resource":"pods","namespace":"default"}}});
    assert_eq!(error(ask(local, nobody)), format!("{INVALID} {NOBODY}"));
    let (_, v) = ask("selfsubjectrulesreviews.authorization.k8s.io", json!({"spec":{"namespace":"default"}})).unwrap();
    let rules = v["status"]["resourceRules"].as_array().unwrap();
    assert!(
        rules.contains(&json!({"verbs":["get","list"],"apiGroups":[""],"resources":["pods","pods/log"]})),
        "{rules:?}"
    );
    let (_, v) = ask("selfsubjectreviews.authentication.k8s.io", json!({})).unwrap();
    assert_eq!(v["status"]["userInfo"], json!({"username":"ann","groups":["system:authenticated"]}));
}
