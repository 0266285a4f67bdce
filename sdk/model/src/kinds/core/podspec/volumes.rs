//! Rules of volumes and of their mounts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::defaults::VOLUME_TYPES;
use super::env;
use crate::FieldError;
use crate::kinds::core::persistent_volume::csi_driver_name;
use crate::kinds::core::persistent_volume_claim::validate_claim_spec;
use crate::kinds::core::resource_names;
use crate::kinds::core::volume_sources::{host_path, needed, relative};
use crate::kinds::fields::{Path, any, entries, list, one_of, required, required_one_of, text};
use crate::kinds::{metadata, names};
use crate::quantity::Quantity;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
/// The volumes that have no errors, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// Rules of the `volumes` of the pod of this name, or of a template. Those that pass may be mounted.
pub(super) fn validate<'a>(
    path: Path<'_>,
    spec: &'a Value,
    pod: Option<&str>,
    errors: &mut Vec<FieldError>,
) -> Volumes<'a> {
    let all = list(spec, "volumes");
    let own = |v: &Value| pod.filter(|_| v["ephemeral"].is_object()).map(|pod| format!("{pod}-{}", text(v, "name")));
    let created: BTreeSet<String> = all.iter().filter_map(own).collect();
    let mut good = Volumes::new();
    for (i, v) in all.iter().enumerate() {
        let path = path.index(i);
        let before = errors.len();
        source(path, v, pod, errors);
        let name = text(v, "name");
        required(path.child("name"), name, names::label, errors);
        if good.contains_key(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        if errors.len() == before {
            good.insert(name, v);
        }
        let claim = text(&v["persistentVolumeClaim"], "claimName");
        if created.contains(claim) {
            let at = path.child("persistentVolumeClaim");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(at.child("claimName"), claim, why));
        }
    }
    good
}

fn source(path: Path<'_>, v: &Value, pod: Option<&str>, errors: &mut Vec<FieldError>) {
    let mut found = VOLUME_TYPES.iter().filter(|t| v[**t].is_object());
    let Some(kind) = found.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for more in found {
        errors.push(FieldError::forbidden(path.child(more), "may not specify more than 1 volume type"));
    }
    let (of, path, source) = (path, path.child(kind), &v[*kind]);
    match *kind {
        "emptyDir" if !source["sizeLimit"].is_null() => {
            let path = path.child("sizeLimit");
            let limit = &source["sizeLimit"];
            match limit.as_str().and_then(|t| t.parse::<Quantity>().ok()) {
                Some(q) if q < Quantity::default() => {
                    errors.push(FieldError::forbidden(path, "SizeLimit field must be a valid resource quantity"));
                }
                _ => resource_names::quantity(path, "memory", limit, errors),
            }
        }
        "hostPath" => host_path(path, source, errors),
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
        "csi" => {
            required(path.child("driver"), text(source, "driver"), csi_driver_name, errors);
            let (at, secret) = (path.child("nodePublishSecretRef"), &source["nodePublishSecretRef"]);
            if secret.is_object() {
                required(at.child("name"), text(secret, "name"), names::subdomain, errors);
            }
        }
        "ephemeral" => {
            claim_template(path.child("volumeClaimTemplate"), &source["volumeClaimTemplate"], errors);
            let name = text(v, "name");
            let claim = format!("{}-{name}", pod.unwrap_or_default());
            if let Err(why) = names::subdomain(&claim)
                && pod.is_some_and(|pod| !pod.is_empty())
                && !name.is_empty()
            {
                errors.push(FieldError::invalid(of.child("name"), name, format!("PVC name {claim:?}: {why}")));
            }
        }
        "image" => {
            // A template may leave it to who uses it.
            if pod.is_some() {
                required(path.child("reference"), text(source, "reference"), any, errors);
            }
            required_one_of(path.child("pullPolicy"), text(source, "pullPolicy"), &PULL_POLICIES, errors);
        }
        kind => needed(path, kind, source, errors),
    }
}

/// Rules of the claim that is made for an ephemeral volume: of its metadata, labels and annotations are taken.
fn claim_template(path: Path<'_>, template: &Value, errors: &mut Vec<FieldError>) {
    if !template.is_object() {
        return errors.push(FieldError::required(path, ""));
    }
    let (at, meta) = (path.child("metadata"), &template["metadata"]);
    metadata::validate_annotations(at.child("annotations"), &meta["annotations"], errors);
    metadata::validate_labels(at.child("labels"), &meta["labels"], errors);
    for (field, _) in entries(template, "metadata").filter(|(f, _)| !matches!(f.as_str(), "annotations" | "labels")) {
        errors.push(FieldError::forbidden(at.child(field), "cannot be set"));
    }
    validate_claim_spec(path.child("spec"), &template["spec"], errors);
}

fn projected(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    let mut seen = BTreeSet::new();
    let whole = path;
    for (i, s) in list(source, "sources").iter().enumerate() {
        let path = path.child("sources");
        let path = path.index(i);
        let mut found = kinds.iter().filter(|k| s[**k].is_object());
        let Some(kind) = found.next() else { continue };
        if found.next().is_some() {
            errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type per source"));
        }
        let (path, s) = (path.child(kind), &s[*kind]);
        // Upstream lets tokens hide behind others.
        let own = text(s, "path");
        let named = Some(own).filter(|_| *kind != "serviceAccountToken");
        for at in list(s, "items").iter().map(|i| text(i, "path")).chain(named).filter(|p| !p.is_empty()) {
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

fn mode(path: Path<'_>, mode: &Value, errors: &mut Vec<FieldError>) {
    if mode.as_i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, mode.clone(), why));
    }
}

/// Rules of a container's `volumeMounts` and `volumeDevices`.
pub(super) fn used(path: Path<'_>, c: &Value, volumes: &Volumes<'_>, errors: &mut Vec<FieldError>) {
    let by_name = |list_name: &str, at: &'static str| -> BTreeMap<&str, &str> {
        list(c, list_name).iter().map(|m| (text(m, "name"), text(m, at))).collect()
    };
    mounts(path, c, volumes, &by_name("volumeDevices", "devicePath"), errors);
    devices(path.child("volumeDevices"), c, volumes, &by_name("volumeMounts", "mountPath"), errors);
}

fn mounts(
    path: Path<'_>,
    c: &Value,
    volumes: &Volumes<'_>,
    devices: &BTreeMap<&str, &str>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = BTreeSet::new();
    for (i, m) in list(c, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts");
        let path = path.index(i);
        let (name, at) = (text(m, "name"), text(m, "mountPath"));
        required(path.child("name"), name, any, errors);
        if !volumes.contains_key(name) {
            errors.push(FieldError::not_found(path.child("name"), name));
        }
        required(path.child("mountPath"), at, any, errors);
        if !seen.insert(at) {
            errors.push(FieldError::invalid(path.child("mountPath"), at, "must be unique"));
        }
        if devices.contains_key(name) {
            errors.push(FieldError::invalid(path.child("name"), name, "must not already exist in volumeDevices"));
        }
        if devices.values().any(|d| *d == at) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(path.child("mountPath"), at, why));
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

/// Block devices come from claims.
fn devices(
    path: Path<'_>,
    c: &Value,
    volumes: &Volumes<'_>,
    mounts: &BTreeMap<&str, &str>,
    errors: &mut Vec<FieldError>,
) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, d) in list(c, "volumeDevices").iter().enumerate() {
        let path = path.index(i);
        let (name, at) = (text(d, "name"), text(d, "devicePath"));
        let mut wrong = |field: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(path.child(field), value, why));
        };
        if !name.is_empty() && !names.insert(name) {
            wrong("name", name, "must be unique");
        }
        let volume = volumes.get(name);
        if volume.is_some_and(|v| !v["persistentVolumeClaim"].is_object() && !v["ephemeral"].is_object()) {
            let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            wrong("name", name, why);
        }
        if at.split('/').any(|part| part == "..") {
            wrong("devicePath", at, "can not contain backsteps ('..')");
        } else if !paths.insert(at) {
            wrong("devicePath", at, "must be unique");
        }
        if mounts.contains_key(name) {
            wrong("name", name, "must not already exist in volumeMounts");
        }
        if mounts.values().any(|m| *m == at) {
            wrong("devicePath", at, "must not already exist as a path in volumeMounts");
        }
        required(path.child("name"), name, any, errors);
        if volume.is_none() {
            errors.push(FieldError::not_found(path.child("name"), name));
        }
        required(path.child("devicePath"), at, any, errors);
    }
}

fn recursive_read_only(path: Path<'_>, mount: &Value, errors: &mut Vec<FieldError>) {
    let Some(wanted) = mount["recursiveReadOnly"].as_str().filter(|w| *w != "Disabled") else { return };
    if !matches!(wanted, "Enabled" | "IfPossible") {
        return errors.push(FieldError::not_supported(path, wanted, &["Disabled", "Enabled", "IfPossible"]));
    }
    if mount["readOnly"] != true {
        errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
    }
    if !matches!(text(mount, "mountPropagation"), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(FieldError::forbidden(path, why));
    }
}
