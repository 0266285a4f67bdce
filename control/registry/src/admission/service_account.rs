//! ServiceAccount: every pod runs as a service account of its namespace, that exists, and its token is mounted in the
//! pod's containers unless the pod or the account does not want it.

use copepod_model::Status;
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::value::{self, list, text};

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Where containers look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What upstream asks for: by the odd seconds over an hour such tokens are told from others.
const LIFE: u32 = 3607;

pub(super) fn mutate(review: &mut Review<'_>, object: &mut Value) -> Result<(), Status> {
    let create = review.operation == Operation::Create && review.whole();
    if !create || &*review.key.resource != "pods" || object["metadata"]["annotations"].get(MIRROR).is_some() {
        return Ok(());
    }
    let spec = value::child(object, "spec");
    let unset = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().is_empty();
    if unset(spec.get("serviceAccountName")) {
        // The old name of the field still counts.
        let name = spec.get("serviceAccount").filter(|v| !unset(Some(v))).cloned().unwrap_or_else(|| DEFAULT.into());
        spec.insert("serviceAccountName".into(), name);
    }
    let name = spec.get("serviceAccountName").cloned().unwrap_or_default();
    spec.insert("serviceAccount".into(), name);
    let name = text(&object["spec"], "serviceAccountName");
    let namespace = &*review.key.namespace;
    let Some(account) = review.view.get("serviceaccounts", namespace, name) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(review.forbid(&why));
    };
    // The account's pull secrets are those of pods that bring none of their own.
    let secrets = account.value()["imagePullSecrets"].take();
    if list(&object["spec"], "imagePullSecrets").is_empty() && secrets.as_array().is_some_and(|s| !s.is_empty()) {
        value::child(object, "spec").insert("imagePullSecrets".into(), secrets);
    }
    let wanted = object["spec"]["automountServiceAccountToken"].as_bool();
    if wanted.or_else(|| account.value()["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(review, &mut object["spec"]);
    }
    Ok(())
}

/// Adds the volume, and its mount to each container that has nothing else there.
fn mount_token(review: &mut Review<'_>, spec: &mut Value) {
    let named = list(spec, "volumes").iter().map(|v| text(v, "name")).find(|n| n.starts_with("kube-api-access-"));
    let (name, new) = match named {
        Some(name) => (name.to_string(), false),
        None => (format!("kube-api-access-{}", review.ids.suffix(5)), true),
    };
    let mut mounted = false;
    for kind in ["containers", "initContainers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            if !container.is_object() || list(container, "volumeMounts").iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            append(container, "volumeMounts", mount);
            mounted = true;
        }
    }
    if mounted && new {
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": LIFE, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]);
        append(spec, "volumes", json!({"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}));
    }
}

fn append(parent: &mut Value, field: &str, item: Value) {
    match &mut parent[field] {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}
