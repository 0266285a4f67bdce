//! Defaults of pods and pod templates (`pkg/apis/core/v1/defaults.go`). They fill the object in place and clone nothing but
//! limits that become requests.

use serde_json::{Value, json};

use crate::kinds::fields::{Fields, child_mut, ensure, fill, fill_absent, items_mut};
use crate::quantity::Quantity;

/// What every pod spec gets, in a Pod or in a template.
pub fn default_template(spec: &mut Fields) {
    account(spec);
    fill(spec, "restartPolicy", "Always");
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "schedulerName", "default-scheduler");
    fill_absent(spec, "terminationGracePeriodSeconds", || 30.into());
    ensure(spec, "securityContext");
    for v in items_mut(spec, "volumes") {
        volume(v);
    }
    for list in super::CONTAINER_LISTS {
        for c in items_mut(spec, list) {
            container(c);
        }
    }
}

/// What only a Pod itself gets, besides [`default_template`].
pub fn default_pod(spec: &mut Fields) {
    fill_absent(spec, "enableServiceLinks", || true.into());
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers"] {
        for c in items_mut(spec, list) {
            requests_from_limits(c);
            if host_network {
                for p in items_mut(c, "ports") {
                    if let Some(n) = p.get("containerPort").cloned() {
                        fill(p, "hostPort", n);
                    }
                }
            }
        }
    }
    pod_requests(spec);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always kept.
fn account(spec: &mut Fields) {
    let named =
        |spec: &Fields, k: &str| spec.get(k).and_then(Value::as_str).filter(|s| !s.is_empty()).map(String::from);
    if let Some(name) = named(spec, "serviceAccountName").or_else(|| named(spec, "serviceAccount")) {
        spec.insert("serviceAccount".into(), name.as_str().into());
        spec.insert("serviceAccountName".into(), name.into());
    }
}

fn container(c: &mut Fields) {
    if c.get("imagePullPolicy").and_then(Value::as_str).is_none_or(str::is_empty) {
        let policy = pull_policy(c.get("image").and_then(Value::as_str).unwrap_or_default());
        c.insert("imagePullPolicy".into(), policy.into());
    }
    fill(c, "terminationMessagePath", "/dev/termination-log");
    fill(c, "terminationMessagePolicy", "File");
    for p in items_mut(c, "ports") {
        fill(p, "protocol", "TCP");
    }
    for e in items_mut(c, "env") {
        if let Some(f) = child_mut(e, "valueFrom").and_then(|v| child_mut(v, "fieldRef")) {
            fill(f, "apiVersion", "v1");
        }
        if let Some(f) = child_mut(e, "valueFrom").and_then(|v| child_mut(v, "fileKeyRef")) {
            fill_absent(f, "optional", || false.into());
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = child_mut(c, name) {
            fill(p, "timeoutSeconds", 1);
            fill(p, "periodSeconds", 10);
            fill(p, "successThreshold", 1);
            fill(p, "failureThreshold", 3);
            if let Some(h) = child_mut(p, "httpGet") {
                http_get(h);
            }
            if let Some(g) = child_mut(p, "grpc") {
                fill_absent(g, "service", || "".into());
            }
        }
    }
    if let Some(l) = child_mut(c, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(h) = child_mut(l, hook).and_then(|h| child_mut(h, "httpGet")) {
                http_get(h);
            }
        }
    }
}

fn http_get(h: &mut Fields) {
    fill(h, "path", "/");
    fill(h, "scheme", "HTTP");
}

/// `Always` for the tag `latest` (also when it is implied), otherwise `IfNotPresent`; so too for what is no image
/// reference at all, such as a `file://` URL.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    };
    let reference = !name.is_empty() && !name.contains("://");
    if reference && latest { "Always" } else { "IfNotPresent" }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = child_mut(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()) else { return };
    let wanted = match resources.get("requests").and_then(Value::as_object) {
        Some(have) if limits.keys().all(|k| have.contains_key(k)) => return,
        Some(have) => limits.iter().filter(|(k, _)| !have.contains_key(*k)).map(pair).collect::<Vec<_>>(),
        None => limits.iter().map(pair).collect(),
    };
    if let Some(requests) = ensure(resources, "requests") {
        requests.extend(wanted);
    }
}

fn pair((k, v): (&String, &Value)) -> (String, Value) {
    (k.clone(), v.clone())
}

/// Requests of the whole pod (`spec.resources`), where it has limits: the containers' sum, else the limit.
fn pod_requests(spec: &mut Fields) {
    let Some(limits) = spec.get("resources").and_then(|r| r.get("limits")).and_then(Value::as_object).cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let mut sums = Vec::new();
    for what in ["cpu", "memory"] {
        let mut sum: Option<Quantity> = None;
        let containers = spec.get("containers").and_then(Value::as_array).into_iter().flatten();
        for q in containers.filter_map(|c| c["resources"]["requests"][what].as_str()?.parse::<Quantity>().ok()) {
            sum = Some(sum.map_or(q, |s| s + q));
        }
        sums.extend(sum.map(|s| (what, Value::String(s.to_string()))));
    }
    if let Some(requests) = child_mut(spec, "resources").and_then(|r| ensure(r, "requests")) {
        for (k, v) in sums.into_iter().map(|(k, v)| (k.to_string(), v)).chain(limits) {
            fill_absent(requests, &k, || v);
        }
    }
}

/// The volume types, as fields of a volume.
pub(super) const VOLUME_TYPES: [&str; 30] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

fn volume(v: &mut Fields) {
    if !VOLUME_TYPES.iter().any(|t| v.get(*t).is_some_and(|s| !s.is_null())) {
        v.insert("emptyDir".into(), json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child_mut(v, name) {
            fill_absent(source, "defaultMode", || 0o644.into());
            downward_items(source);
            for s in items_mut(source, "sources") {
                if let Some(d) = child_mut(s, "downwardAPI") {
                    downward_items(d);
                }
                if let Some(t) = child_mut(s, "serviceAccountToken") {
                    fill_absent(t, "expirationSeconds", || 3600.into());
                }
            }
        }
    }
    if let Some(h) = child_mut(v, "hostPath") {
        fill_absent(h, "type", || "".into());
    }
    if let Some(i) = child_mut(v, "image") {
        let policy = pull_policy(i.get("reference").and_then(Value::as_str).unwrap_or_default());
        fill(i, "pullPolicy", policy);
    }
    if let Some(i) = child_mut(v, "iscsi") {
        fill(i, "iscsiInterface", "default");
    }
    if let Some(r) = child_mut(v, "rbd") {
        fill(r, "pool", "rbd");
        fill(r, "user", "admin");
        fill(r, "keyring", "/etc/ceph/keyring");
    }
    if let Some(s) = child_mut(v, "scaleIO") {
        fill(s, "storageMode", "ThinProvisioned");
        fill(s, "fsType", "xfs");
    }
    if let Some(d) = child_mut(v, "azureDisk") {
        fill_absent(d, "cachingMode", || "ReadWrite".into());
        fill_absent(d, "kind", || "Shared".into());
        fill_absent(d, "fsType", || "ext4".into());
        fill_absent(d, "readOnly", || false.into());
    }
    if let Some(s) =
        child_mut(v, "ephemeral").and_then(|e| child_mut(e, "volumeClaimTemplate")).and_then(|t| ensure(t, "spec"))
    {
        fill_absent(s, "volumeMode", || "Filesystem".into());
    }
}

fn downward_items(source: &mut Fields) {
    for item in items_mut(source, "items") {
        if let Some(f) = child_mut(item, "fieldRef") {
            fill(f, "apiVersion", "v1");
        }
    }
}
