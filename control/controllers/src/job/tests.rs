use serde_json::json;

use super::*;
use crate::support::sim::TestView;

/// A world with the Job `a/j`, controlled and lived in.
struct World {
    view: TestView,
    key: Key,
}

impl World {
    fn new(mut spec: Value) -> World {
        let template = json!({"metadata": {"labels": {"job": "j"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        for (name, value) in [
            ("template", template),
            ("selector", json!({"matchLabels": {"job": "j"}})),
            ("parallelism", 1.into()),
            ("backoffLimit", 6.into()),
            ("podReplacementPolicy", "TerminatingOrFailed".into()),
        ] {
            if spec.get(name).is_none() {
                spec[name] = value;
            }
        }
        let mut view = TestView { now: Time::from_secs(1_000), ..TestView::default() };
        let meta = json!({"name": "j", "namespace": "a", "uid": "job-uid"});
        let key = view.put(RESOURCE, json!({"metadata": meta, "spec": spec}));
        World { view, key }
    }

    /// Reconciles until there is nothing left to do.
    fn run(&mut self) -> &mut World {
        for _ in 0..20 {
            let plan = Jobs.reconcile(&self.view, &self.key, self.view.now);
            if plan.0.iter().all(|s| matches!(s.action, Action::After(_))) {
                return self;
            }
            assert!(self.view.execute(&plan), "{plan}");
            self.bury();
        }
        panic!("the Job does not go quiet");
    }

    /// What the API does with pods that are deleted and that nobody holds.
    fn bury(&mut self) {
        let gone = |o: &Object| o.meta.deletion_timestamp.is_some() && o.meta.finalizers.is_empty();
        let gone: Vec<Key> = self.view.list("pods", None).filter(|o| gone(o)).map(|o| o.key.clone()).collect();
        gone.iter().for_each(|key| self.view.remove(key));
    }

    fn wait(&mut self, seconds: u64) -> &mut World {
        self.view.now = self.view.now + Duration::from_secs(seconds);
        self.run()
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut World {
        self.view.edit(&self.key.clone(), change);
        self.run()
    }

    /// The pods that have not ended.
    fn running(&self) -> Vec<Key> {
        let open = |o: &Object| !matches!(text(&o.value()["status"]["phase"]), "Succeeded" | "Failed");
        self.view.list("pods", None).filter(|o| open(o)).map(|o| o.key.clone()).collect()
    }

    /// Ends the first pod that runs.
    fn end(&mut self, phase: &str, code: i64) -> &mut World {
        let key = self.running()[0].clone();
        let at = self.view.now.rfc3339();
        self.view.edit(&key, |p| {
            p["status"] = json!({"phase": phase, "containerStatuses": [
                {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]});
        });
        self.run()
    }

    fn status(&self, name: &str) -> Value {
        self.view.value(&self.key)["status"][name].clone()
    }

    /// (active, succeeded, failed)
    fn counts(&self) -> (i64, i64, i64) {
        let n = |name: &str| self.status(name).as_i64().unwrap_or(0);
        assert!(self.status("uncountedTerminatedPods").as_object().is_none_or(|u| u.is_empty()), "all are counted");
        (n("active"), n("succeeded"), n("failed"))
    }

    /// The conditions that are true, with their reasons.
    fn is(&self) -> Vec<String> {
        let all = self.status("conditions");
        let all = all.as_array().into_iter().flatten().filter(|c| c["status"] == "True");
        all.map(|c| format!("{} {}", text(&c["type"]), text(&c["reason"]))).collect()
    }

    /// The indexes of the pods that run.
    fn indexes(&self) -> Vec<i64> {
        self.running().iter().filter_map(|k| pods::index(&self.view.objects[k])).collect()
    }
}

const COMPLETE: [&str; 2] = ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"];

#[test]
fn a_job_runs_its_pods_and_completes() {
    let mut w = World::new(json!({"completions": 3, "parallelism": 2}));
    w.run();
    assert_eq!((w.counts(), w.running().len()), ((2, 0, 0), 2));
    assert_eq!(w.status("startTime"), w.view.now.rfc3339());
    let pod = w.view.objects[&w.running()[0]].value();
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "job-uid");
    assert!(pod["spec"].get("hostname").is_none() && pod["spec"].get("initContainers").is_none());
    w.end("Succeeded", 0);
    assert_eq!(w.counts(), (2, 1, 0));
    w.end("Succeeded", 0);
    assert_eq!(w.counts(), (1, 2, 0));
    assert!(w.is().is_empty());
    w.wait(7).end("Succeeded", 0);
    assert_eq!((w.counts(), w.is()), ((0, 3, 0), COMPLETE.map(String::from).to_vec()));
    assert_eq!(w.status("completionTime"), w.view.now.rfc3339());
    assert_eq!(w.view.events.last().unwrap(), "Completed: Job completed");
    assert!(w.view.list("pods", None).all(|p| p.meta.finalizers.is_empty()), "all are let go, and stay");
    assert_eq!(w.view.list("pods", None).count(), 3);
}

#[test]
fn pods_that_fail_are_replaced_after_a_while_until_the_limit() {
    let mut w = World::new(json!({"completions": 1, "backoffLimit": 2}));
    w.run().end("Failed", 1);
    assert_eq!((w.counts(), w.running().len()), ((0, 0, 1), 0));
    let plan = Jobs.reconcile(&w.view, &w.key, w.view.now);
    assert_eq!(plan.to_string(), "again after 10s (pods have failed)");
    w.wait(9);
    assert!(w.running().is_empty());
    w.wait(1);
    assert_eq!(w.counts(), (1, 0, 1));
    w.end("Failed", 1).wait(19);
    assert!(w.running().is_empty());
    w.wait(1).end("Failed", 1);
    assert_eq!(w.counts(), (0, 0, 3));
    assert_eq!(w.is(), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert!(w.status("completionTime").is_null());
    assert_eq!(w.view.events.last().unwrap(), "BackoffLimitExceeded: Job has reached the specified backoff limit");
    assert!(w.wait(1000).running().is_empty());
}

#[test]
fn a_pod_that_is_deleted_counts_and_is_replaced() {
    let mut w = World::new(json!({"completions": 1}));
    w.run();
    let key = w.running()[0].clone();
    let at = w.view.now.rfc3339();
    w.view.edit(&key, |p| p["metadata"]["deletionTimestamp"] = at.into());
    w.run();
    assert!(w.view.get("pods", "a", &key.name).is_none(), "it is counted and let go");
    assert_eq!(w.status("failed"), 1);
    assert_eq!(w.wait(10).running().len(), 1);
}

#[test]
fn only_what_has_ended_is_replaced_where_that_is_asked() {
    let mut w = World::new(json!({"completions": 1, "podReplacementPolicy": "Failed"}));
    w.run();
    let key = w.running()[0].clone();
    let at = w.view.now.rfc3339();
    w.view.edit(&key, |p| p["metadata"]["deletionTimestamp"] = at.into());
    w.run().wait(60);
    assert_eq!((w.counts(), w.status("terminating"), w.running().len()), ((0, 0, 0), json!(1), 1));
    w.end("Failed", 137);
    assert_eq!(w.status("failed"), 1);
    assert_eq!(w.wait(10).running().len(), 1);
}

#[test]
fn a_queue_of_work_is_done_once_one_has_succeeded() {
    let mut w = World::new(json!({"parallelism": 3}));
    w.run();
    assert_eq!(w.counts(), (3, 0, 0));
    w.end("Succeeded", 0);
    assert_eq!((w.counts(), w.running().len()), ((2, 1, 0), 2), "no new ones");
    w.end("Failed", 1).end("Succeeded", 0);
    assert_eq!((w.counts(), w.is()), ((0, 2, 1), COMPLETE.map(String::from).to_vec()));
}

#[test]
fn parallelism_can_change() {
    let mut w = World::new(json!({"completions": 9, "parallelism": 4}));
    w.run().edit(|j| j["spec"]["parallelism"] = 1.into());
    assert_eq!((w.counts(), w.running().len()), ((1, 0, 0), 1), "those too many do not count as failed");
    w.edit(|j| j["spec"]["parallelism"] = 0.into());
    assert_eq!(w.counts(), (0, 0, 0));
    w.edit(|j| j["spec"]["parallelism"] = 3.into());
    assert_eq!(w.counts(), (3, 0, 0));
}

#[test]
fn a_suspended_job_has_no_pods_and_begins_anew() {
    let mut w = World::new(json!({"completions": 2, "activeDeadlineSeconds": 50}));
    w.run().edit(|j| j["spec"]["suspend"] = true.into());
    assert_eq!((w.counts(), w.is()), ((0, 0, 0), vec!["Suspended JobSuspended".to_string()]));
    assert!(w.status("startTime").is_null());
    w.wait(100).edit(|j| j["spec"]["suspend"] = false.into());
    assert_eq!((w.counts(), w.is().len()), ((1, 0, 0), 0));
    assert_eq!(w.status("startTime"), w.view.now.rfc3339());
    assert!(w.view.events.contains(&"Resumed: Job resumed".to_string()));
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut w = World::new(json!({"completions": 2, "parallelism": 2, "activeDeadlineSeconds": 50}));
    w.run();
    let plan = Jobs.reconcile(&w.view, &w.key, w.view.now);
    assert_eq!(plan.to_string(), "again after 50s (its deadline)");
    w.wait(50);
    assert_eq!(w.is(), ["FailureTarget DeadlineExceeded", "Failed DeadlineExceeded"]);
    assert_eq!(w.counts(), (0, 0, 2));
    assert!(w.running().is_empty());
}

#[test]
fn each_index_succeeds_once() {
    let mut w = World::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    w.run();
    assert_eq!(w.indexes(), [0, 1]);
    let pod = w.view.objects[&w.running()[1]].value();
    assert_eq!((&pod["spec"]["hostname"], &pod["metadata"]["labels"][INDEX]), (&json!("j-1"), &json!("1")));
    assert!(text(&pod["metadata"]["generateName"]).starts_with("j-1-"));
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
            "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}])
    );
    w.end("Succeeded", 0);
    assert_eq!((w.indexes(), w.status("completedIndexes")), (vec![1, 2], json!("0")));
    w.end("Failed", 1);
    assert_eq!(w.indexes(), [2]);
    w.wait(10);
    assert_eq!(
        {
            let mut i = w.indexes();
            i.sort_unstable();
            i
        },
        [1, 2],
        "the same index again"
    );
    for _ in 0..3 {
        w.end("Succeeded", 0);
    }
    assert_eq!((w.status("completedIndexes"), w.counts()), (json!("0-3"), (0, 4, 1)));
    assert_eq!(w.is(), COMPLETE);
}

#[test]
fn an_index_has_a_limit_of_its_own() {
    let mut w = World::new(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1}));
    w.run().end("Failed", 1);
    assert_eq!(w.indexes(), [1]);
    w.wait(10);
    let first = w.running().into_iter().find(|k| pods::index(&w.view.objects[k]) == Some(0)).unwrap();
    assert_eq!(&*w.view.objects[&first].meta.annotations[pods::FAILURES], "1");
    w.view.edit(&first, |p| p["status"] = json!({"phase": "Failed"}));
    w.run().wait(100);
    assert_eq!((w.indexes(), w.status("failedIndexes")), (vec![1], json!("0")));
    w.end("Succeeded", 0);
    assert_eq!(w.is(), ["FailureTarget FailedIndexes", "Failed FailedIndexes"]);
    assert_eq!(w.status("completedIndexes"), "1");
}

#[test]
fn a_policy_says_when_enough_has_succeeded() {
    let mut w = World::new(json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "3-4", "succeededCount": 1}, {"succeededCount": 3}]}}));
    w.run().end("Succeeded", 0).end("Succeeded", 0);
    assert!(w.is().is_empty());
    w.end("Succeeded", 0);
    assert_eq!(w.is(), ["SuccessCriteriaMet SuccessPolicy", "Complete SuccessPolicy"]);
    assert!(w.running().is_empty(), "the others are not needed");
}

#[test]
fn a_failure_policy_ignores_or_ends() {
    let rules = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [42]}}]});
    let spec =
        json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": rules, "podReplacementPolicy": "Failed"});
    let mut w = World::new(spec.clone());
    w.run();
    let key = w.running()[0].clone();
    w.view.edit(&key, |p| {
        p["status"] = json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}]});
    });
    w.run().wait(10);
    assert_eq!((w.counts(), w.is().len()), ((1, 0, 0), 0), "it does not count");
    w.end("Failed", 42);
    assert_eq!(w.is(), ["FailureTarget PodFailurePolicy", "Failed PodFailurePolicy"]);
    let conditions = w.status("conditions");
    let why = text(&conditions[0]["message"]);
    assert!(
        why.starts_with("Container c for pod a/") && why.ends_with("exit code 42 matching FailJob rule at index 0"),
        "{why}"
    );
    let mut w = World::new(spec);
    w.run().end("Failed", 1);
    assert_eq!(w.is(), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
}

#[test]
fn restarts_count_where_containers_restart() {
    let mut w =
        World::new(json!({"completions": 1, "backoffLimit": 2, "template": {"metadata": {"labels": {"job": "j"}},
        "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}}}));
    w.run();
    let key = w.running()[0].clone();
    let restarted = |n: i64| json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": n}]});
    w.view.edit(&key, |p| p["status"] = restarted(1));
    assert!(w.run().is().is_empty());
    w.view.edit(&key, |p| p["status"] = restarted(2));
    assert_eq!(w.run().is(), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
}

#[test]
fn a_finished_job_goes_after_its_time() {
    let mut w = World::new(json!({"completions": 0, "ttlSecondsAfterFinished": 30}));
    w.run();
    assert_eq!(w.is(), COMPLETE);
    let plan = Jobs.reconcile(&w.view, &w.key, w.view.now);
    assert_eq!(plan.to_string(), "again after 30s (it stays for a while)");
    let plan = Jobs.reconcile(&w.view, &w.key, w.view.now + Duration::from_secs(30));
    assert_eq!(plan.to_string(), "delete jobs.batch/j (it ended ttlSecondsAfterFinished ago)");
}

#[test]
fn pods_of_a_job_that_is_gone_are_let_go() {
    let mut w = World::new(json!({"completions": 1}));
    w.run();
    let key = w.running()[0].clone();
    w.view.remove(&w.key.clone());
    assert_eq!(Jobs.all(&w.view), [w.key.clone()]);
    w.run();
    assert!(w.view.objects[&key].meta.finalizers.is_empty());
}

#[test]
fn who_else_manages_a_job_is_let_alone() {
    let mut w = World::new(json!({"completions": 1, "managedBy": "a.b/c"}));
    assert!(w.run().running().is_empty());
    assert!(w.status("startTime").is_null());
}

#[test]
fn orphans_go_whatever_their_labels_say() {
    // As with `manualSelector`: no label names the Job.
    let mut w = World::new(json!({"completions": 1}));
    w.run();
    let pod = w.running()[0].clone();
    let orphan = |w: &mut World, job: Value| {
        w.view.edit(&w.key.clone(), |j| {
            j["metadata"]["deletionTimestamp"] = job["deleted"].clone();
            j["metadata"]["finalizers"] = json!(["orphan"]);
            j["status"]["conditions"] = job["conditions"].clone();
        });
        w.view.edit(&pod, |p| p["metadata"]["ownerReferences"] = json!([]));
        let orphan = w.view.objects[&pod].clone();
        let keys = Jobs.keys(&w.view, Some(&orphan), Some(&orphan));
        assert_eq!(Jobs.all(&w.view), [w.key.clone(), pod.clone()]);
        keys
    };
    let tracked = |w: &World| pods::tracked(&w.view.objects[&pod]);
    let look = |w: &mut World, key: &Key| {
        let plan = Jobs.reconcile(&w.view, key, w.view.now);
        w.view.execute(&plan)
    };
    // A Job that may have it takes it.
    let keys = orphan(&mut w, json!({}));
    assert_eq!(keys, [w.key.clone(), pod.clone()]);
    assert!(look(&mut w, &pod) && tracked(&w));
    w.run();
    assert!(tracked(&w) && w.view.objects[&pod].meta.controller().is_some());
    // One that is being deleted does not.
    let at = w.view.now.rfc3339();
    let keys = orphan(&mut w, json!({"deleted": at}));
    assert_eq!(keys, std::slice::from_ref(&pod));
    assert!(look(&mut w, &pod) && !tracked(&w));
    // Nor does one that has ended, though it might have until then.
    w.view.edit(&pod, |p| p["metadata"]["finalizers"] = json!([FINALIZER]));
    orphan(&mut w, json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": at}]}));
    let key = w.key.clone();
    assert!(look(&mut w, &key) && !tracked(&w));
}
