use copepod_model::request::Body;
use copepod_model::{Status, Verb};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod, request};

const PODS: &str = "pods default/";
const BUDGETS: &str = "poddisruptionbudgets.policy default/";

/// A cluster with the running pod `p`.
fn with_pod(ready: bool) -> Cluster {
    let mut c = Cluster::new();
    add_pod(&mut c, "p", ready);
    c
}

fn add_pod(c: &mut Cluster, name: &str, ready: bool) {
    let mut object = pod(name);
    object["metadata"]["labels"] = json!({"app": "web"});
    c.create(PODS, object).unwrap();
    c.create(&format!("{PODS}{name} binding"), json!({"target": {"name": "n"}})).unwrap();
    set_status(
        c,
        &format!("{PODS}{name} status"),
        json!({"phase": "Running",
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}),
    );
}

fn set_status(c: &mut Cluster, what: &str, status: Value) {
    let mut object = c.value(what.strip_suffix(" status").unwrap());
    object["status"] = status;
    c.update(what, object).unwrap();
}

/// Adds a budget whose status a controller has written.
fn budget(c: &mut Cluster, name: &str, spec: Value, allowed: i64, current: i64, desired: i64) {
    c.create(BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    let status = json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": current,
        "desiredHealthy": desired, "expectedPods": 2});
    set_status(c, &format!("{BUDGETS}{name} status"), status);
}

fn web() -> Value {
    json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}})
}

fn evict(c: &mut Cluster, name: &str) -> Result<(u16, Value), Status> {
    c.create(&format!("{PODS}{name} eviction"), json!({"metadata": {"name": name}}))
}

#[test]
fn a_budget_without_a_place_refuses() {
    let mut c = with_pod(true);
    budget(&mut c, "b", web(), 0, 1, 1);
    let revision = c.tables.revision();
    let status = evict(&mut c, "p").unwrap_err();
    assert_eq!(
        status.to_json(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 429,
            "reason": "TooManyRequests",
            "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            "details": {"causes": [{"reason": "DisruptionBudget",
                "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}]}})
    );
    assert_eq!(c.tables.revision(), revision);
}

#[test]
fn a_place_is_taken_along_with_the_pod() {
    let mut c = with_pod(true);
    add_pod(&mut c, "q", true);
    budget(&mut c, "b", web(), 1, 2, 1);
    let (code, v) = evict(&mut c, "p").unwrap();
    assert_eq!((code, v["status"].as_str()), (201, Some("Success")));
    let pod = c.value("pods default/p");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let target = pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(target.unwrap()["reason"], "EvictionByEvictionAPI");
    let status = c.value(&format!("{BUDGETS}b"))["status"].clone();
    let now = c.now.rfc3339();
    assert_eq!(
        status,
        json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 1,
            "expectedPods": 2, "disruptedPods": {"p": now},
            "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                "observedGeneration": 1, "lastTransitionTime": now}]})
    );
    assert!(error(evict(&mut c, "q")).starts_with("429 Cannot evict pod"));
    // What goes already costs nothing.
    assert!(evict(&mut c, "p").is_ok());
    // The write is accounted for as one of the status.
    let managers = c.value(&format!("{BUDGETS}b"))["metadata"]["managedFields"].clone();
    let mut server = managers.as_array().unwrap().iter().filter(|m| m["manager"] == "kube-apiserver");
    assert!(server.any(|m| m["subresource"] == "status"));
}

#[test]
fn an_eviction_names_its_pod() {
    let mut c = with_pod(true);
    for name in [json!(null), json!(""), json!("q")] {
        let refused = c.create(&format!("{PODS}p eviction"), json!({"metadata": {"name": name}}));
        assert_eq!(error(refused), "400 name in URL does not match name in Eviction object");
    }
    assert!(evict(&mut c, "p").is_ok());
}

#[test]
fn a_dry_run_takes_nothing() {
    let mut c = with_pod(true);
    budget(&mut c, "b", web(), 1, 2, 1);
    let revision = c.tables.revision();
    let mut dry = request(Verb::Create, "pods default/p eviction");
    dry.body = Body::Object(json!({"metadata": {"name": "p"}}));
    dry.dry_run = true;
    c.send(&dry).unwrap();
    dry.dry_run = false;
    dry.body = Body::Object(json!({"metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}}));
    c.send(&dry).unwrap();
    assert_eq!(c.tables.revision(), revision);
    set_status(
        &mut c,
        &format!("{BUDGETS}b status"),
        json!({"observedGeneration": 1, "disruptionsAllowed": 0,
        "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}),
    );
    assert_eq!(c.send(&dry).unwrap_err().code, 429);
}

#[test]
fn a_budget_that_was_not_looked_at_puts_it_off() {
    let mut c = with_pod(true);
    c.create(BUDGETS, json!({"metadata": {"name": "b"}, "spec": web()})).unwrap();
    let status = evict(&mut c, "p").unwrap_err();
    let details = status.details.unwrap();
    assert_eq!((status.code, details.retry_after_seconds), (429, 10));
    assert_eq!(details.causes[0].message, "The disruption budget b is still being processed by the server.");
}

#[test]
fn two_budgets_are_too_many() {
    let mut c = with_pod(true);
    budget(&mut c, "a", web(), 1, 2, 1);
    budget(&mut c, "b", web(), 1, 2, 1);
    assert_eq!(
        error(evict(&mut c, "p")),
        "500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[test]
fn budgets_of_others_do_not_count() {
    let mut c = with_pod(true);
    budget(&mut c, "none", json!({"minAvailable": 1}), 0, 0, 1);
    budget(&mut c, "other", json!({"selector": {"matchLabels": {"app": "db"}}}), 0, 0, 1);
    evict(&mut c, "p").unwrap();
    let mut c = with_pod(true);
    budget(&mut c, "everyone", json!({"minAvailable": 1, "selector": {}}), 0, 0, 1);
    assert_eq!(evict(&mut c, "p").unwrap_err().code, 429);
}

#[test]
fn what_is_not_ready_goes_by_the_policy() {
    let always = json!({"selector": {"matchLabels": {"app": "web"}}, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    // (spec, current, desired, may go)
    for (spec, current, desired, may) in
        [(web(), 1, 1, true), (web(), 0, 1, false), (web(), 0, 0, false), (always, 0, 1, true)]
    {
        let mut c = with_pod(false);
        budget(&mut c, "b", spec.clone(), 0, current, desired);
        let got = evict(&mut c, "p");
        assert_eq!(got.is_ok(), may, "{spec} {current} of {desired}");
        assert!(c.value(&format!("{BUDGETS}b"))["status"]["disruptedPods"].is_null(), "none of the budget is spent");
    }
}

#[test]
fn what_has_not_begun_or_has_ended_goes_freely() {
    for phase in ["Pending", "Succeeded", "Failed"] {
        let mut c = with_pod(true);
        budget(&mut c, "b", web(), 0, 1, 1);
        set_status(&mut c, "pods default/p status", json!({"phase": phase}));
        evict(&mut c, "p").unwrap_or_else(|e| panic!("{phase}: {e}"));
    }
}

#[test]
fn a_place_that_another_took_is_not_taken_twice() {
    let mut c = with_pod(true);
    add_pod(&mut c, "q", true);
    budget(&mut c, "b", web(), 1, 2, 1);
    // Both are decided on the same view.
    let decide = |c: &mut Cluster, name: &str| {
        let mut req = request(Verb::Create, &format!("{PODS}{name} eviction"));
        req.body = Body::Object(json!({"metadata": {"name": name}}));
        let mut env = crate::Env::new(&c.tables, c.now, &mut c.ids);
        match c.registry.decide(&mut env, &req).unwrap() {
            crate::Decision::Write(write) => write.txn,
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (decide(&mut c, "p"), decide(&mut c, "q"));
    assert!(matches!(copepod_state::apply(&mut c.tables, 1, &first).0, copepod_state::Outcome::Applied(_)));
    assert!(matches!(copepod_state::apply(&mut c.tables, 2, &second).0, copepod_state::Outcome::Failed(_)));
    assert!(c.value("pods default/q")["metadata"]["deletionTimestamp"].is_null());
}
