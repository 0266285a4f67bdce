//! VolumeAttachment.

use serde_json::Value;

use crate::kinds::core::persistent_volume::{csi_driver_name, validate_spec};
use crate::kinds::fields::{Path, check, entries, immutable, is_true, required, text, within};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        status: true,
        ..Kind::new(super::V1, "VolumeAttachment", ("volumeattachments", "volumeattachment"), VolumeAttachment)
    }
}

struct VolumeAttachment;

const SPEC: Path<'static> = Path::root("spec");
const STATUS: Path<'static> = Path::root("status");
/// The greatest sum of the sizes of what an attacher has to remember, and of an error's message, in bytes.
const REMARKS: (usize, usize) = (256 * 1024, 1024);

impl Strategy for VolumeAttachment {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        required(SPEC.child("attacher"), text(spec, "attacher"), csi_driver_name, errors);
        let (path, source) = (SPEC.child("source"), &spec["source"]);
        let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        match (source["inlineVolumeSpec"].is_object(), source["persistentVolumeName"].as_str()) {
            (false, None) => errors.push(FieldError::required(path, one)),
            (true, Some(_)) => errors.push(FieldError::forbidden(path, one)),
            (false, Some("")) => {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(path.child("persistentVolumeName"), why));
            }
            (false, Some(_)) => {}
            (true, None) => {
                validate_spec(path.child("inlineVolumeSpec"), &source["inlineVolumeSpec"], true, errors);
            }
        }
        check(SPEC.child("nodeName"), text(spec, "nodeName"), names::subdomain, errors);
        let status = &object["status"];
        let size: usize =
            entries(status, "attachmentMetadata").map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
        if size > REMARKS.0 {
            errors.push(FieldError::too_long("status.attachmentMetadata", REMARKS.0));
        }
        for field in ["attachError", "detachError"] {
            let (path, error) = (STATUS.child(field), &status[field]);
            if text(error, "message").len() > REMARKS.1 {
                // Upstream names the other limit.
                errors.push(FieldError::too_long(path.child("message"), REMARKS.0));
            }
            within(path.child("errorCode"), &error["errorCode"], 0, i32::MAX.into(), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(SPEC, &new["spec"], &old["spec"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col(
                    "Attacher",
                    "string",
                    "attacher indicates the name of the volume driver that MUST handle this request.",
                ),
                col("PV", "string", "persistentVolumeName represents the name of the persistent volume to attach."),
                col("Node", "string", "nodeName represents the node that the volume should be attached to."),
                col("Attached", "boolean", "attached indicates the volume is successfully attached."),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        vec![
            name(o),
            text(spec, "attacher").into(),
            text(&spec["source"], "persistentVolumeName").into(),
            text(spec, "nodeName").into(),
            is_true(&o["status"], "attached").into(),
            age(o, now),
        ]
    }
}
