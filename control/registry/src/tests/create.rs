use copepod_model::request::{Body, FieldValidation};
use copepod_model::{Key, UserInfo, Verb};
use copepod_state::{Op, Require};
use serde_json::{Value, json};

use crate::testing::{Cluster, deployment, error, pod, request, user};
use crate::{Decision, Env, Reply};

#[test]
fn a_create_fills_in_what_the_server_owns() {
    let mut c = Cluster::new();
    let (code, v) = c.create("deployments.apps default/", deployment("web")).unwrap();
    assert_eq!(code, 201);
    let meta = &v["metadata"];
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["uid"].as_str().unwrap().len(), 36);
    assert_eq!(meta["creationTimestamp"], c.now.rfc3339());
    assert_eq!(meta["generation"], 1);
    assert_eq!((v["apiVersion"].as_str(), v["kind"].as_str()), (Some("apps/v1"), Some("Deployment")));
    assert_eq!(v["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(v["status"], json!({}));
    assert_eq!(meta["managedFields"][0]["manager"], "test");
    let stored = c.value("deployments.apps default/web");
    assert_eq!(stored, v);
    assert_eq!(
        stored["metadata"]["resourceVersion"],
        c.find("deployments.apps default/web").unwrap().revision.to_string()
    );
}

#[test]
fn an_object_in_which_nobody_manages_anything_says_nothing_of_managers() {
    let mut c = Cluster::new();
    let (_, v) = c.create("configmaps default/", json!({"metadata":{"name":"empty"}})).unwrap();
    assert!(v["metadata"].get("managedFields").is_none(), "{v}");
}

#[test]
fn a_clients_status_and_system_fields_do_not_count() {
    let mut c = Cluster::new();
    let mut d = deployment("web");
    d["status"] = json!({"replicas": 7});
    d["metadata"]["uid"] = "mine".into();
    d["metadata"]["generation"] = 9.into();
    d["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let (_, v) = c.create("deployments.apps default/", d).unwrap();
    assert_eq!(v["status"], json!({}));
    assert_ne!(v["metadata"]["uid"], "mine");
    assert_eq!(v["metadata"]["generation"], 1);
    assert!(v["metadata"].get("deletionTimestamp").is_none());
}

#[test]
fn bad_creates_get_upstreams_errors() {
    let mut c = Cluster::new();
    c.create("configmaps default/", json!({"metadata":{"name":"a"}})).unwrap();
    c.delete("namespaces kube-node-lease").unwrap();
    for (what, object, want) in [
        ("configmaps default/", json!({"metadata":{"name":"a"}}), "409 configmaps \"a\" already exists"),
        ("configmaps nope/", json!({"metadata":{"name":"a"}}), "404 namespaces \"nope\" not found"),
        (
            "configmaps kube-node-lease/",
            json!({"metadata":{"name":"a"}}),
            "403 configmaps \"a\" is forbidden: unable to create new content in namespace kube-node-lease because it is being \
             terminated",
        ),
        (
            "configmaps default/",
            json!({"metadata":{"name":"b","namespace":"other"}}),
            "400 the namespace of the provided object does not match the namespace sent on the request",
        ),
        ("configmaps", json!({"metadata":{"name":"b"}}), "400 an empty namespace may not be set during creation"),
        (
            "configmaps default/",
            json!({"metadata":{}}),
            "422 ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "configmaps default/",
            json!({"metadata":{"name":"b","resourceVersion":"1"}}),
            "400 resourceVersion should not be set on objects to be created",
        ),
        (
            "configmaps default/",
            json!({"apiVersion":"apps/v1","metadata":{"name":"b"}}),
            "400 the API version in the data (apps/v1) does not match the expected API version (v1)",
        ),
        (
            "configmaps default/",
            json!({"metadata":{"name":"B"}}),
            "422 ConfigMap \"B\" is invalid: metadata.name: Invalid value: \"B\": a lowercase RFC 1123 subdomain",
        ),
        ("configmaps default/", json!([]), "400 "),
        (
            "configmaps default/",
            json!({"data":{"a":1}}),
            "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json:",
        ),
        ("nothings default/", json!({}), "404 the server could not find the requested resource"),
        ("configmaps default/ status", json!({}), "404 the server could not find the requested resource"),
        (
            "pods default/",
            json!({"metadata":{"name":"p"},"spec":{"serviceAccountName":"x","containers":[{"name":"c","image":"i"}]}}),
            "403 pods \"p\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found",
        ),
        ("deployments.apps default/ scale", json!({}), "405 "),
    ] {
        let got = error(c.create(what, object.clone()));
        assert!(got.starts_with(want), "{what} {object}\n got {got}\nwant {want}");
    }
    let terminating = c.create("configmaps kube-node-lease/", json!({"metadata":{"name":"a"}})).unwrap_err();
    assert_eq!(terminating.details.unwrap().causes[0].reason, "NamespaceTerminating");
}

#[test]
fn a_pod_takes_its_accounts_pull_secrets_unless_it_has_some() {
    let mut c = Cluster::new();
    let account = json!({"metadata": {"name": "a"}, "imagePullSecrets": [{"name": "s"}]});
    c.create("serviceaccounts default/", account).unwrap();
    for (own, want) in [(json!([]), json!([{"name": "s"}])), (json!([{"name": "own"}]), json!([{"name": "own"}]))] {
        let spec =
            json!({"serviceAccountName": "a", "imagePullSecrets": own, "containers": [{"name": "c", "image": "i"}]});
        let (_, pod) = c.create("pods default/", json!({"metadata": {"generateName": "p"}, "spec": spec})).unwrap();
        assert_eq!(pod["spec"]["imagePullSecrets"], want);
    }
}

#[test]
fn unknown_fields_are_ignored_reported_or_refused() {
    let mut c = Cluster::new();
    let mut req = request(Verb::Create, "configmaps default/");
    for (i, body) in [
        Body::Json(r#"{"metadata":{"name":"a","foo":1},"data":{"x":"y","x":"z"}}"#.into()),
        Body::Object(json!({"metadata":{"name":"b","foo":1}})),
    ]
    .into_iter()
    .enumerate()
    {
        req.body = body;
        req.field_validation = FieldValidation::Strict;
        let got = error(c.send(&req));
        let start = "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ";
        assert!(got.starts_with(start) && got.contains("unknown field \"metadata.foo\""), "{got}");
        assert_eq!(got.contains("duplicate field \"data.x\""), i == 0, "{got}");
        req.field_validation = FieldValidation::Warn;
        let mut env = Env::new(&c.tables, c.now, &mut c.ids);
        let Decision::Write(write) = c.registry.decide(&mut env, &req).unwrap() else { panic!() };
        assert_eq!(write.warnings.len(), 2 - i);
        assert!(write.object["metadata"].get("foo").is_none());
    }
}

#[test]
fn names_are_generated_until_one_is_free() {
    let mut c = Cluster::new();
    let (_, v) = c.create("configmaps default/", json!({"metadata":{"generateName":"a-"}})).unwrap();
    let name = v["metadata"]["name"].as_str().unwrap().to_string();
    assert!(name.len() == 7 && name.starts_with("a-"), "{name}");
    // The same ids again: the name is taken now, and the next one is drawn.
    c.ids = copepod_machine::SeededIds(1);
    let mut fresh = Cluster::new();
    let (_, first) = fresh.create("configmaps default/", json!({"metadata":{"generateName":"a-"}})).unwrap();
    assert_eq!(first["metadata"]["name"], name.as_str());
    let long = format!("{}-", "x".repeat(80));
    let (_, v) = c.create("configmaps default/", json!({"metadata":{"generateName":long}})).unwrap();
    assert_eq!(v["metadata"]["name"].as_str().unwrap().len(), 63);
}

#[test]
fn a_dry_run_answers_and_writes_nothing() {
    let mut c = Cluster::new();
    let before = copepod_machine::View::revision(&c.tables);
    let mut req = request(Verb::Create, "pods default/");
    req.body = Body::Object(pod("p"));
    req.dry_run = true;
    let (code, v) = c.send(&req).unwrap();
    assert_eq!((code, v["status"]["phase"].as_str()), (201, Some("Pending")));
    assert_eq!(copepod_machine::View::revision(&c.tables), before);
}

#[test]
fn the_transaction_requires_what_the_decision_read() {
    let mut c = Cluster::new();
    let mut req = request(Verb::Create, "configmaps default/");
    req.body = Body::Json(r#"{"metadata":{"name":"a"}}"#.into());
    let mut env = Env::new(&c.tables, c.now, &mut c.ids);
    let Decision::Write(write) = c.registry.decide(&mut env, &req).unwrap() else { panic!() };
    let namespace = c.find("namespaces default").unwrap();
    assert_eq!(
        write.txn.require,
        [
            Require::At(namespace.key.clone(), namespace.revision),
            Require::Absent(Key::new("configmaps", "default", "a"))
        ]
    );
    assert_eq!(write.reply, Reply::Stored);
    assert_eq!(write.retry.exhausted().code, 409);
}

#[test]
fn secrets_are_sealed_before_they_are_proposed() {
    let mut c = Cluster::new();
    let mut req = request(Verb::Create, "secrets default/");
    req.body = Body::Json(r#"{"metadata":{"name":"a"},"stringData":{"k":"plain"},"data":{"j":"c2VjcmV0"}}"#.into());
    let mut env = Env::new(&c.tables, c.now, &mut c.ids);
    let Decision::Write(write) = c.registry.decide(&mut env, &req).unwrap() else { panic!() };
    let Op::Put { body, .. } = &write.txn.ops[0] else { panic!() };
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(!body.contains("cGxhaW4") && !body.contains("c2VjcmV0") && !body.contains("plain"), "{body}");
    assert_eq!(write.object["data"], json!({"k":"cGxhaW4=","j":"c2VjcmV0"}));
    c.send(&req).unwrap();
    assert_eq!(c.value("secrets default/a")["data"], json!({"k":"cGxhaW4=","j":"c2VjcmV0"}));
    assert!(c.find("secrets default/a").unwrap().value()["data"]["k"].as_str().unwrap().starts_with("sealed:v1:"));
    // The same again changes nothing, although sealing would give other bytes.
    let revision = copepod_machine::View::revision(&c.tables);
    c.update("secrets default/a", json!({"metadata":{"name":"a"},"data":{"k":"cGxhaW4=","j":"c2VjcmV0"}})).unwrap();
    assert_eq!(copepod_machine::View::revision(&c.tables), revision);
}

#[test]
fn an_ingress_gets_the_default_class() {
    let mut c = Cluster::new();
    let class = |name: &str, default: &str| {
        json!({"metadata":{"name":name,"annotations":{"ingressclass.kubernetes.io/is-default-class":default}},
            "spec":{"controller":"example.com/x"}})
    };
    let ingress = |name: &str| json!({"metadata":{"name":name},"spec":{"defaultBackend":{"service":{"name":"s","port":{"number":1}}}}});
    let (_, v) = c.create("ingresses.networking.k8s.io default/", ingress("none")).unwrap();
    assert!(v["spec"].get("ingressClassName").is_none());
    c.create("ingressclasses.networking.k8s.io", class("a", "false")).unwrap();
    c.create("ingressclasses.networking.k8s.io", class("b", "true")).unwrap();
    c.create("ingressclasses.networking.k8s.io", class("c", "true")).unwrap();
    let (_, v) = c.create("ingresses.networking.k8s.io default/", ingress("a")).unwrap();
    assert_eq!(v["spec"]["ingressClassName"], "b");
}

#[test]
fn an_agent_touches_only_its_own() {
    let mut c = Cluster::new();
    c.create("nodes", json!({"metadata":{"name":"n1"}})).unwrap();
    c.create("nodes", json!({"metadata":{"name":"n2"}})).unwrap();
    c.create("pods default/", pod("mine")).unwrap();
    c.create("pods default/", pod("other")).unwrap();
    for (p, n) in [("mine", "n1"), ("other", "n2")] {
        c.create(&format!("pods default/{p} binding"), json!({"target":{"name":n}})).unwrap();
    }
    let agent: std::sync::Arc<UserInfo> = user("system:node:n1", &["system:nodes", "system:authenticated"]);
    for (verb, what, want) in [
        (Verb::Update, "nodes n1 status", "200"),
        (
            Verb::Update,
            "nodes n2 status",
            "403 nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"",
        ),
        (Verb::Update, "pods default/mine status", "200"),
        (
            Verb::Update,
            "pods default/other status",
            "403 pods \"other\" is forbidden: node \"n1\" can only update pod status for pods",
        ),
        (Verb::Delete, "pods default/other", "403 pods \"other\" is forbidden: node \"n1\" can only delete pods"),
        (Verb::Delete, "pods default/mine", "200"),
    ] {
        let mut req = request(verb, what);
        req.user = agent.clone();
        let whole = what.trim_end_matches(" status");
        req.body = Body::Object(c.value(whole));
        let got = error(c.send(&req));
        assert!(got.starts_with(want), "{what}\n got {got}\nwant {want}");
    }
}

#[test]
fn an_agent_gets_tokens_for_its_own_pods_only() {
    let mut c = Cluster::new();
    let vault = json!([{"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "t", "audience": "vault"}}, {"configMap": {"name": "m"}}]}}]);
    for (name, node, volumes) in [("mine", "n1", &vault), ("other", "n2", &vault)] {
        let mut object = pod(name);
        object["spec"]["volumes"] = volumes.clone();
        c.create("pods default/", object).unwrap();
        c.create(&format!("pods default/{name} binding"), json!({"target": {"name": node}})).unwrap();
    }
    let uid = |c: &Cluster, name: &str| c.value(&format!("pods default/{name}"))["metadata"]["uid"].clone();
    let (mine, other) = (uid(&c, "mine"), uid(&c, "other"));
    let bound = |name: &str, uid: &Value| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    let asks = |c: &Cluster, who: &str, spec: Value| {
        let mut req = request(Verb::Create, "serviceaccounts default/default token");
        req.user = user(who, if who.starts_with("system:node:") { &["system:nodes"] } else { &[] });
        match c.registry.admit_token(&c.tables, &req, &spec) {
            Ok(()) => "200".to_string(),
            Err(e) => format!("{} {}", e.code, e.message),
        }
    };
    let forbidden = |why: &str| format!("403 serviceaccounts \"default\" is forbidden: {why}");
    let unbound = "node requested token not bound to a pod";
    let stale = "the UID in the bound object reference (x) does not match the UID in record. The object might have been \
        deleted and then recreated";
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "name": "mine", "uid": mine});
    for (reference, audiences, want) in [
        (bound("mine", &mine), json!([]), "200".to_string()),
        (bound("mine", &mine), json!(["vault"]), "200".into()),
        (json!(null), json!([]), forbidden(unbound)),
        (secret, json!([]), forbidden(unbound)),
        (bound("mine", &json!("")), json!([]), forbidden("node requested token with a pod binding without a uid")),
        (bound("none", &mine), json!([]), "404 pods \"none\" not found".into()),
        (bound("mine", &json!("x")), json!([]), forbidden(stale)),
        (
            bound("other", &other),
            json!([]),
            forbidden("node requested token bound to a pod scheduled on a different node"),
        ),
        (bound("mine", &mine), json!(["vault", "b"]), forbidden("node may only request 0 or 1 audiences")),
        (
            bound("mine", &mine),
            json!(["b"]),
            forbidden(
                "audience \"b\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this \
                 audience",
            ),
        ),
    ] {
        let spec = json!({"boundObjectRef": reference, "audiences": audiences});
        assert_eq!(asks(&c, "system:node:n1", spec.clone()), want, "{spec}");
        assert_eq!(asks(&c, "ann", spec), "200", "others are not its business");
    }
    let role = json!({"metadata": {"name": "aud"}, "rules": [
        {"apiGroups": [""], "resources": ["b"], "verbs": ["request-serviceaccounts-token-audience"]}]});
    c.create("clusterroles.rbac.authorization.k8s.io", role).unwrap();
    let binding = json!({"metadata": {"name": "aud"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "aud"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}]});
    c.create("clusterrolebindings.rbac.authorization.k8s.io", binding).unwrap();
    let spec = json!({"boundObjectRef": bound("mine", &mine), "audiences": ["b"]});
    assert_eq!(asks(&c, "system:node:n1", spec), "200", "who is told to may have others");
}

#[test]
fn a_pods_containers_get_the_token_of_their_account() {
    let mut c = Cluster::new();
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let own = json!([{"name": "v", "mountPath": path}]);
    let spec = json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i", "volumeMounts": own}],
        "initContainers": [{"name": "e", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]});
    let (_, pod) = c.create("pods default/", json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let volume = &pod["spec"]["volumes"][1];
    let name = volume["name"].as_str().unwrap();
    assert_eq!(name.len(), "kube-api-access-".len() + 5, "{name}");
    assert_eq!(
        volume["projected"]["sources"][0],
        json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}})
    );
    let mount = json!([{"name": name, "readOnly": true, "mountPath": path}]);
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], mount);
    assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"], "v", "what is there stays");

    let bare = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]});
    let (_, pod) = c.create("pods default/", json!({"metadata": {"name": "q"}, "spec": bare})).unwrap();
    assert!(pod["spec"].get("volumes").is_none(), "{pod}");
    let account = json!({"metadata": {"name": "shy"}, "automountServiceAccountToken": false});
    c.create("serviceaccounts default/", account).unwrap();
    for (name, wanted, count) in [("r", json!(null), 0), ("s", json!(true), 1)] {
        let mut spec = json!({"serviceAccountName": "shy", "containers": [{"name": "c", "image": "i"}]});
        spec["automountServiceAccountToken"] = wanted;
        let (_, pod) = c.create("pods default/", json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        assert_eq!(pod["spec"]["volumes"].as_array().map_or(0, Vec::len), count, "{pod}");
        assert!(pod["spec"].get("initContainers").is_none(), "a list that was only looked for is not there");
    }
}
