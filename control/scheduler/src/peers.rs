//! What a pod says about other pods: affinity terms, and the pods that are placed already.

use std::sync::Arc;

use copepod_machine::View;
use copepod_model::Object;
use copepod_model::selector::LabelSelector;
use serde_json::Value;

use crate::cache::Cache;
use crate::node::Node;

/// What is looked at when a pod is placed. Pods are read from the view, where they are from the cache, which knows
/// bindings that are still under way.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub view: &'a dyn View,
    pub cache: &'a Cache,
}

impl<'a> World<'a> {
    /// All placed pods with their nodes.
    pub(crate) fn peers(self) -> impl Iterator<Item = (Arc<Object>, &'a Node)> {
        self.cache.placed().filter_map(move |(key, node)| {
            let object = self.view.get(&key.resource, &key.namespace, &key.name)?;
            Some((object, node))
        })
    }

    /// What those among them say who say something about other pods.
    pub(crate) fn opinions(self) -> impl Iterator<Item = (&'a Affinity, &'a Node)> {
        self.cache.opinions()
    }
}

/// `core/v1.PodAffinityTerm`: other pods, and the label of nodes that says what «together» is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub topology_key: String,
    /// Of preferred terms; negative where the others are to be avoided.
    pub weight: i64,
    /// Without one it means no pod.
    selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    /// Any namespace whose labels match, besides those that are named.
    namespace_selector: Option<LabelSelector>,
}

impl Term {
    fn read(v: &Value, weight: i64, pod: &Object) -> Term {
        let selector = |v: &Value| v.is_object().then(|| LabelSelector::from_json(v).ok()).flatten();
        let mut namespaces: Vec<String> =
            v["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
        let namespace_selector = selector(&v["namespaceSelector"]);
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(pod.namespace().into());
        }
        Term {
            topology_key: v["topologyKey"].as_str().unwrap_or_default().into(),
            weight,
            selector: selector(&v["labelSelector"]),
            namespaces,
            namespace_selector,
        }
    }

    /// Whether it is about this pod.
    pub(crate) fn matches(&self, view: &dyn View, pod: &Object) -> bool {
        let namespace = pod.namespace();
        let there = || {
            let labels = view.get("namespaces", "", namespace);
            self.namespace_selector.as_ref().is_some_and(|s| labels.is_some_and(|n| s.matches(&n.meta.labels)))
        };
        self.selector.as_ref().is_some_and(|s| s.matches(&pod.meta.labels))
            && (self.namespaces.iter().any(|n| n == namespace) || there())
    }
}

/// A pod's affinity to other pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Affinity {
    /// Where all of these are.
    pub near: Vec<Term>,
    /// Where none of these is.
    pub apart: Vec<Term>,
    /// Rather so; by weight.
    pub preferred: Vec<Term>,
}

impl Affinity {
    pub(crate) fn read(pod: &Object, spec: &Value) -> Affinity {
        let affinity = &spec["affinity"];
        let (now, wish) =
            ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        let required =
            |kind: &str| -> Vec<Term> { list(&affinity[kind][now]).iter().map(|t| Term::read(t, 0, pod)).collect() };
        let preferred = |kind: &str, sign: i64| -> Vec<Term> {
            let weighted = |t: &Value| Term::read(&t["podAffinityTerm"], sign * t["weight"].as_i64().unwrap_or(0), pod);
            list(&affinity[kind][wish]).iter().map(weighted).collect()
        };
        Affinity {
            near: required("podAffinity"),
            apart: required("podAntiAffinity"),
            preferred: preferred("podAffinity", 1).into_iter().chain(preferred("podAntiAffinity", -1)).collect(),
        }
    }

    /// Whether it says anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.preferred.is_empty()
    }
}
