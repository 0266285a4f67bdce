//! The rules of `metadata`, the same for all kinds (apimachinery `pkg/api/validation`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{Path, check, immutable, is_true, list, nonnegative, one_of, text};
use super::{Kind, names};
use crate::FieldError;

const AT: Path<'static> = Path::root("metadata");
/// The greatest sum of the sizes of all annotations, in bytes.
const ANNOTATIONS: usize = 256 * 1024;

/// Errors of an object's metadata, at its creation or change.
pub fn validate_metadata(kind: &Kind, object: &Value, errors: &mut Vec<FieldError>) {
    let meta = &object["metadata"];
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        // What follows the prefix will be alphanumeric, so a trailing dash is fine.
        let masked = if prefix.len() > 1 && prefix.ends_with('-') {
            format!("{}a", &prefix[..prefix.len() - 1])
        } else {
            prefix.into()
        };
        if let Err(why) = kind.strategy.validate_name(&masked) {
            errors.push(FieldError::invalid(AT.child("generateName"), prefix, why));
        }
    }
    let name = text(meta, "name");
    if name.is_empty() {
        errors.push(FieldError::required(AT.child("name"), "name or generateName is required"));
    } else {
        check(AT.child("name"), name, |n| kind.strategy.validate_name(n), errors);
    }
    let namespace = text(meta, "namespace");
    match (kind.namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(AT.child("namespace"), "")),
        (true, false) => check(AT.child("namespace"), namespace, names::label, errors),
        (false, false) => errors.push(FieldError::forbidden(AT.child("namespace"), "not allowed on this type")),
        (false, true) => {}
    }
    nonnegative(AT.child("generation"), &meta["generation"], errors);
    validate_labels(AT.child("labels"), &meta["labels"], errors);
    validate_annotations(AT.child("annotations"), &meta["annotations"], errors);
    owners(meta, errors);
    finalizers(kind, meta, errors);
}

/// Further errors of a change: the fields of metadata that identify the object.
pub fn validate_metadata_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (new, old) = (&new["metadata"], &old["metadata"]);
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(AT.child(name), &new[name], &old[name], errors);
    }
    if old["deletionTimestamp"].is_string() {
        let had: BTreeSet<&str> = list(old, "finalizers").iter().filter_map(Value::as_str).collect();
        let extra: BTreeSet<&str> =
            list(new, "finalizers").iter().filter_map(Value::as_str).filter(|f| !had.contains(f)).collect();
        if !extra.is_empty() {
            let extra = extra.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            errors.push(FieldError::forbidden(
                AT.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{extra}}}"
                ),
            ));
        }
    }
}

/// Errors of a map of labels, such as a node selector.
pub fn validate_labels(path: Path<'_>, labels: &Value, errors: &mut Vec<FieldError>) {
    for (k, v) in labels.as_object().into_iter().flatten() {
        check(path, k, names::qualified, errors);
        check(path, v.as_str().unwrap_or_default(), names::label_value, errors);
    }
}

/// Errors of a `metav1.LabelSelector`.
pub fn validate_selector(path: Path<'_>, selector: &Value, errors: &mut Vec<FieldError>) {
    validate_labels(path.child("matchLabels"), &selector["matchLabels"], errors);
    for (i, e) in list(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions");
        let path = path.index(i);
        let values = list(e, "values");
        match text(e, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator")),
        }
        check(path.child("key"), text(e, "key"), names::qualified, errors);
        for (j, v) in values.iter().enumerate() {
            let path = path.child("values");
            check(path.index(j), v.as_str().unwrap_or_default(), names::label_value, errors);
        }
    }
}

/// Errors of a point where a load balancer or an ingress is reached: an address or a name.
pub fn validate_ingress_point(path: Path<'_>, point: &Value, errors: &mut Vec<FieldError>) {
    let (ip, host) = (text(point, "ip"), text(point, "hostname"));
    if !ip.is_empty() {
        check(path.child("ip"), ip, names::ip, errors);
    }
    if !host.is_empty() {
        check(path.child("hostname"), host, names::subdomain, errors);
        if names::ip(host).is_ok() {
            let why = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(path.child("hostname"), host, why));
        }
    }
}

/// Errors of a list of `metav1.Condition` in the field `conditions` of `of`.
pub fn validate_conditions(path: Path<'_>, of: &Value, errors: &mut Vec<FieldError>) {
    const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
         alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  \
         or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
         '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    let all = list(of, "conditions");
    for (i, condition) in all.iter().enumerate() {
        let path = path.index(i);
        let kind = text(condition, "type");
        if all[..i].iter().any(|other| text(other, "type") == kind) {
            errors.push(FieldError::duplicate(path.child("type"), kind));
        }
        check(path.child("type"), kind, names::qualified, errors);
        one_of(path.child("status"), text(condition, "status"), &["False", "True", "Unknown"], errors);
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|n| *n < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(path.child("observedGeneration"), generation, why));
        }
        if text(condition, "lastTransitionTime").is_empty() {
            errors.push(FieldError::required(path.child("lastTransitionTime"), "must be set"));
        }
        let reason = text(condition, "reason");
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = reason.starts_with(|c: char| c.is_ascii_alphabetic())
            && reason.ends_with(inner)
            && reason.chars().all(|c| inner(c) || matches!(c, ',' | ':'));
        match reason {
            "" => errors.push(FieldError::required(path.child("reason"), "must be set")),
            _ if !good => errors.push(FieldError::invalid(path.child("reason"), reason, REASON)),
            _ => {}
        }
        for (field, most) in [("reason", 1024), ("message", 32 * 1024)] {
            if text(condition, field).len() > most {
                errors.push(FieldError::too_long(path.child(field), most));
            }
        }
    }
}

/// Errors of annotations: their names, and how much they are together.
pub fn validate_annotations(path: Path<'_>, annotations: &Value, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (k, v) in annotations.as_object().into_iter().flatten() {
        // Upper case is allowed in the prefix, for old clients' sake.
        if names::qualified(k).is_err()
            && let Err(why) = names::qualified(&k.to_lowercase())
        {
            errors.push(FieldError::invalid(path, k.as_str(), why));
        }
        size += k.len() + v.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        errors.push(FieldError::too_long(path, ANNOTATIONS));
    }
}

fn owners(meta: &Value, errors: &mut Vec<FieldError>) {
    let path = AT.child("ownerReferences");
    let mut controller: Option<&str> = None;
    for owner in list(meta, "ownerReferences") {
        let api_version = text(owner, "apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if version.is_empty() {
            errors.push(FieldError::invalid(path.child("apiVersion"), api_version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                errors.push(FieldError::invalid(path.child(name), "", format!("{name} must not be empty")));
            }
        }
        if group.is_empty() && version == "v1" && owner["kind"] == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.clone(), why));
        }
        if is_true(owner, "controller") {
            let this = text(owner, "name");
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(path, meta["ownerReferences"].clone(), why));
            }
            controller = Some(this);
        }
    }
}

/// Errors of a finalizer of one of Kubernetes' own kinds, of its form and of its name.
pub fn validate_finalizer(form: Path<'_>, name: Path<'_>, finalizer: &str, errors: &mut Vec<FieldError>) {
    check(form, finalizer, names::qualified, errors);
    if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(name, finalizer, why));
    }
}

fn finalizers(kind: &Kind, meta: &Value, errors: &mut Vec<FieldError>) {
    let path = AT.child("finalizers");
    let all = list(meta, "finalizers");
    // Custom resources may keep unqualified finalizers; Kubernetes' own kinds may not.
    let own = !kind.group.contains('.') || kind.group.ends_with(".k8s.io");
    for (i, f) in all.iter().filter_map(Value::as_str).enumerate() {
        match own {
            true => validate_finalizer(path, path.index(i), f, errors),
            false => check(path, f, names::qualified, errors),
        }
    }
    if all.iter().any(|f| f == "orphan") && all.iter().any(|f| f == "foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, meta["finalizers"].clone(), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kinds;
    use serde_json::json;

    fn errors(resource: &str, meta: Value) -> Vec<String> {
        let mut errors = Vec::new();
        let kinds = Kinds::builtin();
        validate_metadata(kinds.group_resource(resource).unwrap(), &json!({ "metadata": meta }), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_metadata_passes() {
        for (resource, meta) in [
            (
                "pods",
                json!({"name":"a.b","namespace":"default","labels":{"a/b":"C"},"annotations":{"Ab.c/D":"any thing"}}),
            ),
            (
                "pods",
                json!({"name":"web-x","generateName":"web-","namespace":"d","finalizers":["example.com/x","orphan"]}),
            ),
            ("nodes", json!({"name":"n1","ownerReferences":[{"apiVersion":"a/v1","kind":"K","name":"n","uid":"u"}]})),
            ("clusterroles.rbac.authorization.k8s.io", json!({"name":"system:node"})),
        ] {
            assert_eq!(errors(resource, meta.clone()), Vec::<String>::new(), "{meta}");
        }
    }

    #[test]
    fn each_error_names_its_field() {
        let owner = |uid: &str| json!({"apiVersion":"v1","kind":"Pod","name":"p","uid":uid,"controller":true});
        for (meta, want) in [
            (json!({"namespace":"d"}), "metadata.name: Required value: name or generateName is required"),
            (
                json!({"name":"A","namespace":"d"}),
                "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
            (
                json!({"name":"a","generateName":"A-","namespace":"d"}),
                "metadata.generateName: Invalid value: \"A-\": a lower",
            ),
            (json!({"name":"a"}), "metadata.namespace: Required value"),
            (
                json!({"name":"a","namespace":"d","labels":{"-":"x"}}),
                "metadata.labels: Invalid value: \"-\": name part must",
            ),
            (
                json!({"name":"a","namespace":"d","labels":{"x":"a b"}}),
                "metadata.labels: Invalid value: \"a b\": a valid label",
            ),
            (
                json!({"name":"a","namespace":"d","annotations":{"a b":""}}),
                "metadata.annotations: Invalid value: \"a b\": name",
            ),
            (
                json!({"name":"a","namespace":"d","annotations":{"a":"x".repeat(300_000)}}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
            (
                json!({"name":"a","namespace":"d","ownerReferences":[owner("")]}),
                "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty",
            ),
            (
                json!({"name":"a","namespace":"d","ownerReferences":[owner("1"),owner("2")]}),
                "metadata.ownerReferences: Invalid value: [",
            ),
            (
                json!({"name":"a","namespace":"d","finalizers":["x"]}),
                "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name",
            ),
        ] {
            let got = errors("pods", meta.clone());
            assert!(got.len() == 1 && got[0].starts_with(want), "{meta}\n{got:?}");
        }
        assert_eq!(
            errors("nodes", json!({"name":"a","namespace":"d"})),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
    }

    #[test]
    fn conditions_are_of_one_form() {
        let good = json!({"type":"Ready","status":"True","reason":"a","lastTransitionTime":"2026-01-01T00:00:00Z"});
        let errors = |conditions: Value| {
            let mut errors = Vec::new();
            validate_conditions(Path::root("c"), &json!({ "conditions": conditions }), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(errors(json!([good])), Vec::<String>::new());
        assert_eq!(errors(json!([good, good])), ["c[1].type: Duplicate value: \"Ready\""]);
        for (field, value, want) in [
            ("type", json!(""), "c[0].type: Invalid value: \"\": name part must be non-empty"),
            ("type", json!("-"), "c[0].type: Invalid value: \"-\": name part must consist"),
            (
                "status",
                json!(""),
                "c[0].status: Unsupported value: \"\": supported values: \"False\", \"True\", \"Unknown\"",
            ),
            (
                "observedGeneration",
                json!(-1),
                "c[0].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            ),
            ("lastTransitionTime", Value::Null, "c[0].lastTransitionTime: Required value: must be set"),
            ("reason", json!(""), "c[0].reason: Required value: must be set"),
            (
                "reason",
                json!("a b"),
                "c[0].reason: Invalid value: \"a b\": a condition reason must start with alphabetic character, optionally followed by \
                 a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  \
                 or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
                 '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            ),
            ("reason", json!("a".repeat(1025)), "c[0].reason: Too long: may not be more than 1024 bytes"),
            ("message", json!("a".repeat(32_769)), "c[0].message: Too long: may not be more than 32768 bytes"),
        ] {
            let mut condition = good.clone();
            condition[field] = value;
            let got = errors(json!([condition]));
            assert!(got.len() == 1 && got[0].starts_with(want), "{field}\nwant {want}\ngot  {got:#?}");
        }
    }

    #[test]
    fn what_identifies_an_object_is_immutable() {
        let old =
            json!({"metadata":{"name":"a","uid":"1","finalizers":["a/b"],"deletionTimestamp":"2026-01-01T00:00:00Z"}});
        let mut new = old.clone();
        new["metadata"]["uid"] = "2".into();
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
        let mut errors = Vec::new();
        validate_metadata_update(&new, &old, &mut errors);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "metadata.uid: Invalid value: \"2\": field is immutable",
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{\"c/d\"}",
            ]
        );
        let mut errors = Vec::new();
        validate_metadata_update(&old, &old, &mut errors);
        assert!(errors.is_empty());
    }
}
