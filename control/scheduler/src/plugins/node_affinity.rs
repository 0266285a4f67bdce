//! `nodeSelector` and node affinity, required and preferred.

use super::{Filter, Score, normalise};
use crate::node::Node;
use crate::pod::Pod;

pub(crate) struct NodeAffinity;

impl Filter for NodeAffinity {
    fn filter(&self, pod: &Pod, node: &Node) -> Vec<String> {
        let selected = pod.selector.iter().all(|(k, v)| node.label(k) == Some(v));
        // Terms are alternatives; a list without terms matches nothing.
        let required = pod.required.as_ref().is_none_or(|terms| terms.iter().any(|t| node.matches(t)));
        if selected && required {
            return vec![];
        }
        vec!["node(s) didn't match Pod's node affinity/selector".into()]
    }
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
        let liked = |n: &&Node| -> i64 {
            let terms = pod.preferred.iter().filter(|p| n.matches(&p["preference"]));
            terms.map(|p| p["weight"].as_i64().unwrap_or(0)).sum()
        };
        normalise(nodes.iter().map(liked).collect(), false)
    }
}
