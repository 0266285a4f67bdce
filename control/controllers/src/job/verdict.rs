//! Whether a Job has come to its end, and why.

use std::collections::BTreeSet;
use std::time::Duration;

use copepod_model::Time;
use serde_json::Value;

use super::indexes;
use crate::support::conditions;
use crate::support::{int, text};

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    fn new(success: bool, reason: &str, message: impl Into<String>) -> Verdict {
        Verdict { success, reason: reason.into(), message: message.into() }
    }
    /// The condition that says so before its pods are gone, and the one after.
    pub(super) fn conditions(&self) -> (&'static str, &'static str) {
        if self.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") }
    }
}

/// What the verdict is made from.
pub(super) struct Facts<'a> {
    pub spec: &'a Value,
    pub conditions: &'a [Value],
    pub succeeded: i64,
    pub failed: i64,
    pub active: i64,
    /// Restarts of containers of the pods that run, for those that restart them.
    pub restarts: i64,
    pub completed: &'a BTreeSet<i64>,
    pub failed_indexes: &'a BTreeSet<i64>,
    /// A pod that the failure policy does not forgive.
    pub fatal: Option<&'a str>,
    pub started: Option<Time>,
}

/// The end of a Job, if it has come; and when to look again because of its deadline.
pub(super) fn decide(f: &Facts<'_>, now: Time) -> (Option<Verdict>, Option<Time>) {
    // What was once said stays.
    for (success, kind) in [(false, "FailureTarget"), (true, "SuccessCriteriaMet")] {
        if let Some(c) = conditions::find(f.conditions, kind).filter(|c| c["status"] == "True") {
            return (Some(Verdict::new(success, text(&c["reason"]), text(&c["message"]))), None);
        }
    }
    if let Some(why) = f.fatal {
        return (Some(Verdict::new(false, "PodFailurePolicy", why)), None);
    }
    let limit = f.spec["backoffLimit"].as_i64().unwrap_or(6);
    let restarts = f.spec["template"]["spec"]["restartPolicy"] == "OnFailure"
        && if limit == 0 { f.restarts > 0 } else { f.restarts >= limit };
    if f.failed > limit || restarts {
        let message = "Job has reached the specified backoff limit";
        return (Some(Verdict::new(false, "BackoffLimitExceeded", message)), None);
    }
    let mut again = None;
    if let (Some(seconds), Some(started)) = (f.spec["activeDeadlineSeconds"].as_u64(), f.started)
        && f.spec["suspend"] != true
    {
        let end = started + Duration::from_secs(seconds);
        if end <= now {
            let message = "Job was active longer than specified deadline";
            return (Some(Verdict::new(false, "DeadlineExceeded", message)), None);
        }
        again = Some(end);
    }
    (by_counts(f), again)
}

fn by_counts(f: &Facts<'_>) -> Option<Verdict> {
    let reached = || Some(Verdict::new(true, "CompletionsReached", "Reached expected number of succeeded pods"));
    let Some(completions) = f.spec["completions"].as_i64() else {
        // With a queue of work, one pod that succeeds says that there is nothing left to do.
        return if f.succeeded > 0 && f.active == 0 { reached() } else { None };
    };
    if f.spec["completionMode"] != "Indexed" {
        return if f.succeeded >= completions { reached() } else { None };
    }
    if let Some(max) = f.spec["maxFailedIndexes"].as_i64()
        && f.failed_indexes.len() as i64 > max
    {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::new(false, "MaxFailedIndexesExceeded", message));
    }
    let ended = (f.completed.len() + f.failed_indexes.len()) as i64;
    if ended >= completions && !f.failed_indexes.is_empty() {
        return Some(Verdict::new(false, "FailedIndexes", "Job has failed indexes"));
    }
    let rules = f.spec["successPolicy"]["rules"].as_array().into_iter().flatten();
    for (i, rule) in rules.enumerate() {
        let named = rule["succeededIndexes"].as_str().map(|text| indexes::intervals(text, completions));
        let met = match &named {
            Some(named) => f.completed.iter().filter(|i| named.iter().any(|n| n.contains(i))).count(),
            None => f.completed.len(),
        };
        let wanted = match (rule["succeededCount"].is_null(), &named) {
            (false, _) => int(&rule["succeededCount"]),
            (true, Some(named)) => named.iter().map(|n| n.end() - n.start() + 1).sum(),
            (true, None) => continue,
        };
        if met as i64 >= wanted {
            return Some(Verdict::new(true, "SuccessPolicy", format!("Matched rules at index {i}")));
        }
    }
    if ended >= completions { reached() } else { None }
}
