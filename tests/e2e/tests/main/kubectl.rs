//! kubectl, for what it can do with the kinds that there are.

use e2e::{Cluster, until};

#[test]
fn creates_get_described_and_deleted() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    // These send protobuf and do not fall back.
    c.ok(&["create", "namespace", "x"]);
    c.ok(&["create", "deployment", "web", "--image=file://examples/hello/hello.wasm", "--port=8080", "-n", "x"]);
    c.ok(&["create", "configmap", "c", "--from-literal=a=b", "-n", "x"]);
    c.ok(&["create", "secret", "generic", "s", "--from-literal=password=hunter2", "-n", "x"]);
    c.ok(&["create", "serviceaccount", "robot", "-n", "x"]);
    c.ok(&["create", "role", "r", "--verb=get,list", "--resource=pods", "-n", "x"]);
    c.ok(&["create", "rolebinding", "rb", "--role=r", "--serviceaccount=x:robot", "-n", "x"]);
    c.ok(&["create", "clusterrolebinding", "crb", "--clusterrole=view", "--serviceaccount=x:robot"]);
    c.ok(&["create", "ingress", "i", "--rule=a.localhost/*=web:80", "-n", "x"]);
    c.ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080", "-n", "x"]);
    c.ok(&["rollout", "status", "deployment/web", "-n", "x", "--timeout=60s"]);
    let wide = c.ok(&["get", "pods,deployments,services,nodes,ingresses", "-A", "-o", "wide"]);
    assert!(wide.contains("1/1") && wide.contains("Running") && wide.contains("10.244."), "{wide}");
    let all = c.ok(&["get", "all", "-n", "x"]);
    assert!(all.contains("deployment.apps/web") && all.contains("replicaset.apps/web-"), "{all}");
    let described = c.ok(&["describe", "deployment", "web", "-n", "x"]);
    assert!(described.contains("ScalingReplicaSet") && described.contains("MinimumReplicasAvailable"), "{described}");
    let described = c.ok(&["describe", "pods", "-n", "x"]);
    assert!(described.contains("Started container") || described.contains("Started"), "{described}");
    c.ok(&["describe", "node"]);
    c.ok(&["describe", "service", "web", "-n", "x"]);
    assert_eq!(c.ok(&["get", "secret", "s", "-n", "x", "-o", "jsonpath={.data.password}"]), "aHVudGVyMg==");
    if c.kubectl_is(28) {
        tokens(&c);
    }
    assert!(c.ok(&["auth", "can-i", "create", "pods"]).contains("yes"));
    assert!(c.ok(&["explain", "deployment.spec.strategy"]).contains("rollingUpdate"));
    assert!(c.ok(&["api-resources"]).contains("deploy"));
    c.ok(&["delete", "namespace", "x", "--timeout=60s"]);
    assert!(c.fails(&["get", "namespace", "x"]).contains("NotFound"));
    let left = c.ok(&["get", "pods,deployments,configmaps,secrets,services,ingresses", "-n", "x", "-o", "name"]);
    assert_eq!(left, "");
}

fn tokens(c: &Cluster) {
    if !c.kubectl_is(24) {
        return;
    }
    let token = c.ok(&["create", "token", "robot", "-n", "x"]);
    let token = token.trim();
    assert!(c.ok(&["--token", token, "get", "pods", "-n", "x"]).contains("Running"));
    let refused = c.fails(&[
        "--token",
        token,
        "--kubeconfig",
        "/dev/null",
        "-s",
        &c.api,
        "--insecure-skip-tls-verify",
        "delete",
        "pods",
        "--all",
        "-n",
        "x",
    ]);
    assert!(refused.contains("forbidden") && refused.contains("system:serviceaccount:x:robot"), "{refused}");
    assert!(c.ok(&["auth", "whoami"]).contains("kubernetes-admin"));
}

#[test]
fn apply_edit_patch_label_and_rollback() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    let same = c.ok(&["apply", "-f", "examples/hello/hello.yaml"]);
    assert!(same.contains("deployment.apps/hello"), "{same}");
    assert!(c.ok(&["apply", "-f", "examples/hello/hello.yaml"]).contains("unchanged"));
    c.ok(&["label", "deployment", "hello", "team=a"]);
    c.ok(&["annotate", "deployment", "hello", "note=x"]);
    c.ok(&["patch", "deployment", "hello", "-p", r#"{"spec":{"minReadySeconds":1}}"#]);
    c.ok(&["patch", "deployment", "hello", "--type=merge", "-p", r#"{"spec":{"minReadySeconds":0}}"#]);
    c.ok(&[
        "patch",
        "deployment",
        "hello",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/revisionHistoryLimit","value":5}]"#,
    ]);
    c.ok(&["scale", "deployment/hello", "--replicas=5"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(c.ok(&["get", "deployment", "hello", "-o", "jsonpath={.status.readyReplicas}"]), "5");
    c.ok(&["scale", "deployment/hello", "--replicas=1"]);
    until("four pods are gone", || (c.ok(&["get", "pods", "-o", "name"]).lines().count() == 1).then_some(()));
    c.ok(&["set", "env", "deployment/hello", "GREETING=two"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert!(c.get("hello.localhost", "/env").1.contains("GREETING=two"));
    let history = c.ok(&["rollout", "history", "deployment/hello"]);
    assert!(history.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2, "{history}");
    c.ok(&["rollout", "undo", "deployment/hello"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    until("the first template serves again", || {
        (!c.get("hello.localhost", "/env").1.contains("GREETING")).then_some(())
    });
    c.ok(&["rollout", "restart", "deployment/hello"]);
    c.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    c.ok(&["cordon", "copepod"]);
    assert!(c.ok(&["get", "nodes"]).contains("SchedulingDisabled"));
    c.ok(&["uncordon", "copepod"]);
    c.ok(&["delete", "-f", "examples/hello/hello.yaml", "--timeout=60s"]);
    until("the pods are gone", || c.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}

#[test]
fn bad_input_gets_the_errors_of_kubernetes() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    assert!(c.fails(&["get", "pod", "nope"]).contains("Error from server (NotFound): pods \"nope\" not found"));
    assert!(c.fails(&["get", "nonsense"]).contains("the server doesn't have a resource type"));
    c.ok(&["create", "namespace", "x"]);
    assert!(c.fails(&["create", "namespace", "x"]).contains("(AlreadyExists): namespaces \"x\" already exists"));
    assert!(c.fails(&["create", "namespace", "Not_Valid"]).contains("is invalid: metadata.name: Invalid value"));
    assert!(c.fails(&["create", "configmap", "c", "-n", "missing"]).contains("namespaces \"missing\" not found"));
    let dir = tempfile::tempdir().unwrap();
    let bad = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        c.fails(&["apply", "-f", &path.to_string_lossy()])
    };
    let unknown = bad(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: x}], nonsense: 1}\n",
    );
    assert!(unknown.contains("strict decoding error: unknown field \"spec.nonsense\""), "{unknown}");
    let missing = bad("b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n");
    assert!(missing.contains("spec.containers[0].image: Required value"), "{missing}");
    let wrong = bad("c.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: p}\nspec: {replicas: many}\n");
    assert!(wrong.contains("cannot unmarshal string") || wrong.contains("json:"), "{wrong}");
    let name = bad("d.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n");
    assert!(name.contains("RFC 1123"), "{name}");
    assert_eq!(c.ok(&["get", "pods", "-o", "name"]), "");
}

#[test]
fn deletion_propagates_as_asked() {
    let Some((_dir, c)) = Cluster::for_kubectl(&["-f", "examples/hello/hello.yaml"]) else { return };
    let pods = || c.ok(&["get", "pods", "-o", "name"]).lines().count();
    let uid = || c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let (before, running) = (uid(), pods());
    assert!(running > 0);
    // Orphaned: the ReplicaSet goes on with its pods, and belongs to nobody.
    c.ok(&["delete", "deployment", "hello", "--cascade=orphan", "--timeout=60s"]);
    assert!(c.fails(&["get", "deployment", "hello"]).contains("NotFound"));
    assert_eq!((uid(), pods()), (before.clone(), running));
    assert_eq!(c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences}"]), "");
    // A Deployment with the same selector takes it in again.
    c.ok(&["apply", "-f", "examples/hello/hello.yaml"]);
    until("the ReplicaSet is adopted", || {
        let owner = c.ok(&["get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences[0].name}"]);
        (owner == "hello" && uid() == before).then_some(())
    });
    // In the foreground: when the owner is gone, nothing is left of what it owned.
    c.ok(&["delete", "deployment", "hello", "--cascade=foreground", "--timeout=60s"]);
    assert_eq!((uid(), pods()), (String::new(), 0));
    assert!(c.fails(&["delete", "namespace", "default"]).contains("this namespace may not be deleted"));
}

#[test]
fn watches_waits_and_pages() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    for i in 0..7 {
        c.ok(&["create", "configmap", &format!("c{i}"), &format!("--from-literal=i={i}")]);
    }
    let listed = c.ok(&["get", "configmaps", "--chunk-size=2", "-o", "name"]);
    assert_eq!(listed.lines().filter(|l| l.contains("/c")).count(), 7, "{listed}");
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: p}}\nspec:\n  containers:\n  - {name: c, image: 'file://examples/hello/hello.wasm'}\n",
    );
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    c.ok(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=60s"]);
    let by_field = c.ok(&["get", "pods", "-l", "app=p", "--field-selector=status.phase=Running", "-o", "name"]);
    assert_eq!(by_field.trim(), "pod/p");
    c.ok(&["delete", "pod", "p", "--timeout=60s"]);
    c.ok(&["wait", "--for=delete", "pod/p", "--timeout=60s"]);
    assert!(c.ok(&["get", "--raw", "/readyz?verbose"]).contains("readyz check passed"));
    assert!(c.ok(&["get", "--raw", "/metrics"]).contains("apiserver_request"));
}
