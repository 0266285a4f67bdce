//! NodeRestriction: an agent changes its own Node, its own Lease and the pods bound to it, and nothing of others; and tokens it
//! gets for those pods only.

use copepod_machine::View;
use copepod_model::join_token::AGENT_KEY;
use copepod_model::{ApiRequest, Status};
use serde_json::Value;

use super::{Operation, Review};
use crate::Registry;
use crate::call::Part;
use crate::rbac::node::name_of;
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
        _ => Ok(()),
    }
}

/// An agent may not lift taints or restrictions that keep workloads off its node.
fn own_node(review: &Review<'_>, object: &Value, node: &str) -> Result<(), Status> {
    const RESTRICTED: &str = "node-restriction.kubernetes.io/";
    let labels = |v: &Value| -> Vec<(String, Value)> {
        let all = v["metadata"]["labels"].as_object().into_iter().flatten();
        all.filter(|(k, _)| k.contains(RESTRICTED)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let before = review.old.map(labels).unwrap_or_default();
    if review.operation != Operation::Delete && labels(object) != before {
        return Err(review.forbid(&format!("node {node:?} is not allowed to set labels of the group {RESTRICTED:?}")));
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
            Ok(())
        }
        Operation::Update if !status => Err(review.forbid(&format!("node {node:?} can only update pod status"))),
        Operation::Update if !review.old.is_some_and(bound) => Err(review
            .forbid(&format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))),
        Operation::Delete if !bound(object) => {
            Err(review.forbid(&format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(()),
    }
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
