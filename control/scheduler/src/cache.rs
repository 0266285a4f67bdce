//! What every node has left, kept up to date by each change instead of summed up anew for each pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::facts::PodFacts;
use copepod_model::{Key, Object};

use crate::node::{Node, Offer, Used};
use crate::peers::Affinity;
use crate::pod::{Pod, Request};
use crate::wants_scheduling;

/// Nodes with their sums, and where each pod counts. Equal to what [`Cache::build`] makes of the same view, plus the pods
/// that are assumed to be bound.
#[derive(Debug, Default, PartialEq)]
pub struct Cache {
    nodes: BTreeMap<String, Node>,
    /// Pods bound to nodes that are not there (yet), so that the sums are right when they come.
    homeless: BTreeMap<String, Used>,
    pods: BTreeMap<Key, Placed>,
    /// Those of them that say something about other pods.
    opinionated: BTreeSet<Key>,
    /// How many pods of each controller, by its UID, count on which node.
    siblings: BTreeMap<Arc<str>, BTreeMap<String, u32>>,
    /// Pods that fitted nowhere at their last try, and whether it matters to them where others are.
    waiting: BTreeMap<Key, bool>,
}

#[derive(Debug, PartialEq)]
struct Placed {
    uid: String,
    node: String,
    request: Request,
    controller: Option<Arc<str>>,
    /// What it says about other pods, read once; none if it says nothing.
    affinity: Option<Affinity>,
}

impl Cache {
    /// From all nodes and pods of a view.
    pub fn build(view: &dyn View) -> Cache {
        let mut cache = Cache::default();
        for resource in ["nodes", "pods"] {
            for object in view.list(resource, None) {
                cache.observe(None, Some(&object));
            }
        }
        cache
    }

    /// Takes in the change of one object; the keys of the pods that are worth a try because of it. To be called for every
    /// change of pods and nodes, in order. Changes of other resources are ignored.
    pub fn observe(&mut self, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        match &*object.key.resource {
            "nodes" => self.node(&object.key.name, new),
            "pods" => self.pod(&object.key, old, new),
            _ => vec![],
        }
    }

    fn node(&mut self, name: &str, new: Option<&Object>) -> Vec<Key> {
        let Some(new) = new else {
            if let Some(node) = self.nodes.remove(name).filter(|n| n.used.pods > 0) {
                self.homeless.insert(name.into(), node.used);
            }
            return vec![];
        };
        let offer = Offer::read(new);
        match self.nodes.get_mut(name) {
            Some(node) if node.offer == offer => return vec![],
            Some(node) => node.offer = offer,
            None => {
                let used = self.homeless.remove(name).unwrap_or_default();
                self.nodes.insert(name.into(), Node { name: name.into(), offer, used });
            }
        }
        self.wake()
    }

    fn pod(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(pod) = new else {
            self.waiting.remove(key);
            return if self.remove(key) { self.wake() } else { vec![] };
        };
        match pod.meta.node_name.as_deref().filter(|n| !n.is_empty()) {
            Some(_) if matches!(pod.facts::<PodFacts>().phase.as_str(), "Succeeded" | "Failed") => {
                self.waiting.remove(key);
                if self.remove(key) { self.wake() } else { vec![] }
            }
            Some(node) => {
                self.waiting.remove(key);
                let same = |p: &Placed| p.node == node && *p.uid == *pod.meta.uid;
                if !self.pods.get(key).is_some_and(same) {
                    let value = pod.value();
                    let placed = Placed {
                        uid: pod.meta.uid.to_string(),
                        node: node.into(),
                        request: Request::read(pod, &value["spec"]),
                        controller: pod.meta.controller().map(|c| (&*c.uid).into()),
                        affinity: Some(Affinity::read(pod, &value["spec"])),
                    };
                    self.place(key.clone(), placed);
                }
                let known = |o: &Object| o.meta.node_name.is_some() && o.meta.labels == pod.meta.labels;
                if old.is_some_and(known) { vec![] } else { self.wake_minding() }
            }
            None if !wants_scheduling(pod) => {
                self.waiting.remove(key);
                vec![]
            }
            // That it fitted nowhere is written into its status, which must not count as news.
            None if self.waiting.contains_key(key) && old.is_some_and(|o| o.value()["spec"] == pod.value()["spec"]) => {
                vec![]
            }
            None if old.is_some() && self.pods.contains_key(key) => vec![],
            None => vec![key.clone()],
        }
    }

    /// All that wait, once: each comes back to the waiting when its next try fails.
    fn wake(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    /// The same of those to whom it matters where others are: one has come, or is called otherwise.
    fn wake_minding(&mut self) -> Vec<Key> {
        self.waiting.extract_if(.., |_, minds| *minds).map(|(key, _)| key).collect()
    }

    /// Where each pod counts, bindings under way included; those on nodes that are not there left out.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (&Key, &Node)> {
        self.pods.iter().filter_map(|(key, p)| Some((key, self.nodes.get(&p.node)?)))
    }

    /// What pods say about others, and where each of them counts.
    pub(crate) fn opinions(&self) -> impl Iterator<Item = (&Affinity, &Node)> {
        self.opinionated.iter().filter_map(|key| {
            let placed = self.pods.get(key)?;
            Some((placed.affinity.as_ref()?, self.nodes.get(&placed.node)?))
        })
    }

    /// How many pods of a controller count on which node.
    pub(crate) fn siblings(&self, controller: &str) -> Option<&BTreeMap<String, u32>> {
        self.siblings.get(controller)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub(crate) fn assume(&mut self, key: Key, pod: &Pod, node: &str) {
        let (request, affinity) = (pod.request.clone(), Some(pod.affinity.clone()));
        let controller = pod.controller.clone();
        self.place(key, Placed { uid: pod.uid.to_string(), node: node.into(), request, controller, affinity });
    }

    pub(crate) fn unschedulable(&mut self, key: Key, minds_others: bool) {
        self.waiting.insert(key, minds_others);
    }

    /// A pod that is not to be placed any more; where it is bound it goes on counting.
    pub(crate) fn settled(&mut self, key: &Key) {
        self.waiting.remove(key);
    }

    /// Takes back an assumption whose binding failed.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.remove(key);
    }

    fn used(&mut self, node: &str) -> &mut Used {
        match self.nodes.get_mut(node) {
            Some(node) => &mut node.used,
            None => self.homeless.entry(node.into()).or_default(),
        }
    }

    fn place(&mut self, key: Key, mut placed: Placed) {
        self.remove(&key);
        placed.affinity.take_if(|a| a.is_empty());
        if placed.affinity.is_some() {
            self.opinionated.insert(key.clone());
        }
        if let Some(controller) = placed.controller.clone() {
            *self.siblings.entry(controller).or_default().entry(placed.node.clone()).or_default() += 1;
        }
        self.used(&placed.node).change(&placed.request, 1);
        self.pods.insert(key, placed);
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(placed) = self.pods.remove(key) else { return false };
        self.opinionated.remove(key);
        if let Some(controller) = &placed.controller
            && let Some(nodes) = self.siblings.get_mut(controller)
        {
            if let Some(count) = nodes.get_mut(&placed.node) {
                *count -= 1;
            }
            nodes.retain(|_, count| *count > 0);
            if nodes.is_empty() {
                self.siblings.remove(controller);
            }
        }
        self.used(&placed.node).change(&placed.request, -1);
        if self.homeless.get(&placed.node).is_some_and(|u| u.pods == 0) {
            self.homeless.remove(&placed.node);
        }
        true
    }
}
