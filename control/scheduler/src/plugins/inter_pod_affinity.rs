//! Pods that want to be near others, or apart from them: required and preferred, from either side.

use std::collections::{BTreeMap, BTreeSet};

use super::{Filter, Judge, MAX, Score};
use crate::node::Node;
use crate::peers::World;
use crate::pod::Pod;

pub(crate) struct InterPodAffinity;

/// How much a pod that is placed and must be near pods like this one counts (upstream's `hardPodAffinityWeight`).
const MUST_BE_NEAR: i64 = 1;

/// A value of a node's label.
type Place = (String, String);

impl Filter for InterPodAffinity {
    fn prepare<'a>(&'a self, pod: &'a Pod, world: World<'a>) -> Judge<'a> {
        let view = world.view;
        let own = &pod.affinity;
        let place = |key: &str, node: &Node| -> Option<Place> { Some((key.into(), node.label(key)?.into())) };
        let mut refused_by_others: BTreeSet<Place> = BTreeSet::new();
        for (theirs, node) in world.opinions() {
            let against = theirs.apart.iter().filter(|t| t.matches(view, &pod.object));
            refused_by_others.extend(against.filter_map(|t| place(&t.topology_key, node)));
        }
        let (mut refused, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        if !own.apart.is_empty() || !own.near.is_empty() {
            for (peer, node) in world.peers() {
                let against = own.apart.iter().filter(|t| t.matches(view, &peer));
                refused.extend(against.filter_map(|t| place(&t.topology_key, node)));
                if !own.near.is_empty() && own.near.iter().all(|t| t.matches(view, &peer)) {
                    wanted.extend(own.near.iter().filter_map(|t| place(&t.topology_key, node)));
                }
            }
        }
        // The first of a group that wants to be together may go anywhere.
        let first = wanted.is_empty() && own.near.iter().all(|t| t.matches(view, &pod.object));
        Box::new(move |node| {
            let at = |key: &str| place(key, node);
            let near = own.near.iter().all(|t| at(&t.topology_key).is_some_and(|p| first || wanted.contains(&p)));
            let within = |places: &BTreeSet<Place>| places.iter().any(|(k, v)| node.label(k) == Some(v));
            let why = match () {
                () if !near => "node(s) didn't match pod affinity rules",
                () if within(&refused) => "node(s) didn't match pod anti-affinity rules",
                () if within(&refused_by_others) => "node(s) didn't satisfy existing pods anti-affinity rules",
                () => return vec![],
            };
            vec![why.into()]
        })
    }
}

impl Score for InterPodAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn scores(&self, pod: &Pod, nodes: &[&Node], world: World<'_>) -> Vec<i64> {
        let view = world.view;
        let mut sums: BTreeMap<Place, i64> = BTreeMap::new();
        let mut add = |key: &str, node: &Node, weight: i64| {
            if let Some(value) = node.label(key) {
                *sums.entry((key.into(), value.into())).or_default() += weight;
            }
        };
        if !pod.affinity.preferred.is_empty() {
            for (peer, node) in world.peers() {
                let about = pod.affinity.preferred.iter().filter(|t| t.matches(view, &peer));
                about.for_each(|t| add(&t.topology_key, node, t.weight));
            }
        }
        for (theirs, node) in world.opinions() {
            let wishes = theirs.preferred.iter().map(|t| (t, t.weight));
            for (term, weight) in wishes.chain(theirs.near.iter().map(|t| (t, MUST_BE_NEAR))) {
                if term.matches(view, &pod.object) {
                    add(&term.topology_key, node, weight);
                }
            }
        }
        let raw = |node: &&Node| -> i64 {
            sums.iter().filter(|((k, v), _)| node.label(k) == Some(v)).map(|(_, weight)| weight).sum()
        };
        let raw: Vec<i64> = nodes.iter().map(raw).collect();
        let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
        let stretch = |n: i64| if most > least { MAX * (n - least) / (most - least) } else { 0 };
        raw.into_iter().map(stretch).collect()
    }
}
