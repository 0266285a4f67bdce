//! What a pod requests must be left on the node; of nodes that have it, the emptier (or the fuller) is better.

use super::{Filter, Judge, MAX, Score};
use crate::Packing;
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn prepare<'a>(&'a self, pod: &'a Pod, _: World<'a>) -> Judge<'a> {
        Box::new(move |node| filter(pod, node))
    }
}

fn filter(pod: &Pod, node: &Node) -> Vec<String> {
    let (offer, used, want) = (&node.offer, &node.used, &pod.request);
    let mut out = Vec::new();
    if used.pods + 1 > offer.pods {
        out.push("Too many pods".to_string());
    }
    // A pod that asks for nothing fits even where more is used than there is.
    let short = |want: i64, used: i64, offered: i64| want > 0 && want > offered - used;
    if short(want.cpu_millis, used.cpu_millis, offer.cpu_millis) {
        out.push("Insufficient cpu".into());
    }
    if short(want.memory_bytes, used.memory_bytes, offer.memory_bytes) {
        out.push("Insufficient memory".into());
    }
    for (name, amount) in &want.others {
        let of = |m: &std::collections::BTreeMap<String, i64>| m.get(name).copied().unwrap_or(0);
        if short(*amount, of(&used.others), of(&offer.others)) {
            out.push(format!("Insufficient {name}"));
        }
    }
    out
}

/// How full the node would be: upstream's `LeastAllocated` and `MostAllocated` over CPU and memory.
pub(crate) struct Allocation(pub Packing);

impl Score for Allocation {
    fn weight(&self) -> i64 {
        1
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node], _: World<'_>) -> Vec<i64> {
        let want = pod.request.scored();
        let one = |n: &&Node| {
            let part = |used: i64, offered: i64| {
                if offered <= 0 || used > offered {
                    return 0;
                }
                let used = (i128::from(used) * i128::from(MAX) / i128::from(offered)) as i64;
                match self.0 {
                    Packing::LeastAllocated => MAX - used,
                    Packing::MostAllocated => used,
                }
            };
            let cpu = part(n.used.scored.0 + want.0, n.offer.cpu_millis);
            let memory = part(n.used.scored.1 + want.1, n.offer.memory_bytes);
            (cpu + memory) / 2
        };
        nodes.iter().map(one).collect()
    }
}
