//! Rules of `env` and `envFrom`, and of references to fields and keys.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, check, list, one_of, required, text};
use crate::kinds::names;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What the downward API can name at all.
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

pub(super) fn validate(path: Path<'_>, container: &Value, errors: &mut Vec<FieldError>) {
    for (i, e) in list(container, "env").iter().enumerate() {
        let path = path.child("env");
        let path = path.index(i);
        required(path.child("name"), text(e, "name"), names::env_var, errors);
        value_from(path.child("valueFrom"), e, errors);
    }
    for (i, e) in list(container, "envFrom").iter().enumerate() {
        let path = path.child("envFrom");
        let path = path.index(i);
        check(path.child("prefix"), text(e, "prefix"), names::env_var, errors);
        let mut sources = 0;
        for name in ["configMapRef", "secretRef"] {
            if e[name].is_object() {
                sources += 1;
                let path = path.child(name);
                required(path.child("name"), text(&e[name], "name"), names::subdomain, errors);
            }
        }
        match sources {
            0 => errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
        }
    }
}

fn value_from(path: Path<'_>, e: &Value, errors: &mut Vec<FieldError>) {
    let from = &e["valueFrom"];
    if !from.is_object() {
        return;
    }
    let sources = SOURCES.iter().filter(|s| from[**s].is_object()).count();
    let problem = match sources {
        0 => Some("must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
        _ if !text(e, "value").is_empty() => Some("may not be specified when `value` is not empty"),
        1 => None,
        _ => Some("may not have more than one field specified at a time"),
    };
    if let Some(why) = problem {
        errors.push(FieldError::invalid(path, "", why));
    }
    if from["fieldRef"].is_object() {
        field_ref(path.child("fieldRef"), &from["fieldRef"], &ENV_FIELDS, errors);
    }
    if from["resourceFieldRef"].is_object() {
        resource_ref(path.child("resourceFieldRef"), &from["resourceFieldRef"], errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if from[name].is_object() {
            let path = path.child(name);
            check(path.child("name"), text(&from[name], "name"), names::subdomain, errors);
            required(path.child("key"), text(&from[name], "key"), names::config_key, errors);
        }
    }
}

/// Rules of the items of a downward API volume.
pub(super) fn downward_item(path: Path<'_>, item: &Value, errors: &mut Vec<FieldError>) {
    match (item["fieldRef"].is_object(), item["resourceFieldRef"].is_object()) {
        (true, false) => field_ref(path.child("fieldRef"), &item["fieldRef"], &VOLUME_FIELDS, errors),
        (false, true) => {
            let (path, field) = (path.child("resourceFieldRef"), &item["resourceFieldRef"]);
            // A volume belongs to no container.
            match text(field, "containerName") {
                "" => errors.push(FieldError::required(path.child("containerName"), "")),
                _ => resource_ref(path, field, errors),
            }
        }
        (true, true) => {
            errors.push(FieldError::invalid(
                path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ));
        }
        (false, false) => errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
}

fn field_ref(path: Path<'_>, field: &Value, supported: &[&str], errors: &mut Vec<FieldError>) {
    let name = text(field, "fieldPath");
    if text(field, "apiVersion").is_empty() {
        errors.push(FieldError::required(path.child("apiVersion"), ""));
        return;
    }
    if name.is_empty() {
        errors.push(FieldError::required(path.child("fieldPath"), ""));
        return;
    }
    let version = text(field, "apiVersion");
    let entry = name.strip_suffix("']").and_then(|n| n.split_once("['"));
    let unknown = match entry {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.labels" | "metadata.annotations", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {name}")),
        None => (!KNOWN_FIELDS.contains(&name)).then(|| format!("field label not supported: {name}")),
    };
    match (unknown, entry) {
        (Some(why), _) => {
            let why = format!("error converting fieldPath: {why}");
            errors.push(FieldError::invalid(path.child("fieldPath"), name, why));
        }
        (None, Some(("metadata.labels", key))) => check(path, key, names::qualified, errors),
        (None, Some((_, key))) => check(path, &key.to_lowercase(), names::qualified, errors),
        (None, None) => one_of(path.child("fieldPath"), name, supported, errors),
    }
}

fn resource_ref(path: Path<'_>, field: &Value, errors: &mut Vec<FieldError>) {
    let name = text(field, "resource");
    if name.is_empty() {
        errors.push(FieldError::required(path.child("resource"), ""));
    } else if !name.starts_with("limits.hugepages-") && !name.starts_with("requests.hugepages-") {
        one_of(path.child("resource"), name, &RESOURCES, errors);
    }
    let allowed: &[&str] = match name.split_once('.').map(|(_, what)| what) {
        Some("cpu") => &["1m", "1"],
        Some("memory" | "ephemeral-storage") => {
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
        }
        _ => return,
    };
    // Zero stands for none.
    if let Some(divisor) = field["divisor"].as_str().filter(|d| !matches!(*d, "" | "0"))
        && !allowed.contains(&divisor)
    {
        let (last, what) = (name.rsplit('.').next().unwrap_or_default(), allowed);
        let list = match what {
            [one, two] => format!("{one} and {two}"),
            more => more.join(", "),
        };
        let why = format!("only divisor's values {list} are supported with the {last} resource");
        errors.push(FieldError::invalid(path.child("divisor"), name, why));
    }
}
