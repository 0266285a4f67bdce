//! What webhooks of both kinds are: where to call, for what, and what if nobody answers.

use serde_json::Value;

use super::{FAILURE_POLICIES, MATCH_POLICIES, match_conditions, rules};
use crate::FieldError;
use crate::kinds::fields::{Fields, Path, child_mut, ensure, fill_absent, items_mut, list, one_of, text};
use crate::kinds::metadata::validate_selector;
use crate::kinds::names;

/// Why configurations have no effect.
pub(super) const UNCALLED: &str = "admission webhooks are not called";
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
/// What a server that is one release older understands.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const ALL: Path<'static> = Path::root("webhooks");

/// Defaults of all webhooks of an object; `each` adds to them.
pub(super) fn default(object: &mut Value, each: fn(&mut Fields)) {
    let Some(object) = object.as_object_mut() else { return };
    for hook in items_mut(object, "webhooks") {
        fill_absent(hook, "failurePolicy", || "Fail".into());
        fill_absent(hook, "matchPolicy", || "Equivalent".into());
        ensure(hook, "namespaceSelector");
        ensure(hook, "objectSelector");
        fill_absent(hook, "timeoutSeconds", || 10.into());
        each(hook);
        items_mut(hook, "rules").for_each(rules::default);
        if let Some(service) = child_mut(hook, "clientConfig").and_then(|c| child_mut(c, "service")) {
            fill_absent(service, "port", || 443.into());
        }
    }
}

/// Rules of all webhooks of an object; `each` adds to them.
pub(super) fn validate(object: &Value, errors: &mut Vec<FieldError>, each: fn(Path<'_>, &Value, &mut Vec<FieldError>)) {
    let all = list(object, "webhooks");
    for (i, hook) in all.iter().enumerate() {
        let path = ALL.index(i);
        let name = text(hook, "name");
        qualified(path.child("name"), name, errors);
        for (j, rule) in list(hook, "rules").iter().enumerate() {
            let path = path.child("rules");
            rules::validate(path.index(j), rule, errors);
        }
        for (field, known) in [("failurePolicy", &FAILURE_POLICIES), ("matchPolicy", &MATCH_POLICIES)] {
            if let Some(policy) = hook[field].as_str() {
                one_of(path.child(field), policy, known, errors);
            }
        }
        let at = path.child("sideEffects");
        match hook["sideEffects"].as_str() {
            None => {
                let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
                errors.push(FieldError::required(at, why));
            }
            Some(effects) => one_of(at, effects, &SIDE_EFFECTS, errors),
        }
        if let Some(seconds) = hook["timeoutSeconds"].as_i64()
            && !(1..=30).contains(&seconds)
        {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(path.child("timeoutSeconds"), seconds, why));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            validate_selector(path.child(field), &hook[field], errors);
        }
        each(path, hook, errors);
        client(path.child("clientConfig"), &hook["clientConfig"], errors);
        match_conditions(path.child("matchConditions"), hook, errors);
        versions(path.child("admissionReviewVersions"), hook, errors);
        if !name.is_empty() && all[..i].iter().any(|other| text(other, "name") == name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
    }
}

/// A domain of at least three parts.
fn qualified(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Err(why) = names::subdomain(name) {
        errors.push(FieldError::invalid(path, name, why));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn client(path: Path<'_>, config: &Value, errors: &mut Vec<FieldError>) {
    match (config["url"].as_str(), &config["service"]) {
        (Some(url), Value::Null) => address(path.child("url"), url, errors),
        (None, service) if service.is_object() => reference(path.child("service"), service, errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// Rules of a URL, in the words of upstream's `ValidateWebhookURL`.
fn address(path: Path<'_>, url: &str, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", ""));
    let host = rest.split('/').next().unwrap_or_default();
    let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, why));
    }
    if host.is_empty() {
        errors.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
    }
    for (found, words) in [
        (user, "user information is not permitted in the URL"),
        (Some(fragment).filter(|f| !f.is_empty()), "fragments are not permitted in the URL"),
        (Some(query).filter(|q| !q.is_empty()), "query parameters are not permitted in the URL"),
    ] {
        if let Some(found) = found {
            errors.push(FieldError::invalid(path, found, words));
        }
    }
}

/// Rules of a Service that is called, in the words of upstream's `ValidateWebhookService`.
fn reference(path: Path<'_>, service: &Value, errors: &mut Vec<FieldError>) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            errors.push(FieldError::required(path.child(field), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or(0);
    if let Err(why) = names::port_number(port) {
        errors.push(FieldError::invalid(path.child("port"), port, format!("port is not valid: {why}")));
    }
    let url = text(service, "path");
    let mut wrong = |why: String| errors.push(FieldError::invalid(path.child("path"), url, why));
    match url {
        "" | "/" => return,
        "//" => return wrong("segment[0] may not be empty".into()),
        _ => {}
    }
    if !url.starts_with('/') {
        wrong("must start with a '/'".into());
    }
    let rest = url.get(1..).unwrap_or_default();
    for (i, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            wrong(format!("segment[{i}] may not be empty"));
        } else if let Err(why) = names::subdomain(segment) {
            wrong(format!("segment[{i}]: {why}"));
        }
    }
}

fn versions(path: Path<'_>, hook: &Value, errors: &mut Vec<FieldError>) {
    let all: Vec<&str> = list(hook, "admissionReviewVersions").iter().filter_map(Value::as_str).collect();
    let known = REVIEW_VERSIONS.join(", ");
    if all.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {known}")));
        return;
    }
    for (i, version) in all.iter().enumerate() {
        if all[..i].contains(version) {
            errors.push(FieldError::invalid(path.index(i), *version, "duplicate version"));
        } else if let Err(why) = names::label_1035(version) {
            errors.push(FieldError::invalid(path.index(i), *version, why));
        }
    }
    if !all.iter().any(|v| REVIEW_VERSIONS.contains(v)) {
        let why = format!("must include at least one of {known}");
        errors.push(FieldError::invalid(path, hook["admissionReviewVersions"].clone(), why));
    }
}
