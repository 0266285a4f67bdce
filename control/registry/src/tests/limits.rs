//! LimitRanges and ResourceQuotas.

use copepod_machine::{SeededIds, View as _};
use copepod_model::Verb;
use copepod_model::request::Body;
use copepod_state::{Outcome, apply};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod, request};
use crate::{Decision, Env};

const QUOTA: &str = "resourcequotas default/q";

fn container(cpu: &str) -> Value {
    json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
}

fn pod_of(name: &str, containers: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": containers}})
}

fn range(c: &mut Cluster, limits: Value) {
    c.create("limitranges default/", json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})).unwrap();
}

#[test]
fn a_limit_range_gives_containers_what_they_do_not_say() {
    let mut c = Cluster::new();
    range(
        &mut c,
        json!([{"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]),
    );
    let plain =
        json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i", "resources": {"limits": {"cpu": "2"}}}]);
    let (_, v) = c.create("pods default/", pod_of("p", plain)).unwrap();
    assert_eq!(
        v["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})
    );
    assert_eq!(
        v["spec"]["containers"][1]["resources"],
        json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2", "memory": "1Gi"}})
    );
    assert_eq!(
        v["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c; memory request for \
         container d; memory limit for container d"
    );
    assert_eq!(v["status"]["qosClass"], "Burstable");
}

#[test]
fn a_limit_range_refuses_what_is_too_little_or_too_much() {
    let mut c = Cluster::new();
    range(
        &mut c,
        json!([
            {"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"},
             "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "500m"}},
            {"type": "Pod", "max": {"cpu": "1500m"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
        ]),
    );
    let with = |request: &str, limit: &str| json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}}]);
    for (containers, want) in [
        (with("500m", "500m"), "201"),
        (
            with("50m", "100m"),
            "403 pods \"p\" is forbidden: minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            with("1200m", "1200m"),
            "403 pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 1200m",
        ),
        (
            with("200m", "800m"),
            "403 pods \"p\" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            json!([container("800m"), {"name": "d", "image": "i", "resources": container("800m")["resources"]}]),
            "403 pods \"p\" is forbidden: maximum cpu usage per Pod is 1500m, but limit is 1600m",
        ),
        (
            with("50m", "1200m"),
            "403 pods \"p\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per \
             Container is 1, but limit is 1200m, cpu max limit to request ratio per Container is 2, but provided ratio is \
             24.000000]",
        ),
    ] {
        let got = error(c.create("pods default/", pod_of("p", containers.clone())));
        assert!(got.starts_with(want), "{containers}\n got {got}\nwant {want}");
        let _ = c.delete("pods default/p");
    }
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    for (size, want) in [
        (
            "512Mi",
            "403 persistentvolumeclaims \"c\" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request \
             is 512Mi",
        ),
        (
            "3Gi",
            "403 persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request \
             is 3Gi",
        ),
    ] {
        assert_eq!(error(c.create("persistentvolumeclaims default/", claim(size))), want);
    }
    let e = c.create("pods default/", pod_of("p", with("50m", "100m"))).unwrap_err();
    assert_eq!((e.code, e.reason), (403, "Forbidden"));
    assert_eq!(e.details.unwrap().kind, "pods");
}

/// A quota whose status is known.
fn quota(c: &mut Cluster, spec: Value) {
    let hard = spec["hard"].clone();
    c.create("resourcequotas default/", json!({"metadata": {"name": "q"}, "spec": spec})).unwrap();
    let zeros: Value = hard.as_object().unwrap().iter().map(|(k, _)| (k.clone(), Value::from("0"))).collect();
    let mut object = c.value(QUOTA);
    object["status"] = json!({"hard": hard, "used": zeros});
    c.update(&format!("{QUOTA} status"), object).unwrap();
}

#[test]
fn a_quota_is_charged_with_what_is_created_and_refuses_what_is_too_much() {
    let mut c = Cluster::new();
    quota(
        &mut c,
        json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "1", "services.nodeports": "1"}}),
    );
    assert_eq!(error(c.create("pods default/", pod_of("a", json!([container("600m")])))).get(..3), Some("201"));
    assert_eq!(
        c.value(QUOTA)["status"]["used"],
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0", "services.nodeports": "0"})
    );
    let e = c.create("pods default/", pod_of("b", json!([container("500m")]))).unwrap_err();
    assert_eq!(
        (e.code, e.reason, e.message.as_str()),
        (
            403,
            "Forbidden",
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: \
             requests.cpu=1"
        )
    );
    assert_eq!(c.value(QUOTA)["status"]["used"]["pods"], "1", "what is refused changes nothing");
    assert!(c.find("pods default/b").is_none());
    assert_eq!(
        error(c.create("pods default/", pod_of("b", json!([{"name": "c", "image": "i"}])))),
        "403 pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    c.create("pods default/", pod_of("b", json!([container("100m")]))).unwrap();
    assert_eq!(
        error(c.create("pods default/", pod_of("x", json!([container("100m")])))),
        "403 pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
    );
    c.create("configmaps default/", json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!(
        error(c.create("configmaps default/", json!({"metadata": {"name": "b"}}))),
        "403 configmaps \"b\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, \
         limited: count/configmaps=1"
    );
    // Other namespaces have nothing to do with it.
    c.create("configmaps kube-system/", json!({"metadata": {"name": "b"}})).unwrap();
    // An update is charged with what it adds.
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    c.create("services default/", service("ClusterIP")).unwrap();
    c.update("services default/s", service("NodePort")).unwrap();
    assert_eq!(c.value(QUOTA)["status"]["used"]["services.nodeports"], "1");
    // A dry run is judged and not charged.
    let mut req = request(Verb::Create, "pods default/");
    req.body = Body::Object(pod_of("dry", json!([container("100m")])));
    req.dry_run = true;
    assert!(error(c.send(&req)).starts_with("403 pods \"dry\" is forbidden: exceeded quota"));
}

#[test]
fn a_quota_counts_only_what_is_in_its_scopes() {
    let mut c = Cluster::new();
    for (name, value) in [("high", 10), ("low", 1)] {
        c.create("priorityclasses.scheduling.k8s.io", json!({"metadata": {"name": name}, "value": value})).unwrap();
    }
    quota(
        &mut c,
        json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
    );
    let of = |name: &str, class: &str| {
        let mut p = pod(name);
        p["spec"]["priorityClassName"] = class.into();
        p
    };
    for (name, class, want) in [("a", "low", "201"), ("b", "high", "201"), ("c", "low", "201"), ("d", "high", "403")] {
        let got = error(c.create("pods default/", of(name, class)));
        assert!(got.starts_with(want), "{name}: {got}");
    }
}

#[test]
fn a_quota_that_is_not_counted_yet_lets_nothing_in() {
    let mut c = Cluster::new();
    c.create("resourcequotas default/", json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})).unwrap();
    c.create("pods default/", pod("before")).unwrap();
    let mut object = c.value(QUOTA);
    object["status"] = json!({"hard": {"pods": "2"}});
    c.update(&format!("{QUOTA} status"), object).unwrap();
    assert_eq!(
        error(c.create("pods default/", pod("p"))),
        "403 pods \"p\" is forbidden: status unknown for quota: q, resources: pods"
    );
}

#[test]
fn clients_that_race_never_spend_more_than_there_is() {
    const CLIENTS: usize = 64;
    const LIMIT: usize = 20;
    let mut c = Cluster::new();
    quota(&mut c, json!({"hard": {"pods": LIMIT.to_string()}}));
    // All decide on the same view, and whoever has lost decides again on the next one.
    let mut waiting: Vec<(usize, SeededIds)> = (0..CLIENTS).map(|i| (i, SeededIds(1000 + i as u64))).collect();
    let (mut created, mut refused, mut rounds) = (0, 0, 0);
    while !waiting.is_empty() {
        rounds += 1;
        let view = c.tables.clone();
        let mut lost = Vec::new();
        for (i, mut ids) in std::mem::take(&mut waiting) {
            let mut req = request(Verb::Create, "pods default/");
            req.body = Body::Object(pod(&format!("p{i}")));
            let mut env = Env::new(&view, c.now, &mut ids);
            let write = match c.registry.decide(&mut env, &req) {
                Ok(Decision::Write(write)) => write,
                Ok(other) => panic!("{other:?}"),
                Err(e) => {
                    assert!(
                        e.message.contains("exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20"),
                        "{e}"
                    );
                    refused += 1;
                    continue;
                }
            };
            assert!(write.retry.attempts as usize > CLIENTS, "everybody gets a turn");
            match apply(&mut c.tables, 1, &write.txn).0 {
                Outcome::Applied(_) => created += 1,
                Outcome::Failed(_) => lost.push((i, ids)),
                other => panic!("{other:?}"),
            }
        }
        waiting = lost;
    }
    let there = c.tables.list("pods", Some("default")).count();
    assert_eq!((created, refused, there), (LIMIT, CLIENTS - LIMIT, LIMIT));
    assert_eq!(c.value(QUOTA)["status"]["used"]["pods"], LIMIT.to_string());
    assert_eq!(rounds, LIMIT + 1, "one of those that decide on a view wins, and the last round refuses");
}
