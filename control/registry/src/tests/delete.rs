use std::time::Duration;

use copepod_model::Verb;
use copepod_model::request::{PatchType, Propagation};
use serde_json::json;

use crate::testing::{Cluster, deployment, error, pod, request};

#[test]
fn what_is_gone_is_answered_by_a_status_or_by_itself() {
    let mut c = Cluster::new();
    let (_, d) = c.create("deployments.apps default/", deployment("web")).unwrap();
    let (code, v) = c.delete("deployments.apps default/web").unwrap();
    assert_eq!(code, 200);
    assert_eq!(
        v,
        json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success",
            "details":{"name":"web","group":"apps","kind":"deployments","uid":d["metadata"]["uid"]}})
    );
    assert_eq!(error(c.delete("deployments.apps default/web")), "404 deployments.apps \"web\" not found");
    let (_, v) = c.delete("serviceaccounts default/default").unwrap();
    assert_eq!(v["kind"], "ServiceAccount");
    assert_eq!(v["metadata"]["resourceVersion"], c.tables.revision().to_string());
}

#[test]
fn preconditions_hold_or_conflict() {
    let mut c = Cluster::new();
    let (_, v) = c.create("configmaps default/", json!({"metadata":{"name":"a"}})).unwrap();
    let mut req = request(Verb::Delete, "configmaps default/a");
    req.delete.uid = Some("x".into());
    assert!(error(c.send(&req)).starts_with(
        "409 Operation cannot be fulfilled on configmaps \"a\": the UID in the precondition (x) does not match the UID in record ("
    ));
    req.delete.uid = v["metadata"]["uid"].as_str().map(Into::into);
    req.delete.resource_version = Some("1".into());
    assert!(error(c.send(&req)).contains("the ResourceVersion in the precondition (1) does not match"));
    req.delete.resource_version = v["metadata"]["resourceVersion"].as_str().map(Into::into);
    assert!(c.send(&req).is_ok());
}

#[test]
fn a_running_pod_gets_its_grace_and_a_second_delete_can_shorten_it() {
    let mut c = Cluster::new();
    c.create("pods default/", pod("p")).unwrap();
    c.create("pods default/p binding", json!({"target":{"name":"n"}})).unwrap();
    let (code, v) = c.delete("pods default/p").unwrap();
    assert_eq!((code, v["kind"].as_str()), (200, Some("Pod")));
    assert_eq!(v["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(v["metadata"]["deletionTimestamp"], (c.now + Duration::from_secs(30)).rfc3339());
    assert_eq!(v["metadata"]["generation"], 2);
    let revision = c.tables.revision();
    c.delete("pods default/p").unwrap();
    let mut longer = request(Verb::Delete, "pods default/p");
    longer.delete.grace_period_seconds = Some(60);
    c.send(&longer).unwrap();
    assert_eq!(c.tables.revision(), revision, "a longer grace changes nothing");
    longer.delete.grace_period_seconds = Some(5);
    let (_, v) = c.send(&longer).unwrap();
    assert_eq!(v["metadata"]["deletionTimestamp"], (c.now + Duration::from_secs(5)).rfc3339());
    longer.delete.grace_period_seconds = Some(0);
    let (_, v) = c.send(&longer).unwrap();
    assert_eq!(v["kind"], "Pod");
    assert!(c.find("pods default/p").is_none());
}

#[test]
fn pods_that_nothing_runs_go_at_once() {
    let mut c = Cluster::new();
    c.create("pods default/", pod("pending")).unwrap();
    c.delete("pods default/pending").unwrap();
    assert!(c.find("pods default/pending").is_none());
    c.create("pods default/", pod("done")).unwrap();
    c.create("pods default/done binding", json!({"target":{"name":"n"}})).unwrap();
    c.patch(PatchType::Merge, "pods default/done status", json!({"status":{"phase":"Succeeded"}})).unwrap();
    c.delete("pods default/done").unwrap();
    assert!(c.find("pods default/done").is_none());
}

#[test]
fn a_pod_with_finalizers_outlives_its_grace() {
    let mut c = Cluster::new();
    let mut p = pod("p");
    p["metadata"]["finalizers"] = json!(["x.io/a"]);
    c.create("pods default/", p).unwrap();
    let (_, v) = c.delete("pods default/p").unwrap();
    assert_eq!(v["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(c.find("pods default/p").is_some());
    c.patch(PatchType::Json, "pods default/p", json!([{"op":"remove","path":"/metadata/finalizers"}])).unwrap();
    assert!(c.find("pods default/p").is_none());
}

#[test]
fn propagation_leaves_work_for_the_collector() {
    for (propagation, finalizer) in [
        (Propagation::Foreground, Some("foregroundDeletion")),
        (Propagation::Orphan, Some("orphan")),
        (Propagation::Background, None),
    ] {
        let mut c = Cluster::new();
        c.create("deployments.apps default/", deployment("web")).unwrap();
        let mut req = request(Verb::Delete, "deployments.apps default/web");
        req.delete.propagation = Some(propagation);
        let (code, v) = c.send(&req).unwrap();
        assert_eq!(code, 200);
        let Some(finalizer) = finalizer else {
            assert!(c.find("deployments.apps default/web").is_none());
            continue;
        };
        assert_eq!(v["metadata"]["finalizers"], json!([finalizer]));
        assert!(v["metadata"]["deletionTimestamp"].is_string());
        // Asked again for less, it goes at once.
        req.delete.propagation = Some(Propagation::Background);
        c.send(&req).unwrap();
        assert!(c.find("deployments.apps default/web").is_none());
    }
}

#[test]
fn a_namespace_ends_when_it_is_finalized() {
    let mut c = Cluster::new();
    let (_, v) = c.create("namespaces", json!({"metadata":{"name":"x"}})).unwrap();
    assert_eq!(
        (v["spec"]["finalizers"].clone(), v["status"]["phase"].as_str()),
        (json!(["kubernetes"]), Some("Active"))
    );
    let (code, v) = c.delete("namespaces x").unwrap();
    assert_eq!((code, v["status"]["phase"].as_str()), (200, Some("Terminating")));
    let revision = c.tables.revision();
    let (_, mut v) = c.delete("namespaces x").unwrap();
    assert_eq!((v["kind"].as_str(), c.tables.revision()), (Some("Namespace"), revision));
    v["spec"]["finalizers"] = json!([]);
    v["metadata"]["labels"] = json!({"not":"taken"});
    let (code, v) = c.update("namespaces x finalize", v).unwrap();
    assert_eq!((code, v["metadata"]["labels"]["not"].as_str()), (200, None));
    assert!(c.find("namespaces x").is_none());
    assert_eq!(
        error(c.delete("namespaces default")),
        "403 namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[test]
fn a_collection_is_deleted_one_by_one() {
    let mut c = Cluster::new();
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        c.create("configmaps default/", json!({"metadata":{"name":name,"labels":{"app":app}}})).unwrap();
    }
    let mut req = request(Verb::DeleteCollection, "configmaps default/");
    req.list.label_selector = "app=x".into();
    let all = c.registry.deletions(&c.tables, &req).unwrap();
    assert_eq!(all.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    for one in &all {
        c.send(one).unwrap();
    }
    assert!(c.find("configmaps default/a").is_none() && c.find("configmaps default/b").is_some());
    assert_eq!(c.registry.deletions(&c.tables, &request(Verb::DeleteCollection, "configmaps")).unwrap_err().code, 405);
    assert_eq!(c.registry.deletions(&c.tables, &request(Verb::DeleteCollection, "namespaces")).unwrap_err().code, 405);
}

#[test]
fn a_dry_run_deletes_nothing() {
    let mut c = Cluster::new();
    c.create("configmaps default/", json!({"metadata":{"name":"a"}})).unwrap();
    let mut req = request(Verb::Delete, "configmaps default/a");
    req.dry_run = true;
    assert_eq!(c.send(&req).unwrap().1["status"], "Success");
    assert!(c.find("configmaps default/a").is_some());
}
