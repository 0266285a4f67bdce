use std::collections::BTreeSet;

use copepod_machine::{Action, Step};
use proptest::prelude::*;

use super::*;
use crate::replica_set;
use crate::support::sim::{TestView, config};

fn deployment(replicas: i64, strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}},
    })
}

/// A cluster of the two controllers and a kubelet.
struct Cluster {
    view: TestView,
    controllers: Vec<Box<dyn Controller>>,
    queue: BTreeSet<(usize, Key)>,
    key: Key,
}

impl Cluster {
    fn new(deployment: Value) -> Cluster {
        let mut view = TestView { now: Time::from_secs(1_800_000_000), ..TestView::default() };
        let key = view.put(RESOURCE, deployment);
        let controllers: Vec<Box<dyn Controller>> =
            vec![Box::new(new(&config())), Box::new(replica_set::new(&config()))];
        Cluster { view, controllers, queue: BTreeSet::new(), key }
    }
    fn settle(&mut self) {
        self.view.settle(&self.controllers, &mut self.queue);
    }
    /// Settles, with a kubelet that does all its work at once, until nothing is left to do.
    fn run(&mut self) {
        for _ in 0..200 {
            self.settle();
            if !self.kubelet(usize::MAX) {
                return;
            }
        }
        panic!("does not converge: {}", self.status());
    }
    /// Up to `most` pods become ready or, if terminating, go; whether there were any.
    fn kubelet(&mut self, most: usize) -> bool {
        let unready = |p: &&Arc<Object>| p.meta.deletion_timestamp.is_some() || !p.facts::<PodFacts>().ready;
        let pods: Vec<Arc<Object>> = self.view.list("pods", None).collect();
        let work: Vec<_> = pods.iter().filter(unready).take(most).collect();
        for p in &work {
            if p.meta.deletion_timestamp.is_some() {
                self.view.remove(&p.key);
            } else {
                self.one_ready(&p.key);
            }
        }
        !work.is_empty()
    }
    fn one_ready(&mut self, key: &Key) {
        let since = self.view.now.rfc3339();
        self.view.edit(key, |p| {
            p["spec"]["nodeName"] = "n".into();
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
            p["status"] = json!({"phase": "Running", "conditions": [ready]});
        });
    }
    fn spec(&mut self, change: impl FnOnce(&mut Value)) {
        let key = self.key.clone();
        self.view.edit(&key, |d| {
            change(&mut d["spec"]);
            d["metadata"]["generation"] = (d["metadata"]["generation"].as_i64().unwrap() + 1).into();
        });
    }
    fn image(&mut self, image: &str) {
        self.spec(|s| s["template"]["spec"]["containers"][0]["image"] = image.into());
    }
    fn status(&self) -> Value {
        self.view.value(&self.key)["status"].clone()
    }
    fn condition(&self, kind: &str) -> String {
        let status = self.status();
        let c = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap();
        format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
    }
    /// (image, spec.replicas, revision) of each ReplicaSet, by revision.
    fn sets(&self) -> Vec<(String, i64, u64)> {
        let mut out: Vec<_> = self
            .view
            .list(RS, None)
            .map(|o| {
                let v = o.value();
                let image = v["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_string();
                (image, int(&v["spec"]["replicas"]), revision_of(&o))
            })
            .collect();
        out.sort_by_key(|s| s.2);
        out
    }
    fn spec_total(&self) -> i64 {
        self.sets().iter().map(|s| s.1).sum()
    }
    /// Pods that are known as available and are to stay.
    fn kept(&self) -> i64 {
        let one = |v: Value| int(&v["status"]["availableReplicas"]).min(int(&v["spec"]["replicas"]));
        self.view.list(RS, None).map(|o| one(o.value())).sum()
    }
    fn available(&self) -> i64 {
        let up = |p: &Arc<Object>| p.meta.deletion_timestamp.is_none() && p.facts::<PodFacts>().ready;
        self.view.list("pods", None).filter(up).count() as i64
    }
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

#[test]
fn the_first_rollout() {
    let mut c = Cluster::new(deployment(3, rolling(json!("25%"), json!("25%"))));
    let plan = new(&config()).reconcile(&c.view, &c.key, c.view.now);
    let boring = |s: &&Step| !matches!(s.action, Action::Patch { subresource: "status", .. });
    let line: Vec<String> = plan.0.iter().filter(boring).map(|s| s.action.to_string()).collect();
    let name = line[0].strip_prefix("create replicasets.apps/").unwrap().to_string();
    assert_eq!(
        line[1..],
        [
            format!("event ScalingReplicaSet: Scaled up replica set {name} from 0 to 3"),
            "patch deployments.apps/web {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"1\"},\
             \"uid\":\"d\"}}"
                .to_string(),
            "again after 601s".to_string(),
        ]
    );
    c.settle();
    assert_eq!(c.condition("Available"), "False MinimumReplicasUnavailable");
    assert_eq!(c.condition("Progressing"), "True ReplicaSetUpdated");
    c.run();
    assert_eq!(c.condition("Available"), "True MinimumReplicasAvailable");
    assert_eq!(c.condition("Progressing"), "True NewReplicaSetAvailable");
    let mut status = c.status();
    status.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        status,
        json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "terminatingReplicas": 0})
    );
    let rs = c.view.list(RS, None).next().unwrap();
    let hash = &rs.meta.labels["pod-template-hash"];
    assert_eq!(rs.name(), format!("web-{hash}"));
    assert_eq!(&*rs.meta.annotations["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(&*rs.meta.annotations["deployment.kubernetes.io/max-replicas"], "4");
    let pod = c.view.list("pods", None).next().unwrap();
    assert_eq!(&pod.meta.labels["pod-template-hash"], hash);
}

#[test]
fn rolls_out_back_and_forgets() {
    let mut c = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    c.run();
    c.image("v2");
    c.run();
    assert_eq!(c.sets(), [("v1".into(), 0, 1), ("v2".into(), 2, 2)]);
    c.image("v1");
    c.run();
    assert_eq!(c.sets(), [("v2".into(), 0, 2), ("v1".into(), 2, 3)]);
    let v1 = c.view.list(RS, None).find(|o| revision_of(o) == 3).unwrap();
    assert_eq!(&*v1.meta.annotations["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(revision_of(&c.view.objects[&c.key]), 3);
    for image in ["v3", "v4", "v5"] {
        c.image(image);
        c.run();
    }
    let images: Vec<String> = c.sets().into_iter().map(|s| s.0).collect();
    assert_eq!(images, ["v3", "v4", "v5"], "the history limit is 2");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut c = Cluster::new(deployment(2, json!({"type": "Recreate"})));
    c.run();
    c.image("v2");
    c.settle();
    assert_eq!(c.sets(), [("v1".into(), 0, 1)]);
    assert!(c.kubelet(1));
    c.settle();
    assert_eq!(c.sets().len(), 1, "one old pod still terminates");
    c.run();
    assert_eq!(c.sets(), [("v1".into(), 0, 1), ("v2".into(), 2, 2)]);
}

#[test]
fn paused_only_scales_and_keeps_proportions() {
    let mut c = Cluster::new(deployment(10, rolling(json!(3), json!(2))));
    c.run();
    c.image("v2");
    c.settle();
    assert_eq!(c.sets(), [("v1".into(), 8, 1), ("v2".into(), 5, 2)]);
    c.spec(|s| s["paused"] = true.into());
    c.settle();
    assert_eq!(c.condition("Progressing"), "Unknown DeploymentPaused");
    c.spec(|s| s["replicas"] = 15.into());
    c.settle();
    assert_eq!(c.sets(), [("v1".into(), 11, 1), ("v2".into(), 7, 2)]);
    c.image("v3");
    c.settle();
    assert_eq!(c.sets().len(), 2, "no rollout while paused");
    c.spec(|s| s["paused"] = false.into());
    c.run();
    assert_eq!(c.sets(), [("v1".into(), 0, 1), ("v2".into(), 0, 2), ("v3".into(), 15, 3)]);
}

#[test]
fn a_rollout_that_is_made_smaller_keeps_what_is_available() {
    let mut c = Cluster::new(deployment(5, rolling(json!("25%"), json!("25%"))));
    c.run();
    c.image("v2");
    c.settle();
    assert_eq!(c.sets(), [("v1".into(), 4, 1), ("v2".into(), 3, 2)]);
    // None of the new ones is ready: by their shares alone two of each would stay, and of three none may be missing.
    c.spec(|s| s["replicas"] = 3.into());
    c.settle();
    assert_eq!((c.sets(), c.available()), (vec![("v1".into(), 3, 1), ("v2".into(), 1, 2)], 3));
    c.run();
    assert_eq!(c.sets(), [("v1".into(), 0, 1), ("v2".into(), 3, 2)]);
}

#[test]
fn a_stuck_rollout_times_out_and_can_go_on() {
    let mut c = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    c.settle();
    c.view.now = c.view.now + std::time::Duration::from_secs(602);
    c.queue.insert((0, c.key.clone()));
    c.settle();
    assert_eq!(c.condition("Progressing"), "False ProgressDeadlineExceeded");
    c.run();
    assert_eq!(c.condition("Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn a_name_that_is_taken_counts_as_a_collision() {
    let mut c = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    let hash = hash::of(&bare(&c), None);
    c.view.put(
        RS,
        json!({"metadata": {"name": format!("web-{hash}"), "namespace": "a", "uid": "x"}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}}}),
    );
    c.run();
    assert_eq!(c.status()["collisionCount"], 1);
    assert_eq!(c.status()["availableReplicas"], 1);
}

fn bare(c: &Cluster) -> Value {
    crate::support::bare_template(c.view.value(&c.key)["spec"]["template"].clone())
}

#[derive(Clone, Debug)]
enum Deed {
    Reconcile(usize),
    Kubelet(usize),
    Image(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => any::<usize>().prop_map(Deed::Reconcile),
        4 => (1usize..4).prop_map(Deed::Kubelet),
        1 => (0usize..3).prop_map(Deed::Image),
    ];
    prop::collection::vec(deed, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// At each moment of any interleaving: the sizes add up to no more than replicas + maxSurge, and no fewer than
    /// replicas - maxUnavailable pods are available. Afterwards all is new, and quiet.
    #[test]
    fn a_rollout_keeps_its_bounds(replicas in 1i64..8, surge in 0i64..4, unavailable in 0i64..4, deeds in deeds()) {
        let mut c = Cluster::new(deployment(replicas, rolling(json!(surge), json!(unavailable))));
        c.run();
        let least = replicas - if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
        let images = ["v1", "v2", "v3"];
        let mut last = "v1";
        for deed in deeds {
            match deed {
                Deed::Reconcile(n) => {
                    c.view.tell(&c.controllers, &mut c.queue);
                    c.view.reconcile(&c.controllers, &mut c.queue, n);
                }
                Deed::Kubelet(n) => {
                    c.kubelet(n);
                }
                Deed::Image(n) => {
                    last = images[n];
                    c.image(last);
                }
            }
            prop_assert!(c.spec_total() <= replicas + surge, "{:?}", c.sets());
            prop_assert!(c.available() >= least, "{} available: {:?}", c.available(), c.sets());
        }
        c.run();
        let active: Vec<_> = c.sets().into_iter().filter(|s| s.1 > 0).map(|s| (s.0, s.1)).collect();
        prop_assert_eq!(active, [(last.to_string(), replicas)]);
        prop_assert_eq!(c.condition("Progressing"), "True NewReplicaSetAvailable");
    }

    /// Whatever sizes are asked for in the middle of a rollout, no step takes pods away that must be available, and in the
    /// end there are as many as asked for last.
    #[test]
    fn scaling_converges(sizes in prop::collection::vec((0i64..20, 0usize..30), 1..6)) {
        let mut c = Cluster::new(deployment(10, rolling(json!("25%"), json!("25%"))));
        c.run();
        c.image("v2");
        for (size, turns) in &sizes {
            c.spec(|s| s["replicas"] = (*size).into());
            for n in 0..*turns {
                c.view.tell(&c.controllers, &mut c.queue);
                let least = c.kept().min(size - size / 4);
                c.view.reconcile(&c.controllers, &mut c.queue, n);
                prop_assert!(c.kept() >= least, "{} of {least} are kept: {:?}", c.kept(), c.sets());
                c.kubelet(n % 3);
            }
        }
        c.run();
        let want = sizes.last().unwrap().0;
        prop_assert_eq!(c.sets(), [("v1".to_string(), 0, 1), ("v2".to_string(), want, 2)]);
        prop_assert_eq!(c.available(), want);
    }
}
