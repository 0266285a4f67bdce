use super::*;
use crate::support::BURST;
use crate::support::sim::{TestView, config};

const T0: u64 = 1_800_000_000;

fn at(seconds: u64) -> Time {
    Time::from_secs(T0 + seconds)
}

fn node(ready: &str) -> Value {
    named("n", "", ready)
}

fn named(name: &str, zone: &str, ready: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name, "labels": {"topology.kubernetes.io/zone": zone}}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": at(0).rfc3339()}]}})
}

fn pod(name: &str, tolerations: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": "n", "tolerations": tolerations},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

struct Cluster {
    view: TestView,
    controller: Box<dyn Controller>,
    key: Key,
    /// How much the time of day is ahead of the steady clock.
    ahead: Duration,
}

impl Cluster {
    fn new(started: Time) -> Cluster {
        let mut view = TestView::default();
        let key = view.put(RESOURCE, node("True"));
        // Another one, so that not everybody is lost.
        view.put(RESOURCE, named("m", "", "True"));
        let config = Config { started, ..config() };
        let mut c = Cluster { view, controller: Box::new(new(&config)), key, ahead: Duration::ZERO };
        c.renew();
        c
    }
    fn renew(&mut self) {
        let n = self.view.revision();
        self.view.put(
            LEASES,
            json!({"metadata": {"name": "n", "namespace": LEASE_NAMESPACE}, "spec": {"leaseTransitions": n}}),
        );
    }
    /// A node says how it is, or is said to be so.
    fn turn(&mut self, name: &str, ready: &str) {
        self.view.edit(&Key::new(RESOURCE, "", name), |n| n["status"] = node(ready)["status"].clone());
    }
    /// Executes the plan until it has nothing new; the actions. `steady` is the steady clock's time.
    fn run(&mut self, steady: Time) -> String {
        let mut done = Vec::new();
        for _ in 0..5 {
            let plan = self.controller.reconcile_steadily(&self.view, &self.key, steady + self.ahead, steady);
            self.view.execute(&plan);
            let real = plan.0.iter().filter(|s| !matches!(s.action, Action::After(_) | Action::Event { .. }));
            let lines: Vec<String> = real.map(|s| brief(&s.action)).collect();
            if lines.is_empty() {
                return done.join("; ");
            }
            done.extend(lines);
        }
        panic!("does not go quiet: {done:?}");
    }
    /// Likewise for another node: whether it is being emptied afterwards.
    fn empties(&mut self, name: &str, now: Time) -> bool {
        let own = std::mem::replace(&mut self.key, Key::new(RESOURCE, "", name));
        self.run(now);
        let emptied = taints::is_emptied(&self.view.value(&self.key));
        self.key = own;
        emptied
    }
    fn taints(&self) -> Vec<String> {
        let v = self.view.value(&self.key);
        let all = v["spec"]["taints"].as_array().into_iter().flatten();
        all.map(|t| format!("{}:{}", t["key"].as_str().unwrap(), t["effect"].as_str().unwrap())).collect()
    }
}

fn brief(a: &Action) -> String {
    match a {
        Action::Patch { resource, name, subresource, .. } => format!("patch {resource}/{name} {subresource}"),
        other => other.to_string(),
    }
}

#[test]
fn silence_makes_a_node_unknown_then_empty_and_a_word_brings_it_back() {
    let mut c = Cluster::new(at(0));
    c.view.put("pods", pod("plain", json!([])));
    c.view.put("pods", pod("patient", json!([{"operator": "Exists"}])));
    c.view.put(
        "pods",
        pod(
            "hasty",
            json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 10}]),
        ),
    );
    assert_eq!(c.run(at(0)), "");
    assert_eq!(c.run(at(39)), "");
    c.renew();
    assert_eq!(c.run(at(39)), "");
    assert_eq!(c.run(at(78)), "");
    assert_eq!(
        c.run(at(79)),
        "patch nodes/n ; patch nodes/n status; patch pods/hasty status; patch pods/patient status; patch pods/plain status"
    );
    assert_eq!(c.taints(), ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
    let ready = conditions::of(&c.view.value(&c.key));
    assert_eq!(conditions::find(&ready, "Ready").unwrap()["reason"], "NodeStatusUnknown");
    assert_eq!(c.run(at(88)), "");
    assert_eq!(c.run(at(89)), "patch pods/hasty status; delete pods/hasty");
    assert_eq!(c.run(at(378)), "");
    assert_eq!(c.run(at(379)), "patch pods/plain status; delete pods/plain");
    assert_eq!(c.run(at(9999)), "");
    c.renew();
    c.view.edit(&Key::new(RESOURCE, "", "n"), |n| n["status"] = node("True")["status"].clone());
    assert_eq!(c.run(at(10_000)), "patch nodes/n ");
    assert_eq!(c.taints(), [""; 0]);
}

#[test]
fn a_controller_that_has_just_started_waits() {
    let mut c = Cluster::new(at(1000));
    c.view.put("pods", pod("p", json!([])));
    // The lease is ancient by its text, but this controller has only just begun to listen.
    assert_eq!(c.run(at(1000)), "");
    let mut lost = node("Unknown");
    let (key, effect) = ("node.kubernetes.io/unreachable", "NoExecute");
    lost["spec"]["taints"] = json!([
        {"key": key, "effect": "NoSchedule"}, {"key": key, "effect": effect, "timeAdded": at(0).rfc3339()}]);
    c.view.put(RESOURCE, lost);
    assert_eq!(c.run(at(1039)), "patch pods/p status");
    c.renew();
    assert_eq!(c.run(at(1040)), "patch pods/p status; delete pods/p");
}

#[test]
fn whatever_the_time_of_day_is_set_to_silence_lasts_as_long_as_it_lasts() {
    let mut c = Cluster::new(at(0));
    c.ahead = Duration::from_secs(3600);
    assert_eq!(c.run(at(0)), "");
    c.renew();
    assert_eq!(c.run(at(10)), "");
    c.ahead *= 2;
    assert_eq!(c.run(at(20)), "", "set forward, and nobody was silent");
    c.ahead = Duration::ZERO;
    assert_eq!(c.run(at(49)), "");
    assert_eq!(c.run(at(50)), "patch nodes/n ; patch nodes/n status", "set back, and silent for all that");
    assert_eq!(c.taints(), ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
}

#[test]
fn a_controller_that_has_just_started_waits_whatever_the_time_of_day_is_set_to() {
    let mut c = Cluster::new(at(1000));
    c.view.put("pods", pod("p", json!([])));
    let mut lost = node("Unknown");
    let (key, effect) = ("node.kubernetes.io/unreachable", "NoExecute");
    lost["spec"]["taints"] = json!([
        {"key": key, "effect": "NoSchedule"}, {"key": key, "effect": effect, "timeAdded": at(0).rfc3339()}]);
    c.view.put(RESOURCE, lost);
    c.run(at(1000));
    c.ahead = Duration::from_secs(3600);
    assert_eq!(c.run(at(1039)), "");
    c.renew();
    assert_eq!(c.run(at(1040)), "patch pods/p status; delete pods/p");
}

#[test]
fn cordoned_and_pressed_nodes_are_tainted() {
    let mut c = Cluster::new(at(0));
    c.view.edit(&c.key.clone(), |n| {
        n["spec"]["unschedulable"] = true.into();
        n["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "DiskPressure", "status": "True"}));
    });
    assert_eq!(c.run(at(1)), "patch nodes/n ");
    assert_eq!(
        c.taints(),
        ["node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"]
    );
}

#[test]
fn a_persons_taint_counts_from_when_it_is_seen() {
    let mut c = Cluster::new(at(0));
    c.run(at(50));
    c.view.put("pods", pod("p", json!([{"key": "mine", "operator": "Exists", "tolerationSeconds": 5}])));
    c.view.put("pods", pod("q", json!([{"key": "mine", "value": "w", "effect": "NoExecute"}])));
    c.view
        .edit(&c.key.clone(), |n| n["spec"]["taints"] = json!([{"key": "mine", "value": "v", "effect": "NoExecute"}]));
    c.renew();
    assert_eq!(c.run(at(60)), "patch nodes/n ; patch pods/q status; delete pods/q");
    assert_eq!(c.run(at(64)), "");
    assert_eq!(c.run(at(65)), "patch pods/p status; delete pods/p");
}

#[test]
fn a_pod_that_is_bound_wakes_a_node_that_may_evict_it() {
    let mut c = Cluster::new(at(0));
    c.view.put("pods", pod("p", json!([])));
    let bound = c.view.get("pods", "a", "p").unwrap();
    let wakes = |c: &Cluster| c.controller.keys(&c.view, None, Some(&bound));
    assert_eq!(wakes(&c), []);
    for (effect, want) in [("NoSchedule", vec![]), ("NoExecute", vec![c.key.clone()])] {
        c.view.edit(&c.key.clone(), |n| n["spec"]["taints"] = json!([{"key": "mine", "effect": effect}]));
        assert_eq!(wakes(&c), want, "{effect}");
    }
}

#[test]
fn whoever_hears_nobody_evicts_nobody_and_begins_anew_when_somebody_is_back() {
    let mut c = Cluster::new(at(0));
    c.view.put(RESOURCE, named("m", "b", "True"));
    c.view.put("pods", pod("plain", json!([])));
    c.view.put("pods", pod("hasty", json!([{"operator": "Exists", "tolerationSeconds": 10}])));
    c.run(at(0));
    c.run(at(40));
    assert_eq!(c.taints(), ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
    // The other one is lost before the first pod has to leave.
    c.turn("m", "Unknown");
    assert_eq!(c.run(at(41)), "patch nodes/n ");
    assert_eq!(c.taints(), ["node.kubernetes.io/unreachable:NoSchedule"]);
    assert_eq!(c.run(at(9999)), "");
    c.turn("m", "True");
    assert_eq!(c.run(at(10_000)), "patch nodes/n ");
    assert_eq!(c.taints(), ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
    assert_eq!(c.run(at(10_039)), "", "others may be heard again, too");
    assert_eq!(c.run(at(10_040)), "patch pods/hasty status; delete pods/hasty");
    assert_eq!(c.run(at(10_299)), "");
    assert_eq!(c.run(at(10_300)), "patch pods/plain status; delete pods/plain");
}

#[test]
fn a_taint_that_a_person_has_put_makes_pods_leave_whoever_is_lost() {
    let mut c = Cluster::new(at(0));
    c.view.put("pods", pod("p", json!([])));
    c.run(at(0));
    c.turn("m", "Unknown");
    let mine = json!({"key": "mine", "effect": "NoExecute", "timeAdded": at(30).rfc3339()});
    c.view.edit(&c.key.clone(), |n| n["spec"]["taints"] = json!([mine]));
    let done = c.run(at(41));
    assert_eq!(c.taints(), ["mine:NoExecute", "node.kubernetes.io/unreachable:NoSchedule"]);
    assert!(done.ends_with("delete pods/p"), "{done}");
}

#[test]
fn of_more_pods_than_are_evicted_at_once_the_rest_follows_at_once() {
    let mut c = Cluster::new(at(0));
    (0..=BURST).for_each(|i| drop(c.view.put("pods", pod(&format!("p{i}"), json!([])))));
    c.view.edit(&c.key, |n| {
        n["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute", "timeAdded": at(50).rfc3339()}])
    });
    let plan = c.controller.reconcile(&c.view, &c.key, at(100));
    let deleted = plan.0.iter().filter(|s| matches!(s.action, Action::Delete { .. })).count();
    let again = plan.0.iter().any(|s| matches!(s.action, Action::After(d) if d.is_zero()));
    assert_eq!((deleted, again), (BURST, true));
}

#[test]
fn in_a_small_zone_that_is_mostly_lost_no_node_is_emptied() {
    let mut c = Cluster::new(at(0));
    for name in ["a", "b", "c"] {
        c.view.put(RESOURCE, named(name, "", "True"));
    }
    c.view.put(RESOURCE, named("far", "b", "Unknown"));
    c.run(at(0));
    c.turn("a", "Unknown");
    assert!(c.empties("a", at(100)) && c.empties("far", at(100)), "one of five; all of another zone");
    c.turn("b", "False");
    c.turn("c", "Unknown");
    assert!(!c.empties("b", at(101)) && !c.empties("c", at(101)), "three of five");
    assert!(c.empties("a", at(101)), "that was begun before");
    c.turn("b", "True");
    assert!(!c.empties("b", at(102)) && c.empties("c", at(102)), "two of five");
}

#[test]
fn in_a_large_zone_that_is_mostly_lost_nodes_are_emptied_one_after_the_other() {
    let mut c = Cluster::new(at(0));
    for i in 0..60 {
        c.view.put(RESOURCE, named(&format!("n{i}"), "", if i < 40 { "Unknown" } else { "True" }));
    }
    assert!(c.empties("n0", at(100)));
    assert!(!c.empties("n1", at(101)) && !c.empties("n1", at(199)));
    let waits = c.controller.reconcile(&c.view, &Key::new(RESOURCE, "", "n1"), at(150));
    assert!(waits.0.iter().any(|s| s.action == Action::After(Duration::from_secs(50))), "{waits}");
    assert!(c.empties("n1", at(200)) && !c.empties("n2", at(200)));
}

#[test]
fn when_the_last_is_lost_or_the_first_is_back_all_that_are_lost_are_looked_at() {
    let mut c = Cluster::new(at(0));
    c.controller.all(&c.view);
    let wakes = |c: &mut Cluster, name: &str, ready: &str| {
        let old = c.view.get(RESOURCE, "", name);
        c.turn(name, ready);
        let new = c.view.get(RESOURCE, "", name);
        let keys = c.controller.keys(&c.view, old.as_deref(), new.as_deref());
        let mut names: Vec<String> = keys.iter().map(|k| k.name.to_string()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(wakes(&mut c, "n", "Unknown"), "n");
    assert_eq!(wakes(&mut c, "m", "Unknown"), "m n");
    assert_eq!(wakes(&mut c, "m", "False"), "m", "it was not ready before");
    assert_eq!(wakes(&mut c, "m", "True"), "m n");
}
