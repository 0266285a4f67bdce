//! Runs the pods of Jobs to their end and counts how they ended. A pod of a Job has a finalizer until it is counted, so that
//! none is forgotten: first it is named in `status.uncountedTerminatedPods`, then its finalizer is taken away, then it is
//! added to the count. Finished Jobs go after `spec.ttlSecondsAfterFinished`.

mod indexes;
mod pods;
mod verdict;
mod work;

use std::sync::Arc;
use std::time::Duration;

use copepod_machine::{Action, EventType, Plan, Step, View};
use copepod_model::request::Propagation;
use copepod_model::selector::LabelSelector;
use copepod_model::{Key, Object, Status, Time};
use serde_json::Value;

use crate::support::conditions::{self, Wanted};
use crate::support::{event, keys_of, ownership, text};
use crate::{Config, Controller};
use verdict::Verdict;
use work::Work;

const GVK: (&str, &str) = ("batch/v1", "Job");
const RESOURCE: &str = "jobs.batch";
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Who runs Jobs that name nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

struct Jobs;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    Jobs
}

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        if &*object.key.resource == RESOURCE {
            return vec![object.key.clone()];
        }
        let mut keys = ownership::owner_keys(GVK.1, RESOURCE, old, new);
        // Without an owner its label still tells whose it may become, and of one that is to be counted the selectors tell.
        if keys.is_empty()
            && let Some(job) = object.meta.labels.get(JOB_NAME)
        {
            keys.push(Key::new(RESOURCE, object.namespace(), &**job));
        }
        if let Some(pod) = new.filter(|pod| is_orphan(pod)) {
            keys.extend(heirs(view, pod).map(|job| job.key.clone()));
            keys.push(pod.key.clone());
        }
        keys
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let mut keys = keys_of(view, RESOURCE);
        let strays = view.list("pods", None).filter(|p| pods::tracked(p));
        keys.extend(strays.flat_map(|p| self.keys(view, None, Some(&p))));
        keys.sort();
        keys.dedup();
        keys
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        if &*key.resource == "pods" {
            let pod = view.get("pods", &key.namespace, &key.name);
            pod.iter().for_each(|pod| free(view, pod, &mut plan));
            return plan;
        }
        let job = view.get(RESOURCE, &key.namespace, &key.name);
        let value = job.as_ref().map_or(Value::Null, |j| j.value());
        let elsewhere = value["spec"]["managedBy"].as_str().is_some_and(|by| by != MANAGER);
        if elsewhere {
            return plan;
        }
        let end = ended(&value);
        let counts = job.as_deref().filter(|_| end.is_none());
        let selector = LabelSelector::from_json(&value["spec"]["selector"]).ok().filter(|s| !s.is_empty());
        strays(view, key, counts, &mut plan);
        let Some(job) = job else { return plan };
        if let Some(end) = end {
            expire(&job, &value, end, now, &mut plan);
            return plan;
        }
        if let Some(selector) = selector {
            Work::of(view, &job, &value, &selector, &mut plan).plan(now, &mut plan);
        }
        plan
    }

    fn failed(&self, view: &dyn View, key: &Key, step: &Step, status: &Status, _: Time) -> Plan {
        let mut plan = Plan::none();
        let (reason, doing) = match step.action {
            Action::Create { resource: "pods", .. } => ("FailedCreate", "creating"),
            Action::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return plan,
        };
        if let Some(job) = view.get(RESOURCE, &key.namespace, &key.name) {
            let message = format!("Error {doing}: {}", status.message);
            plan.push(event(GVK, &job, EventType::Warning, reason, message), "the API refused");
        }
        plan
    }
}

/// When a Job ended, if it has.
fn ended(job: &Value) -> Option<Time> {
    let all = conditions::of(job);
    let end = all.iter().find(|c| matches!(text(&c["type"]), "Complete" | "Failed") && c["status"] == "True")?;
    Some(Time::parse(text(&end["lastTransitionTime"])).unwrap_or_default())
}

/// Whether a pod that is to be counted is nobody's.
fn is_orphan(pod: &Object) -> bool {
    pods::tracked(pod) && pod.meta.controller().is_none()
}

/// The Jobs that may make an orphan theirs, and count it then.
fn heirs<'a>(view: &'a dyn View, pod: &'a Object) -> impl Iterator<Item = Arc<Object>> {
    let jobs = view.list(RESOURCE, Some(pod.namespace())).filter(|_| pod.meta.deletion_timestamp.is_none());
    jobs.filter(|job| {
        let value = job.value();
        let selector = LabelSelector::from_json(&value["spec"]["selector"]).ok().filter(|s| !s.is_empty());
        let open = job.meta.deletion_timestamp.is_none() && ended(&value).is_none();
        open && selector.is_some_and(|s| s.matches(&pod.meta.labels))
    })
}

/// Lets an orphan go that will be nobody's (upstream's `syncOrphanPod`).
fn free(view: &dyn View, pod: &Object, plan: &mut Plan) {
    if is_orphan(pod) && heirs(view, pod).next().is_none() {
        plan.push(pods::release(pod), "no Job counts it any more");
    }
}

/// Lets pods go that no Job will count any more: theirs, which is gone, is another one of that name, or has ended, or those
/// that might have made them theirs.
fn strays(view: &dyn View, key: &Key, job: Option<&Object>, plan: &mut Plan) {
    for pod in view.list("pods", Some(&key.namespace)).filter(|p| pods::tracked(p)) {
        let Some(owner) = pod.meta.controller() else {
            free(view, &pod, plan);
            continue;
        };
        let ours = &*owner.kind == GVK.1 && *owner.name == *key.name;
        if ours && job.is_none_or(|j| *owner.uid != *j.meta.uid) {
            plan.push(pods::release(&pod), "no Job counts it any more");
        }
    }
}

/// Deletes a Job that has ended once its time is over.
fn expire(job: &Object, value: &Value, end: Time, now: Time, plan: &mut Plan) {
    let Some(ttl) = value["spec"]["ttlSecondsAfterFinished"].as_u64() else { return };
    if job.meta.deletion_timestamp.is_some() {
        return;
    }
    let due = end + Duration::from_secs(ttl);
    if due > now {
        plan.push(Action::After(due.since(now)), "it stays for a while");
        return;
    }
    let delete = Action::Delete {
        resource: RESOURCE.into(),
        namespace: job.namespace().into(),
        name: job.name().into(),
        uid: job.meta.uid.to_string(),
        propagation: Some(Propagation::Foreground),
        grace_seconds: None,
    };
    plan.push(delete, "it ended ttlSecondsAfterFinished ago");
}

/// Sets a condition of a Job.
fn set(list: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: Time) {
    let wanted = Wanted { kind, status, reason, message: message.into() };
    conditions::set(list, &wanted, false, now);
    if let Some(c) = list.iter_mut().find(|c| c["type"] == kind && c["lastProbeTime"].is_null()) {
        c["lastProbeTime"] = now.rfc3339().into();
    }
}

#[cfg(test)]
mod tests;
