//! Rules that the kinds with a pod template share.

use serde_json::Value;

use super::fields::{Fields, Path, nonnegative, text};
use crate::FieldError;
use crate::selector::LabelSelector;

/// The path of a template's labels, below `spec` or wherever the template is.
fn labels_path(template: Path<'_>) -> String {
    format!("{template}.metadata.labels")
}

/// Adds an error if a selector does not match its template's labels. None at all matches nothing.
pub(super) fn matches_template(at: Path<'_>, selector: &Value, template: &Value, errors: &mut Vec<FieldError>) {
    let labels = &template["metadata"]["labels"];
    let matches = match LabelSelector::from_json(selector) {
        // What is wrong with the selector itself has been said.
        Err(_) => return,
        Ok(_) if selector.is_null() => false,
        Ok(s) => s.matches_with(|k| labels[k].as_str()),
    };
    if !matches {
        let value = if labels.is_null() { Value::Object(Fields::new()) } else { labels.clone() };
        errors.push(FieldError::invalid(labels_path(at), value, "`selector` does not match template `labels`"));
    }
}

/// Adds the errors of a template whose pods run for ever. `kind` is for the words of one of them.
pub(super) fn runs_always(at: Path<'_>, template: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let pod = &template["spec"];
    let restart = text(pod, "restartPolicy");
    if matches!(restart, "OnFailure" | "Never") {
        errors.push(FieldError::not_supported(format!("{at}.spec.restartPolicy"), restart, &["Always"]));
    }
    if !pod["activeDeadlineSeconds"].is_null() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(format!("{at}.spec.activeDeadlineSeconds"), why));
    }
}

/// Adds the errors of counts in a status: those below zero, and those that are more than another one.
pub(super) fn status_counts(status: &Value, counts: &[&str], at_most: &[(&str, &str)], errors: &mut Vec<FieldError>) {
    const STATUS: Path<'static> = Path::root("status");
    for name in counts {
        nonnegative(STATUS.child(name), &status[name], errors);
    }
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    for (name, bound) in at_most {
        if count(name) > count(bound) {
            let why = format!("cannot be greater than status.{bound}");
            errors.push(FieldError::invalid(STATUS.child(name), status[name].clone(), why));
        }
    }
}

/// Adds an error if a status' `collisionCount` goes back.
pub(super) fn collisions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let count = |status: &Value| status["collisionCount"].as_i64();
    if let Some(before) = count(&old["status"])
        && count(&new["status"]).unwrap_or(0) < before
    {
        let value = count(&new["status"]).unwrap_or(0);
        errors.push(FieldError::invalid("status.collisionCount", value, "cannot be decremented"));
    }
}
