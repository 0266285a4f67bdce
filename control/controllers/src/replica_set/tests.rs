use super::*;
use crate::support::sim::{TestView, config};

fn rs(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "a", "uid": "rs", "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    })
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut v = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    change(&mut v);
    v
}

const NOW: &str = "2026-01-02T00:00:00Z";

fn plan(view: &TestView) -> String {
    let now = Time::parse(NOW).unwrap();
    new(&config()).reconcile(view, &Key::new(RESOURCE, "a", "web"), now).to_string()
}

/// The plan without its status and Events.
fn deeds(view: &TestView) -> Vec<String> {
    let now = Time::parse(NOW).unwrap();
    let plan = new(&config()).reconcile(view, &Key::new(RESOURCE, "a", "web"), now);
    let boring = |s: &&Step| !matches!(s.action, Action::Event { .. } | Action::Patch { subresource: "status", .. });
    plan.0.iter().filter(boring).map(|s| s.action.to_string()).collect()
}

#[test]
fn creates_what_is_missing() {
    let mut view = TestView::default();
    view.put(RESOURCE, rs(2));
    view.put("pods", pod("web-1", |_| {}));
    assert_eq!(
        plan(&view),
        "patch replicasets.apps/web/status {\"metadata\":{\"uid\":\"rs\"},\"status\":{\"availableReplicas\":1,\
         \"fullyLabeledReplicas\":1,\"observedGeneration\":2,\"readyReplicas\":1,\"replicas\":1,\"terminatingReplicas\":0}} \
         (as observed); create pods/web-* (1 too few); event SuccessfulCreate: Created pod: {step 1} (for people)"
    );
}

#[test]
fn a_thousand_are_created_in_two_plans_with_few_events() {
    let mut view = TestView::default();
    let key = view.put(RESOURCE, rs(1000));
    let controllers: Vec<Box<dyn Controller>> = vec![Box::new(new(&config()))];
    let mut queue = BTreeSet::new();
    assert!(view.turn(&controllers, &mut queue));
    assert_eq!(view.list("pods", Some("a")).count(), BURST);
    view.settle(&controllers, &mut queue);
    assert_eq!(view.list("pods", Some("a")).count(), 1000);
    assert_eq!(view.events.len(), 2 * (EVENTS + 1));
    assert_eq!(view.value(&key)["status"]["replicas"], 1000);
}

#[test]
fn the_least_useful_go_first() {
    let at = |t: &'static str| move |p: &mut Value| p["metadata"]["creationTimestamp"] = t.into();
    let mut view = TestView::default();
    view.put(RESOURCE, rs(1));
    for p in [
        pod("1-unassigned", |p| p["spec"] = json!({})),
        pod("2-pending", |p| p["status"]["phase"] = "Pending".into()),
        pod("3-unready", |p| p["status"]["conditions"][0]["status"] = "False".into()),
        pod("4-cheap", |p| p["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"})),
        pod("7-old", |p| p["spec"]["nodeName"] = "n2".into()),
        pod("6-restarts", |p| {
            p["status"]["containerStatuses"] = json!([{"restartCount": 3}]);
            p["spec"]["nodeName"] = "n2".into();
        }),
        pod("5-crowded", at("2026-01-01T23:59:00Z")),
    ] {
        view.put("pods", p);
    }
    let want = ["1-unassigned", "2-pending", "3-unready", "4-cheap", "5-crowded", "6-restarts"];
    let want: Vec<String> = want.iter().map(|n| format!("delete pods/{n}")).collect();
    assert_eq!(deeds(&view), want);
}

#[test]
fn adopts_and_releases() {
    let mut view = TestView::default();
    view.put(RESOURCE, rs(2));
    view.put("pods", pod("mine", |_| {}));
    view.put("pods", pod("orphan", |p| p["metadata"]["ownerReferences"] = json!([])));
    view.put("pods", pod("other", |p| p["metadata"]["ownerReferences"][0]["uid"] = "x".into()));
    view.put("pods", pod("relabelled", |p| p["metadata"]["labels"]["app"] = "b".into()));
    assert_eq!(
        deeds(&view),
        [
            "patch pods/orphan {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"blockOwnerDeletion\":true,\
             \"controller\":true,\"kind\":\"ReplicaSet\",\"name\":\"web\",\"uid\":\"rs\"}],\"uid\":\"orphan\"}}",
            "patch pods/relabelled {\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":\"rs\"}],\
             \"uid\":\"relabelled\"}}",
        ]
    );
}

#[test]
fn finished_and_terminating_pods_are_replaced() {
    let mut view = TestView::default();
    view.put(RESOURCE, rs(2));
    view.put("pods", pod("failed", |p| p["status"]["phase"] = "Failed".into()));
    view.put("pods", pod("going", |p| p["metadata"]["deletionTimestamp"] = NOW.into()));
    assert_eq!(deeds(&view), ["create pods/web-*", "create pods/web-*"]);
    assert!(plan(&view).contains("\"terminatingReplicas\":1"));
}

#[test]
fn min_ready_seconds_delay_availability() {
    let mut view = TestView::default();
    let mut v = rs(1);
    v["spec"]["minReadySeconds"] = 10.into();
    view.put(RESOURCE, v);
    view.put("pods", pod("a", |p| p["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-01T23:59:53Z".into()));
    assert!(plan(&view).ends_with("again after 3s (a pod is ready but not yet for minReadySeconds)"));
    assert!(!plan(&view).contains("availableReplicas"));
}

#[test]
fn a_refusal_is_reported_and_forgotten() {
    let mut view = TestView::default();
    let key = view.put(RESOURCE, rs(1));
    let controller = new(&config());
    let now = Time::parse(NOW).unwrap();
    let plan = controller.reconcile(&view, &key, now);
    let create = plan.0.iter().find(|s| matches!(s.action, Action::Create { .. })).unwrap();
    let refused = Status::forbidden("pods", "", "exceeded quota");
    assert!(view.execute(&controller.failed(&view, &key, create, &refused, now)));
    assert_eq!(view.events, ["FailedCreate: Error creating: pods is forbidden: exceeded quota"]);
    assert_eq!(view.value(&key)["status"]["conditions"][0]["reason"], "FailedCreate");
    view.put("pods", pod("a", |_| {}));
    assert!(view.execute(&controller.reconcile(&view, &key, now)));
    assert_eq!(view.value(&key)["status"]["conditions"], Value::Null);
}
