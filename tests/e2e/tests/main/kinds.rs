//! Kinds that clients look for in every cluster: Events in both of their groups, the components' statuses, bindings, and the
//! objects of priority and fairness.

use e2e::{Cluster, text, until};
use serde_json::{Value, json};

/// What kubectl says to a request of its own, whose body is `object`.
fn post(c: &Cluster, path: &str, object: &Value) -> Result<Value, String> {
    let file = c.dir.join("body.json");
    std::fs::write(&file, object.to_string()).expect("the body is written");
    let out = c.kubectl(&["create", "--raw", path, "-f", &file.display().to_string()]);
    match out.status.success() {
        true => Ok(serde_json::from_slice(&out.stdout).expect("JSON")),
        false => Err(text(&out.stderr)),
    }
}

#[test]
fn events_are_the_same_in_both_groups() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "mine", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "example.com/ctl", "reportingInstance": "ctl-1",
        "action": "Doing", "reason": "Done", "type": "Normal", "note": "all is well",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    });
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    assert_eq!(post(&c, path, &event).expect("it is made")["note"], "all is well");
    let mut bad = event.clone();
    bad["metadata"]["name"] = "bad".into();
    bad["eventTime"] = Value::Null;
    let refused = post(&c, path, &bad).expect_err("it has no time");
    assert!(refused.contains("eventTime: Required value"), "{refused}");

    let (core, other) = ("event/mine", "events.events.k8s.io/mine");
    let one = |what: &str, path: &str| c.ok(&["get", what, "-o", &format!("jsonpath={{{path}}}")]);
    assert_eq!((one(core, ".message"), one(core, ".involvedObject.name")), ("all is well".into(), "p".into()));
    assert_eq!((one(other, ".note"), one(other, ".regarding.name")), ("all is well".into(), "p".into()));
    assert_eq!(one(core, ".metadata.resourceVersion"), one(other, ".metadata.resourceVersion"));
    for resource in ["events", "events.events.k8s.io"] {
        let shown = c.ok(&["get", resource]);
        assert!(shown.starts_with("LAST SEEN") && shown.contains("pod/p") && shown.contains("all is well"), "{shown}");
    }
    let by = |field: &str| c.ok(&["get", "events.events.k8s.io", &format!("--field-selector={field}"), "-o", "name"]);
    assert_eq!(by("regarding.name=p").trim(), "event.events.k8s.io/mine");
    assert_eq!(by("regarding.name=q"), "");
    assert!(c.ok(&["get", "events.events.k8s.io", "-o", "yaml"]).contains("kind: Event"));
    assert!(c.ok(&["explain", "events.note", "--api-version=events.k8s.io/v1"]).contains("note"));
    assert!(c.ok(&["api-resources", "--api-group=events.k8s.io"]).contains("events"));
    // What the cluster itself records by core's names is there, too.
    c.ok(&["create", "deployment", "web", "--image=none.invalid/x", "--replicas=1"]);
    until("its Events are seen", || {
        let seen = c.ok(&["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].deprecatedSource.component}"]);
        (!seen.is_empty()).then_some(())
    });
    c.ok(&["delete", other]);
    assert!(c.fails(&["get", core]).contains("(NotFound)"));
}

#[test]
fn components_say_how_they_are() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let out = c.kubectl(&["get", "cs"]);
    let (shown, warned) = (text(&out.stdout), text(&out.stderr));
    assert!(warned.contains("Warning: v1 ComponentStatus is deprecated in v1.19+"), "{warned}");
    for name in ["scheduler", "controller-manager", "etcd-0"] {
        assert!(shown.lines().any(|l| l.starts_with(name) && l.contains("Healthy") && l.contains("ok")), "{shown}");
    }
    assert!(!shown.contains("Unhealthy"), "{shown}");
    let path = "jsonpath={.conditions[0].type} {.conditions[0].status}";
    assert_eq!(c.ok(&["get", "componentstatus", "etcd-0", "-o", path]), "Healthy True");
    assert!(c.fails(&["get", "cs", "etcd-9"]).contains("Component not found: etcd-9"));
    assert!(c.fails(&["delete", "cs", "etcd-0"]).contains("(MethodNotAllowed)"));
}

#[test]
fn a_binding_puts_a_pod_on_a_node() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  schedulerName: nobody\n  containers:\n  - {name: c, image: \
         'file://examples/hello/hello.wasm'}\n",
    );
    let binding = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "copepod"}})
    };
    let path = "/api/v1/namespaces/default/bindings";
    let missing = post(&c, path, &binding("q")).expect_err("there is no such pod");
    assert!(missing.contains("pods \"q\" not found"), "{missing}");
    assert_eq!(post(&c, path, &binding("p")).expect("it is bound")["status"], "Success");
    c.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    let again = post(&c, path, &binding("p")).expect_err("it is bound");
    assert!(again.contains("already assigned to node \"copepod\""), "{again}");
    assert!(c.ok(&["api-resources", "-o", "wide"]).lines().any(|l| l.starts_with("bindings") && l.contains("create")));
}

#[test]
fn priority_and_fairness_are_there_to_be_read() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let levels = c.ok(&["get", "prioritylevelconfigurations"]);
    for name in ["exempt", "catch-all", "system", "node-high", "leader-election", "workload-high", "workload-low"] {
        assert!(levels.lines().any(|l| l.starts_with(name)), "{name} in {levels}");
    }
    let dangling = "jsonpath={.status.conditions[?(@.type=='Dangling')].status}";
    until("each has found its level", || {
        let shown = c.ok(&["get", "flowschemas", "--no-headers"]);
        (shown.lines().count() == 11 && shown.lines().all(|l| l.trim_end().ends_with("False"))).then_some(())
    });
    c.apply(
        "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: FlowSchema\nmetadata: {name: mine}\nspec:\n  \
         priorityLevelConfiguration: {name: missing}\n",
    );
    until("it dangles", || (c.ok(&["get", "flowschema", "mine", "-o", dangling]) == "True").then_some(()));
}

#[test]
fn what_pod_security_says_is_counted() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    c.ok(&["create", "namespace", "x"]);
    c.ok(&["label", "namespace", "x", "pod-security.kubernetes.io/audit=restricted"]);
    let out = c.kubectl(&["create", "deployment", "web", "--image=none.invalid/x", "--replicas=0", "-n", "x"]);
    assert!(out.status.success() && out.stderr.is_empty(), "nobody is warned: {}", text(&out.stderr));
    let metrics = c.ok(&["get", "--raw", "/metrics"]);
    let counted =
        metrics.lines().find(|l| l.starts_with("pod_security_evaluations_total{") && l.contains("mode=\"audit\""));
    let counted = counted.unwrap_or_else(|| panic!("it is counted: {metrics}"));
    for label in
        ["decision=\"deny\"", "policy_level=\"restricted\"", "policy_version=\"latest\"", "resource=\"controller\""]
    {
        assert!(counted.contains(label), "{counted}");
    }
}
