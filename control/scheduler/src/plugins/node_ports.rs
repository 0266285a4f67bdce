//! A host port serves one pod of a node.

use super::{Filter, Judge};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct NodePorts;

const ANY: &str = "0.0.0.0";

impl Filter for NodePorts {
    fn prepare<'a>(&'a self, pod: &'a Pod, _: World<'a>) -> Judge<'a> {
        Box::new(move |node| filter(pod, node))
    }
}

fn filter(pod: &Pod, node: &Node) -> Vec<String> {
    let taken = |(protocol, ip, port): &(String, String, u16)| {
        let held = node.used.ports.keys().filter(|(p, _, n)| p == protocol && n == port);
        held.into_iter().any(|(_, held, _)| held == ip || held == ANY || ip == ANY)
    };
    if pod.request.ports.iter().any(taken) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    vec![]
}
