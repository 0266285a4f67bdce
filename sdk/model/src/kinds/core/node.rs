//! Node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resource_names::quantity;
use crate::kinds::fields::{Path, check, child_mut, entries, fill_absent, is_true, list, required_one_of, text};
use crate::kinds::table::{col, columns, name, wide};
use crate::kinds::{Column, Kind, Strategy, age, field_at, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["no"],
        namespaced: false,
        status: true,
        subresources: &[("proxy", "NodeProxyOptions", super::PROXY)],
        ..Kind::new(super::V1, "Node", ("nodes", "node"), Node)
    }
}

struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        let Some(status) = object.as_object_mut().and_then(|o| child_mut(o, "status")) else { return };
        if let Some(capacity) = status.get("capacity").filter(|c| !c.is_null()).cloned() {
            fill_absent(status, "allocatable", || capacity);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut seen = BTreeSet::new();
        for (i, t) in list(&object["spec"], "taints").iter().enumerate() {
            let path = Path::root("spec.taints");
            let path = path.index(i);
            let (key, effect) = (text(t, "key"), text(t, "effect"));
            check(path.child("key"), key, names::qualified, errors);
            check(path.child("value"), text(t, "value"), names::label_value, errors);
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            required_one_of(path.child("effect"), effect, &effects, errors);
            if !seen.insert((key, effect)) {
                let mut duplicate = FieldError::duplicate(path, t.clone());
                duplicate.detail = "taints must be unique by key and effect pair".into();
                errors.push(duplicate);
            }
        }
        resources(&object["status"], errors);
        pod_networks(&object["spec"], errors);
    }

    fn validate_status(&self, new: &Value, _: &Value, errors: &mut Vec<FieldError>) {
        resources(&new["status"], errors);
        addresses(&new["status"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        addresses(&new["status"], errors);
        let (new, old) = (&new["spec"], &old["spec"]);
        if !list(old, "podCIDRs").is_empty() && new["podCIDRs"] != old["podCIDRs"] {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", why));
        }
        let (id, was) = (text(new, "providerID"), text(old, "providerID"));
        if !was.is_empty() && id != was {
            errors.push(FieldError::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        match path {
            "spec.unschedulable" => is_true(&object["spec"], "unschedulable").to_string(),
            _ => field_at(object, path),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let mut out = columns(
            &[col("Status", "string", "The status of the node"), col("Roles", "string", "The roles of the node")],
            &[col("Version", "string", "Kubelet Version reported by the node.")],
        );
        let addresses = "List of addresses reachable to the node.";
        out.extend([
            wide("Internal-IP", "string", addresses),
            wide("External-IP", "string", addresses),
            wide("OS-Image", "string", "OS Image reported by the node."),
            wide("Kernel-Version", "string", "Kernel Version reported by the node."),
            wide("Container-Runtime", "string", "ContainerRuntime Version reported by the node."),
        ]);
        out
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let status = &o["status"];
        let ready = list(status, "conditions").iter().find(|c| c["type"] == "Ready");
        let mut shown = match ready {
            None => "Unknown".to_string(),
            Some(c) if c["status"] == "True" => "Ready".into(),
            Some(_) => "NotReady".into(),
        };
        if is_true(&o["spec"], "unschedulable") {
            shown.push_str(",SchedulingDisabled");
        }
        let address = |kind: &str| {
            let found = list(status, "addresses").iter().find(|a| a["type"] == kind);
            found.map_or("<none>", |a| text(a, "address"))
        };
        let info = |name: &str| match text(&status["nodeInfo"], name) {
            "" => "<unknown>",
            value => value,
        };
        vec![
            name(o),
            shown.into(),
            roles(o).into(),
            age(o, now),
            text(&status["nodeInfo"], "kubeletVersion").into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            info("osImage").into(),
            info("kernelVersion").into(),
            info("containerRuntimeVersion").into(),
        ]
    }
}

/// Rules of what a node has and gives away.
fn resources(status: &Value, errors: &mut Vec<FieldError>) {
    const STATUS: Path<'static> = Path::root("status");
    for field in ["capacity", "allocatable"] {
        for (name, amount) in entries(status, field) {
            let path = STATUS.child(field);
            quantity(path.child(name), name, amount, errors);
        }
    }
}

/// One of each family.
fn pod_networks(spec: &Value, errors: &mut Vec<FieldError>) {
    let (path, all) = (Path::root("spec.podCIDRs"), list(spec, "podCIDRs"));
    let before = errors.len();
    let mut found = Vec::new();
    for (i, network) in all.iter().filter_map(Value::as_str).enumerate() {
        check(path.index(i), network, |n| names::cidr(n).map(drop), errors);
        found.extend(names::cidr(network).map(|(ip, _)| ip.is_ipv4()));
    }
    if all.len() < 2 || errors.len() > before {
        return;
    }
    if all.len() > 2 || found[0] == found[1] {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(path, spec["podCIDRs"].clone(), why));
    }
    for (i, network) in all.iter().enumerate().filter(|(i, network)| all[..*i].contains(network)) {
        errors.push(FieldError::duplicate(path.index(i), network.clone()));
    }
}

fn addresses(status: &Value, errors: &mut Vec<FieldError>) {
    let (path, all) = (Path::root("status.addresses"), list(status, "addresses"));
    for (i, address) in all.iter().enumerate().filter(|(i, address)| all[..*i].contains(address)) {
        errors.push(FieldError::duplicate(path.index(i), address.clone()));
    }
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (k, v) in entries(&node["metadata"], "labels") {
        match k.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => drop(roles.insert(role)),
            _ if k == "kubernetes.io/role" && v != "" => drop(roles.insert(v.as_str().unwrap_or_default())),
            _ => {}
        }
    }
    if roles.is_empty() { "<none>".into() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}
