use std::collections::BTreeMap;

use copepod_machine::Step;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::support::samples::{pod, service};
use crate::support::sim::{TestView, config};

fn reconcile(view: &TestView) -> Plan {
    new(&config()).reconcile(view, &Key::new(SERVICES, "a", "web"), view.now)
}

/// Executes the plan; how many steps it had.
fn converge(view: &mut TestView) -> usize {
    // Longer than any object rests.
    view.now = view.now + Duration::from_secs(10);
    let plan = reconcile(view);
    assert!(view.execute(&plan), "{plan}");
    view.now = view.now + Duration::from_secs(10);
    assert_eq!(reconcile(view).to_string(), "", "quiet after one plan");
    plan.0.len()
}

fn web() -> Key {
    Key::new(ENDPOINTS, "a", "web")
}

fn subsets(view: &TestView) -> Value {
    view.value(&web())["subsets"].clone()
}

/// Port → addresses that are ready, addresses that are not, each by its last byte.
fn listed(view: &TestView) -> BTreeMap<u64, (Vec<String>, Vec<String>)> {
    let mut out: BTreeMap<u64, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let ips =
        |list: &Value| list.as_array().into_iter().flatten().map(|a| text(&a["ip"]).to_string()).collect::<Vec<_>>();
    for s in subsets(view).as_array().unwrap() {
        for p in s["ports"].as_array().unwrap() {
            let at = out.entry(p["port"].as_u64().unwrap()).or_default();
            at.0.extend(ips(&s["addresses"]));
            at.1.extend(ips(&s["notReadyAddresses"]));
        }
    }
    out
}

#[test]
fn pods_that_are_ready_and_pods_that_are_not() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    view.put("pods", pod(1, true, 8080));
    view.put("pods", pod(0, true, 8080));
    view.put("pods", pod(2, false, 8080));
    let mut going = pod(3, true, 8080);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    view.put("pods", going);
    assert_eq!(converge(&mut view), 1);
    let at = |n: usize| {
        json!({"ip": format!("10.244.0.{}", n + 1), "nodeName": "n1",
            "targetRef": {"kind": "Pod", "namespace": "a", "name": format!("p{n}"), "uid": format!("u{n}")}})
    };
    let subset = json!([{"addresses": [at(0), at(1)], "notReadyAddresses": [at(2)],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}]);
    assert_eq!(subsets(&view), subset);
    let meta = view.value(&web())["metadata"].clone();
    assert_eq!(meta["labels"], json!({"team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}));
    assert_eq!(meta["annotations"].as_object().unwrap().keys().collect::<Vec<_>>(), [CHANGED]);
}

#[test]
fn headless_named_and_published() {
    let mut view = TestView::default();
    let key = view.put(
        SERVICES,
        service(|s| {
            s["spec"]["clusterIP"] = "None".into();
            s["spec"]["publishNotReadyAddresses"] = true.into();
        }),
    );
    let mut named = pod(0, false, 80);
    named["spec"]["hostname"] = "zero".into();
    named["spec"]["subdomain"] = "web".into();
    named["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    view.put("pods", named);
    converge(&mut view);
    assert_eq!(subsets(&view)[0]["addresses"][0]["hostname"], "zero");
    assert_eq!(view.value(&web())["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    // Without ports there are addresses alone.
    view.edit(&key, |s| s["spec"]["ports"] = Value::Null);
    converge(&mut view);
    assert_eq!(subsets(&view)[0]["addresses"][0]["ip"], "10.244.0.1");
    assert_eq!(subsets(&view)[0]["ports"], Value::Null);
}

#[test]
fn ports_of_the_same_pods_share_a_subset() {
    let mut view = TestView::default();
    view.put(
        SERVICES,
        service(|s| {
            let ports = s["spec"]["ports"].as_array_mut().unwrap();
            ports.push(json!({"name": "admin", "port": 81, "targetPort": 9000, "protocol": "TCP"}));
            ports.push(json!({"name": "stats", "port": 82, "targetPort": 9001, "protocol": "TCP"}));
        }),
    );
    view.put("pods", pod(0, true, 8080));
    view.put("pods", pod(1, true, 8081));
    converge(&mut view);
    let (a, b) = ("10.244.0.1".to_string(), "10.244.0.2".to_string());
    let both = (vec![a.clone(), b.clone()], vec![]);
    let want = [(8080, (vec![a], vec![])), (8081, (vec![b], vec![])), (9000, both.clone()), (9001, both)];
    assert_eq!(listed(&view), want.into());
    assert_eq!(subsets(&view).as_array().unwrap().len(), 3);
}

#[test]
fn too_many_are_truncated_and_say_so() {
    let mut view = TestView::default();
    view.put(SERVICES, service(|_| {}));
    for n in 0..700 {
        view.put("pods", pod(n, true, 8080));
        view.put("pods", pod(1000 + n, n % 2 == 0, 8081));
    }
    converge(&mut view);
    let count = |view: &TestView| {
        let counts: Vec<_> = listed(view).values().map(|(r, n)| (r.len(), n.len())).collect();
        (counts, view.value(&web())["metadata"]["annotations"][OVER_CAPACITY].clone())
    };
    assert_eq!(count(&view), (vec![(667, 0), (333, 0)], "truncated".into()), "of the ready ones each port's share");
    for n in 0..200 {
        view.put("pods", pod(n, false, 8080));
    }
    converge(&mut view);
    let (counts, note) = count(&view);
    assert_eq!((counts, note), (vec![(500, 55), (350, 95)], "truncated".into()), "all that are ready come first");
    for n in 0..700 {
        view.remove(&Key::new("pods", "a", format!("p{}", 1000 + n)));
    }
    converge(&mut view);
    assert_eq!(count(&view), (vec![(500, 200)], Value::Null));
}

#[test]
fn they_go_with_their_service_and_others_are_left_alone() {
    let mut view = TestView::default();
    let key = view.put(SERVICES, service(|_| {}));
    converge(&mut view);
    assert_eq!(subsets(&view), json!([]), "a Service without pods has empty ones");
    view.remove(&key);
    assert_eq!(new(&config()).all(&view), std::slice::from_ref(&key), "what was left behind is found again");
    assert_eq!(reconcile(&view).to_string(), "delete endpoints/web (its Service is gone)");
    view.edit(&web(), |e| e["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"] = "{}".into());
    assert_eq!(reconcile(&view).to_string(), "");
    view.put(SERVICES, service(|s| s["spec"]["selector"] = Value::Null));
    view.edit(&web(), |e| e["subsets"] = json!([{"addresses": [{"ip": "192.0.2.1"}]}]));
    assert_eq!(reconcile(&view).to_string(), "", "someone else's");
}

#[test]
fn only_changes_that_matter_wake_it() {
    let mut view = TestView::default();
    let user = view.put(ENDPOINTS, json!({"metadata": {"namespace": "a", "name": "web"}}));
    let controller = new(&config());
    let own = view.objects[&user].clone();
    assert!(controller.keys(&view, None, Some(&own)).is_empty(), "there is no such Service");
    let key = view.put(SERVICES, service(|_| {}));
    assert_eq!(controller.keys(&view, None, Some(&own)), std::slice::from_ref(&key));
    assert_eq!(controller.keys(&view, Some(&own), None), [key]);
    assert!(controller.keys(&view, Some(&own), Some(&own)).is_empty(), "its own write");
}

#[test]
fn a_large_object_rests_after_each_write() {
    let mut view = TestView { now: Time::from_secs(1_000), ..TestView::default() };
    view.put(SERVICES, service(|_| {}));
    for n in 0..400 {
        view.put("pods", pod(n, true, 80));
    }
    let plan = reconcile(&view);
    assert!(view.execute(&plan));
    let size = view.objects[&web()].body.len() as u64;
    view.put("pods", pod(400, true, 80));
    view.now = view.now + Duration::from_millis(10);
    let plan = reconcile(&view);
    let [Step { action: Action::After(rest), .. }] = &plan.0[..] else { panic!("it rests: {plan}") };
    assert_eq!(*rest, Duration::from_millis(size / BYTES_PER_MILLISECOND - 10));
    view.now = view.now + *rest;
    assert_eq!(reconcile(&view).to_string(), "update endpoints/web (endpoints changed)");
    // A clock that was set back does not hold it.
    view.now = Time::from_secs(500);
    assert_eq!(reconcile(&view).to_string(), "update endpoints/web (endpoints changed)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// After any changes, the subsets list just the pods, each once by port, and one plan is enough.
    #[test]
    fn subsets_equal_the_model(steps in prop::collection::vec(
        prop::collection::vec((0usize..90, 0u8..4, 0u16..2), 1..60), 1..6)) {
        let mut view = TestView::default();
        view.put(SERVICES, service(|_| {}));
        let mut model = BTreeMap::new();
        for step in steps {
            for (n, what, port) in step {
                if what == 0 {
                    view.remove(&Key::new("pods", "a", format!("p{n}")));
                    model.remove(&n);
                } else {
                    view.put("pods", pod(n, what > 1, 80 + port));
                    model.insert(n, (what > 1, u64::from(80 + port)));
                }
            }
            converge(&mut view);
            let mut want: BTreeMap<u64, (Vec<String>, Vec<String>)> = BTreeMap::new();
            for (n, (ready, port)) in &model {
                let at = want.entry(*port).or_default();
                let list = if *ready { &mut at.0 } else { &mut at.1 };
                list.push(format!("10.244.0.{}", n + 1));
            }
            prop_assert_eq!(listed(&view), want);
        }
    }
}
