//! Who set which field: `metadata.managedFields`, and server-side apply on top of it.

pub(crate) mod apply;
pub(crate) mod managers;
pub(crate) mod told;
mod walk;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields, as `FieldsV1` nests them: `f:NAME` for fields and map entries, `k:{KEYS}` for items of keyed lists,
/// `v:VALUE` for items of sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// Whether this place itself is in the set (`.` when there are others below it).
    pub(crate) member: bool,
    /// Places below it.
    pub(crate) children: BTreeMap<Box<str>, Set>,
}

impl Set {
    /// A set of this place alone.
    pub(crate) fn leaf() -> Set {
        Set { member: true, children: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds a child unless it is empty.
    pub(crate) fn add(&mut self, name: impl Into<Box<str>>, child: Set) {
        if !child.is_empty() {
            self.children.insert(name.into(), child);
        }
    }

    /// Adds a child to what is there of it.
    pub(crate) fn join(&mut self, name: &str, child: Set) {
        if !child.is_empty() {
            self.children.entry(name.into()).or_default().union(&child);
        }
    }

    pub(crate) fn from_json(fields: &Value) -> Set {
        let mut out = Set::default();
        for (name, below) in fields.as_object().into_iter().flatten() {
            if name == "." {
                out.member = true;
                continue;
            }
            let mut child = Set::from_json(below);
            child.member |= child.children.is_empty();
            out.children.insert(name.as_str().into(), child);
        }
        out
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut out = Map::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        out.extend(self.children.iter().map(|(name, child)| (name.to_string(), child.to_json())));
        Value::Object(out)
    }

    pub(crate) fn union(&mut self, other: &Set) {
        self.member |= other.member;
        for (name, theirs) in &other.children {
            self.children.entry(name.clone()).or_default().union(theirs);
        }
    }

    /// Takes the very places of `other` away, and nothing below them: what goes away as a whole is named there at every
    /// level.
    pub(crate) fn subtract(&mut self, other: &Set) {
        self.member &= !other.member;
        for (name, theirs) in &other.children {
            if let Some(mine) = self.children.get_mut(name) {
                mine.subtract(theirs);
                if mine.is_empty() {
                    self.children.remove(name);
                }
            }
        }
    }

    /// What is in both.
    pub(crate) fn common(&self, other: &Set) -> Set {
        let mut out = Set { member: self.member && other.member, children: BTreeMap::new() };
        for (name, mine) in &self.children {
            if let Some(theirs) = other.children.get(name) {
                out.add(name.clone(), mine.common(theirs));
            }
        }
        out
    }

    /// The paths in the set as upstream prints them: `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(&mut String::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(path.clone());
        }
        for (name, child) in &self.children {
            let end = path.len();
            match name.split_once(':') {
                Some(("f", field)) => {
                    path.push('.');
                    path.push_str(field);
                }
                Some(("v", value)) => {
                    path.push_str("[=");
                    path.push_str(value);
                    path.push(']');
                }
                Some(("k", keys)) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let shown = keys.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
                    path.push('[');
                    path.push_str(&shown);
                    path.push(']');
                }
                _ => path.push_str(name),
            }
            child.collect(path, out);
            path.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests;
