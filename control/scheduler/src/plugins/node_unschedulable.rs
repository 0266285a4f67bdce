//! Cordoned nodes take only pods that tolerate it.

use super::{Filter, Judge};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;
use copepod_model::placement::Taint;

pub(crate) struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn prepare<'a>(&'a self, pod: &'a Pod, _: World<'a>) -> Judge<'a> {
        Box::new(move |node| filter(pod, node))
    }
}

fn filter(pod: &Pod, node: &Node) -> Vec<String> {
    let cordon =
        || Taint { key: "node.kubernetes.io/unschedulable".into(), value: String::new(), effect: "NoSchedule".into() };
    if !node.offer.unschedulable || pod.tolerates(&cordon()) {
        return vec![];
    }
    vec!["node(s) were unschedulable".into()]
}
