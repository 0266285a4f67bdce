//! Rules of a container's own restart policy (KEP-5307), and of probe periods by annotation.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, entries, list, one_of, text};

/// The most rules of a container.
const RULES: usize = 20;
/// The most exit codes of a rule.
const EXIT_CODES: usize = 255;
/// The longest period by annotation: an hour.
const LONGEST_PERIOD: u64 = 3_600_000;

/// Rules of `restartPolicy` and `restartPolicyRules` of one container.
pub(super) fn policy(path: Path<'_>, c: &Value, errors: &mut Vec<FieldError>) {
    if let Some(policy) = c["restartPolicy"].as_str() {
        one_of(path.child("restartPolicy"), policy, &["Always", "Never", "OnFailure"], errors);
    }
    let rules = list(c, "restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if text(c, "restartPolicy").is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(path.child("restartPolicy"), why));
    }
    if rules.len() > RULES {
        errors.push(FieldError::too_many(path.child("restartPolicyRules"), rules.len(), RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("restartPolicyRules");
        let path = path.index(i);
        one_of(path.child("action"), text(rule, "action"), &["Restart"], errors);
        let codes = &rule["exitCodes"];
        let path = path.child("exitCodes");
        if !codes.is_object() {
            errors.push(FieldError::required(path, "must be specified"));
            continue;
        }
        one_of(path.child("operator"), text(codes, "operator"), &["In", "NotIn"], errors);
        let values = list(codes, "values").len();
        if values > EXIT_CODES {
            errors.push(FieldError::too_many(path.child("values"), values, EXIT_CODES));
        }
    }
}

/// Rules of `copepod.dev/CONTAINER.PROBE.periodMilliseconds`, which overrules a probe's period.
pub fn periods(path: Path<'_>, meta: &Value, errors: &mut Vec<FieldError>) {
    for (name, value) in entries(meta, "annotations") {
        let Some(what) = name.strip_prefix("copepod.dev/").and_then(|n| n.strip_suffix(".periodMilliseconds")) else {
            continue;
        };
        let path = path.child("annotations");
        let path = path.key(name);
        match what.rsplit_once('.') {
            Some((_, "startup" | "readiness" | "liveness")) => {}
            _ => {
                let why = "must name a container and one of its probes: CONTAINER.{startup|readiness|liveness}";
                errors.push(FieldError::invalid(path, name.as_str(), why));
                continue;
            }
        }
        let number = value.as_str().and_then(|v| v.parse::<u64>().ok());
        if !number.is_some_and(|n| (10..=LONGEST_PERIOD).contains(&n)) {
            let why = format!("must be a number of milliseconds between 10 and {LONGEST_PERIOD}, inclusive");
            errors.push(FieldError::invalid(path, value.clone(), why));
        }
    }
}
