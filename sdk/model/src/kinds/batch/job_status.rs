//! What the status of a Job may say. A status that breaks a rule may stay as it is: only what a write changes is judged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::job_spec::is_indexed;
use super::success_policy::number_of;
use crate::kinds::fields::{Path, list, nonnegative, text};
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
    let (status, before) = (&new["status"], &old["status"]);
    for count in ["active", "succeeded", "failed", "ready", "terminating"] {
        nonnegative(STATUS.child(count), &status[count], errors);
    }
    uncounted(&status["uncountedTerminatedPods"], errors);
    conditions(new, old, errors);
    let changed = |name: &str| status[name] != before[name];
    let now = |condition: &str| is_true(new, condition) && !is_true(old, condition);
    let number = |of: &Value, name: &str| of[name].as_i64().unwrap_or(0);
    for name in ["failed", "succeeded"] {
        if number(status, name) < number(before, name) {
            let why = format!("cannot decrease the {name} counter");
            errors.push(FieldError::invalid(STATUS.child(name), number(status, name), why));
        }
    }
    if now("Complete") || now("Failed") {
        if number(status, "active") > 0 {
            let why = "active>0 is invalid for finished job";
            errors.push(FieldError::invalid(STATUS.child("active"), status["active"].clone(), why));
        }
        if number(status, "terminating") > 0 {
            let why = "terminating>0 is invalid for finished job";
            errors.push(FieldError::invalid(STATUS.child("terminating"), status["terminating"].clone(), why));
        }
        if status["startTime"].is_null() {
            errors.push(FieldError::required(STATUS.child("startTime"), "startTime is required for finished job"));
        }
        let pods = &status["uncountedTerminatedPods"];
        if !list(pods, "succeeded").is_empty() || !list(pods, "failed").is_empty() {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            errors.push(FieldError::invalid(STATUS.child("uncountedTerminatedPods"), pods.clone(), why));
        }
    }
    times(new, old, errors);
    if number(status, "ready") > number(status, "active") && (changed("ready") || changed("active")) {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(STATUS.child("ready"), status["ready"].clone(), why));
    }
    indexes(new, old, errors);
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

fn conditions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (complete, failed) = (is_true(new, "Complete"), is_true(new, "Failed"));
    let (target, met) = (is_true(new, "FailureTarget"), is_true(new, "SuccessCriteriaMet"));
    let mut say = |when: bool, why: &str| {
        if when {
            errors.push(wrong("conditions", why));
        }
    };
    let now = |condition: &str| is_true(new, condition) && !is_true(old, condition);
    let ends = now("Complete") || now("Failed");
    say(ends && complete && failed, "cannot set Complete=True and Failed=true conditions");
    say(ends && complete && target, "cannot set Complete=True and FailureTarget=true conditions");
    say(now("Failed") && !target, "cannot set Failed=True condition without the FailureTarget=true condition");
    say(now("Complete") && !met, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    say(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    say(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let gone = is_true(old, kind) && !is_true(new, kind);
        say(gone, &format!("cannot disable the terminal {kind}=True condition"));
    }
    say(is_true(old, "SuccessCriteriaMet") && !met, "cannot disable the SuccessCriteriaMet=True condition");
    say(
        is_true(old, "Complete") && now("SuccessCriteriaMet"),
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
    );
}

fn times(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (status, before) = (&new["status"], &old["status"]);
    let complete = is_true(new, "Complete");
    let (start, end) = (&status["startTime"], &status["completionTime"]);
    let at = STATUS.child("completionTime");
    if *end != before["completionTime"] || complete != is_true(old, "Complete") {
        if !end.is_null() && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(at, end.clone(), why));
        }
        if end.is_null() && complete {
            errors.push(FieldError::required(at, "completionTime is required for Complete jobs"));
        }
    }
    let time = |v: &Value| v.as_str().and_then(Time::parse);
    if time(end).zip(time(start)).is_some_and(|(end, start)| end < start) {
        errors.push(FieldError::invalid(at, end.clone(), "completionTime cannot be set before startTime"));
    }
    if !end.is_null() && !before["completionTime"].is_null() && *end != before["completionTime"] {
        errors.push(FieldError::invalid(at, end.clone(), "completionTime cannot be mutated"));
    }
    if !before["startTime"].is_null() && *start != before["startTime"] && new["spec"]["suspend"] != true {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(STATUS.child("startTime"), why));
    }
}

fn indexes(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (spec, status, before) = (&new["spec"], &new["status"], &old["status"]);
    let completed = text(status, "completedIndexes");
    if status["completedIndexes"] != before["completedIndexes"] && !completed.is_empty() {
        let at = STATUS.child("completedIndexes");
        if !is_indexed(spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(FieldError::invalid(at, completed, why));
        } else if let Some(n) = spec["completions"].as_i64()
            && let Err(why) = number_of(completed, n)
        {
            errors.push(FieldError::invalid(at, completed, format!("error parsing completedIndexes: {why}")));
        }
    }
    let failed = &status["failedIndexes"];
    if *failed != before["failedIndexes"] && !failed.is_null() {
        let at = STATUS.child("failedIndexes");
        if spec["backoffLimitPerIndex"].is_null() {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(FieldError::invalid(at, failed.clone(), why));
        } else if let Some(n) = spec["completions"].as_i64()
            && let Err(why) = number_of(failed.as_str().unwrap_or_default(), n)
        {
            errors.push(FieldError::invalid(at, failed.clone(), format!("error parsing failedIndexes: {why}")));
        }
    }
}
