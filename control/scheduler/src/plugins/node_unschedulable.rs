//! Cordoned nodes take only pods that tolerate it.

use super::Filter;
use crate::node::Node;
use crate::pod::Pod;
use crate::terms::Taint;

pub(crate) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn filter(&self, pod: &Pod, node: &Node) -> Vec<String> {
        let cordon = || Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            value: String::new(),
            effect: "NoSchedule".into(),
        };
        if !node.offer.unschedulable || pod.tolerates(&cordon()) {
            return vec![];
        }
        vec!["node(s) were unschedulable".into()]
    }
}
