//! NodeRestriction: an agent changes its own Node, its own Lease and the pods bound to it, and nothing of others.

use copepod_model::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::call::Part;
use crate::rbac::node::name_of;
use crate::value::text;

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
