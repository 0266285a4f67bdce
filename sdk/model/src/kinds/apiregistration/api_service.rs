//! APIService.

use serde_json::{Value, json};

use crate::kinds::fields::{Path, check, child_mut, fill_absent, is_true, list, one_of, spec_mut, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// Its GroupResource.
pub const RESOURCE: &str = "apiservices.apiregistration.k8s.io";

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        status: true,
        categories: &["api-extensions"],
        ..Kind::new(super::V1, "APIService", ("apiservices", "apiservice"), ApiService)
    }
}

/// (group, version, least priority of the group, priority of the version) of what the API server answers itself, as
/// kube-apiserver registers it.
const LOCAL: [(&str, &str, i64, i64); 22] = [
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    // What others bring: by definitions of custom resources, and by an aggregated server.
    ("gateway.networking.k8s.io", "v1", 1_000, 100),
    ("gateway.networking.k8s.io", "v1beta1", 1_000, 100),
    ("metrics.k8s.io", "v1beta1", 100, 100),
];

/// Those that every cluster has. When they became available is left out: it is filled in where they are written.
pub fn system() -> Vec<(String, Value)> {
    LOCAL
        .iter()
        .map(|(group, version, least, priority)| {
            let name = format!("{version}.{group}");
            let mut spec = json!({"version": version, "groupPriorityMinimum": least, "versionPriority": priority});
            if !group.is_empty() {
                spec["group"] = (*group).into();
            }
            let object = json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
                "spec": spec, "status": {"conditions": [available()]},
            });
            (name, object)
        })
        .collect()
}

/// The condition of what the server answers itself.
fn available() -> Value {
    json!({
        "type": "Available", "status": "True", "reason": "Local",
        "message": "Local APIServices are always available",
    })
}

struct ApiService;

const SPEC: Path<'static> = Path::root("spec");

impl Strategy for ApiService {
    fn unenforced(&self, object: &Value) -> Option<&'static str> {
        object["spec"]["service"].is_object().then_some("requests are not handed on to other API servers")
    }

    fn default(&self, object: &mut Value) {
        if let Some(service) = spec_mut(object).and_then(|spec| child_mut(spec, "service")) {
            fill_absent(service, "port", || 443.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if object["spec"]["service"].is_null() && object.is_object() {
            let mut condition = available();
            condition["lastTransitionTime"] = object["metadata"]["creationTimestamp"].clone();
            object["status"] = json!({"conditions": [condition]});
        }
    }

    fn validate_name(&self, name: &str) -> Result<(), String> {
        names::path_segment(name)
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let (name, group, version) = (text(&object["metadata"], "name"), text(spec, "group"), text(spec, "version"));
        let wanted = format!("{version}.{group}");
        if name != wanted && names::path_segment(name).is_ok() {
            let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
        match group {
            "" if version != "v1" => {
                let why = "only v1 may have an empty group and it better be legacy kube";
                errors.push(FieldError::required(SPEC.child("group"), why));
            }
            "" => {}
            group => check(SPEC.child("group"), group, names::subdomain, errors),
        }
        check(SPEC.child("version"), version, names::label_1035, errors);
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let given = spec[field].as_i64().unwrap_or(0);
            if !(1..=most).contains(&given) {
                let why = format!("must be positive and less than {most}");
                errors.push(FieldError::invalid(SPEC.child(field), given, why));
            }
        }
        let (insecure, bundle) = (is_true(spec, "insecureSkipTLSVerify"), text(spec, "caBundle"));
        let service = &spec["service"];
        let at = SPEC.child("insecureSkipTLSVerify");
        if !service.is_object() {
            if !bundle.is_empty() {
                // base64: four characters for three bytes.
                let bytes =
                    (bundle.len() / 4 * 3).saturating_sub(bundle.bytes().rev().take_while(|b| *b == b'=').count());
                let why = "local APIServices may not have a caBundle";
                errors.push(FieldError::invalid(SPEC.child("caBundle"), format!("{bytes} bytes"), why));
            }
            if insecure {
                let why = "local APIServices may not have insecureSkipTLSVerify";
                errors.push(FieldError::invalid(at, true, why));
            }
            return;
        }
        let path = SPEC.child("service");
        for field in ["namespace", "name"] {
            if text(service, field).is_empty() {
                errors.push(FieldError::required(path.child(field), ""));
            }
        }
        let port = service["port"].as_i64().unwrap_or(0);
        if let Err(why) = names::port_number(port) {
            errors.push(FieldError::invalid(path.child("port"), port, format!("port is not valid: {why}")));
        }
        if insecure && !bundle.is_empty() {
            errors.push(FieldError::invalid(at, true, "may not be true if caBundle is present"));
        }
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::root("status.conditions");
        for (i, condition) in list(&new["status"], "conditions").iter().enumerate() {
            let path = path.index(i);
            one_of(path.child("status"), text(condition, "status"), &["True", "False", "Unknown"], errors);
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Service", "string", "The reference to the service that hosts this API endpoint."),
                col("Available", "string", "Whether this service is available."),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let service = &o["spec"]["service"];
        let host = match service.is_object() {
            true => format!("{}/{}", text(service, "namespace"), text(service, "name")),
            false => "Local".into(),
        };
        let condition = list(&o["status"], "conditions").iter().find(|c| c["type"] == "Available");
        let available = condition.map_or("Unknown".into(), |c| match (text(c, "status"), text(c, "reason")) {
            (status @ "True", _) | (status, "") => status.to_string(),
            (status, reason) => format!("{status} ({reason})"),
        });
        vec![name(o), host.into(), available.into(), age(o, now)]
    }
}
