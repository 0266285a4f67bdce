//! `nodeSelector` and node affinity, required and preferred.

use super::{Filter, Judge, Score, normalise};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct NodeAffinity;

impl Filter for NodeAffinity {
    fn prepare<'a>(&'a self, pod: &'a Pod, _: World<'a>) -> Judge<'a> {
        Box::new(move |node| filter(pod, node))
    }
}

fn filter(pod: &Pod, node: &Node) -> Vec<String> {
    if pod.selects(node) {
        return vec![];
    }
    vec!["node(s) didn't match Pod's node affinity/selector".into()]
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node], _: World<'_>) -> Vec<i64> {
        let liked = |n: &&Node| -> i64 {
            let terms = pod.preferred.iter().filter(|p| n.matches(&p["preference"]));
            terms.map(|p| p["weight"].as_i64().unwrap_or(0)).sum()
        };
        normalise(nodes.iter().map(liked).collect(), false)
    }
}
