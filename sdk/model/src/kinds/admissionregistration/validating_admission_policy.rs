//! ValidatingAdmissionPolicy. Its expressions are kept as they are.

use serde_json::Value;

use super::{FAILURE_POLICIES, match_conditions, match_resources};
use crate::kinds::fields::{Path, check, child_mut, fill_absent, list, one_of, spec_mut, text};
use crate::kinds::metadata::validate_conditions;
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let names = ("validatingadmissionpolicies", "validatingadmissionpolicy");
    Kind { status: true, ..super::kind("ValidatingAdmissionPolicy", names, ValidatingAdmissionPolicy) }
}

struct ValidatingAdmissionPolicy;

const SPEC: Path<'static> = Path::root("spec");
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// How many audit annotations there may be, and how long the expression of one, in bytes.
const AUDIT_ANNOTATIONS: (usize, usize) = (20, 5 * 1024);
/// What is no name in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Strategy for ValidatingAdmissionPolicy {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(super::UNEVALUATED)
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill_absent(spec, "failurePolicy", || "Fail".into());
        if let Some(matches) = child_mut(spec, "matchConstraints") {
            match_resources::default(matches);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let at = SPEC.child("failurePolicy");
        match spec["failurePolicy"].as_str() {
            None => errors.push(FieldError::required(at, "")),
            Some(policy) => one_of(at, policy, &FAILURE_POLICIES, errors),
        }
        if spec["paramKind"].is_object() {
            param_kind(SPEC.child("paramKind"), &spec["paramKind"], errors);
        }
        let (at, matches) = (SPEC.child("matchConstraints"), &spec["matchConstraints"]);
        if matches.is_object() {
            match_resources::validate(at, matches, errors);
            if list(matches, "resourceRules").is_empty() {
                errors.push(FieldError::required(at.child("resourceRules"), ""));
            }
        } else {
            errors.push(FieldError::required(at, ""));
        }
        match_conditions(SPEC.child("matchConditions"), spec, errors);
        for (i, variable) in list(spec, "variables").iter().enumerate() {
            let path = SPEC.child("variables");
            self::variable(path.index(i), variable, errors);
        }
        let (validations, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            for field in ["validations", "auditAnnotations"] {
                errors.push(FieldError::required(SPEC.child(field), why));
            }
        }
        for (i, validation) in validations.iter().enumerate() {
            let path = SPEC.child("validations");
            self::validation(path.index(i), validation, errors);
        }
        audit_annotations(object, errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::root("status");
        let path = status.child("typeChecking");
        let path = path.child("expressionWarnings");
        for (i, warning) in list(&new["status"]["typeChecking"], "expressionWarnings").iter().enumerate() {
            for field in ["warning", "fieldRef"] {
                if text(warning, field).trim().is_empty() {
                    let path = path.index(i);
                    errors.push(FieldError::required(path.child(field), ""));
                }
            }
        }
        validate_conditions(status.child("conditions"), &new["status"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let count = "Validations indicates the number of validation rules defined in this configuration";
        let kind = "ParamKind specifies the kind of resources used to parameterize this policy";
        columns(&[col("Validations", "integer", count), col("ParamKind", "string", kind)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, kind) = (&o["spec"], &o["spec"]["paramKind"]);
        let params = match kind.is_object() {
            true => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")),
            false => "<unset>".into(),
        };
        vec![name(o), list(spec, "validations").len().into(), params.into(), age(o, now)]
    }
}

fn param_kind(path: Path<'_>, kind: &Value, errors: &mut Vec<FieldError>) {
    let (at, api_version) = (path.child("apiVersion"), text(kind, "apiVersion"));
    match api_version.split('/').collect::<Vec<_>>()[..] {
        [""] => errors.push(FieldError::required(at, "")),
        [version] => check(at, version, names::label_1035, errors),
        [group, version] => {
            if !group.is_empty() {
                check(at, group, names::subdomain, errors);
            }
            match version {
                "" => errors.push(FieldError::invalid(at, api_version, "version must be specified")),
                version => check(at, version, names::label_1035, errors),
            }
        }
        _ => {
            let why = format!("unexpected GroupVersion string: {api_version}");
            errors.push(FieldError::invalid(at, api_version, why));
        }
    }
    let kind = text(kind, "kind");
    if kind.is_empty() {
        errors.push(FieldError::required(path.child("kind"), ""));
    } else if let Err(why) = names::label_1035(&kind.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        errors.push(FieldError::invalid(path.child("kind"), kind, why));
    }
}

fn variable(path: Path<'_>, variable: &Value, errors: &mut Vec<FieldError>) {
    let name = text(variable, "name");
    let plain = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.trim().is_empty() {
        errors.push(FieldError::required(path.child("name"), "name is not specified"));
    } else if !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) || RESERVED.contains(&name) {
        errors.push(FieldError::invalid(path.child("name"), name, "name is not a valid CEL identifier"));
    }
    if text(variable, "expression").trim().is_empty() {
        errors.push(FieldError::required(path.child("expression"), "expression is not specified"));
    }
}

fn validation(path: Path<'_>, validation: &Value, errors: &mut Vec<FieldError>) {
    if text(validation, "expression").trim().is_empty() {
        errors.push(FieldError::required(path.child("expression"), "expression is not specified"));
    }
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let message_expression = text(validation, "messageExpression");
    if blank(message_expression) {
        let why = "must be non-empty if specified";
        errors.push(FieldError::invalid(path.child("messageExpression"), message_expression, why));
    }
    let message = text(validation, "message");
    if blank(message) {
        errors.push(FieldError::invalid(path.child("message"), message, "message must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(FieldError::invalid(path.child("message"), message, "message must not contain line breaks"));
    }
    if let Some(reason) = validation["reason"].as_str() {
        one_of(path.child("reason"), reason, &REASONS, errors);
    }
}

fn audit_annotations(object: &Value, errors: &mut Vec<FieldError>) {
    let (path, spec) = (SPEC.child("auditAnnotations"), &object["spec"]);
    let all = list(spec, "auditAnnotations");
    if all.len() > AUDIT_ANNOTATIONS.0 {
        let why = format!("must not have more than {} auditAnnotations", AUDIT_ANNOTATIONS.0);
        errors.push(FieldError::invalid(path, spec["auditAnnotations"].clone(), why));
    }
    let policy = text(&object["metadata"], "name");
    for (i, annotation) in all.iter().enumerate() {
        let path = path.index(i);
        let key = text(annotation, "key");
        if policy.is_empty() {
            errors.push(FieldError::invalid(path.child("key"), key, "requires metadata.name be non-empty"));
        } else {
            let full = format!("{policy}/{key}");
            check(path.child("key"), &full, names::qualified, errors);
        }
        let expression = text(annotation, "valueExpression").trim();
        if expression.is_empty() {
            errors.push(FieldError::required(path.child("valueExpression"), "valueExpression is not specified"));
        } else if expression.len() > AUDIT_ANNOTATIONS.1 {
            let why = format!("must not exceed {} bytes in length", AUDIT_ANNOTATIONS.1);
            errors.push(FieldError::required(path.child("valueExpression"), why));
        }
        if all[..i].iter().any(|other| text(other, "key") == key) {
            errors.push(FieldError::duplicate(path.child("key"), key));
        }
    }
}
