//! Rules of volumes and of their mounts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::defaults::VOLUME_TYPES;
use super::{env, resources};
use crate::FieldError;
use crate::kinds::fields::{Path, any, list, one_of, required, text};
use crate::kinds::names;
use crate::quantity::Quantity;

/// Rules of a pod's `volumes`.
pub(super) fn validate(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, v) in list(spec, "volumes").iter().enumerate() {
        let path = path.index(i);
        source(path, v, errors);
        let name = text(v, "name");
        required(path.child("name"), name, names::label, errors);
        if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
    }
}

fn source(path: Path<'_>, v: &Value, errors: &mut Vec<FieldError>) {
    let mut found = VOLUME_TYPES.iter().filter(|t| v[**t].is_object());
    let Some(kind) = found.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for more in found {
        errors.push(FieldError::forbidden(path.child(more), "may not specify more than 1 volume type"));
    }
    let (path, source) = (path.child(kind), &v[*kind]);
    match *kind {
        "emptyDir" if !source["sizeLimit"].is_null() => {
            let path = path.child("sizeLimit");
            let limit = &source["sizeLimit"];
            match limit.as_str().and_then(|t| t.parse::<Quantity>().ok()) {
                Some(q) if q < Quantity::default() => {
                    errors.push(FieldError::forbidden(path, "SizeLimit field must be a valid resource quantity"));
                }
                _ => resources::quantity(path, "memory", limit, errors),
            }
        }
        "hostPath" => {
            required(path.child("path"), text(source, "path"), any, errors);
            no_backsteps(path.child("path"), text(source, "path"), errors);
            if let Some(kind) = source["type"].as_str() {
                let types = [
                    "",
                    "BlockDevice",
                    "CharDevice",
                    "Directory",
                    "DirectoryOrCreate",
                    "File",
                    "FileOrCreate",
                    "Socket",
                ];
                one_of(path.child("type"), kind, &types, errors);
            }
        }
        "secret" => {
            required(path.child("secretName"), text(source, "secretName"), any, errors);
            mode(path.child("defaultMode"), &source["defaultMode"], errors);
            keys(path, source, errors);
        }
        "configMap" => {
            required(path.child("name"), text(source, "name"), any, errors);
            mode(path.child("defaultMode"), &source["defaultMode"], errors);
            keys(path, source, errors);
        }
        "downwardAPI" => {
            mode(path.child("defaultMode"), &source["defaultMode"], errors);
            downward(path, source, errors);
        }
        "projected" => {
            mode(path.child("defaultMode"), &source["defaultMode"], errors);
            projected(path, source, errors);
        }
        "persistentVolumeClaim" => required(path.child("claimName"), text(source, "claimName"), any, errors),
        "nfs" => {
            required(path.child("server"), text(source, "server"), any, errors);
            required(path.child("path"), text(source, "path"), any, errors);
        }
        "csi" => required(path.child("driver"), text(source, "driver"), any, errors),
        "image" => {
            required(path.child("reference"), text(source, "reference"), any, errors);
            one_of(path.child("pullPolicy"), text(source, "pullPolicy"), &["Always", "IfNotPresent", "Never"], errors);
        }
        _ => {}
    }
}

fn projected(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    let mut seen = BTreeSet::new();
    let whole = path;
    for (i, s) in list(source, "sources").iter().enumerate() {
        let path = path.child("sources");
        let path = path.index(i);
        let mut found = kinds.iter().filter(|k| s[**k].is_object());
        let Some(kind) = found.next() else {
            errors.push(FieldError::required(
                path,
                "must specify one of: secret, configMap, downwardAPI, serviceAccountToken",
            ));
            continue;
        };
        for more in found {
            errors.push(FieldError::forbidden(path.child(more), "may not specify more than 1 volume type per source"));
        }
        let (path, s) = (path.child(kind), &s[*kind]);
        let own = text(s, "path");
        for at in list(s, "items").iter().map(|i| text(i, "path")).chain([own]).filter(|p| !p.is_empty()) {
            if !seen.insert(at) {
                let value = if matches!(*kind, "secret" | "configMap") { text(s, "name") } else { at };
                errors.push(FieldError::invalid(whole, value, "conflicting duplicate paths"));
            }
        }
        match *kind {
            "secret" | "configMap" => {
                required(path.child("name"), text(s, "name"), any, errors);
                keys(path, s, errors);
            }
            "downwardAPI" => downward(path, s, errors),
            "serviceAccountToken" => {
                let seconds = &s["expirationSeconds"];
                if seconds.as_i64().is_some_and(|n| n < 600) {
                    let why = "may not specify a duration less than 10 minutes";
                    errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds.clone(), why));
                }
                if seconds.as_i64().is_some_and(|n| n > 1 << 32) {
                    let why = "may not specify a duration larger than 2^32 seconds";
                    errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds.clone(), why));
                }
                item_path(path.child("path"), own, errors);
            }
            _ => {}
        }
    }
}

fn keys(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    for (i, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items");
        let path = path.index(i);
        required(path.child("key"), text(item, "key"), any, errors);
        item_path(path.child("path"), text(item, "path"), errors);
        mode(path.child("mode"), &item["mode"], errors);
    }
}

fn downward(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    for (i, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items");
        let path = path.index(i);
        item_path(path.child("path"), text(item, "path"), errors);
        env::downward_item(path, item, errors);
        mode(path.child("mode"), &item["mode"], errors);
    }
}

fn item_path(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    relative(path, value, errors);
    // What lies outside was said already.
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(FieldError::invalid(path, value, "must not start with '..'"));
    }
}

fn relative(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(path, value, errors);
}

fn no_backsteps(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

fn mode(path: Path<'_>, mode: &Value, errors: &mut Vec<FieldError>) {
    if mode.as_i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, mode.clone(), why));
    }
}

/// Rules of a container's `volumeMounts`.
pub(super) fn mounts(path: Path<'_>, c: &Value, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, m) in list(c, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts");
        let path = path.index(i);
        let (name, at) = (text(m, "name"), text(m, "mountPath"));
        required(path.child("name"), name, any, errors);
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(path.child("name"), name));
        }
        required(path.child("mountPath"), at, any, errors);
        if !seen.insert(at) {
            errors.push(FieldError::invalid(path.child("mountPath"), at, "must be unique"));
        }
        let (sub, expr) = (text(m, "subPath"), text(m, "subPathExpr"));
        relative(path.child("subPath"), sub, errors);
        relative(path.child("subPathExpr"), expr, errors);
        if !sub.is_empty() && !expr.is_empty() {
            errors.push(FieldError::invalid(
                path.child("subPathExpr"),
                expr,
                "subPathExpr and subPath are mutually exclusive",
            ));
        }
        if let Some(p) = m["mountPropagation"].as_str() {
            let path = path.child("mountPropagation");
            one_of(path, p, &["Bidirectional", "HostToContainer", "None"], errors);
            if p == "Bidirectional" && c["securityContext"]["privileged"] != true {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(path, why));
            }
        }
        recursive_read_only(path.child("recursiveReadOnly"), m, errors);
    }
}

fn recursive_read_only(path: Path<'_>, mount: &Value, errors: &mut Vec<FieldError>) {
    let Some(wanted) = mount["recursiveReadOnly"].as_str().filter(|w| *w != "Disabled") else { return };
    one_of(path, wanted, &["Disabled", "Enabled", "IfPossible"], errors);
    if mount["readOnly"] != true {
        errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
    }
    if !matches!(text(mount, "mountPropagation"), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(FieldError::forbidden(path, why));
    }
}
