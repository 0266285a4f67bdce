//! ServiceAccount: every pod runs as a service account of its namespace, that exists, and its token is mounted in the
//! pod's containers unless the pod or the account does not want it. Mirrors of static pods refer to neither accounts nor
//! Secrets, and an account may say that its pods refer to its own Secrets alone.

use copepod_model::Status;
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::call::Part;
use crate::value::{self, list, text};

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The account's word that its pods may refer to the Secrets that it lists and to no others.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// The lists of a pod's containers, and what upstream calls one of each.
const CONTAINERS: [(&str, &str); 3] =
    [("initContainers", "init container"), ("containers", "container"), ("ephemeralContainers", "ephemeral container")];
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

pub(super) fn validate(review: &mut Review<'_>, pod: &Value) -> Result<(), Status> {
    let debugs = review.operation == Operation::Update && matches!(review.part, Part::Other("ephemeralcontainers"));
    if &*review.key.resource != "pods" || !(debugs || review.creates("pods")) {
        return Ok(());
    }
    let spec = &pod["spec"];
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return match mirrored(spec) {
            Some(why) if !debugs => Err(review.forbid(why)),
            _ => Ok(()),
        };
    }
    let name = text(spec, "serviceAccountName");
    let Some(account) = review.view.get("serviceaccounts", &review.key.namespace, name) else { return Ok(()) };
    // As Go reads truth.
    let enforces = |v: &str| matches!(v, "1" | "t" | "T" | "true" | "True" | "TRUE");
    if !account.meta.annotations.get(ENFORCE).is_some_and(|v| enforces(v)) {
        return Ok(());
    }
    let lists = if debugs { &CONTAINERS[2..] } else { &CONTAINERS[..2] };
    match foreign(spec, name, &account.value(), lists, !debugs) {
        Some(why) => Err(review.forbid(&why)),
        None => Ok(()),
    }
}

/// What the mirror of a static pod refers to, and may not.
fn mirrored(spec: &Value) -> Option<&'static str> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    let volumes = || list(spec, "volumes").iter();
    let sources = || volumes().flat_map(|v| list(&v["projected"], "sources"));
    // Each type of volume has a field of its own for the Secret that it needs.
    let secret = |source: &Value| {
        ["secretRef", "nodePublishSecretRef"].iter().any(|field| source[*field].is_object())
            || !text(source, "secretName").is_empty()
    };
    let mounts = volumes().any(|v| v.as_object().is_some_and(|v| v.values().any(&secret)))
        || sources().any(|source| source["secret"].is_object());
    let reads = CONTAINERS.iter().any(|(list, _)| secrets_of(spec, list).next().is_some());
    if mounts || reads || !list(spec, "imagePullSecrets").is_empty() {
        return Some("a mirror pod may not reference secrets");
    }
    let tokens = sources().any(|source| source["serviceAccountToken"].is_object());
    tokens.then_some("a mirror pod may not use service account token projections")
}

/// The Secrets that containers of one list read their environment from: (container, variable or nothing, Secret).
fn secrets_of<'v>(spec: &'v Value, list_name: &'v str) -> impl Iterator<Item = (&'v str, Option<&'v str>, &'v str)> {
    list(spec, list_name).iter().flat_map(|container| {
        let name = text(container, "name");
        let variables = list(container, "env").iter().filter_map(move |variable| {
            let from = &variable["valueFrom"]["secretKeyRef"];
            from.is_object().then(|| (name, Some(text(variable, "name")), text(from, "name")))
        });
        let whole = list(container, "envFrom").iter().filter_map(move |from| {
            let from = &from["secretRef"];
            from.is_object().then(|| (name, None, text(from, "name")))
        });
        variables.chain(whole)
    })
}

/// What a pod refers to that its account does not list, in upstream's words. `whole`: volumes and pull secrets count, too.
fn foreign(spec: &Value, name: &str, account: &Value, lists: &[(&str, &str)], whole: bool) -> Option<String> {
    let lists_secret = |field: &str, secret: &str| list(account, field).iter().any(|s| s["name"] == secret);
    let but = format!("is not allowed because service account {name} does not reference that");
    let volumes = list(spec, "volumes").iter().filter(|v| whole && v["secret"].is_object());
    for secret in volumes.map(|v| text(&v["secret"], "secretName")) {
        if !lists_secret("secrets", secret) {
            return Some(format!("volume with secret.secretName=\"{secret}\" {but} secret"));
        }
    }
    for (field, what) in lists {
        for (container, variable, secret) in secrets_of(spec, field) {
            if !lists_secret("secrets", secret) {
                let from = variable.map_or("envFrom".into(), |v| format!("envVar {v}"));
                return Some(format!(
                    "{what} {container} with {from} referencing secret.secretName=\"{secret}\" {but} secret"
                ));
            }
        }
    }
    let pulls = list(spec, "imagePullSecrets").iter().enumerate().filter(|_| whole);
    for (i, secret) in pulls.map(|(i, s)| (i, text(s, "name"))) {
        if !lists_secret("imagePullSecrets", secret) {
            return Some(format!("imagePullSecrets[{i}].name=\"{secret}\" {but} imagePullSecret"));
        }
    }
    None
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
