//! Pod.

mod columns;

use serde_json::{Value, json};

use super::podspec;
use crate::kinds::fields::{Path, is_true, list, spec_mut, text};
use crate::kinds::{Column, Kind, Strategy, field_at};
use crate::{FieldError, Time};

const SPEC: Path<'static> = Path::root("spec");
const EPHEMERAL: &str = "ephemeralcontainers";
const RESIZE: &str = "resize";
/// The lists of statuses with those of the containers that they are about.
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["po"],
        categories: &["all"],
        status: true,
        subresources: &[
            ("attach", "PodAttachOptions", &["create", "get"]),
            ("binding", "Binding", &["create"]),
            (EPHEMERAL, "Pod", &["get", "patch", "update"]),
            ("eviction", "Eviction", &["create"]),
            ("exec", "PodExecOptions", &["create", "get"]),
            ("log", "Pod", &["get"]),
            ("portforward", "PodPortForwardOptions", &["create", "get"]),
            ("proxy", "PodProxyOptions", super::PROXY),
            (RESIZE, "Pod", &["get", "patch", "update"]),
        ],
        generation: true,
        graceful: true,
        ..Kind::new(super::V1, "Pod", ("pods", "pod"), Pod)
    }
}

struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = spec_mut(object) {
            podspec::default_pod(spec);
            podspec::default_template(spec);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let (meta, spec) = (&object["metadata"], &object["spec"]);
        podspec::periods(Path::root("metadata"), meta, errors);
        podspec::validate_pod_annotations(Path::root("metadata.annotations"), meta, spec, errors);
        podspec::validate_pod_spec(SPEC, spec, Some(text(meta, "name")), errors);
        if text(spec, "serviceAccountName").is_empty() {
            tokens(spec, errors);
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if !list(&object["spec"], "ephemeralContainers").is_empty() {
            errors.push(FieldError::forbidden(SPEC.child("ephemeralContainers"), "cannot be set on create"));
        }
        if !text(&object["spec"], "nodeName").is_empty() && !list(&object["spec"], "schedulingGates").is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(SPEC.child("nodeName"), why));
        }
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value) {
        match subresource {
            EPHEMERAL => podspec::only_ephemeral_containers(new, old),
            RESIZE => podspec::only_resources(new, old),
            _ => {}
        }
    }

    fn validate_subresource(&self, subresource: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        match subresource {
            EPHEMERAL => podspec::validate_ephemeral_update(new, old, errors),
            RESIZE => podspec::validate_resize(new, old, errors),
            _ => self.validate_update(new, old, errors),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        podspec::validate_annotations_update(new, old, errors);
        podspec::validate_update(SPEC, &new["spec"], &old["spec"], errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        podspec::validate_annotations_update(new, old, errors);
        let (name, was) = (text(&new["spec"], "nodeName"), text(&old["spec"], "nodeName"));
        if name != was {
            errors.push(FieldError::forbidden("spec.nodeName", "may not be changed directly"));
        }
        let never = text(&old["spec"], "restartPolicy") == "Never";
        // A container with a policy of its own goes by that.
        let own = |list_name: &str, name: &Value| {
            let containers = list(&old["spec"], list_name);
            containers.iter().any(|c| c["name"] == *name && !text(c, "restartPolicy").is_empty())
        };
        for (list_name, containers) in STATUSES {
            // With restart policy Never, what has ended may not run again; an ephemeral container never does.
            let never = never || containers == "ephemeralContainers";
            for (i, o) in list(&old["status"], list_name).iter().enumerate().filter(|_| never) {
                let now = list(&new["status"], list_name).iter().find(|n| n["name"] == o["name"]);
                if own(containers, &o["name"]) {
                    continue;
                }
                if o["state"]["terminated"].is_object() && now.is_some_and(|n| !n["state"]["terminated"].is_object()) {
                    let path = Path::root("status");
                    let path = path.child(list_name);
                    let path = path.index(i);
                    errors.push(FieldError::forbidden(
                        path.child("state"),
                        "may not be transitioned to non-terminated state",
                    ));
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        let mut status = json!({"phase": "Pending", "qosClass": podspec::qos_class(&object["spec"])});
        if !list(&object["spec"], "schedulingGates").is_empty() {
            status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
        }
        if object.is_object() {
            object["status"] = status;
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        match path {
            "spec.hostNetwork" => is_true(&object["spec"], "hostNetwork").to_string(),
            _ => field_at(object, path),
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns::columns()
    }

    fn cells(&self, object: &Value, now: Time) -> Vec<Value> {
        columns::cells(object, now)
    }
}

/// Tokens are somebody's.
fn tokens(spec: &Value, errors: &mut Vec<FieldError>) {
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        for (j, source) in list(&volume["projected"], "sources").iter().enumerate() {
            if source["serviceAccountToken"].is_object() {
                let at = format!("{SPEC}.volumes[{i}].projected.sources[{j}].serviceAccountToken");
                errors.push(FieldError::forbidden(at, "must not be specified when serviceAccountName is not set"));
            }
        }
    }
}
