//! Nodes, namespaces, Secrets and volumes, beside what `rules.rs` and `storage.rs` have of them.

use super::storage::{change, each, with};
use super::*;

/// The errors of a status.
fn status(resource: &str, object: Value) -> Vec<String> {
    let kinds = Kinds::builtin();
    let mut errors = Vec::new();
    kinds.group_resource(resource).unwrap().strategy.validate_status(&object, &Value::Null, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn of_nodes() {
    let networks = |all: Value| json!({"metadata":{"name":"n"},"spec":{"podCIDRs":all}});
    let twice = networks(json!(["10.0.0.0/24", "10.0.0.0/24"]));
    each(
        "nodes",
        &[
            (
                networks(json!(["10.0.0.0/33"])),
                "spec.podCIDRs[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value",
            ),
            (
                networks(json!(["10.0.0.0/24", "10.0.1.0/24"])),
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP",
            ),
            (
                json!({"status":{"capacity":{"cpu":"-1"},"allocatable":{"cpu":"1"}}}),
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ],
    );
    assert_eq!(errors("nodes", twice)[1], "spec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\"");
    assert!(errors("nodes", networks(json!(["10.0.0.0/24", "fd00::/64"]))).is_empty());
    let home = json!({"type":"InternalIP","address":"10.0.0.1"});
    let doubled = json!({"status":{"capacity":{"pods":"1.5"},"addresses":[home,home]}});
    assert_eq!(
        status("nodes", doubled),
        [
            "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
            "status.addresses[1]: Duplicate value: {\"address\":\"10.0.0.1\",\"type\":\"InternalIP\"}",
        ]
    );
}

#[test]
fn of_namespaces() {
    let with = |finalizer: &str| json!({"metadata":{"name":"a"},"spec":{"finalizers":["kubernetes", finalizer]}});
    let why = "name is neither a standard finalizer name nor is it fully qualified";
    assert_eq!(errors("namespaces", with("x")), [format!("spec.finalizers: Invalid value: \"x\": {why}")]);
    assert!(errors("namespaces", with("a.b/c")).is_empty());
    let phase = |phase: &str, ends: Value| json!({"metadata":{"deletionTimestamp":ends},"status":{"phase":phase}});
    let at = "status.Phase: Invalid value:";
    assert_eq!(
        status("namespaces", phase("Terminating", Value::Null)),
        [format!("{at} \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty")]
    );
    assert_eq!(
        status("namespaces", phase("Active", json!("2026-01-01T00:00:00Z"))),
        [format!("{at} \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty")]
    );
    assert!(status("namespaces", phase("Active", Value::Null)).is_empty());
}

#[test]
fn of_secrets() {
    let of = |kind: &str, data: Value| json!({"type":format!("kubernetes.io/{kind}"),"stringData":data});
    for (object, count) in [
        // An empty name or password is one.
        (of("basic-auth", json!({"username":""})), 0),
        (of("basic-auth", json!({"password":""})), 0),
        (of("basic-auth", json!({})), 2),
        (of("ssh-auth", json!({"ssh-privatekey":""})), 1),
        (of("tls", json!({"tls.crt":"","tls.key":""})), 0),
        (of("dockerconfigjson", json!({".dockerconfigjson":"{}"})), 0),
        (of("dockerconfigjson", json!({".dockerconfigjson":"null"})), 0),
        (of("dockerconfigjson", json!({".dockerconfigjson":"[]"})), 1),
        (of("dockercfg", json!({})), 1),
    ] {
        assert_eq!(errors("secrets", object.clone()).len(), count, "{object}");
    }
}

#[test]
fn of_volumes() {
    let pv = |source: Value| {
        let mut object = with("persistentvolumes", "/spec/hostPath", Value::Null);
        object["spec"].as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        object
    };
    let csi = |extra: Value| {
        let mut csi = json!({"driver":"d","volumeHandle":"h"});
        csi.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "csi": csi })
    };
    each(
        "persistentvolumes",
        &[
            (pv(json!({"rbd":{"image":"i"}})), "spec.rbd.monitors: Required value"),
            (pv(json!({"hostPath":{"path":"/a","type":"Dir"}})), "spec.hostPath.type: Unsupported value: \"Dir\""),
            (
                pv(csi(json!({"nodePublishSecretRef":{"name":"A","namespace":"b"}}))),
                "spec.csi.nodePublishSecretRef.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
            (
                pv(csi(json!({"controllerExpandSecretRef":{"name":"a"}}))),
                "spec.csi.controllerExpandSecretRef.namespace: Required value",
            ),
        ],
    );
    assert!(errors("persistentvolumes", pv(csi(json!({"nodeStageSecretRef":{}})))).is_empty(), "as upstream");
    let affinity = |key: &str, value: &str| {
        let term = json!({"key":key,"operator":"In","values":[value]});
        json!({"required":{"nodeSelectorTerms":[{"matchExpressions":[term]}]}})
    };
    let old = with("persistentvolumes", "/spec/nodeAffinity", affinity("failure-domain.beta.kubernetes.io/zone", "a"));
    for (key, value, ok) in [
        ("topology.kubernetes.io/zone", "a", true),
        ("topology.kubernetes.io/zone", "b", false),
        ("topology.kubernetes.io/region", "a", false),
    ] {
        let got = update_errors(
            "persistentvolumes",
            old.clone(),
            with("persistentvolumes", "/spec/nodeAffinity", affinity(key, value)),
        );
        assert_eq!(got.is_empty(), ok, "{key}: {got:?}");
        let why = "field is immutable, except for updating from beta label to GA";
        assert!(
            ok || (got.len() == 1 && got[0].starts_with("nodeAffinity: Invalid value: {") && got[0].ends_with(why)),
            "{got:?}"
        );
    }
    change("persistentvolumes", "/spec/nodeAffinity", affinity("a", "b"), None);
}

#[test]
fn of_inline_volumes() {
    let inline = |change: Value| {
        let mut spec = json!({"accessModes":["ReadWriteOnce"],"csi":{"driver":"d","volumeHandle":"h"}});
        crate::schema::merge_patch::merge_patch(&mut spec, change);
        with("volumeattachments.storage.k8s.io", "/spec/source", json!({ "inlineVolumeSpec": spec }))
    };
    let at = "spec.source.inlineVolumeSpec";
    let here = "in the context of inline volumes";
    for (change, want) in [
        (json!({"capacity":{"storage":"1Gi"}}), ".capacity: Forbidden: may not be specified"),
        (json!({"claimRef":{"name":"c"}}), ".claimRef: Forbidden: may not be specified"),
        (
            json!({"persistentVolumeReclaimPolicy":"Delete"}),
            ".persistentVolumeReclaimPolicy: Forbidden: may only be Retain",
        ),
        (json!({"volumeMode":"Block"}), ".volumeMode: Forbidden: may not specify volumeMode other than Filesystem"),
        (json!({"csi":null,"hostPath":{"path":"/"}}), ".csi: Required value: has to be specified"),
    ] {
        let got = errors("volumeattachments.storage.k8s.io", inline(change.clone()));
        assert_eq!(got, [format!("{at}{want} {here}")], "{change}");
    }
    assert!(errors("volumeattachments.storage.k8s.io", inline(json!({}))).is_empty());
}
