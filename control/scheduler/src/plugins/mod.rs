//! The plugins, one file each.

use crate::Packing;
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

mod inter_pod_affinity;
mod node_affinity;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod pod_topology_spread;
mod taint_toleration;

/// The greatest score.
pub(crate) const MAX: i64 = 100;

/// Why a node may not run a pod, in upstream's words; empty if it may.
pub(crate) type Judge<'a> = Box<dyn Fn(&Node) -> Vec<String> + 'a>;

/// One reason why a pod may not run on a node.
pub(crate) trait Filter: Send + Sync {
    /// What is the same for all nodes, computed once for a pod, in the judge of them.
    fn prepare<'a>(&'a self, pod: &'a Pod, world: World<'a>) -> Judge<'a>;
}

/// One reason to prefer a node.
pub(crate) trait Score: Send + Sync {
    /// How much it counts beside the others.
    fn weight(&self) -> i64;
    /// A score from 0 to [`MAX`] for each node.
    fn scores(&self, pod: &Pod, nodes: &[&Node], world: World<'_>) -> Vec<i64>;
}

/// The filters, in the order in which they are asked: upstream's.
pub(crate) fn filters() -> Vec<Box<dyn Filter>> {
    vec![
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::NodeResourcesFit),
        Box::new(pod_topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
    ]
}

/// The scores, with upstream's weights.
pub(crate) fn scores(packing: Packing) -> Vec<Box<dyn Score>> {
    vec![
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_resources_fit::Allocation(packing)),
        Box::new(pod_topology_spread::PodTopologySpread),
        Box::new(inter_pod_affinity::InterPodAffinity),
    ]
}

/// Stretches raw scores so that the greatest becomes [`MAX`]; reversed, where less is better.
pub(crate) fn normalise(raw: Vec<i64>, reverse: bool) -> Vec<i64> {
    let top = raw.iter().copied().max().unwrap_or(0);
    let one = |n: i64| {
        let n = if top == 0 { 0 } else { n * MAX / top };
        if reverse { MAX - n } else { n }
    };
    raw.into_iter().map(one).collect()
}
