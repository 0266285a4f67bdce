//! NodeRestriction: an agent changes its own Node, its own Lease and the pods bound to it, and nothing of others; tokens it gets for
//! those pods only, and kubelets' certificates for its own name.

use std::collections::BTreeSet;

use copepod_machine::View;
use copepod_model::certificate::signer;
use copepod_model::join_token::AGENT_KEY;
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use copepod_model::{ApiRequest, Status};
use serde_json::Value;

use super::{Operation, Review};
use crate::Registry;
use crate::call::Part;
use crate::rbac::node::{PREFIX, name_of};
use crate::rbac::{Attributes, authorize};
use crate::value::{list, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = name_of(review.user) else { return Ok(()) };
    match &*review.key.resource {
        "nodes" if &*review.key.name != node => {
            Err(review.forbid(&format!("node {node:?} is not allowed to modify node {:?}", review.key.name)))
        }
        "nodes" => own_node(review, object, node),
        "pods" => pod(review, object, node),
        "leases.coordination.k8s.io" if &*review.key.namespace != LEASES => {
            Err(review.forbid(&format!("can only access leases in the {LEASES:?} system namespace")))
        }
        "leases.coordination.k8s.io" if &*review.key.name != node => {
            Err(review.forbid("can only access node lease with the same name as the requesting node"))
        }
        "csinodes.storage.k8s.io" if &*review.key.name != node => {
            Err(review.forbid("can only access CSINode with the same name as the requesting node"))
        }
        "persistentvolumeclaims" => claim(review, object, node),
        csr::RESOURCE if review.operation == Operation::Create => own_certificate(review, object, node),
        _ => Ok(()),
    }
}

/// From the kubelets' signers an agent may have certificates for its own node's name.
fn own_certificate(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    if ![signer::KUBELET_CLIENT, signer::KUBELET_SERVING].contains(&csr::signer_name(object)) {
        return Ok(());
    }
    let request = csr::request(object).map_err(|why| review.forbid(&format!("unable to parse csr: {why}")))?;
    if request.subject.common_name().strip_prefix(PREFIX) != Some(node) {
        return Err(review.forbid(&format!("can only create a node CSR with CN={PREFIX}{node}")));
    }
    Ok(())
}

/// Of a claim an agent writes what became of its resizing, and nothing else.
fn claim(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let (Part::Status, Some(old)) = (review.part, review.old) else {
        return Err(review.forbid("may only update PVC status"));
    };
    let rest = |v: &Value| {
        let mut v = v.clone();
        for field in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
            crate::value::remove(&mut v["status"], field);
        }
        v
    };
    if crate::value::same(&rest(object), &rest(old)) {
        return Ok(());
    }
    let why = format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions");
    Err(review.forbid(&why))
}

/// What a kubelet may say of its node among the labels of Kubernetes' own domains (`IsKubeletLabel`); of others anything.
const OWN_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

fn is_own_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// An agent may not lift taints or restrictions that keep workloads off its node.
fn own_node(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let labels = |v: &Value| v["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (before, after) = (review.old.map(labels).unwrap_or_default(), labels(object));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|k| before.get(*k) != after.get(*k));
    let foreign: Vec<&str> = changed.map(String::as_str).filter(|k| !is_own_label(k)).collect();
    if review.operation != Operation::Delete && !foreign.is_empty() {
        let foreign = foreign.join(", ");
        return Err(review.forbid(&match review.operation {
            Operation::Create => format!("node {node:?} is not allowed to set the following labels: {foreign}"),
            _ => format!("is not allowed to modify labels: {foreign}"),
        }));
    }
    // Which agent a node's name belongs to, the cluster says.
    let key = |v: &Value| v["metadata"]["annotations"].get(AGENT_KEY).cloned();
    if review.operation != Operation::Delete && key(object) != review.old.and_then(key) {
        return Err(review.forbid(&format!("node {node:?} is not allowed to set the annotation {AGENT_KEY:?}")));
    }
    // So it does which part of the pod network a node that joined has.
    let part = |v: &Value| (v["spec"]["podCIDR"].clone(), v["spec"]["podCIDRs"].clone());
    if review.operation == Operation::Update
        && review.old.is_some_and(|old| key(old).is_some() && part(object) != part(old))
    {
        return Err(review.forbid(&format!("node {node:?} is not allowed to choose its part of the pod network")));
    }
    if review.operation == Operation::Update
        && review.whole()
        && review.old.is_some_and(|old| old["spec"]["taints"] != object["spec"]["taints"])
    {
        return Err(review.forbid(&format!("node {node:?} is not allowed to modify taints")));
    }
    // By an owner that does not exist the garbage collector would delete the Node for the agent.
    let owners = |v: &Value| list(&v["metadata"], "ownerReferences").to_vec();
    if review.operation == Operation::Update && review.old.is_some_and(|old| owners(old) != owners(object)) {
        return Err(review.forbid(&format!("node {node:?} is not allowed to modify ownerReferences")));
    }
    Ok(())
}

fn pod(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let bound = |pod: &Value| text(&pod["spec"], "nodeName") == node;
    let status = matches!(review.part, Part::Status);
    if let Part::Other(name) = review.part
        && review.operation == Operation::Update
    {
        let why = format!("unexpected pod subresource {name:?}, only 'status' and 'eviction' are allowed");
        return Err(review.forbid(&why));
    }
    match review.operation {
        Operation::Create => {
            if object["metadata"]["annotations"].get(MIRROR).is_none() {
                let why = format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
                return Err(review.forbid(&why));
            }
            if !bound(object) {
                return Err(
                    review.forbid(&format!("node {node:?} can only create pods with spec.nodeName set to itself"))
                );
            }
            match refers(&object["spec"]) {
                Some(what) => Err(review.forbid(&format!("node {node:?} can not create pods that reference {what}"))),
                None => Ok(()),
            }
        }
        Operation::Update if !status => Err(review.forbid(&format!("node {node:?} can only update pod status"))),
        Operation::Update if !review.old.is_some_and(bound) => Err(review
            .forbid(&format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))),
        Operation::Update
            if review.old.is_some_and(|old| old["metadata"]["labels"] != object["metadata"]["labels"]) =>
        {
            Err(review.forbid(&format!("node {node:?} cannot update labels through pod status")))
        }
        Operation::Delete if !bound(object) => {
            Err(review.forbid(&format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(()),
    }
}

/// What of the API a pod refers to, which an agent could get at by a mirror of its own making.
fn refers(spec: &Value) -> Option<&'static str> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a service account");
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|l| list(spec, l));
    let froms = || {
        let env = |c: &'_ Value| list(c, "env").iter().map(|e| e["valueFrom"].clone()).collect::<Vec<_>>();
        containers.clone().flat_map(move |c| env(c).into_iter().chain(list(c, "envFrom").iter().cloned()))
    };
    let volumes = list(spec, "volumes");
    let in_volumes = |field: &str| {
        let projected = |v: &Value| list(&v["projected"], "sources").iter().any(|s| s[field].is_object());
        volumes.iter().any(|v| v[field].is_object() || projected(v))
    };
    let env = |fields: [&str; 2]| froms().any(|f| fields.iter().any(|field| f[*field].is_object()));
    let secrets = !list(spec, "imagePullSecrets").is_empty() || env(["secretKeyRef", "secretRef"]);
    if secrets || in_volumes("secret") {
        return Some("secrets");
    }
    if env(["configMapKeyRef", "configMapRef"]) || in_volumes("configMap") {
        return Some("configmaps");
    }
    if in_volumes("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    in_volumes("persistentVolumeClaim").then_some("persistentvolumeclaims")
}

/// The verb of who may have tokens for an audience that no pod asks for: the audience is the resource (KEP-4935).
const REQUEST_AUDIENCE: &str = "request-serviceaccounts-token-audience";

impl Registry {
    /// Whether a TokenRequest with this `spec` may be made: a node's must be bound to a pod of its own, for an audience that
    /// one of the pod's volumes asks for.
    pub fn admit_token(&self, view: &dyn View, request: &ApiRequest, spec: &Value) -> Result<(), Status> {
        let Some(node) = name_of(&request.user) else { return Ok(()) };
        let forbid = |why: &str| Err(Status::forbidden("serviceaccounts", &request.name, why));
        let bound = &spec["boundObjectRef"];
        let (name, uid) = (text(bound, "name"), text(bound, "uid"));
        if (text(bound, "apiVersion"), text(bound, "kind")) != ("v1", "Pod") || name.is_empty() {
            return forbid("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return forbid("node requested token with a pod binding without a uid");
        }
        let pod = view.get("pods", &request.namespace, name).ok_or_else(|| Status::not_found("pods", name))?;
        if *pod.meta.uid != *uid {
            return forbid(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
                 deleted and then recreated"
            ));
        }
        if pod.meta.node_name.as_deref() != Some(node) {
            return forbid("node requested token bound to a pod scheduled on a different node");
        }
        let audiences = list(spec, "audiences");
        if audiences.len() > 1 {
            return forbid("node may only request 0 or 1 audiences");
        }
        let audience = audiences.first().and_then(Value::as_str).unwrap_or_default();
        let value = pod.value();
        let sources = list(&value["spec"], "volumes").iter().flat_map(|v| list(&v["projected"], "sources"));
        let asked =
            sources.map(|s| &s["serviceAccountToken"]).any(|t| t.is_object() && text(t, "audience") == audience);
        let attributes = Attributes {
            user: &request.user,
            verb: REQUEST_AUDIENCE,
            group: "",
            resource: audience,
            subresource: "",
            namespace: &request.namespace,
            name: &request.name,
            path: None,
        };
        if asked || !audience.is_empty() && authorize(view, &attributes).allowed {
            return Ok(());
        }
        let user = &request.user.name;
        forbid(&format!(
            "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
        ))
    }
}
