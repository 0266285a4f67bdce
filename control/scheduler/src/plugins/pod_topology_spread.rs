//! `topologySpreadConstraints`: pods that are alike spread over zones, nodes or whatever a label of nodes says.

use std::collections::BTreeMap;

use copepod_model::selector::LabelSelector;
use serde_json::Value;

use super::{Filter, Judge, MAX, Score};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct PodTopologySpread;

/// One of a pod's constraints.
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: i64,
    selector: Option<LabelSelector>,
    /// `nodeAffinityPolicy: Honor`, the default: nodes that the pod could not go to do not count.
    honor_affinity: bool,
    /// `nodeTaintsPolicy: Honor`, which is not the default.
    honor_taints: bool,
}

impl Constraint {
    /// A pod's constraints that say `what` when they cannot be met.
    fn all(pod: &Pod, what: &str) -> Vec<Constraint> {
        pod.spread.iter().filter(|c| c["whenUnsatisfiable"] == what).map(|c| Constraint::read(c, pod)).collect()
    }

    fn read(c: &Value, pod: &Pod) -> Constraint {
        let mut selector = c["labelSelector"].clone();
        // `matchLabelKeys`: like those of the same value as this pod, such as the same revision of a Deployment.
        for key in c["matchLabelKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = pod.object.meta.labels.get(key) {
                selector["matchLabels"][key] = (&**value).into();
            }
        }
        Constraint {
            key: c["topologyKey"].as_str().unwrap_or_default().into(),
            max_skew: c["maxSkew"].as_i64().unwrap_or(1),
            min_domains: c["minDomains"].as_i64().unwrap_or(1),
            selector: selector.is_object().then(|| LabelSelector::from_json(&selector).ok()).flatten(),
            honor_affinity: c["nodeAffinityPolicy"] != "Ignore",
            honor_taints: c["nodeTaintsPolicy"] == "Honor",
        }
    }

    fn counts(&self, pod: &Pod, node: &Node) -> bool {
        (!self.honor_affinity || pod.selects(node)) && (!self.honor_taints || pod.untolerated(node).is_none())
    }

    /// How many pods like this one each domain has, over the nodes that have all of `keys`.
    fn domains(&self, pod: &Pod, keys: &[&str], world: World<'_>) -> BTreeMap<String, i64> {
        let eligible = |n: &Node| keys.iter().all(|k| n.label(k).is_some()) && self.counts(pod, n);
        let mut domains: BTreeMap<String, i64> = BTreeMap::new();
        for node in world.cache.nodes().filter(|n| eligible(n)) {
            domains.entry(node.label(&self.key).unwrap_or_default().into()).or_default();
        }
        for (peer, node) in world.peers().filter(|(_, n)| eligible(n)) {
            let alike = peer.namespace() == pod.object.namespace()
                && peer.meta.deletion_timestamp.is_none()
                && self.selector.as_ref().is_some_and(|s| s.matches(&peer.meta.labels));
            if alike && let Some(count) = domains.get_mut(node.label(&self.key).unwrap_or_default()) {
                *count += 1;
            }
        }
        domains
    }
}

impl Filter for PodTopologySpread {
    fn prepare<'a>(&'a self, pod: &'a Pod, world: World<'a>) -> Judge<'a> {
        let constraints = Constraint::all(pod, "DoNotSchedule");
        let keys: Vec<&str> = constraints.iter().map(|c| &*c.key).collect();
        let all: Vec<BTreeMap<String, i64>> = constraints.iter().map(|c| c.domains(pod, &keys, world)).collect();
        Box::new(move |node| {
            for (c, domains) in constraints.iter().zip(&all) {
                let Some(value) = node.label(&c.key) else {
                    return vec![
                        "node(s) didn't match pod topology spread constraints (missing required label)".into(),
                    ];
                };
                let enough = domains.len() as i64 >= c.min_domains;
                let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
                let own = i64::from(c.selector.as_ref().is_some_and(|s| s.matches(&pod.object.meta.labels)));
                if domains.get(value).copied().unwrap_or(0) + own - least > c.max_skew {
                    return vec!["node(s) didn't match pod topology spread constraints".into()];
                }
            }
            vec![]
        })
    }
}

impl Score for PodTopologySpread {
    fn weight(&self) -> i64 {
        2
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node], world: World<'_>) -> Vec<i64> {
        let constraints = Constraint::all(pod, "ScheduleAnyway");
        if constraints.is_empty() {
            return match pod.controller.as_deref().filter(|_| pod.spread.is_empty()) {
                Some(controller) => finish(siblings(controller, nodes, world)),
                None => vec![0; nodes.len()],
            };
        }
        let keys: Vec<&str> = constraints.iter().map(|c| &*c.key).collect();
        let all: Vec<BTreeMap<String, i64>> = constraints.iter().map(|c| c.domains(pod, &keys, world)).collect();
        // Fewer pods alike are better. A constraint with more domains weighs more, since each of them holds less.
        let raw = |node: &&Node| -> Option<i64> {
            let mut sum = 0.0;
            for (c, domains) in constraints.iter().zip(&all) {
                let there = domains.get(node.label(&c.key)?).copied().unwrap_or(0) as f64;
                sum += there * ((domains.len() + 2) as f64).ln() + (c.max_skew - 1) as f64;
            }
            Some(sum.round() as i64)
        };
        finish(nodes.iter().map(raw).collect())
    }
}

/// Upstream's defaults for pods without constraints (KEP-1258): those of one controller keep apart a little by node, less by
/// zone. Upstream finds the others by the selectors of Services and owners; here they are the controller's, which are counted
/// already. A node without a zone is judged by itself alone.
fn siblings(controller: &str, nodes: &[&Node], world: World<'_>) -> Vec<Option<i64>> {
    const DEFAULTS: [(Option<&str>, i64); 2] = [(None, 3), (Some("topology.kubernetes.io/zone"), 5)];
    let Some(there) = world.cache.siblings(controller) else { return vec![Some(0); nodes.len()] };
    let mut sums = vec![0.0; nodes.len()];
    for (key, max_skew) in DEFAULTS {
        let domain = |n: &Node| key.map_or(Some(n.name.clone()), |key| n.label(key).map(Into::into));
        let mut domains: BTreeMap<String, u32> = BTreeMap::new();
        for node in world.cache.nodes() {
            if let Some(domain) = domain(node) {
                *domains.entry(domain).or_default() += there.get(&node.name).copied().unwrap_or(0);
            }
        }
        let weight = ((domains.len() + 2) as f64).ln();
        for (sum, node) in sums.iter_mut().zip(nodes) {
            if let Some(count) = domain(node).and_then(|d| domains.get(&d)) {
                *sum += f64::from(*count) * weight + (max_skew - 1) as f64;
            }
        }
    }
    sums.into_iter().map(|sum: f64| Some(sum.round() as i64)).collect()
}

/// Fewer are better; a node that cannot be judged is the worst.
fn finish(raw: Vec<Option<i64>>) -> Vec<i64> {
    let known = || raw.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let turn = |n: i64| if most == 0 { MAX } else { MAX * (most + least - n) / most };
    raw.iter().map(|n| n.map_or(0, turn)).collect()
}
