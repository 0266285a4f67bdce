//! A node: what it offers, and what its pods take of it.

use std::collections::BTreeMap;

use copepod_model::Object;
use copepod_model::quantity::Quantity;
use serde_json::Value;

use crate::pod::Request;
use copepod_model::placement::Taint;

/// What a node is, as far as placing pods on it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offer {
    pub labels: BTreeMap<Box<str>, Box<str>>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    pub pods: i64,
    /// Other resources by name, in whole units.
    pub others: BTreeMap<String, i64>,
}

impl Offer {
    pub(crate) fn read(node: &Object) -> Offer {
        let value = node.value();
        let mut offer = Offer {
            labels: node.meta.labels.clone(),
            taints: value["spec"]["taints"].as_array().into_iter().flatten().map(Taint::read).collect(),
            unschedulable: value["spec"]["unschedulable"] == true,
            ..Offer::default()
        };
        let status = &value["status"];
        let listed = if status["allocatable"].is_object() { &status["allocatable"] } else { &status["capacity"] };
        for (name, amount) in listed.as_object().into_iter().flatten() {
            let Some(amount) = amount.as_str().and_then(|a| a.parse::<Quantity>().ok()) else { continue };
            match name.as_str() {
                "cpu" => offer.cpu_millis = amount.millis(),
                "memory" => offer.memory_bytes = amount.value(),
                "pods" => offer.pods = amount.value(),
                _ => {
                    offer.others.insert(name.clone(), amount.value());
                }
            }
        }
        offer
    }
}

/// Sums over the pods of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    pub pods: i64,
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    /// CPU and memory with upstream's assumptions for pods that ask for nothing.
    pub scored: (i64, i64),
    pub others: BTreeMap<String, i64>,
    /// Host ports and how many pods hold each: more than one only if someone bound pods past the scheduler.
    pub ports: BTreeMap<(String, String, u16), usize>,
}

impl Used {
    /// Adds (`sign` 1) or takes away (-1) a pod.
    pub(crate) fn change(&mut self, request: &Request, sign: i64) {
        let scored = request.scored();
        self.pods += sign;
        self.cpu_millis += sign * request.cpu_millis;
        self.memory_bytes += sign * request.memory_bytes;
        self.scored = (self.scored.0 + sign * scored.0, self.scored.1 + sign * scored.1);
        for (name, amount) in &request.others {
            let sum = self.others.entry(name.clone()).or_default();
            *sum += sign * amount;
            if *sum == 0 {
                self.others.remove(name);
            }
        }
        for port in &request.ports {
            let holders = self.ports.entry(port.clone()).or_default();
            *holders = if sign > 0 { *holders + 1 } else { holders.saturating_sub(1) };
            if *holders == 0 {
                self.ports.remove(port);
            }
        }
    }
}

/// A node that pods may be placed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub name: String,
    pub offer: Offer,
    pub used: Used,
}

impl Node {
    /// A label's value.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.offer.labels.get(key).map(|v| &**v)
    }

    /// Whether a `NodeSelectorTerm` matches.
    pub(crate) fn matches(&self, term: &Value) -> bool {
        copepod_model::placement::matches(term, &self.name, |k| self.label(k))
    }
}
