//! In-place resizes, from the wish to the running container.

use super::*;
use crate::admission::Claim;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}})
}

fn running(policy: Value) -> Bench {
    let container = json!({"name": "c", "resources": resources("100m", "64Mi"), "resizePolicy": policy});
    let mut b = Bench::new(json!({"containers": [container]}));
    assert_eq!(b.image(), "start c.0");
    b.started("c", 0);
    b
}

/// A client has asked for it by `pods/resize`.
fn wish(b: &mut Bench, cpu: &str, memory: &str) {
    let spec = b.pod.spec.as_mut().unwrap();
    spec.containers[0].resources = serde_json::from_value(resources(cpu, memory)).unwrap();
    b.pod.metadata.generation = b.pod.metadata.generation.map(|g| g + 1);
}

fn node() -> NodeFacts {
    NodeFacts { allocatable_cpu_millis: 1000, allocatable_memory: 1 << 30, ..NodeFacts::example() }
}

/// The agent looks whether there is room beside others.
fn judge(b: &mut Bench, others: i64) -> Option<i64> {
    let others = Claim { cpu_millis: others, pods: 1, ..Claim::default() };
    b.observed.resize(&b.pod, others, &node()).map(|c| c.cpu_millis)
}

fn condition(b: &Bench, kind: &str) -> Option<(String, String, i64)> {
    let all = b.last.status.conditions.as_ref().unwrap();
    let c = all.iter().find(|c| c.type_ == kind)?;
    assert_eq!(c.status, "True");
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    Some((text(&c.reason), text(&c.message), c.observed_generation.unwrap()))
}

/// (`allocatedResources`, `resources`) as CPU requests.
fn shown(b: &Bench) -> (String, String) {
    let c = &b.last.status.container_statuses.as_ref().unwrap()[0];
    let cpu = |list: Option<&std::collections::BTreeMap<String, _>>| {
        let q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = &list.unwrap()["cpu"];
        q.0.clone()
    };
    let has = c.resources.as_ref().and_then(|r| r.requests.as_ref());
    (cpu(c.allocated_resources.as_ref()), cpu(has))
}

fn events(b: &Bench) -> Vec<&'static str> {
    b.last.events.iter().map(|e| e.reason).collect()
}

fn resized(b: &Bench, result: Result<(), &str>) -> Observation {
    Observation::Resized { id: b.id("c", 0), result: result.map_err(str::to_string) }
}

#[test]
fn a_running_container_is_given_what_fits_without_a_restart() {
    let mut b = running(json!([]));
    wish(&mut b, "400m", "128Mi");
    assert_eq!(b.plan(), "", "nobody has given it anything");
    assert_eq!(judge(&mut b, 500), Some(400));
    assert_eq!(b.plan(), format!("resize c.0 {} 0 400", 128 << 20));
    let started = &b.last.events[0];
    let text = r#"Pod resize started: {"containers":[{"name":"c","resources":{"limits":{"memory":"128Mi"},"requests":{"cpu":"400m","memory":"128Mi"}}}],"generation":2}"#;
    assert_eq!((started.reason, started.message.as_str()), ("ResizeStarted", text));
    assert_eq!(condition(&b, "PodResizeInProgress"), Some((String::new(), String::new(), 2)));
    assert_eq!(shown(&b), ("400m".into(), "100m".into()));
    assert_eq!(b.plan(), "", "it is asked once");
    let done = resized(&b, Ok(()));
    assert_eq!(b.see(done), "");
    assert_eq!((events(&b), condition(&b, "PodResizeInProgress")), (vec!["ResizeCompleted"], None));
    assert_eq!(shown(&b), ("400m".into(), "400m".into()));
    assert_eq!(b.last.status.container_statuses.as_ref().unwrap()[0].restart_count, 0);
    assert_eq!((judge(&mut b, 500), b.plan()), (None, String::new()));
}

#[test]
fn what_does_not_fit_waits_and_what_never_will_is_said_to() {
    let mut b = running(json!([]));
    wish(&mut b, "600m", "64Mi");
    assert_eq!(judge(&mut b, 500), None);
    assert!(b.plan().is_empty() && b.observed.is_deferred());
    let why = "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000";
    assert_eq!(condition(&b, "PodResizePending"), Some(("Deferred".into(), why.into(), 2)));
    assert_eq!((events(&b), shown(&b)), (vec!["ResizeDeferred"], ("100m".into(), "100m".into())));
    assert_eq!((judge(&mut b, 500), b.plan(), events(&b).len()), (None, String::new(), 0), "it is said once");
    // Another pod has gone.
    assert_eq!(judge(&mut b, 400), Some(600));
    assert_eq!(b.plan(), format!("resize c.0 {} 0 600", 64 << 20));
    assert_eq!(condition(&b, "PodResizePending"), None);
    // While that is under way somebody wants more than there is.
    wish(&mut b, "2", "64Mi");
    assert_eq!((judge(&mut b, 0), b.plan()), (None, String::new()));
    let why = "Node didn't have enough capacity: cpu, requested: 2000, capacity: 1000";
    assert_eq!(condition(&b, "PodResizePending"), Some(("Infeasible".into(), why.into(), 3)));
    assert_eq!(condition(&b, "PodResizeInProgress").map(|c| c.2), Some(2));
    assert!(!b.observed.is_deferred());
    let done = resized(&b, Ok(()));
    b.see(done);
    assert_eq!((condition(&b, "PodResizeInProgress"), shown(&b)), (None, ("600m".into(), "600m".into())));
    // A restart gives it no more than it was given.
    let end =
        Observation::Exited { id: b.id("c", 0), code: 1, reason: "Error".into(), message: String::new(), at: b.now };
    b.see(end);
    b.after(1000);
    let given = b.last.effects.iter().find_map(|e| match e {
        Effect::Start { spec, .. } => Some(spec.limits.cpu_request_millis),
        _ => None,
    });
    assert_eq!(given, Some(600));
    // The wish is taken back.
    wish(&mut b, "600m", "64Mi");
    assert_eq!((judge(&mut b, 0), b.plan(), condition(&b, "PodResizePending")), (None, String::new(), None));
}

#[test]
fn a_container_whose_policy_says_so_is_restarted() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut b = running(policy);
    wish(&mut b, "200m", "64Mi");
    judge(&mut b, 0);
    assert_eq!(b.plan(), format!("resize c.0 {} 0 200", 64 << 20), "not for its CPU");
    let done = resized(&b, Ok(()));
    b.see(done);
    wish(&mut b, "200m", "32Mi");
    judge(&mut b, 0);
    assert_eq!(b.plan(), "stop c.0 30s");
    let killing = b.last.events.iter().find(|e| e.reason == "Killing").unwrap();
    assert_eq!(killing.message, "Container c resize requires restart");
    let end =
        Observation::Exited { id: b.id("c", 0), code: 143, reason: "Error".into(), message: String::new(), at: b.now };
    assert_eq!(b.see(end), "start c.1");
    b.started("c", 1);
    assert_eq!(
        (condition(&b, "PodResizeInProgress"), b.last.status.container_statuses.as_ref().unwrap()[0].restart_count),
        (None, 1)
    );
}

#[test]
fn what_a_container_cannot_be_given_is_tried_again() {
    let mut b = running(json!([]));
    wish(&mut b, "100m", "1Mi");
    judge(&mut b, 0);
    assert_eq!(b.plan(), format!("resize c.0 {} 0 100", 1 << 20));
    let failed = resized(&b, Err("below current usage"));
    assert_eq!(b.see(failed), "");
    assert_eq!(condition(&b, "PodResizeInProgress"), Some(("Error".into(), "below current usage".into(), 2)));
    assert_eq!(b.last.wake_at, Some(b.now + Duration::from_secs(10)));
    assert_eq!(b.after(9_999), "");
    assert_eq!(b.after(1), format!("resize c.0 {} 0 100", 1 << 20));
    let failed = resized(&b, Err("below current usage"));
    b.see(failed);
    // Back to what it has: nothing is left to be done.
    wish(&mut b, "100m", "64Mi");
    judge(&mut b, 0);
    assert_eq!((b.plan(), condition(&b, "PodResizeInProgress")), (String::new(), None));
}

#[test]
fn an_agent_that_comes_back_gives_what_was_given_before() {
    let mut b = running(json!([]));
    wish(&mut b, "2", "64Mi");
    judge(&mut b, 0);
    b.plan();
    b.pod.status = Some(b.last.status.clone());
    b.observed = Observed::adopt(&b.pod, "10.244.0.5".parse().unwrap(), b.now);
    let given = b.observed.allocated(&b.pod).unwrap();
    assert_eq!(crate::claim(&given).cpu_millis, 100);
    assert_eq!(judge(&mut b, 0), None);
    b.plan();
    assert_eq!(condition(&b, "PodResizePending").map(|c| c.0), Some("Infeasible".into()));
}
