//! The node authorizer: what an agent needs, and of Secrets and ConfigMaps only what its own pods refer to, and the Secrets
//! that Ingresses and Gateways name for TLS: every node is an ingress. The status of a claim is for the nodes that use it.

use std::sync::{Arc, LazyLock};

use copepod_machine::View;
use copepod_model::facts::PodFacts;
use copepod_model::gateway::{self, GatewayFacts, Grants};
use copepod_model::kinds::core::podspec::uses_claim;
use copepod_model::{Object, UserInfo};
use serde_json::Value;

use super::Attributes;
use super::rules::Rule;
use crate::value::{list, text};

/// What the names of nodes' users begin with.
pub(crate) const PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";

/// The node whose agent the user is.
pub(crate) fn name_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX).filter(|n| !n.is_empty())?;
    user.in_group(NODES).then_some(name)
}

/// The rules of the role `system:node`.
pub(crate) static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let read = &["get", "list", "watch"][..];
    [
        (&["create"][..], "authentication.k8s.io", &["tokenreviews"][..]),
        (&["create"], "authorization.k8s.io", &["subjectaccessreviews", "localsubjectaccessreviews"]),
        (read, "", &["services", "endpoints", "namespaces", "persistentvolumeclaims", "persistentvolumes"]),
        (&["create", "get", "list", "watch"], "", &["nodes"]),
        (&["update", "patch"], "", &["nodes", "nodes/status"]),
        (&["create", "update", "patch"], "", &["events"]),
        (&["create", "update", "patch"], "events.k8s.io", &["events"]),
        (&["get", "list", "watch", "create", "delete"], "", &["pods"]),
        (&["update", "patch"], "", &["pods/status"]),
        (&["create"], "", &["pods/eviction", "serviceaccounts/token"]),
        (read, "", &["secrets", "configmaps", "serviceaccounts"]),
        (&["create", "get", "list", "watch"], "certificates.k8s.io", &["certificatesigningrequests"]),
        (&["get", "create", "update", "patch", "delete"], "coordination.k8s.io", &["leases"]),
        (read, "node.k8s.io", &["runtimeclasses"]),
        (&["get", "update", "patch"], "", &["persistentvolumeclaims/status"]),
        (&["get"], "storage.k8s.io", &["volumeattachments"]),
        (read, "storage.k8s.io", &["csidrivers"]),
        (&["get", "create", "update", "patch", "delete"], "storage.k8s.io", &["csinodes"]),
        (read, "discovery.k8s.io", &["endpointslices"]),
        // It pulls what its pods run.
        (&["get"], "copepod.dev", &["images"]),
        // The agent is the node's proxy and ingress as well.
        (read, "networking.k8s.io", &["ingresses", "ingressclasses", "networkpolicies"]),
        (read, gateway::GROUP, &["gateways", "gatewayclasses", "referencegrants"]),
        (read, gateway::GROUP, &["httproutes", "grpcroutes", "tlsroutes", "tcproutes"]),
    ]
    .into_iter()
    .map(|(verbs, group, resources)| Rule {
        verbs: verbs.iter().map(|v| Box::from(*v)).collect(),
        groups: vec![group.into()],
        resources: resources.iter().map(|r| Box::from(*r)).collect(),
        ..Rule::default()
    })
    .collect()
});

/// Whether the agent of `node` may do `a`; an error says what is in its way.
pub(super) fn authorize(view: &dyn View, node: &str, a: &Attributes<'_>) -> Result<bool, String> {
    if !RULES.iter().any(|r| r.allows(a)) {
        return Ok(false);
    }
    let guarded = match (a.group, a.resource) {
        ("", "secrets" | "configmaps" | "serviceaccounts") => true,
        ("", "persistentvolumeclaims") => a.subresource == "status",
        ("coordination.k8s.io", "leases") if a.verb != "create" && a.name != node => {
            return Err(format!("can only access node lease with the same name as the requesting node {node:?}"));
        }
        ("storage.k8s.io", "csinodes") if a.verb != "create" && a.name != node => {
            return Err(format!("can only access CSINode with the same name as the requesting node {node:?}"));
        }
        _ => false,
    };
    if !guarded {
        return Ok(true);
    }
    if a.name.is_empty() || a.namespace.is_empty() {
        return Err(format!("can only read one {} at a time, by name", a.resource));
    }
    if view.on_node("pods", node, Some(a.namespace)).any(|p| is_of(&p, a.resource, a.name)) {
        return Ok(true);
    }
    if a.resource == "secrets"
        && a.subresource.is_empty()
        && view.list("ingresses.networking.k8s.io", Some(a.namespace)).any(|i| serves(&i.value()["spec"], a.name))
    {
        return Ok(true);
    }
    if a.resource == "secrets" && a.subresource.is_empty() && gateways_show(view, a.namespace, a.name) {
        return Ok(true);
    }
    Err(format!("no relationship found between node {node:?} and this object"))
}

/// Whether a pod refers to the object. Asked of all pods of the node until one does, so most are not decoded for it.
fn is_of(pod: &Object, resource: &str, name: &str) -> bool {
    if resource == "serviceaccounts" {
        return pod.facts::<PodFacts>().service_account == name;
    }
    if resource == "persistentvolumeclaims" {
        return uses_claim(&pod.spec_and_status().0, pod.name(), name);
    }
    // A name has no characters that JSON escapes.
    let named = std::str::from_utf8(&pod.body).is_ok_and(|body| body.contains(name));
    named && refers(&pod.spec_and_status().0, resource, name)
}

/// Whether a pod's spec refers to the Secret or ConfigMap.
fn refers(spec: &Value, resource: &str, name: &str) -> bool {
    let secret = resource == "secrets";
    let (volume, named, key, env) = if secret {
        ("secret", "secretName", "secretKeyRef", "secretRef")
    } else {
        ("configMap", "name", "configMapKeyRef", "configMapRef")
    };
    let is = |v: &Value, field: &str| text(v, field) == name;
    let volumes = list(spec, "volumes").iter().any(|v| {
        let projected = list(&v["projected"], "sources").iter().any(|s| is(&s[volume], "name"));
        projected || is(&v[volume], named)
    });
    let containers = ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|l| list(spec, l));
    let mut env = containers.map(|c| {
        list(c, "env").iter().any(|e| is(&e["valueFrom"][key], "name"))
            || list(c, "envFrom").iter().any(|e| is(&e[env], "name"))
    });
    volumes || env.any(|e| e) || (secret && list(spec, "imagePullSecrets").iter().any(|s| is(s, "name")))
}

/// Whether an Ingress takes its certificates from the Secret.
fn serves(spec: &Value, secret: &str) -> bool {
    list(spec, "tls").iter().any(|t| text(t, "secretName") == secret)
}

/// Whether a Gateway of the cluster's own may take a certificate from the Secret, and does.
fn gateways_show(view: &dyn View, namespace: &str, secret: &str) -> bool {
    let list = |resource: &str| view.list(resource, None).collect::<Vec<_>>();
    let gateways = list(gateway::GATEWAYS);
    let named = |g: &Arc<Object>| {
        let facts = g.facts::<GatewayFacts>();
        facts.listeners.iter().flat_map(|l| &l.certificates).any(|c| c.namespace == namespace && c.name == secret)
    };
    if !gateways.iter().any(named) {
        return false;
    }
    let grants = Grants::of(&list(gateway::REFERENCE_GRANTS));
    let judged = gateway::judge(&list(gateway::GATEWAY_CLASSES), &gateways, &grants);
    let served = judged.iter().filter(|g| g.doubt.is_none()).flat_map(|g| &g.listeners).filter(|l| l.served());
    served.flat_map(|l| &l.certificates).any(|c| c.namespace == namespace && c.name == secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_asked_by_what_it_stores() {
        let value = json!({"metadata": {"name": "p"},
            "spec": {"serviceAccountName": "robot", "volumes": [{"secret": {"secretName": "a.b-c"}}, {"configMap": {"name": "d"}},
                {"persistentVolumeClaim": {"claimName": "e"}}, {"name": "v", "ephemeral": {}}]}});
        let key = copepod_model::Key::new("pods", "d", "p");
        let body = copepod_model::object::with_revision(&copepod_model::object::encode(&value), 1);
        let pod = Object::decode(key, 1, body);
        for (resource, name, want) in [
            ("secrets", "a.b-c", true),
            ("secrets", "a.b", false),
            ("secrets", "d", false),
            ("configmaps", "d", true),
            ("serviceaccounts", "robot", true),
            ("serviceaccounts", "default", false),
            ("persistentvolumeclaims", "e", true),
            ("persistentvolumeclaims", "p-v", true),
            ("persistentvolumeclaims", "d", false),
        ] {
            assert_eq!(is_of(&pod, resource, name), want, "{resource} {name}");
        }
    }

    #[test]
    fn references_are_found_wherever_a_pod_can_have_them() {
        for (spec, secret, config) in [
            (json!({"volumes":[{"secret":{"secretName":"a"}}]}), true, false),
            (json!({"volumes":[{"configMap":{"name":"a"}}]}), false, true),
            (json!({"volumes":[{"projected":{"sources":[{"secret":{"name":"a"}}]}}]}), true, false),
            (json!({"containers":[{"env":[{"valueFrom":{"secretKeyRef":{"name":"a"}}}]}]}), true, false),
            (json!({"initContainers":[{"envFrom":[{"configMapRef":{"name":"a"}}]}]}), false, true),
            (json!({"imagePullSecrets":[{"name":"a"}]}), true, false),
            (json!({"imagePullSecrets":[{"name":"b"}]}), false, false),
        ] {
            assert_eq!((refers(&spec, "secrets", "a"), refers(&spec, "configmaps", "a")), (secret, config), "{spec}");
        }
    }
}
