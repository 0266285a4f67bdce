use std::sync::Arc;

use copepod_model::object::{encode, with_revision};
use proptest::prelude::*;

use super::*;

/// The objects of a test.
#[derive(Default)]
struct TestView {
    objects: BTreeMap<Key, Arc<Object>>,
    revision: u64,
}

impl View for TestView {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&Key::new(resource, namespace, name)).cloned()
    }
    fn list(&self, resource: &str, _: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        let resource = resource.to_string();
        Box::new(self.objects.values().filter(move |o| *o.key.resource == *resource).cloned())
    }
}

/// A view with its scheduler.
struct Cluster {
    view: TestView,
    cache: Cache,
    scheduler: Scheduler,
    /// Keys that changes made worth a try.
    queue: std::collections::BTreeSet<Key>,
}

impl Cluster {
    fn new(packing: Packing) -> Cluster {
        let (view, cache) = (TestView::default(), Cache::default());
        Cluster { view, cache, scheduler: Scheduler::new(packing), queue: Default::default() }
    }
    fn store(&mut self, key: &Key, value: Option<Value>) {
        let old = self.view.objects.remove(key);
        self.view.revision += 1;
        let n = self.view.revision;
        let new = value.map(|v| Arc::new(Object::decode(key.clone(), n, with_revision(&encode(&v), n))));
        if let Some(new) = &new {
            self.view.objects.insert(key.clone(), new.clone());
        }
        self.queue.extend(self.cache.observe(old.as_deref(), new.as_deref()));
    }
    fn node(&mut self, name: &str, cpu: &str, change: impl FnOnce(&mut Value)) -> Key {
        let mut v = json!({"metadata": {"name": name, "labels": {"name": name}}, "spec": {},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
        change(&mut v);
        let key = Key::new("nodes", "", name);
        self.store(&key, Some(v));
        key
    }
    fn pod(&mut self, name: &str, cpu: &str, change: impl FnOnce(&mut Value)) -> Key {
        let mut v = json!({"metadata": {"name": name, "namespace": "a", "uid": format!("uid-{name}")},
            "spec": {"schedulerName": NAME, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": "Pending"}});
        change(&mut v["spec"]);
        let key = Key::new("pods", "a", name);
        self.store(&key, Some(v));
        key
    }
    fn plan(&mut self, key: &Key) -> Plan {
        self.queue.remove(key);
        self.scheduler.schedule(&self.view, key, Time::from_secs(1_800_000_000), &mut self.cache)
    }
    /// The plan in one line.
    fn line(&mut self, key: &Key) -> String {
        self.plan(key).to_string()
    }
    /// Schedules one pod and shows the result; the node.
    fn place(&mut self, key: &Key) -> Option<String> {
        let plan = self.plan(key);
        let mut bound = None;
        for step in &plan.0 {
            match &step.action {
                Action::Bind { node, .. } => {
                    self.edit(key, |p| p["spec"]["nodeName"] = node.as_str().into());
                    bound = Some(node.clone());
                }
                Action::Patch { patch, .. } => {
                    self.edit(key, |p| p["status"]["conditions"] = patch["status"]["conditions"].clone());
                }
                _ => {}
            }
        }
        bound
    }
    fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut v = self.view.objects[key].value();
        change(&mut v);
        self.store(key, Some(v));
    }
    fn message(&mut self, key: &Key) -> String {
        let plan = self.plan(key);
        let event = plan.0.iter().find_map(|s| match &s.action {
            Action::Event { message, .. } => Some(message.clone()),
            _ => None,
        });
        event.unwrap_or_default()
    }
}

#[test]
fn binds_and_says_so() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("n1", "4", |_| {});
    let p = c.pod("p", "1", |_| {});
    assert_eq!(
        c.line(&p),
        "bind pods/p to n1 (the best node that it fits on); event Scheduled: Successfully assigned a/p to n1 (for people)"
    );
}

#[test]
fn tells_why_not_once() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    let p = c.pod("p", "2", |s| s["nodeSelector"] = json!({"disk": "ssd"}));
    assert_eq!(c.message(&p), "no nodes available to schedule pods");
    let ssd = |n: &mut Value| n["metadata"]["labels"]["disk"] = "ssd".into();
    c.node("small", "1", ssd);
    c.node("hdd", "4", |_| {});
    for name in ["t1", "t2"] {
        c.node(name, "4", |n| n["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]));
    }
    c.node("cordoned", "4", |n| n["spec"]["unschedulable"] = true.into());
    c.node("full", "4", |n| {
        ssd(n);
        n["status"]["allocatable"] = json!({"cpu": "1", "memory": "1Gi", "pods": "0"});
    });
    assert_eq!(c.place(&p), None);
    let conditions = c.view.objects[&p].value()["status"]["conditions"].clone();
    assert_eq!(
        conditions,
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "lastTransitionTime": "2027-01-15T08:00:00Z",
            "message": "0/6 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector, \
                1 node(s) were unschedulable, 2 Insufficient cpu, 2 node(s) had untolerated taint {k: v}."}])
    );
    assert!(c.queue.is_empty(), "its own condition is no news");
    assert_eq!(c.line(&p), "again after 300s (in case a change went unnoticed)");
}

#[test]
fn changes_bring_the_waiting_back() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    let n = c.node("n", "1", |_| {});
    let first = c.pod("first", "1", |_| {});
    let second = c.pod("second", "1", |_| {});
    assert_eq!(c.place(&first), Some("n".into()));
    assert_eq!(c.place(&second), None);
    assert!(c.queue.is_empty());
    c.edit(&n, |n| n["status"]["conditions"] = json!([]));
    assert!(c.queue.is_empty(), "nothing that matters changed");
    c.store(&first, None);
    assert_eq!(c.queue.pop_first(), Some(second.clone()));
    c.node("other", "1", |_| {});
    assert!(c.queue.is_empty(), "it is being tried already");
    assert!(c.place(&second).is_some());
    let third = c.pod("third", "1500m", |_| {});
    assert_eq!(c.place(&third), None);
    c.edit(&n, |n| n["status"]["allocatable"]["cpu"] = "4".into());
    assert!(c.queue.contains(&third));
    assert_eq!(c.place(&third), Some("n".into()));
}

#[test]
fn assumed_pods_count_at_once_and_a_failed_binding_is_taken_back() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("n", "1", |_| {});
    let (a, b) = (c.pod("a", "1", |_| {}), c.pod("b", "1", |_| {}));
    assert!(c.line(&a).starts_with("bind pods/a to n"));
    assert_eq!(c.message(&b), "0/1 nodes are available: 1 Insufficient cpu.");
    assert!(c.line(&a).starts_with("bind pods/a to n"), "its binding failed, and it fits as before");
    c.store(&a, None);
    assert_eq!(c.place(&b), Some("n".into()));
}

#[test]
fn others_pods_are_left_alone() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("n", "4", |_| {});
    let other = c.pod("other", "1", |s| s["schedulerName"] = "mine".into());
    let bound = c.pod("bound", "1", |s| s["nodeName"] = "n".into());
    let gated = c.pod("gated", "1", |s| s["schedulingGates"] = json!([{"name": "x"}]));
    c.edit(&other, |p| p["metadata"]["labels"] = json!({}));
    for key in [&other, &bound, &gated] {
        assert_eq!(c.line(key), "", "{key}");
    }
    assert_eq!(all(&c.view), std::slice::from_ref(&gated));
    c.edit(&gated, |p| p["spec"]["schedulingGates"] = json!([]));
    assert!(c.queue.contains(&gated));
}

#[test]
fn affinity_taints_and_ports() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("a", "4", |n| n["metadata"]["labels"]["rank"] = "3".into());
    c.node("b", "4", |n| n["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}]));
    c.node("c", "4", |n| n["spec"]["taints"] = json!([{"key": "soft", "effect": "PreferNoSchedule"}]));
    let required = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let mut n = 0;
    let mut try_with = |c: &mut Cluster, change: &dyn Fn(&mut Value)| {
        n += 1;
        let key = c.pod(&format!("p{n}"), "10m", change);
        c.place(&key)
    };
    let gt = required(json!([{"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["2"]}]}]));
    assert_eq!(try_with(&mut c, &|s| s["affinity"] = gt.clone()), Some("a".into()));
    let field = required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}]));
    assert_eq!(try_with(&mut c, &|s| s["affinity"] = field.clone()), Some("c".into()));
    assert_eq!(try_with(&mut c, &|s| s["affinity"] = required(json!([{}]))), None, "an empty term matches nothing");
    assert_eq!(try_with(&mut c, &|s| s["nodeSelector"] = json!({"name": "b"})), None);
    let tolerant = |s: &mut Value| {
        s["nodeSelector"] = json!({"name": "b"});
        s["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    };
    assert_eq!(try_with(&mut c, &tolerant), Some("b".into()));
    let wish = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "name", "operator": "In", "values": ["c"]}]}}]}});
    assert_eq!(try_with(&mut c, &|_| {}), Some("a".into()), "c would rather not");
    let tolerant_wish = |s: &mut Value| {
        s["affinity"] = wish.clone();
        s["tolerations"] = json!([{"key": "soft", "operator": "Exists"}]);
    };
    assert_eq!(try_with(&mut c, &tolerant_wish), Some("c".into()));
    let port = |ip: &'static str| {
        move |s: &mut Value| {
            s["nodeSelector"] = json!({"name": "a"});
            s["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": 80, "hostIP": ip}]);
        }
    };
    assert_eq!(try_with(&mut c, &port("10.0.0.1")), Some("a".into()));
    assert_eq!(try_with(&mut c, &port("10.0.0.2")), Some("a".into()));
    assert_eq!(try_with(&mut c, &port("")), None);
}

#[test]
fn sidecars_hold_their_ports_and_init_containers_do_not() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("a", "4", |_| {});
    let port = |n: u16| json!([{"containerPort": 1, "hostPort": n}]);
    let first = c.pod("first", "10m", |s| {
        s["initContainers"] =
            json!([{"name": "i", "ports": port(80)}, {"name": "s", "restartPolicy": "Always", "ports": port(81)}]);
    });
    assert_eq!(c.place(&first), Some("a".into()));
    let once = c.pod("once", "10m", |s| s["containers"][0]["ports"] = port(80));
    assert_eq!(c.place(&once), Some("a".into()));
    let clash =
        c.pod("clash", "10m", |s| s["initContainers"] = json!([{"restartPolicy": "Always", "ports": port(81)}]));
    let why = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(c.message(&clash), why);
}

#[test]
fn ephemeral_storage_counts_as_it_runs_together() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    c.node("a", "4", |n| n["status"]["allocatable"]["ephemeral-storage"] = "10Mi".into());
    let wants = |amount: &str| json!({"requests": {"ephemeral-storage": amount}});
    let first = c.pod("first", "10m", |s| {
        s["initContainers"] =
            json!([{"restartPolicy": "Always", "resources": wants("2Mi")}, {"resources": wants("3Mi")}]);
        s["containers"][0]["resources"] = wants("1Mi");
        s["overhead"] = json!({"ephemeral-storage": "1Mi"});
    });
    assert_eq!(c.place(&first), Some("a".into()));
    // The init container beside the sidecar, and overhead: 6 Mi.
    let more = c.pod("more", "10m", |s| s["containers"][0]["resources"] = wants("5Mi"));
    assert_eq!(c.message(&more), "0/1 nodes are available: 1 Insufficient ephemeral-storage.");
    let fits = c.pod("fits", "10m", |s| s["containers"][0]["resources"] = wants("4Mi"));
    assert_eq!(c.place(&fits), Some("a".into()));
}

/// A pod of app `app` with a change of its spec.
fn of_app(c: &mut Cluster, name: &str, app: &str, change: impl FnOnce(&mut Value)) -> Key {
    let key = c.pod(name, "10m", change);
    c.edit(&key, |p| p["metadata"]["labels"] = json!({"app": app}));
    key
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

#[test]
fn pods_keep_apart_from_others_and_near_them() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        c.node(name, "4", |n| n["metadata"]["labels"]["zone"] = zone.into());
    }
    let apart = |s: &mut Value| s["affinity"] = json!({"podAntiAffinity": {REQUIRED: [term("db", "zone")]}});
    let placed: std::collections::BTreeSet<String> = (0..2)
        .map(|i| {
            let key = of_app(&mut c, &format!("db{i}"), "db", apart);
            c.place(&key).unwrap()[..1].to_string()
        })
        .collect();
    assert_eq!(placed.len(), 2, "one in each zone");
    let third = of_app(&mut c, "db2", "db", apart);
    assert_eq!(c.message(&third), "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.");
    // Who says nothing itself is refused by those who said it.
    let plain = of_app(&mut c, "plain", "db", |_| {});
    assert!(c.message(&plain).contains("3 node(s) didn't satisfy existing pods anti-affinity rules"));
    let elsewhere = of_app(&mut c, "elsewhere", "db", |_| {});
    c.edit(&elsewhere, |p| p["metadata"]["labels"] = json!({"app": "web"}));
    assert!(c.place(&elsewhere).is_some(), "it is about other pods");
    // Near: the first of a group goes anywhere, the others to it; where there is nobody to be near to, nowhere.
    let near = |app: &'static str| {
        move |s: &mut Value| s["affinity"] = json!({"podAffinity": {REQUIRED: [term(app, "zone")]}})
    };
    let lonely = of_app(&mut c, "lonely", "x", near("nobody"));
    assert!(c.message(&lonely).contains("3 node(s) didn't match pod affinity rules"));
    let first = of_app(&mut c, "first", "group", near("group"));
    let zone = c.place(&first).unwrap()[..1].to_string();
    for i in 0..4 {
        let key = of_app(&mut c, &format!("more{i}"), "group", near("group"));
        assert_eq!(c.place(&key).unwrap()[..1], zone);
    }
    // A pod that comes brings back who waited for it.
    assert_eq!(c.place(&lonely), None, "others came, not those");
    c.queue.clear();
    let nobody = of_app(&mut c, "n", "nobody", |_| {});
    let zone = c.place(&nobody).unwrap()[..1].to_string();
    assert!(c.queue.contains(&lonely), "{:?}", c.queue);
    assert_eq!(c.place(&lonely).unwrap()[..1], zone);
    // Other namespaces only if the term says so.
    let of_other = |namespaces: Value| {
        move |s: &mut Value| {
            let mut t = term("group", "zone");
            t["namespaces"] = namespaces.clone();
            s["affinity"] = json!({"podAffinity": {REQUIRED: [t]}});
        }
    };
    let there = of_app(&mut c, "there", "y", of_other(json!(["b"])));
    assert_eq!(c.place(&there), None);
    let here = of_app(&mut c, "here", "y", of_other(json!(["a"])));
    assert!(c.place(&here).is_some());
}

#[test]
fn wishes_to_be_near_or_apart_count() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    for name in ["n1", "n2", "n3"] {
        c.node(name, "400", |_| {});
    }
    let cache = of_app(&mut c, "cache", "cache", |_| {});
    let home = c.place(&cache).unwrap();
    let wish = |kind: &'static str, app: &'static str| {
        move |s: &mut Value| {
            s["affinity"] = json!({kind: {PREFERRED: [{"weight": 50, "podAffinityTerm": term(app, "name")}]}});
        }
    };
    for i in 0..6 {
        let near = of_app(&mut c, &format!("near{i}"), "web", wish("podAffinity", "cache"));
        assert_eq!(c.place(&near), Some(home.clone()));
        let apart = of_app(&mut c, &format!("apart{i}"), "other", wish("podAntiAffinity", "cache"));
        assert_ne!(c.place(&apart), Some(home.clone()));
    }
}

#[test]
fn alike_pods_spread_by_constraint() {
    let mut c = Cluster::new(Packing::MostAllocated);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("none", "")] {
        c.node(name, "40", |n| {
            if !zone.is_empty() {
                n["metadata"]["labels"]["zone"] = zone.into();
            }
        });
    }
    let spread = |when: &'static str| {
        move |s: &mut Value| {
            s["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
                "labelSelector": {"matchLabels": {"app": "web"}}}]);
        }
    };
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for i in 0..6 {
        let key = of_app(&mut c, &format!("p{i}"), "web", spread("DoNotSchedule"));
        *zones.entry(c.place(&key).unwrap()[..1].to_string()).or_default() += 1;
        let (least, most) = (zones.values().min().unwrap(), zones.values().max().unwrap());
        assert!(most - least <= 1 || zones.len() < 2, "{zones:?}");
    }
    assert_eq!(zones.into_values().collect::<Vec<_>>(), [3, 3]);
    // One zone is full: more would be too many in the other.
    c.edit(&Key::new("nodes", "", "b1"), |n| n["spec"]["unschedulable"] = true.into());
    let more = of_app(&mut c, "more", "web", spread("DoNotSchedule"));
    assert!(c.place(&more).is_some(), "one more is no skew of two");
    let refused = of_app(&mut c, "refused", "web", spread("DoNotSchedule"));
    let message = c.message(&refused);
    for part in [
        "1 node(s) didn't match pod topology spread constraints (missing required label)",
        "2 node(s) didn't match pod topology spread constraints",
        "1 node(s) were unschedulable",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let anyway = of_app(&mut c, "anyway", "web", spread("ScheduleAnyway"));
    assert!(c.place(&anyway).is_some());
}

#[test]
fn replicas_of_one_controller_keep_apart_without_being_told() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        c.node(name, "40", |n| n["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into());
    }
    let mut of = |name: &str, owner: &str| {
        let key = Key::new("pods", "default", name);
        let value = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}]}});
        c.store(&key, Some(value));
        c.place(&key).unwrap()
    };
    let web: Vec<String> = (0..3).map(|i| of(&format!("web-{i}"), "web")).collect();
    assert_eq!(web.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "one on each node: {web:?}");
    assert_ne!(web[0][..1], web[1][..1], "another zone first: {web:?}");
    let two: Vec<String> = (0..2).map(|i| of(&format!("api-{i}"), "api")).collect();
    assert_ne!(two[0][..1], two[1][..1], "others do not matter: {two:?}");
}

#[test]
fn spreads_or_packs() {
    for (packing, want) in [(Packing::LeastAllocated, 2), (Packing::MostAllocated, 1)] {
        let mut c = Cluster::new(packing);
        for n in ["n1", "n2"] {
            c.node(n, "4", |_| {});
        }
        let mut used = std::collections::BTreeSet::new();
        for i in 0..4 {
            let key = c.pod(&format!("p{i}"), "500m", |_| {});
            used.insert(c.place(&key));
        }
        assert_eq!(used.len(), want, "{packing:?}");
    }
}

#[test]
fn equal_nodes_share_and_the_choice_is_stable() {
    let mut c = Cluster::new(Packing::LeastAllocated);
    for i in 0..10 {
        c.node(&format!("n{i}"), "64", |_| {});
    }
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..1000 {
        let key = c.pod(&format!("p{i}"), "100m", |_| {});
        *per_node.entry(c.place(&key).unwrap()).or_default() += 1;
    }
    assert_eq!(per_node.len(), 10);
    assert!(per_node.values().all(|n| (90..=110).contains(n)), "{per_node:?}");
    let pod = c.pod("again", "100m", |_| {});
    assert_eq!(c.line(&pod), c.line(&pod));
}

#[derive(Clone, Debug)]
enum Deed {
    Pod(u8, u16),
    Gone(u8),
    Done(u8),
    Schedule(u8),
    Node(u8, u8),
    NodeGone(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0u8..20, 0u16..1500).prop_map(|(n, cpu)| Deed::Pod(n, cpu)),
        2 => (0u8..20).prop_map(Deed::Gone),
        1 => (0u8..20).prop_map(Deed::Done),
        8 => (0u8..20).prop_map(Deed::Schedule),
        1 => (0u8..4, 1u8..4).prop_map(|(n, cpu)| Deed::Node(n, cpu)),
        1 => (0u8..4).prop_map(Deed::NodeGone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The cache always equals one built anew, and no node is given more than it has while what it has does not shrink.
    #[test]
    fn the_cache_is_right_and_nothing_is_overcommitted(deeds in prop::collection::vec(deed(), 1..120)) {
        let mut c = Cluster::new(Packing::LeastAllocated);
        for i in 0..4 {
            c.node(&format!("n{i}"), "4", |_| {});
        }
        for deed in deeds {
            let pod = |n: u8| Key::new("pods", "a", format!("p{n}"));
            match deed {
                Deed::Pod(n, cpu) if !c.view.objects.contains_key(&pod(n)) => {
                    c.pod(&format!("p{n}"), &format!("{cpu}m"), |_| {});
                }
                Deed::Gone(n) => c.store(&pod(n), None),
                Deed::Done(n) if c.view.objects.contains_key(&pod(n)) => {
                    c.edit(&pod(n), |p| p["status"]["phase"] = "Succeeded".into());
                }
                Deed::Schedule(n) => {
                    c.place(&pod(n));
                }
                Deed::Node(n, cpu) => {
                    // Only ever more than before, or the test's claim would not hold.
                    c.node(&format!("n{n}"), &format!("{}", 4 + cpu), |_| {});
                }
                Deed::NodeGone(n) => c.store(&Key::new("nodes", "", format!("n{n}")), None),
                _ => {}
            }
            let mut fresh = Cache::build(&c.view);
            for n in 0..20 {
                c.cache.settled(&pod(n));
                fresh.settled(&pod(n));
            }
            prop_assert_eq!(&c.cache, &fresh);
            for node in c.cache.nodes().filter(|n| n.offer.cpu_millis >= 7000) {
                prop_assert!(node.used.cpu_millis <= node.offer.cpu_millis, "{:?}", node);
            }
        }
    }
}
