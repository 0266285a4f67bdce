//! What the kinds with a pod template share: rules, and what is shown of them.

use serde_json::Value;

use super::core::podspec;
use super::fields::{Fields, Path, ensure, nonnegative, text};
use super::table::{self, col, name, number, wide};
use super::{Column, Scale, age, field_at};
use crate::selector::LabelSelector;
use crate::{FieldError, Time};

/// Where workloads keep what `/scale` serves.
pub(super) const SCALE: Scale =
    Scale { spec_replicas: "spec.replicas", status_replicas: "status.replicas", selector: "spec.selector" };

/// The wide columns: two for [`podspec::layout`] of the template, and one for what selects its pods.
pub(super) const LAYOUT: [Column; 3] = [
    wide("Containers", "string", "Names of each container in the template."),
    wide("Images", "string", "Images referenced by each container in the template."),
    wide("Selector", "string", "Label selector for pods."),
];

/// Defaults of `template` in a spec, which is made where there is none.
pub(super) fn default_template(spec: &mut Fields) {
    if let Some(pod) = ensure(spec, "template").and_then(|t| ensure(t, "spec")) {
        podspec::default_template(pod);
    }
}

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
        errors.push(mismatch(at, template));
    }
}

/// The error of a selector that does not match its template's labels.
pub(super) fn mismatch(at: Path<'_>, template: &Value) -> FieldError {
    let labels = &template["metadata"]["labels"];
    let value = if labels.is_null() { Value::Object(Fields::new()) } else { labels.clone() };
    FieldError::invalid(labels_path(at), value, "`selector` does not match template `labels`")
}

/// Adds an error if a selector asks for nothing; answers whether it does. `kind` is upstream's word for one of them.
pub(super) fn empty_selector(at: Path<'_>, selector: &Value, kind: &str, errors: &mut Vec<FieldError>) -> bool {
    let empty = selector.is_object() && LabelSelector::from_json(selector).is_ok_and(|s| s.is_empty());
    if empty {
        let why = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid(at, selector.clone(), why));
    }
    empty
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

/// Adds the errors of counts in a status: those below zero, and those that are more than another one, which has the name
/// that upstream has for it.
pub(super) fn status_counts(status: &Value, counts: &[&str], at_most: &[(&str, &str)], errors: &mut Vec<FieldError>) {
    const STATUS: Path<'static> = Path::root("status");
    for name in counts {
        nonnegative(STATUS.child(name), &status[name], errors);
    }
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    for (name, bound) in at_most {
        if count(name) > count(bound.strip_prefix("status.").unwrap_or(bound)) {
            let why = format!("cannot be greater than {bound}");
            errors.push(FieldError::invalid(STATUS.child(name), status[name].clone(), why));
        }
    }
}

/// What the status of pods that run side by side must not say.
pub(super) const AT_MOST: [(&str, &str); 3] = [
    ("readyReplicas", "status.replicas"),
    ("availableReplicas", "status.replicas"),
    ("availableReplicas", "readyReplicas"),
];

/// Adds the errors of the status of a ReplicaSet and of what came before it.
pub(super) fn replica_counts(status: &Value, errors: &mut Vec<FieldError>) {
    let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    status_counts(status, &counts, &[("fullyLabeledReplicas", "status.replicas")], errors);
    status_counts(status, &[], &AT_MOST, errors);
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

/// A field that the kinds of replicas can be selected by, besides those of all objects.
pub(super) const REPLICAS: &str = "status.replicas";

/// Its value, and that of any other field.
pub(super) fn replicas_field(object: &Value, path: &str) -> String {
    match path {
        REPLICAS => object["status"]["replicas"].as_i64().unwrap_or(0).to_string(),
        _ => field_at(object, path),
    }
}

/// The columns of a ReplicaSet and of what came before it.
pub(super) fn replica_columns() -> Vec<Column> {
    let shown = [
        col("Desired", "integer", "Number of desired replicas."),
        col("Current", "integer", "Number of pods that exist."),
        col("Ready", "integer", "Number of pods that are ready."),
    ];
    table::columns(&shown, &LAYOUT)
}

/// Their cells, given that of the selector.
pub(super) fn replica_cells(o: &Value, selector: Value, now: Time) -> Vec<Value> {
    let (spec, status) = (&o["spec"], &o["status"]);
    let (names, images) = podspec::layout(&spec["template"]["spec"]);
    vec![
        name(o),
        number(&spec["replicas"]),
        number(&status["replicas"]),
        number(&status["readyReplicas"]),
        age(o, now),
        names.into(),
        images.into(),
        selector,
    ]
}
