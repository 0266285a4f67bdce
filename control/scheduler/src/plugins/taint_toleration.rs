//! Taints keep pods away unless tolerated; those that only would rather not have them count in the score.

use super::{Filter, Score, normalise};
use crate::node::Node;
use crate::pod::Pod;

pub(crate) struct TaintToleration;

impl Filter for TaintToleration {
    fn filter(&self, pod: &Pod, node: &Node) -> Vec<String> {
        let hard = node.offer.taints.iter().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
        let first = hard.into_iter().find(|t| !pod.tolerates(t));
        first.map(|t| format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value)).into_iter().collect()
    }
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
        let soft = |n: &&Node| {
            let taints = n.offer.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
            taints.filter(|t| !pod.tolerates(t)).count() as i64
        };
        normalise(nodes.iter().map(soft).collect(), true)
    }
}
