//! Rules that the sources of a pod's volumes and of PersistentVolumes have in common.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::Path;

/// What cannot be left out of the sources that have no other rules here.
const NEEDED: [(&str, &[&str]); 18] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];
/// The types of what a `hostPath` may be.
const HOST_PATHS: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Errors of a source of one of these types.
pub(super) fn needed(path: Path<'_>, kind: &str, source: &Value, errors: &mut Vec<FieldError>) {
    let fields = NEEDED.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, fields)| *fields);
    for field in fields {
        let given = match &source[*field] {
            Value::String(s) => !s.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => false,
        };
        if !given {
            errors.push(FieldError::required(path.child(field), ""));
        }
    }
    let folder = source["path"].as_str().unwrap_or_default();
    if kind == "nfs" && !folder.starts_with('/') {
        errors.push(FieldError::invalid(path.child("path"), folder, "must be an absolute path"));
    }
}

/// Errors of a `hostPath`.
pub(super) fn host_path(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    let folder = source["path"].as_str().unwrap_or_default();
    if folder.is_empty() {
        return errors.push(FieldError::required(path.child("path"), ""));
    }
    no_backsteps(path.child("path"), folder, errors);
    if let Some(kind) = source["type"].as_str() {
        crate::kinds::fields::one_of(path.child("type"), kind, &HOST_PATHS, errors);
    }
}

/// Adds upstream's error for a path that leads upwards.
pub(super) fn no_backsteps(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// The same, and that for one that begins at the root.
pub(super) fn relative(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(path, value, errors);
}
