//! FlowSchema.

use serde_json::{Value, json};

use super::{conditions, fixed, mandatory, suggested};
use crate::kinds::fields::{Path, any, check, fill, is_true, list, one_of, required, spec_mut, text};
use crate::kinds::table::{col, columns, name, number};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        status: true,
        generation: true,
        ..Kind::new(super::V1, "FlowSchema", ("flowschemas", "flowschema"), FlowSchema)
    }
}

struct FlowSchema;

const SPEC: Path<'static> = Path::root("spec");
const LAST: i64 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// What a subject of each kind must say, and may not say besides.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

/// The specs of those that every cluster has and nobody may change.
fn specs() -> [(&'static str, Value); 2] {
    let everything =
        json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let rules = |subjects: Value| {
        json!([{"subjects": subjects, "resourceRules": everything,
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}])
    };
    [
        (
            "exempt",
            json!({"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1,
                "rules": rules(json!([group("system:masters")]))}),
        ),
        (
            "catch-all",
            json!({"priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": LAST,
                "distinguisherMethod": {"type": "ByUser"},
                "rules": rules(json!([group("system:unauthenticated"), group("system:authenticated")]))}),
        ),
    ]
}

/// Those that every cluster has, by name. Since when they have their levels is left out: it is filled in where they are written.
pub fn system() -> Vec<(&'static str, Value)> {
    let object = |(name, spec): (&'static str, Value)| {
        let mut object = mandatory("FlowSchema", name, &spec);
        let (status, reason, message) = dangling(text(&spec["priorityLevelConfiguration"], "name"), true);
        object["status"] = json!({"conditions": [
            {"type": DANGLING, "status": status, "reason": reason, "message": message},
        ]});
        (name, object)
    };
    specs().into_iter().chain(suggested::schemas()).map(object).collect()
}

/// The condition that says whether a schema's level is missing.
pub const DANGLING: &str = "Dangling";

/// Its status, reason and message, in upstream's words.
pub fn dangling(level: &str, found: bool) -> (&'static str, &'static str, String) {
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    match found {
        true => ("False", "Found", format!("{about} and it exists")),
        false => ("True", "NotFound", format!("{about} but there is no such object")),
    }
}

impl Strategy for FlowSchema {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(super::UNENFORCED)
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = spec_mut(object) {
            fill(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let path = SPEC.child("matchingPrecedence");
        let precedence = spec["matchingPrecedence"].as_i64().unwrap_or(0);
        if precedence <= 0 {
            errors.push(FieldError::invalid(path, precedence, "must be a positive value"));
        }
        if precedence > LAST {
            errors.push(FieldError::invalid(path, precedence, format!("must not be greater than {LAST}")));
        }
        if precedence == 1 && object["metadata"]["name"] != "exempt" {
            let why = "only the schema named 'exempt' may have matchingPrecedence 1";
            errors.push(FieldError::invalid(path, precedence, why));
        }
        if spec["distinguisherMethod"].is_object() {
            let path = SPEC.child("distinguisherMethod");
            one_of(path.child("type"), text(&spec["distinguisherMethod"], "type"), &["ByNamespace", "ByUser"], errors);
        }
        let path = SPEC.child("priorityLevelConfiguration");
        match text(&spec["priorityLevelConfiguration"], "name") {
            "" => errors.push(FieldError::required(path.child("name"), "must reference a priority level")),
            level => check(path.child("name"), level, names::subdomain, errors),
        }
        let path = SPEC.child("rules");
        for (i, r) in list(spec, "rules").iter().enumerate() {
            rule(path.index(i), r, errors);
        }
        fixed(&specs(), object, errors);
        conditions(object, errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        conditions(new, errors);
    }

    fn columns(&self) -> Vec<Column> {
        let mut out = columns(
            &[
                col(
                    "PriorityLevel",
                    "string",
                    "`priorityLevelConfiguration` should reference a PriorityLevelConfiguration in the cluster.",
                ),
                col(
                    "MatchingPrecedence",
                    "string",
                    "`matchingPrecedence` is used to choose among the FlowSchemas that match a given request.",
                ),
                col(
                    "DistinguisherMethod",
                    "string",
                    "`distinguisherMethod` defines how to compute the flow distinguisher for requests that match this schema.",
                ),
            ],
            &[],
        );
        out.push(col("MissingPL", "string", "references a broken or non-existent PriorityLevelConfiguration"));
        out
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        let distinguisher = match text(&spec["distinguisherMethod"], "type") {
            "" => "<none>",
            method => method,
        };
        let dangling = list(&o["status"], "conditions").iter().find(|c| c["type"] == DANGLING);
        vec![
            name(o),
            text(&spec["priorityLevelConfiguration"], "name").into(),
            number(&spec["matchingPrecedence"]),
            distinguisher.into(),
            age(o, now),
            dangling.map_or("?", |c| text(c, "status")).into(),
        ]
    }
}

fn rule(path: Path<'_>, rule: &Value, errors: &mut Vec<FieldError>) {
    let subjects = path.child("subjects");
    if list(rule, "subjects").is_empty() {
        errors.push(FieldError::required(subjects, "subjects must contain at least one value"));
    }
    for (i, s) in list(rule, "subjects").iter().enumerate() {
        subject(subjects.index(i), s, errors);
    }
    let (resources, paths) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, why));
    }
    for (i, r) in resources.iter().enumerate() {
        let path = path.child("resourceRules");
        let path = path.index(i);
        verbs(path, r, errors);
        let supply = |what: &str| format!("resource rules must supply at least one {what}");
        wildcard(path, r, "apiGroups", "api groups", &supply("api group"), errors);
        wildcard(path, r, "resources", "resources", &supply("resource"), errors);
        if list(r, "namespaces").is_empty() && is_true(r, "clusterScope") {
            continue;
        }
        let none = "resource rules that are not cluster scoped must supply at least one namespace";
        if wildcard(path, r, "namespaces", "namespaces", none, errors) {
            continue;
        }
        for (j, namespace) in list(r, "namespaces").iter().filter_map(Value::as_str).enumerate() {
            if let Err(why) = names::label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                let path = path.child("namespaces");
                errors.push(FieldError::invalid(path.index(j), namespace, why));
            }
        }
    }
    for (i, r) in paths.iter().enumerate() {
        let path = path.child("nonResourceRules");
        let path = path.index(i);
        verbs(path, r, errors);
        let none = "nonResourceURLs must contain at least one value";
        if wildcard(path, r, "nonResourceURLs", "non-resource URLs", none, errors) {
            continue;
        }
        for (j, url) in list(r, "nonResourceURLs").iter().filter_map(Value::as_str).enumerate() {
            let path = path.child("nonResourceURLs");
            check(path.index(j), url, url_path, errors);
        }
    }
}

fn subject(path: Path<'_>, subject: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(subject, "kind");
    let Some((_, field)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        errors.push(FieldError::not_supported(path.child("kind"), kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let at = path.child(field);
    let who = &subject[*field];
    if !who.is_object() {
        errors.push(FieldError::required(at, format!("{field} is required when subject kind is '{kind}'")));
    } else if kind == "ServiceAccount" {
        let account = text(who, "name");
        required(at.child("name"), account, |n| if n == "*" { Ok(()) } else { names::subdomain(n) }, errors);
        match text(who, "namespace") {
            "" => {
                let why = "must specify namespace for service account";
                errors.push(FieldError::required(at.child("namespace"), why));
            }
            namespace => check(at.child("namespace"), namespace, names::label, errors),
        }
    } else {
        required(at.child("name"), text(who, "name"), any, errors);
    }
    for (other, field) in SUBJECTS.iter().filter(|(k, f)| *k != kind && subject[*f].is_object()) {
        let why = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(FieldError::forbidden(path.child(field), why));
    }
}

fn verbs(path: Path<'_>, rule: &Value, errors: &mut Vec<FieldError>) {
    let verbs = list(rule, "verbs");
    let star = wildcard(path, rule, "verbs", "verbs", "verbs must contain at least one value", errors);
    if !star && !verbs.is_empty() && !verbs.iter().all(|v| VERBS.iter().any(|known| v == known)) {
        errors.push(FieldError::not_supported(path.child("verbs"), rule["verbs"].clone(), &VERBS));
    }
}

/// Rules of a list that may be `*` alone. Whether it has that.
fn wildcard(path: Path<'_>, rule: &Value, field: &str, words: &str, none: &str, errors: &mut Vec<FieldError>) -> bool {
    let all = list(rule, field);
    if all.is_empty() {
        errors.push(FieldError::required(path.child(field), none));
    }
    let star = all.iter().any(|v| v == "*");
    if star && all.len() > 1 {
        let why = format!("if '*' is present, must not specify other {words}");
        errors.push(FieldError::invalid(path.child(field), rule[field].clone(), why));
    }
    star
}

fn url_path(path: &str) -> Result<(), String> {
    let stars = path.matches('*').count();
    Err(match path {
        "" => "must not be empty",
        "/" => return Ok(()),
        p if !p.starts_with('/') => "must start with slash",
        p if p.contains(' ') => "must not contain white-space",
        p if p.contains("//") => "must not contain double slash",
        p if stars > 1 || (stars == 1 && !p.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return Ok(()),
    }
    .into())
}
