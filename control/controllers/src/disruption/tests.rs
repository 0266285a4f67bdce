use super::*;
use crate::support::sim::TestView;

fn controller() -> Disruption {
    Disruption { kinds: Arc::new(Kinds::builtin()) }
}

fn pod(n: usize, ready: bool, owner: Option<(&str, &str, &str)>) -> Value {
    let mut out = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "a", "uid": format!("u{n}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if let Some((api_version, kind, name)) = owner {
        out["metadata"]["ownerReferences"] = json!([{"apiVersion": api_version, "kind": kind, "name": name,
            "uid": format!("{name}-uid"), "controller": true}]);
    }
    out
}

/// A Deployment of `replicas` with its ReplicaSet, and `ready` pods that are ready of `pods`.
fn web(replicas: i64, pods: usize, ready: usize) -> TestView {
    let mut view = TestView::default();
    view.put(
        "deployments.apps",
        json!({"metadata": {"name": "web", "namespace": "a", "uid": "web-uid"},
        "spec": {"replicas": replicas}}),
    );
    view.put(
        "replicasets.apps",
        json!({"metadata": {"name": "rs", "namespace": "a", "uid": "rs-uid",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web-uid",
            "controller": true}]}, "spec": {"replicas": 1}}),
    );
    for n in 0..pods {
        view.put("pods", pod(n, n < ready, Some(("apps/v1", "ReplicaSet", "rs"))));
    }
    view.now = Time::from_secs(1_000);
    view
}

fn budget(view: &mut TestView, mut spec: Value) -> Key {
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    let meta = json!({"name": "b", "namespace": "a", "uid": "b-uid", "generation": 3});
    view.put(RESOURCE, json!({"metadata": meta, "spec": spec}))
}

/// (expected, current, desired, allowed) after a reconcile that leaves nothing to do.
fn counts(view: &mut TestView, key: &Key) -> (i64, i64, i64, i64) {
    let plan = controller().reconcile(view, key, view.now);
    assert!(view.execute(&plan), "{plan}");
    let again = controller().reconcile(view, key, view.now);
    assert!(again.0.iter().all(|s| matches!(s.action, Action::After(_))), "not quiet: {again}");
    let status = view.value(key)["status"].clone();
    let n = |name: &str| int(&status[name]);
    (n("expectedPods"), n("currentHealthy"), n("desiredHealthy"), n("disruptionsAllowed"))
}

#[test]
fn each_way_to_ask_is_counted_as_upstream_does() {
    for (spec, replicas, pods, ready, want) in [
        (json!({"minAvailable": 2}), 9, 3, 3, (3, 3, 2, 1)),
        (json!({"minAvailable": 2}), 9, 3, 1, (3, 1, 2, 0)),
        (json!({"minAvailable": "50%"}), 5, 4, 4, (5, 4, 3, 1)),
        (json!({"maxUnavailable": 1}), 5, 5, 5, (5, 5, 4, 1)),
        (json!({"maxUnavailable": "30%"}), 4, 4, 4, (4, 4, 2, 2)),
        (json!({"maxUnavailable": 9}), 2, 2, 1, (2, 1, 0, 1)),
        (json!({"maxUnavailable": 1}), 5, 0, 0, (0, 0, 0, 0)),
        (json!({}), 2, 2, 2, (0, 2, 0, 0)),
        (json!({"minAvailable": 0, "selector": {}}), 2, 2, 2, (2, 2, 0, 2)),
        (json!({"minAvailable": 0, "selector": null}), 2, 2, 2, (0, 0, 0, 0)),
    ] {
        let mut view = web(replicas, pods, ready);
        let key = budget(&mut view, spec.clone());
        assert_eq!(counts(&mut view, &key), want, "{spec}");
    }
}

#[test]
fn the_status_says_what_it_was_made_from() {
    let mut view = web(2, 2, 2);
    let key = budget(&mut view, json!({"minAvailable": 1}));
    counts(&mut view, &key);
    let first = view.value(&key)["status"].clone();
    assert_eq!(first["observedGeneration"], 3);
    assert_eq!(
        first["conditions"],
        json!([{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
            "lastTransitionTime": view.now.rfc3339(), "observedGeneration": 3}])
    );
    let turned = view.now;
    view.now = turned + Duration::from_secs(5);
    view.edit(&Key::new("pods", "a", "p0"), |p| p["status"]["conditions"][0]["status"] = "False".into());
    assert_eq!(counts(&mut view, &key), (2, 1, 1, 0));
    let second = view.value(&key)["status"]["conditions"][0].clone();
    assert_eq!(
        (&second["reason"], &second["lastTransitionTime"]),
        (&json!("InsufficientPods"), &json!(view.now.rfc3339()))
    );
}

#[test]
fn an_evicted_pod_counts_as_gone_until_it_is_too_late() {
    let mut view = web(3, 3, 3);
    let key = budget(&mut view, json!({"maxUnavailable": 1}));
    let at = view.now.rfc3339();
    view.edit(&key, |b| b["status"] = json!({"disruptedPods": {"p0": at, "nobody": at}}));
    assert_eq!(counts(&mut view, &key), (3, 2, 2, 0));
    assert_eq!(view.value(&key)["status"]["disruptedPods"], json!({"p0": at}));
    let plan = controller().reconcile(&view, &key, view.now + Duration::from_secs(20));
    assert_eq!(plan.to_string(), "again after 100s (an evicted pod has not gone yet)");
    view.now = view.now + DELETION;
    assert_eq!(counts(&mut view, &key), (3, 3, 2, 1));
    assert_eq!(view.events, ["NotDeleted: Pod was expected by PDB a/b to be deleted but it wasn't"]);
    assert!(view.value(&key)["status"]["disruptedPods"].as_object().is_none_or(Map::is_empty));
}

#[test]
fn a_pod_that_goes_is_not_healthy() {
    let mut view = web(2, 2, 2);
    let key = budget(&mut view, json!({"minAvailable": 1}));
    view.edit(&Key::new("pods", "a", "p0"), |p| p["metadata"]["deletionTimestamp"] = "1970-01-01T00:16:40Z".into());
    assert_eq!(counts(&mut view, &key), (2, 1, 1, 0));
}

#[test]
fn nobody_may_go_while_it_is_not_known_how_many_there_should_be() {
    let mut view = web(2, 2, 2);
    let key = budget(&mut view, json!({"maxUnavailable": 1}));
    assert_eq!(counts(&mut view, &key).3, 1);
    view.put("jobs.batch", json!({"metadata": {"name": "j", "namespace": "a", "uid": "j-uid"}}));
    view.put("pods", pod(7, true, Some(("batch/v1", "Job", "j"))));
    let plan = controller().reconcile(&view, &key, view.now);
    assert!(view.execute(&plan));
    let status = view.value(&key)["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    let condition = &status["conditions"][0];
    assert_eq!((&condition["reason"], &condition["status"]), (&json!("SyncFailed"), &json!("False")));
    assert_eq!(condition["message"], "jobs.batch does not implement the scale subresource");
    assert!(view.events[0].starts_with("CalculateExpectedPodCountFailed: "), "{:?}", view.events);
    view.put("pods", pod(7, true, Some(("apps/v1", "ReplicaSet", "gone"))));
    let plan = controller().reconcile(&view, &key, view.now);
    assert!(plan.to_string().contains("found no controllers for pod \\\"p7\\\""), "{plan}");
}

#[test]
fn pods_of_nobody_are_told_of() {
    let mut view = web(2, 2, 2);
    view.put("pods", pod(7, true, None));
    let key = budget(&mut view, json!({"maxUnavailable": 1}));
    assert_eq!(counts(&mut view, &key), (2, 3, 1, 2));
    assert!(view.events[0].starts_with("UnmanagedPods: 1 pods"), "{:?}", view.events);
}

#[test]
fn what_an_eviction_spent_meanwhile_is_not_overwritten() {
    let mut view = web(3, 3, 3);
    let key = budget(&mut view, json!({"maxUnavailable": 1}));
    let plan = controller().reconcile(&view, &key, view.now);
    view.edit(&key, |b| b["status"] = json!({"disruptionsAllowed": 0}));
    assert!(!view.execute(&plan));
}

#[test]
fn pods_and_scales_wake_the_budgets_that_they_matter_to() {
    let mut view = web(3, 1, 1);
    let key = budget(&mut view, json!({"maxUnavailable": 1}));
    let of = |view: &TestView, resource: &str, name: &str| view.get(resource, "a", name).unwrap();
    let pod = of(&view, "pods", "p0");
    assert_eq!(controller().keys(&view, None, Some(&pod)), std::slice::from_ref(&key));
    view.edit(&Key::new("pods", "a", "p0"), |p| p["metadata"]["labels"] = json!({"app": "db"}));
    let other = of(&view, "pods", "p0");
    assert_eq!(controller().keys(&view, Some(&pod), Some(&other)), std::slice::from_ref(&key), "it has left");
    assert!(controller().keys(&view, Some(&other), Some(&other)).is_empty());
    let before = of(&view, "deployments.apps", "web");
    assert!(controller().keys(&view, Some(&before), Some(&before)).is_empty());
    view.edit(&Key::new("deployments.apps", "a", "web"), |d| d["spec"]["replicas"] = 9.into());
    let after = of(&view, "deployments.apps", "web");
    assert_eq!(controller().keys(&view, Some(&before), Some(&after)), [key]);
}
