//! The spec of a Job, which CronJobs have a template of.

use serde_json::Value;

use super::success_policy;
use crate::FieldError;
use crate::kinds::core::podspec;
use crate::kinds::fields::{Path, check, domain_prefixed_path, list, nonnegative, text};
use crate::kinds::names;

/// The greatest parallelism and number of failed indexes of an Indexed Job.
const INDEXED: i64 = 100_000;
/// The same when there are more than [`INDEXED`] completions and a back-off limit for each.
const MANY: i64 = 10_000;
const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const MANAGED_BY: usize = 63;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Whether each index is to succeed once.
pub(super) fn is_indexed(spec: &Value) -> bool {
    spec["completionMode"] == "Indexed"
}

/// Errors of a spec, its selector aside.
pub(super) fn validate(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    for count in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        nonnegative(path.child(count), &spec[count], errors);
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(path.child("backoffLimitPerIndex"), why));
    }
    if let Some(by) = spec["managedBy"].as_str() {
        domain_prefixed_path(path.child("managedBy"), by, errors);
        if by.len() > MANAGED_BY {
            errors.push(FieldError::too_long(path.child("managedBy"), MANAGED_BY));
        }
    }
    if let Some(mode) = spec["completionMode"].as_str()
        && !matches!(mode, "NonIndexed" | "Indexed")
    {
        let modes = ["NonIndexed", "Indexed"];
        errors.push(FieldError::not_supported(path.child("completionMode"), mode, &modes));
    }
    if is_indexed(spec) {
        indexed(path, spec, errors);
    } else if matches!(text(spec, "completionMode"), "" | "NonIndexed") {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if !spec[name].is_null() {
                let why = "requires indexed completion mode";
                errors.push(FieldError::invalid(path.child(name), spec[name].clone(), why));
            }
        }
    }
    failure_policy(path.child("podFailurePolicy"), spec, errors);
    let success = &spec["successPolicy"];
    if !success.is_null() && !is_indexed(spec) {
        let why = "requires indexed completion mode";
        errors.push(FieldError::invalid(path.child("successPolicy"), success.clone(), why));
    } else if !success.is_null() {
        success_policy::validate(path.child("successPolicy"), spec, errors);
    }
    if let Some(policy) = spec["podReplacementPolicy"].as_str() {
        let known: &[&str] =
            if spec["podFailurePolicy"].is_null() { &["Failed", "TerminatingOrFailed"] } else { &["Failed"] };
        if !known.contains(&policy) {
            errors.push(FieldError::not_supported(path.child("podReplacementPolicy"), policy, known));
        }
    }
    podspec::validate_template(path.child("template"), &spec["template"], errors);
    restart_policy(format!("{path}.template.spec.restartPolicy"), spec, errors);
}

fn indexed(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let number = |name: &str| spec[name].as_i64();
    let (completions, failed) = (number("completions"), number("maxFailedIndexes"));
    if completions.is_none() {
        errors.push(FieldError::required(path.child("completions"), "when completion mode is Indexed"));
    }
    let why = format!("must be less than or equal to {INDEXED} when completion mode is Indexed");
    at_most(path.child("parallelism"), &spec["parallelism"], INDEXED, &why, errors);
    let at = path.child("maxFailedIndexes");
    if let Some(completions) = completions {
        at_most(at, &spec["maxFailedIndexes"], completions, "must be less than or equal to completions", errors);
    }
    at_most(at, &spec["maxFailedIndexes"], INDEXED, &format!("must be less than or equal to {INDEXED}"), errors);
    if completions.is_some_and(|c| c > INDEXED) && !spec["backoffLimitPerIndex"].is_null() {
        if failed.is_none() {
            let why = format!("must be specified when completions is above {INDEXED}");
            errors.push(FieldError::required(at, why));
        }
        let why = format!(
            "must be less than or equal to {MANY} when completions are above {INDEXED} and used with backoff limit per index"
        );
        for name in ["parallelism", "maxFailedIndexes"] {
            at_most(path.child(name), &spec[name], MANY, &why, errors);
        }
    }
}

fn at_most(path: Path<'_>, value: &Value, max: i64, why: &str, errors: &mut Vec<FieldError>) {
    if let Some(value) = value.as_i64().filter(|v| *v > max) {
        errors.push(FieldError::invalid(path, value, why));
    }
}

fn restart_policy(path: String, spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    match policy {
        // Nobody writes it for a Job: it is the default of a pod.
        "" | "Always" => errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if !spec["podFailurePolicy"].is_null() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, why));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(FieldError::not_supported(path, policy, &["OnFailure", "Never"])),
    }
}

/// A value that must be one of a few, with upstream's words for none at all.
fn chosen(path: Path<'_>, value: &str, of: &[&str], errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        let all: Vec<String> = of.iter().map(|v| format!("{v:?}")).collect();
        errors.push(FieldError::required(path, format!("valid values: [{}]", all.join(" "))));
    } else if !of.contains(&value) {
        errors.push(FieldError::not_supported(path, value, of));
    }
}

fn failure_policy(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let policy = &spec["podFailurePolicy"];
    if policy.is_null() {
        return;
    }
    let rules = list(policy, "rules");
    let path = path.child("rules");
    if rules.len() > RULES {
        errors.push(FieldError::too_many(path, rules.len(), RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let action = text(rule, "action");
        if action == "FailIndex" && spec["backoffLimitPerIndex"].is_null() {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(path.child("action"), action, why));
        }
        chosen(path.child("action"), action, &ACTIONS, errors);
        let (codes, conditions) = (&rule["onExitCodes"], list(rule, "onPodConditions"));
        if !codes.is_null() {
            exit_codes(path.child("onExitCodes"), codes, spec, errors);
        }
        if conditions.len() > RULES {
            errors.push(FieldError::too_many(path.child("onPodConditions"), conditions.len(), RULES));
        }
        for (j, pattern) in conditions.iter().enumerate() {
            let path = path.child("onPodConditions");
            let path = path.index(j);
            check(path.child("type"), text(pattern, "type"), names::qualified, errors);
            chosen(path.child("status"), text(pattern, "status"), &STATUSES, errors);
        }
        let why = match (codes.is_null(), conditions.is_empty()) {
            (false, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (true, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError { value: None, ..FieldError::invalid(path, Value::Null, why) });
    }
}

fn exit_codes(path: Path<'_>, codes: &Value, spec: &Value, errors: &mut Vec<FieldError>) {
    let operator = text(codes, "operator");
    chosen(path.child("operator"), operator, &OPERATORS, errors);
    if let Some(name) = codes["containerName"].as_str() {
        let pod = &spec["template"]["spec"];
        let mut all = list(pod, "containers").iter().chain(list(pod, "initContainers"));
        if !all.any(|c| c["name"] == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(path.child("containerName"), name, why));
        }
    }
    let values = list(codes, "values");
    let at = path.child("values");
    if values.is_empty() {
        errors.push(FieldError::invalid(at, codes["values"].clone(), "at least one value is required"));
    } else if values.len() > EXIT_CODES {
        errors.push(FieldError::too_many(at, values.len(), EXIT_CODES));
    }
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && value.as_i64() == Some(0) {
            errors.push(FieldError::invalid(at.index(i), 0, "must not be 0 for the In operator"));
        }
        if values[..i].contains(value) {
            errors.push(FieldError::duplicate(at.index(i), value.clone()));
        }
    }
    if !values.is_sorted_by_key(Value::as_i64) {
        errors.push(FieldError::invalid(at, codes["values"].clone(), "must be ordered"));
    }
}
