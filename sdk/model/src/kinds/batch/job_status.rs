//! What the status of a Job may say. A status that breaks a rule may stay as it is: only what a write changes is judged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::job_spec::is_indexed;
use super::success_policy::{number_of, overlap};
use crate::kinds::fields::{Path, list, nonnegative};
use crate::{FieldError, Time};

const STATUS: Path<'static> = Path::root("status");

/// Whether a condition of a Job is true.
pub(super) fn is_true(job: &Value, condition: &str) -> bool {
    list(&job["status"], "conditions").iter().any(|c| c["type"] == condition && c["status"] == "True")
}

/// An error without a value.
fn wrong(field: &str, why: &str) -> FieldError {
    FieldError { value: None, ..FieldError::invalid(STATUS.child(field), Value::Null, why) }
}

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for count in ["active", "succeeded", "failed", "ready", "terminating"] {
        nonnegative(STATUS.child(count), &new["status"][count], errors);
    }
    uncounted(&new["status"]["uncountedTerminatedPods"], errors);
    let change = Change::new(new, old);
    change.ends(errors);
    change.completion_time(errors);
    change.needs_forerunners(errors);
    change.end_is_clean(errors);
    change.indexes(errors);
    change.counts(errors);
    change.success(errors);
    change.goes_back(errors);
}

fn uncounted(pods: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for outcome in ["succeeded", "failed"] {
        for (i, uid) in list(pods, outcome).iter().enumerate() {
            let path = STATUS.child("uncountedTerminatedPods");
            let path = path.child(outcome);
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(FieldError::invalid(path.index(i), uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(path.index(i), uid));
            }
        }
    }
}

/// A write of the status, and which conditions it changes.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    complete: Condition,
    failed: Condition,
    failure_target: Condition,
    success_criteria_met: Condition,
}

/// Whether a condition is true after and before a write.
#[derive(Clone, Copy)]
struct Condition {
    now: bool,
    before: bool,
}

impl Condition {
    fn changed(self) -> bool {
        self.now != self.before
    }
}

impl<'a> Change<'a> {
    fn new(new: &'a Value, old: &'a Value) -> Change<'a> {
        let of = |condition: &str| Condition { now: is_true(new, condition), before: is_true(old, condition) };
        Change {
            new,
            old,
            complete: of("Complete"),
            failed: of("Failed"),
            failure_target: of("FailureTarget"),
            success_criteria_met: of("SuccessCriteriaMet"),
        }
    }

    fn status(&self, field: &str) -> &'a Value {
        &self.new["status"][field]
    }
    fn before(&self, field: &str) -> &'a Value {
        &self.old["status"][field]
    }
    fn changed(&self, field: &str) -> bool {
        self.status(field) != self.before(field)
    }
    /// A count, zero where there is none.
    fn count(&self, field: &str) -> i64 {
        self.status(field).as_i64().unwrap_or(0)
    }
    /// Whether the Job is at its end and either that or the field is new.
    fn finished_with(&self, field: &str) -> bool {
        let now = self.complete.now || self.failed.now;
        now && (now != (self.complete.before || self.failed.before) || self.changed(field))
    }

    fn ends(&self, errors: &mut Vec<FieldError>) {
        if self.complete.now && self.failed.now && (self.complete.changed() || self.failed.changed()) {
            errors.push(wrong("conditions", "cannot set Complete=True and Failed=true conditions"));
        }
        if self.complete.now && self.failure_target.now && (self.complete.changed() || self.failure_target.changed()) {
            errors.push(wrong("conditions", "cannot set Complete=True and FailureTarget=true conditions"));
        }
    }

    fn completion_time(&self, errors: &mut Vec<FieldError>) {
        let (start, end) = (self.status("startTime"), self.status("completionTime"));
        let at = STATUS.child("completionTime");
        if self.complete.changed() || self.changed("completionTime") {
            if !end.is_null() && !self.complete.now {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(at, end.clone(), why));
            }
            if end.is_null() && self.complete.now {
                errors.push(FieldError::required(at, "completionTime is required for Complete jobs"));
            }
        }
        let time = |v: &Value| v.as_str().and_then(Time::parse);
        if (self.changed("startTime") || self.changed("completionTime"))
            && time(end).zip(time(start)).is_some_and(|(end, start)| end < start)
        {
            errors.push(FieldError::invalid(at, end.clone(), "completionTime cannot be set before startTime"));
        }
    }

    /// Both ends are announced before.
    fn needs_forerunners(&self, errors: &mut Vec<FieldError>) {
        let (target, met) = (self.failure_target, self.success_criteria_met);
        if self.failed.now && !target.now && (self.failed.changed() || target.changed()) {
            let why = "cannot set Failed=True condition without the FailureTarget=true condition";
            errors.push(wrong("conditions", why));
        }
        if self.complete.now && !met.now && (self.complete.changed() || met.changed()) {
            let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            errors.push(wrong("conditions", why));
        }
    }

    fn end_is_clean(&self, errors: &mut Vec<FieldError>) {
        if self.count("active") > 0 && self.finished_with("active") {
            let why = "active>0 is invalid for finished job";
            errors.push(FieldError::invalid(STATUS.child("active"), self.count("active"), why));
        }
        // A Job without work that was suspended from the first never started.
        let idle = self.new["spec"]["suspend"] == true && self.new["spec"]["completions"] == 0;
        if self.status("startTime").is_null() && self.finished_with("startTime") && !idle {
            errors.push(FieldError::required(STATUS.child("startTime"), "startTime is required for finished job"));
        }
        let pods = self.status("uncountedTerminatedPods");
        let any = ["succeeded", "failed"].iter().any(|outcome| !list(pods, outcome).is_empty());
        if any && self.finished_with("uncountedTerminatedPods") {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            errors.push(FieldError::invalid(STATUS.child("uncountedTerminatedPods"), pods.clone(), why));
        }
    }

    fn indexes(&self, errors: &mut Vec<FieldError>) {
        let spec = &self.new["spec"];
        let (completed, failed) = (self.status("completedIndexes"), self.status("failedIndexes"));
        let (completed_changed, failed_changed) = (self.changed("completedIndexes"), self.changed("failedIndexes"));
        let text_of = |v: &'a Value| v.as_str().unwrap_or_default();
        let completions = spec["completions"].as_i64();
        let per_index = !spec["backoffLimitPerIndex"].is_null();
        let mut say = |field: &str, value: &Value, why: String| {
            errors.push(FieldError::invalid(STATUS.child(field), value.clone(), why));
        };
        for (field, value, judged) in [
            ("completedIndexes", completed, completed_changed),
            ("failedIndexes", failed, failed_changed && per_index && !failed.is_null()),
        ] {
            if let Some(n) = completions.filter(|_| judged)
                && let Err(why) = number_of(text_of(value), n)
            {
                say(field, value, format!("error parsing {field}: {why}"));
            }
        }
        if completed_changed && !text_of(completed).is_empty() && !is_indexed(spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            say("completedIndexes", completed, why.into());
        }
        if failed_changed && !failed.is_null() && !per_index {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            say("failedIndexes", failed, why.into());
        }
        if (completed_changed || failed_changed)
            && let Some(n) = completions
            && let Some(index) = overlap(text_of(completed), text_of(failed), n)
        {
            say("failedIndexes", failed, format!("failedIndexes and completedIndexes overlap at index: {index}"));
        }
    }

    fn counts(&self, errors: &mut Vec<FieldError>) {
        if self.count("terminating") > 0 && self.finished_with("terminating") {
            let why = "terminating>0 is invalid for finished job";
            errors.push(FieldError::invalid(STATUS.child("terminating"), self.count("terminating"), why));
        }
        if let Some(ready) = self.status("ready").as_i64().filter(|ready| *ready > self.count("active"))
            && (self.changed("ready") || self.changed("active"))
        {
            let why = "cannot set more ready pods than active";
            errors.push(FieldError::invalid(STATUS.child("ready"), ready, why));
        }
    }

    /// What is so whether it is new or not.
    fn success(&self, errors: &mut Vec<FieldError>) {
        let met = self.success_criteria_met.now;
        let mut say = |when: bool, why: &str| {
            if when {
                errors.push(wrong("conditions", why));
            }
        };
        say(met && self.failed.now, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
        say(met && self.failure_target.now, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
        say(
            !self.new["spec"]["successPolicy"].is_null() && !met && self.complete.now,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
    }

    /// What only goes forwards.
    fn goes_back(&self, errors: &mut Vec<FieldError>) {
        let met = self.success_criteria_met;
        for (kind, condition) in
            [("Failed", self.failed), ("Complete", self.complete), ("FailureTarget", self.failure_target)]
        {
            if condition.before && !condition.now {
                errors.push(wrong("conditions", &format!("cannot disable the terminal {kind}=True condition")));
            }
        }
        // An Indexed Job whose parallelism follows its completions may shrink, and its successes with it.
        let spec = &self.new["spec"];
        let elastic = is_indexed(spec) && spec["completions"] == spec["parallelism"];
        for (field, judged) in [("failed", true), ("succeeded", !elastic)] {
            if judged && self.count(field) < self.before(field).as_i64().unwrap_or(0) {
                let why = format!("cannot decrease the {field} counter");
                errors.push(FieldError::invalid(STATUS.child(field), self.count(field), why));
            }
        }
        let (end, had) = (self.status("completionTime"), self.before("completionTime"));
        if !end.is_null() && !had.is_null() && end != had {
            let why = "completionTime cannot be mutated";
            errors.push(FieldError::invalid(STATUS.child("completionTime"), end.clone(), why));
        }
        if !self.before("startTime").is_null() && self.changed("startTime") && spec["suspend"] != true {
            let why = "startTime cannot be removed for unsuspended job";
            errors.push(FieldError::required(STATUS.child("startTime"), why));
        }
        if met.before && !met.now {
            errors.push(wrong("conditions", "cannot disable the SuccessCriteriaMet=True condition"));
        }
        if self.complete.before && !met.before && met.now {
            let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(wrong("conditions", why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The errors of a change of the status, and nothing else of them.
    fn errors(spec: &Value, old: Value, new: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&json!({"spec": spec, "status": new}), &json!({"spec": spec, "status": old}), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn conditions(of: &[&str]) -> Value {
        of.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    }

    /// The status of a Job that has come to a good end, and some more.
    fn complete(more: Value) -> Value {
        let mut status = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
            "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    }

    #[test]
    fn what_a_write_of_the_status_may_not_say() {
        let plain = json!({"completions": 5, "parallelism": 2});
        let indexed =
            json!({"completionMode": "Indexed", "completions": 5, "parallelism": 2, "backoffLimitPerIndex": 1});
        let elastic = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5});
        let judged = json!({"completions": 5, "parallelism": 2, "successPolicy": {"rules": []}});
        let idle = json!({"completions": 0, "parallelism": 1, "suspend": true});
        let running = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
        let both = complete(json!({"conditions": conditions(&["SuccessCriteriaMet", "Complete", "FailureTarget"])}));
        let cases: [(&Value, Value, Value, &[&str]); 24] = [
            (&plain, running.clone(), complete(json!({})), &[]),
            (
                &plain,
                json!({}),
                json!({"active": -1}),
                &["status.active: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                &plain,
                json!({}),
                json!({"uncountedTerminatedPods": {"succeeded": ["", "a"], "failed": ["a"]}}),
                &[
                    "status.uncountedTerminatedPods.succeeded[0]: Invalid value: \"\": must not be empty",
                    "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
                ],
            ),
            (
                &plain,
                running.clone(),
                both.clone(),
                &[
                    "status.conditions: Invalid value: cannot set Complete=True and FailureTarget=true conditions",
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
                ],
            ),
            // Of what was wrong before only the half is said that is always looked at.
            (
                &plain,
                both.clone(),
                both,
                &[
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
                ],
            ),
            (
                &plain,
                running.clone(),
                json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z"}),
                &[
                    "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no \
                   Complete=True condition",
                ],
            ),
            (
                &plain,
                running.clone(),
                complete(json!({"completionTime": "2025-12-31T00:00:00Z"})),
                &[
                    "status.completionTime: Invalid value: \"2025-12-31T00:00:00Z\": completionTime cannot be set before startTime",
                ],
            ),
            (
                &plain,
                complete(json!({})),
                complete(json!({"completionTime": "2026-01-01T00:02:00Z"})),
                &["status.completionTime: Invalid value: \"2026-01-01T00:02:00Z\": completionTime cannot be mutated"],
            ),
            (
                &plain,
                running.clone(),
                complete(json!({"active": 1})),
                &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
            ),
            // So is a finished Job of which pods come back.
            (
                &plain,
                complete(json!({})),
                complete(json!({"active": 1})),
                &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
            ),
            (
                &plain,
                running.clone(),
                complete(json!({"terminating": 1})),
                &["status.terminating: Invalid value: 1: terminating>0 is invalid for finished job"],
            ),
            (
                &plain,
                running.clone(),
                complete(json!({"uncountedTerminatedPods": {"failed": ["a"]}})),
                &[
                    "status.uncountedTerminatedPods: Invalid value: {\"failed\":[\"a\"]}: uncountedTerminatedPods needs to be empty \
                   for finished job",
                ],
            ),
            (
                &plain,
                json!({}),
                complete(json!({"startTime": null})),
                &["status.startTime: Required value: startTime is required for finished job"],
            ),
            (&idle, json!({}), complete(json!({"startTime": null})), &[]),
            (
                &plain,
                running.clone(),
                json!({"active": 1}),
                &["status.startTime: Required value: startTime cannot be removed for unsuspended job"],
            ),
            (
                &plain,
                running.clone(),
                json!({"startTime": "2026-01-01T00:00:00Z", "active": 1, "ready": 2}),
                &["status.ready: Invalid value: 2: cannot set more ready pods than active"],
            ),
            (
                &plain,
                json!({"succeeded": 2, "failed": 2}),
                json!({"succeeded": 1, "failed": 1}),
                &[
                    "status.failed: Invalid value: 1: cannot decrease the failed counter",
                    "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
                ],
            ),
            (&elastic, json!({"succeeded": 2}), json!({"succeeded": 1}), &[]),
            (
                &plain,
                json!({}),
                json!({"completedIndexes": "1", "failedIndexes": "2"}),
                &[
                    "status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed \
                     completion mode",
                    "status.failedIndexes: Invalid value: \"2\": cannot set non-null failedIndexes when backoffLimitPerIndex is \
                     null",
                ],
            ),
            (
                &indexed,
                json!({}),
                json!({"completedIndexes": "7", "failedIndexes": "x"}),
                &[
                    "status.completedIndexes: Invalid value: \"7\": error parsing completedIndexes: too large index: \"7\"",
                    "status.failedIndexes: Invalid value: \"x\": error parsing failedIndexes: cannot convert string to integer \
                     for index: \"x\"",
                ],
            ),
            (
                &indexed,
                json!({"completedIndexes": "0-2"}),
                json!({"completedIndexes": "0-2", "failedIndexes": "2,4"}),
                &[
                    "status.failedIndexes: Invalid value: \"2,4\": failedIndexes and completedIndexes overlap at index: 2",
                ],
            ),
            // What was written before is not judged again.
            (&indexed, json!({"completedIndexes": "0-9"}), json!({"completedIndexes": "0-9", "active": 1}), &[]),
            (
                &judged,
                complete(json!({"conditions": conditions(&["Complete"])})),
                complete(json!({"conditions": conditions(&["Complete"])})),
                &["status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless \
                   SuccessCriteriaMet=True"],
            ),
            (
                &plain,
                complete(json!({"conditions": conditions(&["Complete"])})),
                complete(json!({})),
                &[
                    "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True for Job already has Complete=true \
                   conditions",
                ],
            ),
        ];
        for (spec, old, new, want) in cases {
            assert_eq!(errors(spec, old.clone(), new.clone()), want, "{old}\n{new}");
        }
    }
}
