//! Taints keep pods away unless tolerated; those that only would rather not have them count in the score.

use super::{Filter, Judge, Score, normalise};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct TaintToleration;

impl Filter for TaintToleration {
    fn prepare<'a>(&'a self, pod: &'a Pod, _: World<'a>) -> Judge<'a> {
        Box::new(move |node| filter(pod, node))
    }
}

fn filter(pod: &Pod, node: &Node) -> Vec<String> {
    pod.untolerated(node)
        .map(|t| format!("node(s) had untolerated taint {{{}: {}}}", t.key, t.value))
        .into_iter()
        .collect()
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node], _: World<'_>) -> Vec<i64> {
        let soft = |n: &&Node| {
            let taints = n.offer.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
            taints.filter(|t| !pod.tolerates(t)).count() as i64
        };
        normalise(nodes.iter().map(soft).collect(), true)
    }
}
