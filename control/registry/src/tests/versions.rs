//! A kind in two versions, and deletes whose default is not Background.

use copepod_model::request::{Body, FieldValidation, PatchType, Propagation};
use copepod_model::{ApiRequest, Verb};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod, request};

const V1: &str = "horizontalpodautoscalers.autoscaling default/";

fn v2(verb: Verb, name: &str) -> ApiRequest {
    let mut req = request(verb, &format!("{V1}{name}"));
    req.version = "v2".into();
    req
}

fn old() -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"maxReplicas": 4, "targetCPUUtilizationPercentage": 70,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
}

#[test]
fn what_one_version_writes_the_other_reads() {
    let mut c = Cluster::new();
    let (code, made) = c.create(V1, old()).unwrap();
    assert_eq!((code, made["apiVersion"].as_str()), (201, Some("autoscaling/v1")));
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(made["spec"]["minReplicas"], 1);
    let stored = c.value(&format!("{V1}web"));
    assert_eq!(stored["apiVersion"], "autoscaling/v2");
    assert_eq!(
        stored["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 70}}}])
    );
    assert!(stored["spec"].get("targetCPUUtilizationPercentage").is_none());
    let read = |c: &Cluster, req: &ApiRequest| c.registry.get(&c.tables, req).unwrap().value();
    assert_eq!(read(&c, &v2(Verb::Get, "web"))["spec"], stored["spec"]);
    let seen = read(&c, &request(Verb::Get, &format!("{V1}web")));
    assert_eq!(
        (&seen["spec"], &seen["metadata"]["resourceVersion"]),
        (&made["spec"], &made["metadata"]["resourceVersion"])
    );
    let page = c.registry.list(&c.tables, &request(Verb::List, V1)).unwrap();
    assert_eq!(page.items[0].value(), seen);

    // A metric that v1 cannot say survives a v1 client that reads and writes.
    let mut req = v2(Verb::Patch, "web");
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "hits"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    req.body = Body::Patch(PatchType::Merge, json!({"spec": {"metrics": [pods]}}));
    c.send(&req).unwrap();
    let mut seen = read(&c, &request(Verb::Get, &format!("{V1}web")));
    let note = seen["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap();
    assert!(note.contains("\"metricName\":\"hits\""), "{note}");
    seen["spec"]["maxReplicas"] = 9.into();
    let (_, v) = c.update(&format!("{V1}web"), seen).unwrap();
    assert_eq!((v["apiVersion"].as_str(), &v["spec"]["maxReplicas"]), (Some("autoscaling/v1"), &json!(9)));
    let stored = c.value(&format!("{V1}web"));
    assert_eq!((&stored["spec"]["metrics"], &stored["spec"]["maxReplicas"]), (&json!([pods]), &json!(9)));
    assert!(stored["metadata"].get("annotations").is_none());
}

#[test]
fn patches_apply_to_what_the_client_sees() {
    let mut c = Cluster::new();
    c.create(V1, old()).unwrap();
    let web = format!("{V1}web");
    let to = |percent: i64| json!({"spec": {"targetCPUUtilizationPercentage": percent}});
    let percent =
        |c: &Cluster| c.value(&web)["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"].as_i64().unwrap();
    c.patch(PatchType::Strategic, &web, to(40)).unwrap();
    assert_eq!(percent(&c), 40);
    let op = json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 30}]);
    let (_, v) = c.patch(PatchType::Json, &web, op).unwrap();
    assert_eq!((percent(&c), &v["spec"]["targetCPUUtilizationPercentage"]), (30, &json!(30)));
    let mut strict = request(Verb::Patch, &web);
    strict.field_validation = FieldValidation::Strict;
    strict.body = Body::Patch(PatchType::Merge, json!({"spec": {"metrics": []}}));
    assert!(error(c.send(&strict)).contains("unknown field \"spec.metrics\""));
    let mut applied = old();
    applied["spec"]["targetCPUUtilizationPercentage"] = 20.into();
    let mut req = request(Verb::Patch, &web);
    req.force = true;
    req.body = Body::Patch(PatchType::Apply, applied);
    let (_, v) = c.send(&req).unwrap();
    assert_eq!((percent(&c), v["apiVersion"].as_str()), (20, Some("autoscaling/v1")));
    assert!(error(c.patch(PatchType::Merge, &web, to(0))).contains("must be greater than 0"));
    assert_eq!(c.delete(&web).unwrap().1["status"], "Success");
}

#[test]
fn a_version_that_is_not_served_is_not_found() {
    let mut c = Cluster::new();
    let mut req = v2(Verb::Create, "");
    req.version = "v2beta2".into();
    req.body = Body::Object(old());
    assert_eq!(c.send(&req).unwrap_err().code, 404);
    let mut req = v2(Verb::Create, "");
    req.body = Body::Object(old());
    assert_eq!(
        error(c.send(&req)),
        "400 the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    );
}

fn job(name: &str) -> Value {
    let mut template = pod("x")["spec"].clone();
    template["restartPolicy"] = "Never".into();
    json!({"metadata": {"name": name}, "spec": {"template": {"spec": template}}})
}

#[test]
fn a_job_is_given_a_selector_and_labels() {
    let mut c = Cluster::new();
    let (_, v) = c.create("jobs.batch default/", job("pi")).unwrap();
    let uid = &v["metadata"]["uid"];
    assert_eq!(v["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let labels = json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "pi",
        "controller-uid": uid, "job-name": "pi"});
    assert_eq!(v["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!((&v["metadata"]["labels"], &v["metadata"]["generation"]), (&labels, &json!(1)));
    // A client that does not know them changes nothing but what it means to.
    let (_, v) = c.patch(PatchType::Merge, "jobs.batch default/pi", json!({"spec": {"parallelism": 3}})).unwrap();
    assert_eq!((&v["spec"]["parallelism"], &v["metadata"]["generation"]), (&json!(3), &json!(2)));
    let mut generated = job("");
    generated["metadata"] = json!({"generateName": "run-"});
    let (_, v) = c.create("jobs.batch default/", generated).unwrap();
    assert_eq!(v["spec"]["template"]["metadata"]["labels"]["job-name"], v["metadata"]["name"]);
}

#[test]
fn the_pods_of_jobs_stay_unless_it_is_said() {
    let mut c = Cluster::new();
    let rc = json!({"metadata": {"name": "rc"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}},
        "spec": pod("x")["spec"]}}});
    c.create("replicationcontrollers default/", rc).unwrap();
    c.create("jobs.batch default/", job("pi")).unwrap();
    for what in ["jobs.batch default/pi", "replicationcontrollers default/rc"] {
        let (_, v) = c.delete(what).unwrap();
        assert_eq!(v["metadata"]["finalizers"], json!(["orphan"]), "{what}");
    }
    c.create("jobs.batch default/", job("two")).unwrap();
    let mut req = request(Verb::Delete, "jobs.batch default/two");
    req.delete.propagation = Some(Propagation::Background);
    assert_eq!(c.send(&req).unwrap().1["status"], "Success");
    assert!(c.find("jobs.batch default/two").is_none());
    // Who wants them to wait keeps it so.
    c.create("jobs.batch default/", job("three")).unwrap();
    req = request(Verb::Delete, "jobs.batch default/three");
    req.delete.propagation = Some(Propagation::Foreground);
    c.send(&req).unwrap();
    let (_, v) = c.delete("jobs.batch default/three").unwrap();
    assert_eq!(v["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[test]
fn who_deletes_a_job_without_a_policy_is_warned() {
    let mut c = Cluster::new();
    c.create("jobs.batch default/", job("pi")).unwrap();
    let mut req = request(Verb::Delete, "jobs.batch default/pi");
    req.dry_run = true;
    let warnings = |c: &mut Cluster, req: &ApiRequest| {
        let mut env = crate::Env::new(&c.tables, c.now, &mut c.ids);
        match c.registry.decide(&mut env, req).unwrap() {
            crate::Decision::Answer(answer) => answer.warnings,
            other => panic!("{other:?}"),
        }
    };
    let got = warnings(&mut c, &req);
    assert!(
        got.len() == 1 && got[0].starts_with("child pods are preserved by default when jobs are deleted"),
        "{got:?}"
    );
    req.delete.propagation = Some(Propagation::Orphan);
    assert!(warnings(&mut c, &req).is_empty());
}

#[test]
fn stateful_sets_and_replication_controllers_have_a_scale() {
    let mut c = Cluster::new();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let sts = json!({"metadata": {"name": "db"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    c.create("statefulsets.apps default/", sts).unwrap();
    c.create("replicationcontrollers default/", json!({"metadata": {"name": "rc"}, "spec": {"template": template}}))
        .unwrap();
    for what in ["statefulsets.apps default/db", "replicationcontrollers default/rc"] {
        let scale = format!("{what} scale");
        let (_, v) = c.patch(PatchType::Merge, &scale, json!({"spec": {"replicas": 5}})).unwrap();
        assert_eq!(
            (&v["kind"], &v["spec"], &v["status"]["selector"]),
            (&json!("Scale"), &json!({"replicas": 5}), &json!("a=b"))
        );
        let stored = c.value(what);
        assert_eq!((&stored["spec"]["replicas"], &stored["metadata"]["generation"]), (&json!(5), &json!(2)));
    }
}

#[test]
fn spec_and_status_are_written_apart() {
    let mut c = Cluster::new();
    c.create("jobs.batch default/", job("pi")).unwrap();
    let mut both = c.value("jobs.batch default/pi");
    both["status"] = json!({"active": 1});
    both["spec"]["parallelism"] = 4.into();
    let (_, v) = c.update("jobs.batch default/pi", both.clone()).unwrap();
    assert_eq!((&v["spec"]["parallelism"], v["status"]["active"].is_null()), (&json!(4), true));
    both["metadata"]["resourceVersion"] = Value::Null;
    both["spec"]["parallelism"] = 7.into();
    let (_, v) = c.update("jobs.batch default/pi status", both).unwrap();
    assert_eq!((&v["spec"]["parallelism"], &v["status"]["active"]), (&json!(4), &json!(1)));
    assert_eq!(v["metadata"]["generation"], 2);
}
