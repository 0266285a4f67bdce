//! Static pods: those that a file on the node asks for, and their mirrors in the API
//! (`pkg/kubelet/config/common.go`, `pkg/kubelet/pod/mirror_client.go`).

use copepod_model::kinds::{Kinds, metadata};
use copepod_model::{FieldError, Time};
use serde_json::{Value, json};

/// Marks a pod in the API as the image of a static one; its value is that one's hash.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";

/// Where a static pod comes from.
#[derive(Clone, Copy, Debug)]
pub struct StaticOrigin<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its UID, which is the hash of what the file says, of its path and of the node's name.
    pub uid: &'a str,
    /// When it was read.
    pub now: Time,
}

/// The pod that a manifest asks for, complete and checked. Errors are for the log: nobody waits for an answer.
pub fn static_pod(mut manifest: Value, origin: StaticOrigin<'_>) -> Result<Value, String> {
    match (manifest["apiVersion"].as_str(), manifest["kind"].as_str()) {
        (Some("v1"), Some("Pod")) => {}
        (version, kind) => {
            let (version, kind) = (version.unwrap_or("nothing"), kind.unwrap_or("nothing"));
            return Err(format!("it holds {version} {kind}, not a v1 Pod"));
        }
    }
    let name = manifest["metadata"]["name"].as_str().filter(|n| !n.is_empty()).ok_or("metadata.name is missing")?;
    let name = format!("{name}-{}", origin.node.to_lowercase());
    let namespace = manifest["metadata"]["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default");
    let mut annotations = manifest["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in [(HASH, origin.uid), (SOURCE, "file"), (SEEN, &origin.now.rfc3339_nanos())] {
        annotations.insert(key.into(), value.into());
    }
    let meta = json!({"name": name, "namespace": namespace, "uid": origin.uid, "annotations": annotations,
        "labels": manifest["metadata"]["labels"], "creationTimestamp": origin.now.rfc3339()});
    manifest["metadata"] = meta;
    if manifest["metadata"]["labels"].is_null() {
        manifest["metadata"].as_object_mut().map(|m| m.remove("labels"));
    }
    manifest.as_object_mut().map(|m| m.remove("status"));
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.insert("nodeName".into(), origin.node.into());
        // Nobody else can take it in: it stays whatever the node's taints.
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(list) = tolerations.as_array_mut() {
            list.push(json!({"operator": "Exists", "effect": "NoExecute"}));
        }
    }
    let kinds = Kinds::shared();
    let kind = kinds.group_resource("pods").ok_or("pods are not known")?;
    kind.strategy.default(&mut manifest);
    let mut errors: Vec<FieldError> = Vec::new();
    metadata::validate_metadata(kind, &manifest, &mut errors);
    kind.strategy.validate(&manifest, &mut errors);
    if let Some(first) = errors.first() {
        return Err(first.to_string());
    }
    if let Some(what) = api_reference(&manifest["spec"]) {
        return Err(format!("static pods may not reference {what}"));
    }
    Ok(manifest)
}

/// What of the API a pod spec refers to, which static pods may not.
fn api_reference(spec: &Value) -> Option<&'static str> {
    let list = |v: &'_ Value| v.as_array().cloned().unwrap_or_default();
    if spec["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty()) {
        return Some("serviceaccounts");
    }
    if !list(&spec["imagePullSecrets"]).is_empty() {
        return Some("secrets");
    }
    if !list(&spec["ephemeralContainers"]).is_empty() {
        return Some("ephemeral containers");
    }
    let containers = ["initContainers", "containers"].iter().flat_map(|l| list(&spec[*l]));
    for c in containers {
        for from in list(&c["envFrom"]).iter().chain(list(&c["env"]).iter().map(|e| &e["valueFrom"])) {
            if from["secretRef"].is_object() || from["secretKeyRef"].is_object() {
                return Some("secrets");
            }
            if from["configMapRef"].is_object() || from["configMapKeyRef"].is_object() {
                return Some("configmaps");
            }
        }
    }
    for v in list(&spec["volumes"]) {
        let sources = list(&v["projected"]["sources"]);
        let has = |name: &str| v[name].is_object() || sources.iter().any(|s| s[name].is_object());
        let kinds = [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("serviceAccountToken", "serviceaccounts"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims"),
            ("clusterTrustBundle", "clustertrustbundles"),
        ];
        if let Some((_, what)) = kinds.iter().find(|(field, _)| has(field)) {
            return Some(what);
        }
    }
    None
}

/// What has to be done about a mirror.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorStep {
    /// Nothing.
    Keep,
    /// Create this one.
    Create(Value),
    /// Delete the one with this UID, without grace.
    Delete(String),
}

/// What has to be done so that the API shows a static pod (`None`: there is none of this name any more), where `there` is
/// the mirror that it shows. `node_uid` makes the node its owner.
pub fn mirror_step(pod: Option<&Value>, there: Option<&Value>, node: (&str, &str)) -> MirrorStep {
    let hash = |v: &Value, key: &str| v["metadata"]["annotations"][key].as_str().unwrap_or_default().to_string();
    match (pod, there) {
        (None, None) => MirrorStep::Keep,
        (Some(pod), None) => MirrorStep::Create(mirror(pod, node)),
        (pod, Some(there)) => {
            let same = pod.is_some_and(|p| hash(p, HASH) == hash(there, MIRROR));
            // Whoever deletes a mirror does not end the pod: it comes back.
            if same && there["metadata"]["deletionTimestamp"].is_null() {
                return MirrorStep::Keep;
            }
            MirrorStep::Delete(there["metadata"]["uid"].as_str().unwrap_or_default().into())
        }
    }
}

fn mirror(pod: &Value, (node, uid): (&str, &str)) -> Value {
    let mut mirror = pod.clone();
    let hash = mirror["metadata"]["annotations"][HASH].clone();
    mirror["metadata"]["annotations"][MIRROR] = hash;
    if let Some(meta) = mirror["metadata"].as_object_mut() {
        meta.remove("uid");
        meta.remove("creationTimestamp");
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": true});
        meta.insert("ownerReferences".into(), json!([owner]));
    }
    mirror
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: StaticOrigin<'static> = StaticOrigin { node: "n1", uid: "u", now: Time(5_000_000_000) };

    fn manifest(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "x"}, "spec": spec, "status": {}})
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let pod = static_pod(manifest(json!({"containers": [{"name": "c", "image": "i"}]})), AT).unwrap();
        let meta = &pod["metadata"];
        assert_eq!(
            (&meta["name"], &meta["namespace"], &meta["uid"]),
            (&json!("web-n1"), &json!("default"), &json!("u"))
        );
        assert_eq!((&meta["annotations"][HASH], &meta["annotations"][SOURCE]), (&json!("u"), &json!("file")));
        assert_eq!((&pod["spec"]["nodeName"], &pod["spec"]["restartPolicy"]), (&json!("n1"), &json!("Always")));
        assert_eq!(pod["spec"]["tolerations"], json!([{"operator": "Exists", "effect": "NoExecute"}]));
        assert!(pod.get("status").is_none());
    }

    #[test]
    fn what_cannot_be_a_static_pod_says_why() {
        let c = |extra: Value| {
            let mut c = json!({"name": "c", "image": "i"});
            c.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            manifest(json!({"containers": [c]}))
        };
        for (bad, why) in [
            (json!({"apiVersion": "v1", "kind": "Secret"}), "not a v1 Pod"),
            (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}), "metadata.name"),
            (manifest(json!({})), "spec.containers: Required value"),
            (c(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), "may not reference secrets"),
            (
                c(json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]})),
                "may not reference configmaps",
            ),
            (
                manifest(json!({"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "s"})),
                "may not reference serviceaccounts",
            ),
        ] {
            let got = static_pod(bad, AT).unwrap_err();
            assert!(got.contains(why), "{got}");
        }
    }

    #[test]
    fn mirrors_come_change_and_go_with_their_pods() {
        let pod = static_pod(manifest(json!({"containers": [{"name": "c", "image": "i"}]})), AT).unwrap();
        let step = |pod: Option<&Value>, there: Option<&Value>| mirror_step(pod, there, ("N1", "nu"));
        let MirrorStep::Create(mut there) = step(Some(&pod), None) else { panic!("it is created") };
        assert_eq!(there["metadata"]["annotations"][MIRROR], "u");
        assert_eq!(there["metadata"]["ownerReferences"][0]["uid"], "nu");
        there["metadata"]["uid"] = "m".into();
        assert_eq!(step(Some(&pod), Some(&there)), MirrorStep::Keep);
        assert_eq!(step(None, Some(&there)), MirrorStep::Delete("m".into()));
        let mut other = pod.clone();
        other["metadata"]["annotations"][HASH] = "v".into();
        assert_eq!(step(Some(&other), Some(&there)), MirrorStep::Delete("m".into()));
        there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(step(Some(&pod), Some(&there)), MirrorStep::Delete("m".into()));
        assert_eq!(step(None, None), MirrorStep::Keep);
    }
}
