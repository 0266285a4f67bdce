//! PersistentVolume.

use serde_json::{Value, json};

use super::resource_names::{amount, positive};
use super::volume_sources::{host_path, needed, no_backsteps};
use super::{access_modes, podspec};
use crate::kinds::fields::{
    Fields, Path, any, child_mut, entries, fill, fill_absent, immutable, one_of, required, spec_mut, text,
};
use crate::kinds::table::{col, columns, name, wide};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["pv"],
        namespaced: false,
        status: true,
        ..Kind::new(super::V1, "PersistentVolume", ("persistentvolumes", "persistentvolume"), PersistentVolume)
    }
}

struct PersistentVolume;

const SPEC: Path<'static> = Path::root("spec");
/// The types of volumes, as fields of the spec.
const SOURCES: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];
/// Labels of nodes under the names that they had once, and have.
const BETA_LABELS: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];
/// The references to Secrets that a CSI driver is handed; nobody looks at the one for staging.
const CSI_SECRETS: [&str; 4] =
    ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];

impl Strategy for PersistentVolume {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill_absent(spec, "volumeMode", || "Filesystem".into());
        default_source(spec);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        validate_spec(SPEC, &object["spec"], false, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (new, old) = (&new["spec"], &old["spec"]);
        // This one may still be set.
        let expand = "controllerExpandSecretRef";
        let late = old["csi"].is_object() && old["csi"][expand].is_null() && new["csi"].is_object();
        let same = |source: &str| {
            let (n, o) = (&new[source], &old[source]);
            n == o || (late && source == "csi" && without(n, expand) == *o)
        };
        if !SOURCES.iter().all(|s| same(s)) {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
        }
        immutable(Path::root("volumeMode"), &new["volumeMode"], &old["volumeMode"], errors);
        let (affinity, was) = (&new["nodeAffinity"], &old["nodeAffinity"]);
        if !was.is_null() && !same_but_for_beta(affinity, was) {
            let why = "field is immutable, except for updating from beta label to GA";
            errors.push(FieldError::invalid("nodeAffinity", affinity.clone(), why));
        }
        if !old["volumeAttributesClassName"].is_null() && new["volumeAttributesClassName"].is_null() {
            let why = "update from non-nil value to nil is forbidden";
            errors.push(FieldError::forbidden("spec.volumeAttributesClassName", why));
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if object.is_object() {
            object["status"] = json!({"phase": "Pending"});
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "Capacity",
                    "string",
                    "Capacity is the description of the persistent volume's resources and capacity.",
                ),
                col("Access Modes", "string", "AccessModes contains all ways the volume can be mounted."),
                col("Reclaim Policy", "string", "What happens to a persistent volume when released from its claim."),
                col(
                    "Status",
                    "string",
                    "Phase indicates if a volume is available, bound to a claim, or released by a claim.",
                ),
                col("Claim", "string", "ClaimRef is part of a bi-directional binding between volume and claim."),
                col("StorageClass", "string", "StorageClass of the pv"),
                col("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
                col(
                    "Reason",
                    "string",
                    "Reason describes any failure and is meant for machine parsing and tidy display in the CLI.",
                ),
            ],
            &[wide("VolumeMode", "string", "VolumeMode defines if a volume is formatted or raw.")],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let claim = &spec["claimRef"];
        let claim = match claim.is_object() {
            true => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
            false => String::new(),
        };
        vec![
            name(o),
            text(&spec["capacity"], "storage").into(),
            access_modes::short(spec).into(),
            text(spec, "persistentVolumeReclaimPolicy").into(),
            phase(o).into(),
            claim.into(),
            class(o).into(),
            or_unset(spec, "volumeAttributesClassName").into(),
            text(status, "reason").into(),
            age(o, now),
            or_unset(spec, "volumeMode").into(),
        ]
    }
}

/// Rules of the spec; one that stands in a VolumeAttachment (`inline`) says less.
pub(crate) fn validate_spec(path: Path<'_>, spec: &Value, inline: bool, errors: &mut Vec<FieldError>) {
    if inline {
        const HERE: &str = "in the context of inline volumes";
        let mut refuse = |bad: bool, field: &str, why: &str| {
            if bad {
                errors.push(FieldError::forbidden(path.child(field), format!("{why} {HERE}")));
            }
        };
        for field in ["claimRef", "capacity", "nodeAffinity"] {
            refuse(!spec[field].is_null(), field, "may not be specified");
        }
        let policy = text(spec, "persistentVolumeReclaimPolicy");
        refuse(!matches!(policy, "" | "Retain"), "persistentVolumeReclaimPolicy", "may only be Retain");
        let mode = spec["volumeMode"].as_str();
        let other = mode.is_some_and(|m| m != "Filesystem");
        refuse(other, "volumeMode", "may not specify volumeMode other than Filesystem");
        if !spec["csi"].is_object() {
            errors.push(FieldError::required(path.child("csi"), format!("has to be specified {HERE}")));
        }
    }
    access_modes::validate(path, spec, "", errors);
    if !inline {
        capacity(path.child("capacity"), spec, errors);
        let policy = text(spec, "persistentVolumeReclaimPolicy");
        if !policy.is_empty() {
            let at = path.child("persistentVolumeReclaimPolicy");
            one_of(at, policy, &["Delete", "Recycle", "Retain"], errors);
        }
    }
    let affinity = &spec["nodeAffinity"];
    if affinity.is_object() && !inline {
        let path = path.child("nodeAffinity");
        match affinity["required"].is_object() {
            true => podspec::node_selector(path.child("required"), &affinity["required"], errors),
            false => {
                errors.push(FieldError::required(path.child("required"), "must specify required node constraints"));
            }
        }
    }
    source(path, spec, errors);
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        match inline {
            true => errors.push(FieldError::forbidden(
                path.child("storageClassName"),
                "may not be specified in the context of inline volumes",
            )),
            false => required(path.child("storageClassName"), class, names::subdomain, errors),
        }
    }
    if let Some(mode) = spec["volumeMode"].as_str().filter(|_| !inline) {
        one_of(path.child("volumeMode"), mode, &["Block", "Filesystem"], errors);
    }
    if let Some(class) = spec["volumeAttributesClassName"].as_str() {
        let at = path.child("volumeAttributesClassName");
        match class {
            "" => errors.push(FieldError::required(at, "an empty string is disallowed")),
            _ => required(at, class, names::subdomain, errors),
        }
        if !spec["csi"].is_object() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(path.child("csi"), why));
        }
    }
}

fn capacity(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let all: Vec<(&String, &Value)> = entries(spec, "capacity").collect();
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if all.len() != 1 || all[0].0 != "storage" {
        errors.push(FieldError::not_supported(path, spec["capacity"].clone(), &["storage"]));
    }
    for (k, v) in all {
        if let Some(q) = amount(v).filter(|q| q.value() < 0) {
            errors.push(FieldError::invalid(path.key(k), q.value(), "must be a valid resource quantity"));
        }
        positive(path.key(k), v, errors);
    }
}

fn source(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut found = SOURCES.iter().filter(|s| spec[**s].is_object());
    let Some(kind) = found.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for more in found {
        errors.push(FieldError::forbidden(path.child(more), "may not specify more than 1 volume type"));
    }
    let (at, source) = (path.child(kind), &spec[*kind]);
    let folder = text(source, "path");
    match *kind {
        "hostPath" => {
            host_path(at, source, errors);
            if folder.trim_matches('/').is_empty() && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
                let why = "may not be 'recycle' for a hostPath mount of '/'";
                errors.push(FieldError::forbidden(path.child("persistentVolumeReclaimPolicy"), why));
            }
        }
        "local" => {
            required(at.child("path"), folder, any, errors);
            no_backsteps(at.child("path"), folder, errors);
            if !spec["nodeAffinity"].is_object() {
                let why = "Local volume requires node affinity";
                errors.push(FieldError::required(path.child("nodeAffinity"), why));
            }
        }
        "csi" => {
            required(at.child("driver"), text(source, "driver"), csi_driver_name, errors);
            required(at.child("volumeHandle"), text(source, "volumeHandle"), any, errors);
            for reference in CSI_SECRETS.iter().filter(|r| source[**r].is_object()) {
                let (at, secret) = (at.child(reference), &source[*reference]);
                required(at.child("name"), text(secret, "name"), names::subdomain, errors);
                required(at.child("namespace"), text(secret, "namespace"), names::label, errors);
            }
        }
        kind => needed(at, kind, source, errors),
    }
}

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err("may not be more than 63 bytes".into());
    }
    names::subdomain(&name.to_lowercase())
}

fn default_source(spec: &mut Fields) {
    if let Some(h) = child_mut(spec, "hostPath") {
        fill_absent(h, "type", || "".into());
    }
    if let Some(i) = child_mut(spec, "iscsi") {
        fill(i, "iscsiInterface", "default");
    }
    if let Some(r) = child_mut(spec, "rbd") {
        fill(r, "pool", "rbd");
        fill(r, "user", "admin");
        fill(r, "keyring", "/etc/ceph/keyring");
    }
    if let Some(s) = child_mut(spec, "scaleIO") {
        fill(s, "storageMode", "ThinProvisioned");
        fill(s, "fsType", "xfs");
    }
    if let Some(d) = child_mut(spec, "azureDisk") {
        fill_absent(d, "cachingMode", || "ReadWrite".into());
        fill_absent(d, "kind", || "Shared".into());
        fill_absent(d, "fsType", || "ext4".into());
        fill_absent(d, "readOnly", || false.into());
    }
}

/// Whether two affinities are the same, names of labels aside that came to be those of today.
fn same_but_for_beta(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(n), Value::Object(o)) => {
            let renamed = BETA_LABELS
                .iter()
                .any(|(beta, ga)| o.get("key") == Some(&json!(beta)) && n.get("key") == Some(&json!(ga)));
            n.len() == o.len()
                && n.iter().all(|(k, v)| (renamed && k == "key") || o.get(k).is_some_and(|o| same_but_for_beta(v, o)))
        }
        (Value::Array(n), Value::Array(o)) => {
            n.len() == o.len() && n.iter().zip(o).all(|(n, o)| same_but_for_beta(n, o))
        }
        (n, o) => n == o,
    }
}

fn without(v: &Value, field: &str) -> Value {
    let mut v = v.clone();
    if let Some(m) = v.as_object_mut() {
        m.remove(field);
    }
    v
}

/// The phase that is shown.
pub(super) fn phase(o: &Value) -> &str {
    if o["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { text(&o["status"], "phase") }
}

/// The class, by field or by the annotation that came before it.
pub(super) fn class(o: &Value) -> &str {
    match text(&o["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class") {
        "" => text(&o["spec"], "storageClassName"),
        class => class,
    }
}

/// A text, or `<unset>`.
pub(super) fn or_unset<'a>(v: &'a Value, field: &str) -> &'a str {
    if text(v, field).is_empty() { "<unset>" } else { text(v, field) }
}
