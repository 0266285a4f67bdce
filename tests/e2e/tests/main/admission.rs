//! What admission says and does, as kubectl sees it: quotas, limits, priorities, the Pod Security Standards.

use e2e::{Cluster, text, until};

/// kubectl takes no `file://` for an image.
const IMAGE: &str = "--image=registry.cluster.local/hello:1";

/// Creates a namespace and waits for its service account; the image is there for all.
fn namespace(c: &Cluster, name: &str) {
    let out = c.copepod(&["push", "examples/hello/hello.wasm", "hello:1"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    c.ok(&["create", "namespace", name]);
    let get = ["get", "serviceaccount", "default", "-n", name];
    until("pods can be made there", || c.kubectl(&get).status.success().then_some(()));
}

#[test]
fn a_quota_is_kept_and_given_back() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    namespace(&c, "x");
    c.ok(&["create", "quota", "q", "--hard=pods=1,count/configmaps=2", "-n", "x"]);
    let used = || c.ok(&["get", "quota", "q", "-n", "x", "-o", "jsonpath={.status.used.pods}"]);
    until("it is counted", || (used() == "0").then_some(()));
    c.ok(&["run", "one", IMAGE, "-n", "x"]);
    let refused = c.fails(&["run", "two", IMAGE, "-n", "x"]);
    let why = "pods \"two\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert!(refused.contains("(Forbidden)") && refused.contains(why), "{refused}");
    assert!(c.ok(&["get", "quota", "-n", "x"]).contains("pods: 1/1"));
    assert!(c.ok(&["describe", "quota", "q", "-n", "x"]).contains("pods"));
    c.ok(&["delete", "pod", "one", "-n", "x", "--timeout=60s"]);
    until("the place is free again", || c.kubectl(&["run", "two", IMAGE, "-n", "x"]).status.success().then_some(()));
    c.ok(&["delete", "namespace", "x", "--timeout=60s"]);
}

#[test]
fn a_limit_range_completes_pods_and_refuses_some() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    namespace(&c, "x");
    c.apply(
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: x}\nspec:\n  limits:\n  - type: Container\n    \
         max: {cpu: 500m}\n    min: {cpu: 10m}\n    defaultRequest: {cpu: 20m}\n",
    );
    c.ok(&["run", "plain", IMAGE, "-n", "x"]);
    let resources = c.ok(&["get", "pod", "plain", "-n", "x", "-o", "jsonpath={.spec.containers[0].resources}"]);
    let resources: serde_json::Value = serde_json::from_str(&resources).unwrap();
    assert_eq!(resources, serde_json::json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "20m"}}));
    let overrides = r#"{"spec":{"containers":[{"name":"greedy","image":"x","resources":{"limits":{"cpu":"2"}}}]}}"#;
    let refused = c.fails(&["run", "greedy", "--image=x", &format!("--overrides={overrides}"), "-n", "x"]);
    assert!(refused.contains("maximum cpu usage per Container is 500m, but limit is 2"), "{refused}");
    assert!(c.ok(&["describe", "limits", "l", "-n", "x"]).contains("Container"));
}

#[test]
fn priority_classes_give_pods_their_priority() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let all = c.ok(&["get", "priorityclasses"]);
    assert!(all.contains("system-cluster-critical") && all.contains("2000001000"), "{all}");
    namespace(&c, "x");
    c.ok(&["create", "priorityclass", "high", "--value=1000", "--description=first"]);
    let overrides = r#"{"spec":{"priorityClassName":"high"}}"#;
    c.ok(&["run", "first", IMAGE, "--port=8080", &format!("--overrides={overrides}"), "-n", "x"]);
    assert_eq!(c.ok(&["get", "pod", "first", "-n", "x", "-o", "jsonpath={.spec.priority}"]), "1000");
    let refused = c.fails(&["patch", "priorityclass", "high", "--type=merge", "-p", r#"{"value":5}"#]);
    assert!(refused.contains("value: Forbidden: may not be changed in an update."), "{refused}");
    let refused = c.fails(&["delete", "priorityclass", "system-node-critical"]);
    assert!(refused.contains("this is a system priority class and cannot be deleted"), "{refused}");
    c.ok(&["wait", "--for=condition=Ready", "pod/first", "-n", "x", "--timeout=60s"]);
}

#[test]
fn pod_security_warns_and_refuses() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    namespace(&c, "x");
    c.ok(&["label", "namespace", "x", "pod-security.kubernetes.io/warn=restricted"]);
    let out = c.kubectl(&["create", "deployment", "web", IMAGE, "--port=8080", "-n", "x"]);
    let warned = text(&out.stderr);
    let want =
        "Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"";
    assert!(out.status.success() && warned.contains(want), "{warned}");
    c.ok(&["rollout", "status", "deployment/web", "-n", "x", "--timeout=60s"]);
    c.ok(&["label", "namespace", "x", "pod-security.kubernetes.io/enforce=baseline"]);
    let overrides = r#"{"spec":{"hostPID":true}}"#;
    let refused = c.fails(&["run", "bad", IMAGE, &format!("--overrides={overrides}"), "-n", "x"]);
    let why = "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    assert!(refused.contains(why), "{refused}");
    let out = c.kubectl(&["label", "namespace", "x", "pod-security.kubernetes.io/enforce=restricted", "--overwrite"]);
    let warned = text(&out.stderr);
    assert!(
        warned.contains("Warning: existing pods in namespace \"x\" violate the new PodSecurity enforce level"),
        "{warned}"
    );
}
