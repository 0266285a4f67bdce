//! Whether nodes are ready, and the addresses at which they answer for load balancers and for the ingress.

use std::net::IpAddr;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::facts::Facts;

use super::{conditions, text};

/// The nodes.
pub(crate) const NODES: &str = "nodes";
/// The label of nodes that clients outside the cluster shall not come to.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What is known of a node.
struct Known {
    ready: bool,
    addresses: Addresses,
}

/// The addresses at which a node answers: none unless it is ready, stays, and is not excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    external: Vec<IpAddr>,
    internal: Vec<IpAddr>,
}

impl Facts for Known {
    fn of(node: &Object) -> Known {
        let value = node.value();
        let ready = conditions::find(&conditions::of(&value), "Ready").is_some_and(|c| c["status"] == "True");
        if !ready || node.meta.deletion_timestamp.is_some() || node.meta.labels.contains_key(EXCLUDED) {
            return Known { ready, addresses: Addresses::default() };
        }
        let all = value["status"]["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        let of = |kind: &str| {
            all.iter().filter(|a| a["type"] == kind).filter_map(|a| text(&a["address"]).parse().ok()).collect()
        };
        Known { ready, addresses: Addresses { external: of("ExternalIP"), internal: of("InternalIP") } }
    }
}

/// Whether a node says that it is ready, and nobody says otherwise.
pub(crate) fn is_ready(node: &Object) -> bool {
    node.facts::<Known>().ready
}

/// Whether a change of a node changes where it answers.
pub(crate) fn changed(old: Option<&Object>, new: Option<&Object>) -> bool {
    let of = |node: Option<&Object>| node.map(|n| n.facts::<Known>().addresses.clone()).unwrap_or_default();
    of(old) != of(new)
}

/// Where those of the nodes answer that `wanted` names, in the order of their names: at their external addresses if one of
/// them has any, or else at their internal ones.
pub(crate) fn of_nodes(view: &dyn View, wanted: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let (mut external, mut internal) = (Vec::new(), Vec::new());
    for node in view.list(NODES, None).filter(|n| wanted(n.name())) {
        let known = node.facts::<Known>();
        external.extend(known.addresses.external.iter().copied());
        internal.extend(known.addresses.internal.iter().copied());
    }
    let mut out: Vec<IpAddr> = Vec::new();
    for ip in if external.is_empty() { internal } else { external } {
        if !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}
