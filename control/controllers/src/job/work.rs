//! One look at a Job: its pods are sorted, counted, ended or made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, View};
use copepod_model::request::PatchType;
use copepod_model::selector::LabelSelector;
use copepod_model::{Object, Time};
use serde_json::{Map, Value, json};

use super::pods::{self, Judgement, Outcome};
use super::verdict::{self, Facts};
use super::{FINALIZER, GVK, Verdict, indexes, set};
use crate::support::ownership::{self, Claim};
use crate::support::pods::Pod;
use crate::support::{BURST, conditions, event, int, names, patch, text};

/// The first wait after a failure, which doubles with each that follows, up to the greatest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Pods named one by one in Events of one plan; the rest share one.
const EVENTS: usize = 10;

/// A Job and its pods.
pub(super) struct Work<'a> {
    job: &'a Object,
    value: &'a Value,
    spec: &'a Value,
    /// All pods of the Job.
    pods: Vec<Pod>,
    indexed: bool,
    completions: Option<i64>,
    only_ended: bool,
}

/// What the pods come to.
#[derive(Default)]
struct Count {
    succeeded: i64,
    failed: i64,
    /// UIDs that are to be counted once their pods are let go: those that succeeded and those that failed.
    uncounted: [Vec<String>; 2],
    completed: BTreeSet<i64>,
    failed_indexes: BTreeSet<i64>,
    /// Pods to be let go.
    release: Vec<Arc<Object>>,
    fatal: Option<String>,
}

/// Makes a pod the Job's, to be counted.
fn adopt(job: &Object, pod: &Object) -> Action {
    let meta = json!({"ownerReferences": [ownership::controller_ref(GVK, job)], "finalizers": [FINALIZER]});
    patch(pod, "", PatchType::Strategic, json!({ "metadata": meta }))
}

impl<'a> Work<'a> {
    /// The Job with the pods that it claims; adoptions and releases are planned.
    pub(super) fn of(
        view: &dyn View,
        job: &'a Object,
        value: &'a Value,
        selector: &LabelSelector,
        plan: &mut Plan,
    ) -> Work<'a> {
        let spec = &value["spec"];
        let mut pods = Vec::new();
        for object in view.list("pods", Some(job.namespace())) {
            match ownership::claim(job, selector, &object) {
                Claim::Ignore => continue,
                Claim::Release => {
                    plan.push(ownership::release(job, &object), "the pod no longer matches the selector");
                    continue;
                }
                Claim::Adopt => plan.push(adopt(job, &object), "the pod matches and is nobody's"),
                Claim::Keep => {}
            }
            pods.push(Pod::of(object));
        }
        Work {
            job,
            value,
            spec,
            pods,
            indexed: spec["completionMode"] == "Indexed",
            completions: spec["completions"].as_i64(),
            only_ended: spec["podReplacementPolicy"] == "Failed",
        }
    }

    /// Plans what there is to do now.
    pub(super) fn plan(&self, now: Time, plan: &mut Plan) {
        let count = self.count();
        let active: Vec<&Pod> = self.pods.iter().filter(|p| p.active()).collect();
        let terminating = self.pods.iter().filter(|p| p.terminating() && !p.finished()).count() as i64;
        let mut list = conditions::of(self.value);
        let started = self.value["status"]["startTime"].as_str().and_then(Time::parse);
        let runs = active.iter().filter(|p| matches!(p.facts.phase.as_str(), "Running" | "Pending"));
        let (verdict, deadline) = verdict::decide(
            &Facts {
                spec: self.spec,
                conditions: &list,
                succeeded: count.succeeded + count.uncounted[0].len() as i64,
                failed: count.failed + count.uncounted[1].len() as i64,
                active: active.len() as i64,
                restarts: runs.map(|p| p.facts.restarts).sum(),
                completed: &count.completed,
                failed_indexes: &count.failed_indexes,
                fatal: count.fatal.as_deref(),
                started,
            },
            now,
        );
        let suspended = self.spec["suspend"] == true && verdict.is_none();
        let mut start = started;
        let mut events = Vec::new();
        let mut end = None;
        // Those that were pods of the Job are counted as such; those that it can do without are let go first.
        let (mut doomed, mut dropped): (Vec<&Pod>, Vec<&Pod>) = (Vec::new(), Vec::new());
        let mut missing = Vec::new();
        let was_suspended = conditions::find(&list, "Suspended").is_some_and(|c| c["status"] == "True");
        match &verdict {
            Some(verdict) => {
                start = start.or(Some(now));
                let (first, last) = verdict.conditions();
                set(&mut list, first, "True", &verdict.reason, &verdict.message, now);
                doomed.clone_from(&active);
                let open = !active.is_empty() || terminating > 0 || !count.release.is_empty();
                if !open && count.uncounted.iter().all(Vec::is_empty) {
                    set(&mut list, last, "True", &verdict.reason, &verdict.message, now);
                    end = verdict.success.then_some(now);
                    events.push(self.told(verdict));
                }
            }
            None if suspended => {
                dropped.clone_from(&active);
                if !was_suspended {
                    set(&mut list, "Suspended", "True", "JobSuspended", "Job suspended", now);
                    events.push((EventType::Normal, "Suspended", "Job suspended".to_string()));
                    start = None;
                }
            }
            None => {
                if was_suspended {
                    set(&mut list, "Suspended", "False", "JobResumed", "Job resumed", now);
                    events.push((EventType::Normal, "Resumed", "Job resumed".to_string()));
                    start = None;
                }
                start = start.or(Some(now));
                if self.job.meta.deletion_timestamp.is_none() {
                    (dropped, missing) = self.gap(&active, terminating, &count);
                }
            }
        }
        let stays = active.len() - doomed.len() - dropped.len();
        let gone = |p: &&&Pod| !doomed.iter().chain(&dropped).any(|d| d.object.meta.uid == p.object.meta.uid);
        let ready = active.iter().filter(gone).filter(|p| p.facts.ready).count();
        let terminating = terminating + (doomed.len() + dropped.len()) as i64;
        if let Some(action) = self.status(&count, stays, ready, terminating, list, start, end) {
            plan.push(action, "as observed");
        }
        for (kind, reason, message) in events {
            plan.push(event(GVK, self.job, kind, reason, message), "for people");
        }
        for pod in &count.release {
            plan.push(pods::release(pod), "it is counted");
        }
        for pod in dropped.iter().filter(|p| pods::tracked(&p.object)) {
            plan.push(pods::release(&pod.object), "it is not to be counted");
        }
        for pod in doomed.iter().chain(&dropped) {
            plan.push(pods::delete(&pod.object), "the Job can do without it");
        }
        let named = doomed.iter().chain(&dropped).map(|p| p.object.name().to_string());
        self.name_all(plan, "SuccessfulDelete", "Deleted pod", named);
        self.make(missing, now, plan);
        if let Some(at) = deadline {
            plan.push(Action::After(at.since(now)), "its deadline");
        }
    }

    /// Sorts the pods and counts those that have been let go.
    fn count(&self) -> Count {
        let status = &self.value["status"];
        let below = self.completions.unwrap_or(0);
        let mut out = Count {
            succeeded: int(&status["succeeded"]),
            failed: int(&status["failed"]),
            completed: indexes::parse(text(&status["completedIndexes"]), below),
            failed_indexes: indexes::parse(text(&status["failedIndexes"]), below),
            ..Count::default()
        };
        let held: BTreeSet<&str> =
            self.pods.iter().filter(|p| pods::tracked(&p.object)).map(|p| &*p.object.meta.uid).collect();
        for (i, outcome) in ["succeeded", "failed"].into_iter().enumerate() {
            for uid in status["uncountedTerminatedPods"][outcome].as_array().into_iter().flatten() {
                let uid = text(uid);
                match (held.contains(uid), i) {
                    (true, _) => out.uncounted[i].push(uid.into()),
                    (false, 0) => out.succeeded += 1,
                    (false, _) => out.failed += 1,
                }
            }
        }
        for pod in self.pods.iter().filter(|p| pods::tracked(&p.object)) {
            self.sort(pod, &mut out);
        }
        if self.indexed {
            out.succeeded = out.completed.len() as i64;
        }
        out
    }

    fn sort(&self, pod: &Pod, out: &mut Count) {
        let uid = &*pod.object.meta.uid;
        let index = pods::index(&pod.object).filter(|i| self.completions.is_some_and(|n| (0..n).contains(i)));
        let known = out.uncounted.iter().flatten().any(|u| u == uid);
        match pods::outcome(pod, self.only_ended) {
            Outcome::Runs => return,
            Outcome::Succeeded if self.indexed => out.completed.extend(index),
            Outcome::Succeeded if !known => out.uncounted[0].push(uid.into()),
            Outcome::Succeeded => {}
            Outcome::Failed => {
                let ended = pod.facts.phase == "Failed";
                let judgement = if ended { pods::judge(self.spec, &pod.object) } else { Judgement::Counts };
                if let Judgement::FailsJob(why) = &judgement {
                    out.fatal.get_or_insert_with(|| why.clone());
                }
                if judgement != Judgement::Ignored && !known {
                    out.uncounted[1].push(uid.into());
                }
                let limit = self.spec["backoffLimitPerIndex"].as_i64();
                let spent = limit.is_some_and(|l| judgement != Judgement::Ignored && pods::failures(&pod.object) > l);
                if limit.is_some() && (spent || judgement == Judgement::FailsIndex) {
                    out.failed_indexes.extend(index.filter(|i| !out.completed.contains(i)));
                }
            }
        }
        out.release.push(pod.object.clone());
    }

    /// What is too much, and what is missing: an index for each pod, or none.
    fn gap<'p>(&self, active: &[&'p Pod], terminating: i64, count: &Count) -> (Vec<&'p Pod>, Vec<Option<i64>>) {
        let parallelism = int(&self.spec["parallelism"]);
        let succeeded = count.succeeded + count.uncounted[0].len() as i64;
        let failed = count.failed_indexes.len() as i64;
        let mut kept: Vec<&Pod> = active.to_vec();
        let mut taken = BTreeSet::new();
        let mut surplus = Vec::new();
        if self.indexed {
            // The first pod of each index that is still open; others are too many.
            let open = |p: &Pod| {
                let index = pods::index(&p.object).filter(|i| self.completions.is_some_and(|n| (0..n).contains(i)));
                index.filter(|i| !count.completed.contains(i) && !count.failed_indexes.contains(i))
            };
            let (first, rest) = kept.into_iter().partition(|p| open(p).is_some_and(|i| taken.insert(i)));
            (kept, surplus) = (first, rest);
        }
        let n = kept.len() as i64;
        let wanted = match self.completions {
            None if succeeded > 0 => n,
            None => parallelism,
            Some(all) => parallelism.min((all - succeeded - failed).max(0)),
        };
        if n > wanted {
            // Those that have got least far, and of them the youngest.
            kept.sort_by_key(|p| {
                (p.facts.ready, !p.facts.node_name.is_empty(), std::cmp::Reverse(p.object.meta.created()))
            });
            surplus.extend(kept.drain(..usize::try_from(n - wanted).unwrap_or(0)));
            return (surplus, vec![]);
        }
        let leaving = if self.only_ended { terminating } else { 0 };
        let missing = usize::try_from(wanted - n - leaving).unwrap_or(0).min(BURST);
        if !self.indexed {
            return (surplus, vec![None; missing]);
        }
        if self.only_ended {
            let going = self.pods.iter().filter(|p| p.terminating() && !p.finished());
            taken.extend(going.filter_map(|p| pods::index(&p.object)));
        }
        let open = (0..self.completions.unwrap_or(0))
            .filter(|i| !taken.contains(i) && !count.completed.contains(i) && !count.failed_indexes.contains(i));
        (surplus, open.take(missing).map(Some).collect())
    }

    /// Makes the missing pods, after a while if others have failed.
    fn make(&self, missing: Vec<Option<i64>>, now: Time, plan: &mut Plan) {
        let per_index = !self.spec["backoffLimitPerIndex"].is_null();
        let mut failures: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        let mut last: BTreeMap<Option<i64>, Time> = BTreeMap::new();
        let of = |pod: &Pod| if per_index { pods::index(&pod.object) } else { None };
        let outcome = |p: &Pod| pods::outcome(p, self.only_ended);
        let succeeded = |at: Option<i64>| {
            let all = self.pods.iter().filter(|p| of(p) == at && outcome(p) == Outcome::Succeeded);
            all.filter_map(pods::ended).max()
        };
        for pod in self.pods.iter().filter(|p| outcome(p) == Outcome::Failed) {
            let (at, ended) = (of(pod), pods::ended(pod).unwrap_or(now));
            // A success after it begins anew.
            if succeeded(at).is_some_and(|s| s > ended) {
                continue;
            }
            *failures.entry(at).or_default() += 1;
            let entry = last.entry(at).or_insert(ended);
            *entry = (*entry).max(ended);
        }
        let ready_at = |at: Option<i64>| {
            let n = u32::try_from(*failures.get(&at)?).unwrap_or(u32::MAX).min(16);
            let wait = (BACK_OFF.0 * 2u32.pow(n.saturating_sub(1))).min(BACK_OFF.1);
            Some(*last.get(&at)? + wait)
        };
        let first = plan.0.len();
        let (mut made, mut again): (usize, Option<Time>) = (0, None);
        for index in missing {
            let at = if per_index { index } else { None };
            if let Some(due) = ready_at(at).filter(|due| *due > now) {
                again = Some(again.map_or(due, |a| a.min(due)));
                continue;
            }
            let failed = || {
                let of_index = self.pods.iter().filter(|p| pods::index(&p.object) == index);
                of_index.filter(|p| outcome(p) == Outcome::Failed).map(|p| pods::failures(&p.object)).max().unwrap_or(0)
            };
            let object = pods::made(self.job, self.value, index, per_index.then(failed));
            let create = Action::Create { resource: "pods", namespace: self.job.namespace().into(), object };
            plan.push(create, "one is missing");
            made += 1;
        }
        let named = (first..first + made).map(names::of_step);
        self.name_all(plan, "SuccessfulCreate", "Created pod", named);
        if let Some(at) = again {
            plan.push(Action::After(at.since(now)), "pods have failed");
        }
    }

    fn name_all(&self, plan: &mut Plan, reason: &'static str, what: &str, named: impl Iterator<Item = String>) {
        for (i, name) in named.take(EVENTS + 1).enumerate() {
            let combined = if i == EVENTS { "(combined from similar events): " } else { "" };
            let message = format!("{combined}{what}: {name}");
            plan.push(event(GVK, self.job, EventType::Normal, reason, message), "for people");
        }
    }

    fn told(&self, verdict: &Verdict) -> (EventType, &'static str, String) {
        if verdict.success {
            return (EventType::Normal, "Completed", "Job completed".into());
        }
        let known = [
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "PodFailurePolicy",
            "FailedIndexes",
            "MaxFailedIndexesExceeded",
        ];
        let reason = known.into_iter().find(|r| *r == verdict.reason).unwrap_or("Failed");
        (EventType::Warning, reason, verdict.message.clone())
    }

    #[allow(clippy::too_many_arguments)] // They are the fields of the status.
    fn status(
        &self,
        count: &Count,
        active: usize,
        ready: usize,
        terminating: i64,
        conditions: Vec<Value>,
        start: Option<Time>,
        end: Option<Time>,
    ) -> Option<Action> {
        let current = &self.value["status"];
        let nonzero = |n: i64| if n == 0 { Value::Null } else { n.into() };
        let listed = |list: Vec<Value>| if list.is_empty() { Value::Null } else { list.into() };
        let time = |t: Option<Time>| t.map_or(Value::Null, |t| t.rfc3339().into());
        let uids = |i: usize| listed(count.uncounted[i].iter().map(|u| u.as_str().into()).collect());
        let had = &current["uncountedTerminatedPods"];
        let uncounted = json!({"succeeded": uids(0), "failed": uids(1)});
        let same = ["succeeded", "failed"].iter().all(|o| had[*o] == uncounted[*o]);
        let mut wanted = vec![
            ("active", nonzero(active as i64)),
            ("ready", ready.into()),
            ("terminating", terminating.into()),
            ("succeeded", nonzero(count.succeeded)),
            ("failed", nonzero(count.failed)),
            ("startTime", time(start)),
            ("conditions", listed(conditions)),
        ];
        if end.is_some() {
            wanted.push(("completionTime", time(end)));
        }
        if self.indexed {
            let completed = indexes::format(&count.completed);
            wanted.push(("completedIndexes", if completed.is_empty() { Value::Null } else { completed.into() }));
            if !self.spec["backoffLimitPerIndex"].is_null() {
                wanted.push(("failedIndexes", indexes::format(&count.failed_indexes).into()));
            }
        }
        let mut fields: Map<String, Value> =
            wanted.into_iter().filter(|(k, v)| current[*k] != *v).map(|(k, v)| (k.to_string(), v)).collect();
        if !same {
            fields.insert("uncountedTerminatedPods".into(), uncounted);
        }
        if fields.is_empty() {
            return None;
        }
        // Counts are made from what was read: they hold for this version only.
        let body = json!({"metadata": {"resourceVersion": self.job.revision.to_string()}, "status": fields});
        Some(patch(self.job, "status", PatchType::Merge, body))
    }
}
