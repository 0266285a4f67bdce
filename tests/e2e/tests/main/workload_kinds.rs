//! Jobs, CronJobs, StatefulSets, autoscalers and disruption budgets, as kubectl makes and shows them.

use e2e::{Cluster, until};

const IMAGE: &str = "--image=file://examples/hello/hello.wasm";

#[test]
fn kubectl_makes_and_shows_each_kind() {
    let Some((dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let one = |what: &str, path: &str| c.ok(&["get", what, "-o", &format!("jsonpath={{{path}}}")]);
    c.ok(&["create", "job", "once", IMAGE]);
    assert_eq!(one("job/once", ".spec.backoffLimit"), "6");
    let uid = one("job/once", ".metadata.uid");
    assert_eq!(one("job/once", r".spec.selector.matchLabels.batch\.kubernetes\.io/controller-uid"), uid);
    assert!(c.ok(&["get", "jobs"]).starts_with("NAME"), "a table");

    c.ok(&["create", "cronjob", "often", IMAGE, "--schedule=*/5 * * * *"]);
    let shown = c.ok(&["get", "cj"]);
    assert!(shown.contains("SCHEDULE") && shown.contains("*/5 * * * *") && shown.contains("False"), "{shown}");
    let bad = c.fails(&["create", "cronjob", "bad", IMAGE, "--schedule=* * *"]);
    assert!(bad.contains("expected exactly 5 fields, found 3: [* * *]"), "{bad}");
    c.ok(&["create", "job", "now", "--from=cronjob/often"]);

    c.ok(&["create", "deployment", "web", IMAGE, "--replicas=0"]);
    c.ok(&["autoscale", "deployment", "web", "--min=1", "--max=4", "--cpu-percent=50"]);
    let v1 = "horizontalpodautoscalers.v1.autoscaling/web";
    let v2 = "horizontalpodautoscalers.v2.autoscaling/web";
    assert_eq!(one(v1, ".spec.targetCPUUtilizationPercentage"), "50");
    assert_eq!(one(v2, ".spec.metrics[0].resource.target.averageUtilization"), "50");
    for resource in ["hpa", "hpa.v1.autoscaling"] {
        let shown = c.ok(&["get", resource]);
        assert!(shown.contains("Deployment/web") && shown.contains("<unknown>/50%"), "{shown}");
    }
    c.ok(&["patch", v1, "--type=merge", "-p", r#"{"spec":{"targetCPUUtilizationPercentage":70}}"#]);
    assert_eq!(one("hpa/web", ".spec.metrics[0].resource.target.averageUtilization"), "70");
    c.ok(&["explain", "hpa.spec.metrics", "--api-version=autoscaling/v2"]);

    let manifest = dir.path().join("sts.yaml");
    let text = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  replicas: 0\n  \
                selector: {matchLabels: {app: db}}\n  serviceName: db\n  template:\n    metadata: {labels: {app: db}}\n    \
                spec: {containers: [{name: a, image: 'file://examples/hello/hello.wasm'}]}\n";
    std::fs::write(&manifest, text).expect("a file");
    let path = manifest.to_string_lossy();
    c.ok(&["apply", "-f", &path]);
    c.ok(&["scale", "statefulset", "db", "--replicas=3"]);
    assert_eq!(one("sts/db", ".spec.replicas"), "3");
    std::fs::write(&manifest, text.replace("serviceName: db", "serviceName: other")).expect("a file");
    let refused = c.fails(&["apply", "-f", &path]);
    assert!(refused.contains("updates to statefulset spec for fields other than"), "{refused}");
    let all = c.ok(&["get", "all"]);
    for name in
        ["statefulset.apps/db", "job.batch/once", "cronjob.batch/often", "horizontalpodautoscaler.autoscaling/web"]
    {
        assert_eq!(all.matches(name).count(), 1, "{name} in {all}");
    }
}

#[test]
fn a_drain_honours_disruption_budgets() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let allowed = |n: &'static str| {
        until("the budget is counted", || {
            (c.ok(&["get", "pdb", "b", "-o", "jsonpath={.status.disruptionsAllowed}"]) == n).then_some(())
        });
    };
    c.ok(&["create", "deployment", "web", IMAGE, "--replicas=2"]);
    c.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    c.ok(&["create", "pdb", "b", "--selector=app=web", "--min-available=2"]);
    until("the budget has seen its pods", || {
        let seen = c.ok(&["get", "pdb", "b", "-o", "jsonpath={.status.expectedPods} {.status.currentHealthy}"]);
        (seen == "2 2").then_some(())
    });
    allowed("0");
    assert!(c.ok(&["get", "pdb"]).contains("ALLOWED DISRUPTIONS"));
    let drain = ["drain", "copepod", "--pod-selector=app=web", "--timeout=6s"];
    let refused = c.fails(&drain);
    assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
    assert_eq!(
        c.ok(&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name"]).lines().count(),
        2
    );
    // With one place left one pod goes, and the other has to wait for a successor that cannot come.
    c.ok(&["patch", "pdb", "b", "--type=merge", "-p", r#"{"spec":{"minAvailable":1}}"#]);
    allowed("1");
    let refused = c.fails(&drain);
    assert!(refused.contains("Cannot evict pod as it would violate"), "{refused}");
    until("one pod is pending", || {
        let pending = ["get", "pods", "-l", "app=web", "--field-selector=status.phase=Pending", "-o", "name"];
        (c.ok(&pending).lines().count() == 1).then_some(())
    });
    c.ok(&["uncordon", "copepod"]);
    allowed("1");
}

#[test]
fn jobs_run_to_their_end() {
    let Some((_dir, c)) = Cluster::for_kubectl(&[]) else { return };
    let job = |name: &str, more: &str, args: &str| {
        let container = format!("{{name: c, image: 'file://examples/preview1/preview1.wasm', args: {args}}}");
        c.apply(&format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  template:\n    spec: \
             {{restartPolicy: Never, containers: [{container}]}}\n"
        ));
    };
    let one = |what: &str, path: &str| c.ok(&["get", what, "-o", &format!("jsonpath={{{path}}}")]);
    job("good", "completions: 2", "[]");
    c.ok(&["wait", "--for=condition=complete", "job/good", "--timeout=60s"]);
    assert_eq!(one("job/good", ".status.succeeded"), "2");
    assert!(c.ok(&["get", "job", "good"]).contains("2/2"));
    assert_eq!(c.ok(&["get", "pods", "-l", "job-name=good", "-o", "name"]).lines().count(), 2);
    job("bad", "backoffLimit: 0", "['exit', '42']");
    c.ok(&["wait", "--for=condition=failed", "job/bad", "--timeout=60s"]);
    assert_eq!(one("job/bad", ".status.conditions[?(@.type=='Failed')].reason"), "BackoffLimitExceeded");
    job("brief", "ttlSecondsAfterFinished: 0", "[]");
    until("the Job and its pod are gone", || {
        c.ok(&["get", "jobs,pods", "-l", "job-name=brief", "-o", "name"]).is_empty().then_some(())
    });
    c.ok(&["delete", "job", "good", "--timeout=60s"]);
    until("its pods are gone", || c.ok(&["get", "pods", "-l", "job-name=good", "-o", "name"]).is_empty().then_some(()));
}
