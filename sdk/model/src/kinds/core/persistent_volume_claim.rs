//! PersistentVolumeClaim.

use serde_json::{Map, Value, json};

use super::persistent_volume::{class, or_unset, phase};
use super::resource_names::{amount, positive};
use super::{access_modes, resource_names};
use crate::kinds::fields::{Path, any, check, entries, fill_absent, immutable, one_of, required, spec_mut, text};
use crate::kinds::table::{col, columns, name, wide};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["pvc"],
        status: true,
        ..Kind::new(
            super::V1,
            "PersistentVolumeClaim",
            ("persistentvolumeclaims", "persistentvolumeclaim"),
            PersistentVolumeClaim,
        )
    }
}

struct PersistentVolumeClaim;

const SPEC: Path<'static> = Path::root("spec");
const STORAGE: &str = "storage";
const CLASS: &str = "storageClassName";
const ATTRIBUTES: &str = "volumeAttributesClassName";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZING: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

impl Strategy for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = spec_mut(object) {
            fill_absent(spec, "volumeMode", || "Filesystem".into());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        validate_claim_spec(SPEC, &object["spec"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let annotation = |v: &Value| v["metadata"]["annotations"][BETA_CLASS].clone();
        let (class, was) = (annotation(new), annotation(old));
        let upgraded = was.is_string()
            && old["spec"][CLASS].is_null()
            && new["spec"][CLASS] == was
            && (class.is_null() || class == was);
        if !upgraded && class != was {
            let why = "field is immutable";
            let at = Path::root("metadata.annotations");
            errors.push(FieldError::invalid(at.child(BETA_CLASS), class.as_str().unwrap_or_default(), why));
        }
        let bound = new["status"]["phase"] == "Bound";
        let wanted = comparable(&new["spec"], &old["spec"], bound, &was);
        if wanted != old["spec"] {
            let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.push(FieldError::forbidden(SPEC, why));
        }
        let size = |v: &Value| amount(&v["spec"]["resources"]["requests"][STORAGE]).unwrap_or_default();
        if size(new) < size(old) && size(new) <= amount(&old["status"]["capacity"][STORAGE]).unwrap_or_default() {
            let why = "field can not be less than status.capacity";
            errors.push(FieldError::forbidden("spec.resources.requests.storage", why));
        }
        immutable(Path::root("volumeMode"), &new["spec"]["volumeMode"], &old["spec"]["volumeMode"], errors);
        if let Some(had) = old["spec"][ATTRIBUTES].as_str() {
            let why = match new["spec"][ATTRIBUTES].as_str() {
                None => "update from non-nil value to nil is forbidden",
                Some("") if !had.is_empty() => "update from non-nil value to an empty string is forbidden",
                Some(_) => return,
            };
            errors.push(FieldError::forbidden("spec.volumeAttributesClassName", why));
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        let status = &new["status"];
        let capacity = Path::root("status.capacity");
        for (k, v) in entries(status, "capacity") {
            if let Some(q) = amount(v).filter(|q| q.value() < 0) {
                errors.push(FieldError::invalid(capacity.key(k), q.value(), "must be a valid resource quantity"));
            }
        }
        let resizing = Path::root("status.allocatedResourceStatus");
        for (k, v) in entries(status, "allocatedResourceStatuses") {
            claim_resource(resizing, k, errors);
            if !v.as_str().is_some_and(|s| RESIZING.contains(&s)) {
                errors.push(FieldError::not_supported(resizing, k.as_str(), &RESIZING));
            }
        }
        let allocated = Path::root("status.allocatedResources");
        for (k, v) in entries(status, "allocatedResources") {
            claim_resource(allocated, k, errors);
            resource_names::quantity(allocated.key(k), STORAGE, v, errors);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if !object.is_object() {
            return;
        }
        object["status"] = json!({"phase": "Pending"});
        // The two ways to name a source say the same; a reference into another namespace has no old form.
        let Some(spec) = spec_mut(object) else { return };
        let get = |spec: &Map<String, Value>, k: &str| spec.get(k).filter(|v| v.is_object()).cloned();
        match (get(spec, "dataSource"), get(spec, "dataSourceRef")) {
            (Some(source), None) => drop(spec.insert("dataSourceRef".into(), source)),
            (None, Some(reference)) if text(&reference, "namespace").is_empty() => {
                let mut source = reference;
                if let Some(m) = source.as_object_mut() {
                    m.remove("namespace");
                }
                spec.insert("dataSource".into(), source);
            }
            _ => {}
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Status", "string", "Phase represents the current phase of PersistentVolumeClaim."),
                col(
                    "Volume",
                    "string",
                    "VolumeName is the binding reference to the PersistentVolume backing this claim.",
                ),
                col("Capacity", "string", "Capacity represents the actual resources of the underlying volume."),
                col(
                    "Access Modes",
                    "string",
                    "AccessModes contains the actual access modes the volume backing the PVC has.",
                ),
                col("StorageClass", "string", "StorageClass of the pvc"),
                col("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
            ],
            &[wide("VolumeMode", "string", "VolumeMode defines what type of volume is required by the claim.")],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let volume = text(spec, "volumeName");
        let (capacity, modes) = match volume {
            "" => (String::new(), String::new()),
            _ => (text(&status["capacity"], STORAGE).into(), access_modes::short(status)),
        };
        vec![
            name(o),
            phase(o).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class(o).into(),
            or_unset(spec, ATTRIBUTES).into(),
            age(o, now),
            or_unset(spec, "volumeMode").into(),
        ]
    }
}

/// Rules of a claim's spec, which StatefulSets and ephemeral volumes have as well.
pub fn validate_claim_spec(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    access_modes::validate(path, spec, "at least 1 access mode is required", errors);
    if spec["selector"].is_object() {
        metadata::validate_selector(path.child("selector"), &spec["selector"], errors);
    }
    let resources = path.child("resources");
    match &spec["resources"]["requests"][STORAGE] {
        Value::Null => errors.push(FieldError::required(resources.key(STORAGE), "")),
        size => positive(resources.key(STORAGE), size, errors),
    }
    for field in [CLASS, ATTRIBUTES] {
        if let Some(class) = spec[field].as_str().filter(|c| !c.is_empty()) {
            check(path.child(field), class, names::subdomain, errors);
        }
    }
    if let Some(mode) = spec["volumeMode"].as_str() {
        one_of(path.child("volumeMode"), mode, &["Block", "Filesystem"], errors);
    }
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    for (field, v) in [("dataSource", source), ("dataSourceRef", reference)] {
        if v.is_object() {
            data_source(path.child(field), v, errors);
        }
    }
    if source.is_object() && reference.is_object() {
        let differ = ["apiGroup", "kind", "name"].iter().any(|f| source[*f] != reference[*f]);
        let field = Value::from(format!("{}.dataSource", String::from(path)));
        if !text(reference, "namespace").is_empty() {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(FieldError::invalid(path, field, why));
        } else if differ {
            errors.push(FieldError::invalid(path, field, "must match dataSourceRef"));
        }
    }
}

fn data_source(path: Path<'_>, source: &Value, errors: &mut Vec<FieldError>) {
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    required(path.child("name"), text(source, "name"), any, errors);
    required(path.child("kind"), kind, any, errors);
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, kind, why));
    }
    if !group.is_empty() {
        check(path.child("apiGroup"), group, names::subdomain, errors);
    }
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        check(path.child("namespace"), namespace, names::label, errors);
    }
}

/// The new spec with what may change put back to what it was.
fn comparable(new: &Value, old: &Value, bound: bool, annotation: &Value) -> Value {
    let mut out = new.clone();
    let Some(fields) = out.as_object_mut() else { return out };
    let mut restore = |field: &str| match &old[field] {
        Value::Null => drop(fields.remove(field)),
        v => drop(fields.insert(field.into(), v.clone())),
    };
    if text(old, "volumeName").is_empty() {
        restore("volumeName");
    }
    // A class may be given to a claim that has none.
    let class = &new[CLASS];
    if !class.is_null() && old[CLASS].is_null() && (annotation.is_null() || class == annotation) {
        restore(CLASS);
    }
    if bound && !new[ATTRIBUTES].is_null() {
        restore(ATTRIBUTES);
    }
    if bound && out["resources"]["requests"].is_object() {
        out["resources"]["requests"][STORAGE] = old["resources"]["requests"][STORAGE].clone();
    }
    out
}

fn claim_resource(path: Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    check(path, name, names::qualified, errors);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if errors.len() == before && native && name != STORAGE {
        errors.push(FieldError::not_supported(path, name, &[STORAGE]));
    }
}
