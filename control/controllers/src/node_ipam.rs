//! Gives each Node that joined its part of the pod network: `spec.podCIDRs`, one of each family (upstream's `nodeipam`, range
//! allocator). A Node keeps them as long as it exists; with the Node they are free again. That of IPv6 stands beside that of
//! IPv4 ([`networks::part_beside`]), so there is one choice to make.

use std::net::Ipv4Addr;

use copepod_machine::{EventType, Plan, View};
use copepod_model::join_token::AGENT_KEY;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time, networks};
use serde_json::{Value, json};

use crate::support::{event, patch};
use crate::{Config, Controller};

const RESOURCE: &str = "nodes";
/// The pod network.
const RANGE: Block = Block { first: networks::PODS.0, bits: networks::PODS.1 };
/// Bits of a node's part: 4,048 pods for each of 16 nodes.
const PART: u8 = 20;
/// Blocks that a node takes for itself, as the one of `copepod up` does, from the lower end of the range.
const BLOCKS: &str = "copepod.dev/pod-blocks";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: Ipv4Addr,
    bits: u8,
}

impl Block {
    fn parse(text: &str) -> Option<Block> {
        let (first, bits) = text.trim().split_once('/')?;
        Some(Block { first: first.parse().ok()?, bits: bits.parse().ok().filter(|b| *b <= 32)? })
    }

    fn overlaps(self, other: Block) -> bool {
        let shift = 32 - u32::from(self.bits.min(other.bits));
        self.first.to_bits().checked_shr(shift) == other.first.to_bits().checked_shr(shift)
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

struct NodeIpam;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    NodeIpam
}

/// Whether a Node waits for its part.
fn waits(node: &Object) -> bool {
    node.meta.annotations.contains_key(AGENT_KEY) && node.value()["spec"]["podCIDR"].as_str().is_none_or(str::is_empty)
}

/// What a Node has: its part, and the blocks that it says to have taken.
fn taken(node: &Value) -> Vec<Block> {
    let own = node["spec"]["podCIDR"].as_str().unwrap_or_default();
    let annotations = &node["metadata"]["annotations"];
    // What one that joined has, the cluster has given it: its own word does not count.
    let joined = annotations.get(AGENT_KEY).is_some();
    let blocks = annotations[BLOCKS].as_str().filter(|_| !joined).unwrap_or_default();
    std::iter::once(own).chain(blocks.split(',')).filter_map(Block::parse).collect()
}

/// The parts of the range, the uppermost first: nodes that take blocks for themselves begin at the other end.
fn parts() -> impl Iterator<Item = Block> {
    let count = 1u32 << (PART - RANGE.bits);
    (0..count)
        .rev()
        .map(|i| Block { first: Ipv4Addr::from_bits(RANGE.first.to_bits() + (i << (32 - PART))), bits: PART })
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "node-ipam"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[RESOURCE]
    }

    fn keys(&self, view: &dyn View, _: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        // One that goes makes room for those that wait.
        if new.is_none_or(waits) { self.all(view) } else { vec![] }
    }

    /// One key stands for all Nodes: two that were looked after at once could get the same part.
    fn all(&self, _: &dyn View) -> Vec<Key> {
        vec![Key::new(RESOURCE, "", "")]
    }

    fn reconcile(&self, view: &dyn View, _: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let nodes: Vec<_> = view.list(RESOURCE, None).collect();
        let waiting: Vec<_> = nodes.iter().filter(|n| waits(n)).collect();
        if waiting.is_empty() {
            return plan;
        }
        let taken: Vec<Block> = nodes.iter().flat_map(|n| taken(&n.value())).collect();
        let mut free = parts().filter(|part| !taken.iter().any(|t| t.overlaps(*part)));
        for node in waiting {
            match free.next() {
                Some(part) => {
                    let (v6, bits) = networks::part_beside(part.first, part.bits);
                    let cidrs = [part.to_string(), format!("{v6}/{bits}")];
                    let spec = json!({"podCIDR": cidrs[0], "podCIDRs": cidrs});
                    plan.push(patch(node, "", PatchType::Merge, json!({"spec": spec})), "its part of the pod network");
                }
                None => {
                    let why = format!("Node {} status is now: CIDRNotAvailable", node.name());
                    let tell = event(("v1", "Node"), node, EventType::Warning, "CIDRNotAvailable", why);
                    plan.push(tell, "the pod network is used up");
                }
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::sim::{TestView, config};
    use copepod_machine::Action;
    use std::collections::BTreeSet;

    fn node(name: &str, joined: bool, cidr: &str, blocks: &str) -> Value {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}, "spec": {}});
        if joined {
            node["metadata"]["annotations"][AGENT_KEY] = "k".into();
        }
        if !blocks.is_empty() {
            node["metadata"]["annotations"][BLOCKS] = blocks.into();
        }
        if !cidr.is_empty() {
            node["spec"] = json!({"podCIDR": cidr, "podCIDRs": [cidr]});
        }
        node
    }

    fn plan(view: &TestView) -> Plan {
        let controller = new(&config());
        controller.reconcile(view, &controller.all(view)[0], Time::default())
    }

    #[test]
    fn a_node_that_joined_gets_a_part_that_nobody_has() {
        let mut view = TestView::default();
        view.put(RESOURCE, node("own", false, "10.244.0.0/24", "10.244.0.0/24,10.244.225.0/24"));
        view.put(RESOURCE, node("first", true, "10.244.240.0/20", ""));
        let controller = new(&config());
        assert_eq!(plan(&view), Plan::none());
        view.put(RESOURCE, node("second", true, "", ""));
        let want = r#"patch nodes/second {"metadata":{"uid":"second"},"spec":{"podCIDR":"10.244.208.0/20","podCIDRs":["10.244.208.0/20","fd00:10:244::af4:d000/116"]}} (its part of the pod network)"#;
        assert_eq!(plan(&view).to_string(), want, "224 is partly taken");
        let keys = |name: &str| {
            let object = view.get(RESOURCE, "", name);
            controller.keys(&view, None, object.as_deref()).len()
        };
        assert_eq!((keys("own"), keys("first"), keys("second"), keys("gone")), (0, 0, 1, 1));
    }

    #[test]
    fn parts_are_unique_until_there_are_none_left_and_free_with_their_node() {
        let mut view = TestView::default();
        for i in 0..17 {
            view.put(RESOURCE, node(&format!("n{i:02}"), true, "", ""));
        }
        let steps = plan(&view).0;
        let cidrs: BTreeSet<String> = steps
            .iter()
            .filter_map(|s| match &s.action {
                Action::Patch { patch, .. } => patch["spec"]["podCIDR"].as_str().map(Into::into),
                _ => None,
            })
            .collect();
        assert_eq!(cidrs.len(), 16);
        assert!(matches!(&steps[16].action, Action::Event { reason: "CIDRNotAvailable", .. }));
        for (i, cidr) in cidrs.iter().enumerate() {
            view.put(RESOURCE, node(&format!("n{i:02}"), true, cidr, ""));
        }
        let first = view.get(RESOURCE, "", "n00").map(|n| n.key.clone()).unwrap();
        view.remove(&first);
        assert!(plan(&view).to_string().contains("patch nodes/n16"), "{}", plan(&view));
    }
}
