//! All objects, in memory, in ordered persistent maps: a clone is a snapshot and costs a few pointers.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::{Key, Object};
use equivalent::{Comparable, Equivalent};
use imbl::OrdMap;

/// The state at one revision.
#[derive(Clone, Default)]
pub struct Tables {
    revision: u64,
    resources: OrdMap<Arc<str>, Table>,
    /// Sum of all bodies' lengths.
    bytes: usize,
}

/// The objects of one resource.
#[derive(Clone, Default)]
struct Table {
    objects: OrdMap<Name, Arc<Object>>,
    /// The same objects by `spec.nodeName`, where they have one.
    by_node: OrdMap<OnNode, Arc<Object>>,
    /// How many each namespace has that has any: a page of a list says how many follow, and must not look at them for that.
    namespaces: OrdMap<Arc<str>, usize>,
    /// Sum of the bodies' lengths.
    bytes: usize,
}

/// Orders a resource's objects as lists show them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    namespace: Arc<str>,
    name: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct OnNode {
    node: Arc<str>,
    name: Name,
}

/// A place in a [`Table`]: a name, or right behind all names of a namespace. Looks up without allocating.
#[derive(Clone, Copy)]
enum Place<'a> {
    At(&'a str, &'a str),
    Behind(&'a str),
}

impl Equivalent<Name> for Place<'_> {
    fn equivalent(&self, key: &Name) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<Name> for Place<'_> {
    fn compare(&self, key: &Name) -> Ordering {
        match self {
            Place::At(namespace, name) => (*namespace).cmp(&key.namespace).then_with(|| (*name).cmp(&key.name)),
            Place::Behind(namespace) => (*namespace).cmp(&key.namespace).then(Ordering::Greater),
        }
    }
}

/// A place in the node index: before or behind all objects of a node, or those of them in one namespace.
#[derive(Clone, Copy)]
struct NodeEdge<'a> {
    node: &'a str,
    namespace: Option<&'a str>,
    side: Ordering,
}

impl Equivalent<OnNode> for NodeEdge<'_> {
    fn equivalent(&self, key: &OnNode) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<OnNode> for NodeEdge<'_> {
    fn compare(&self, key: &OnNode) -> Ordering {
        let within = || self.namespace.map_or(Ordering::Equal, |namespace| namespace.cmp(&key.name.namespace));
        self.node.cmp(&key.node).then_with(within).then(self.side)
    }
}

impl Table {
    fn range(&self, namespace: Option<&str>, after: Option<(&str, &str)>) -> Range<'_> {
        let start = match (after, namespace) {
            (Some((ns, name)), _) => Bound::Excluded(Place::At(ns, name)),
            (None, Some(ns)) => Bound::Included(Place::At(ns, "")),
            (None, None) => Bound::Unbounded,
        };
        let end = namespace.map_or(Bound::Unbounded, |ns| Bound::Excluded(Place::Behind(ns)));
        self.objects.range((start, end))
    }

    /// One object more or less in a namespace.
    fn recount(&mut self, namespace: &Arc<str>, next: impl FnOnce(usize) -> usize) {
        let count = next(self.namespaces.get(namespace).copied().unwrap_or(0));
        if count == 0 {
            self.namespaces.remove(namespace);
        } else {
            self.namespaces.insert(namespace.clone(), count);
        }
    }

    fn unindex(&mut self, name: &Name, old: &Object) {
        self.bytes -= old.body.len();
        if let Some(node) = &old.meta.node_name {
            self.by_node.remove(&OnNode { node: node.clone(), name: name.clone() });
        }
    }
}

type Range<'a> = imbl::ordmap::RangedIter<'a, Name, Arc<Object>, imbl::shared_ptr::DefaultSharedPtr>;

impl Tables {
    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Continues at `revision`: after loading, and when a change is made.
    pub fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// One object.
    pub fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.resources.get(resource)?.objects.get(&Place::At(namespace, name))
    }

    /// The object under a key.
    pub fn at(&self, key: &Key) -> Option<&Arc<Object>> {
        self.find(&key.resource, &key.namespace, &key.name)
    }

    /// The objects of a resource in key order, of one namespace or of all.
    pub fn scan(
        &self,
        resource: &str,
        namespace: Option<&str>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Object>> + use<'_> {
        let found = self.resources.get(resource).map(|t| t.range(namespace, None));
        found.into_iter().flatten().map(|(_, o)| o)
    }

    /// The same behind a place, given as namespace and name: the next page of a list. It need not exist any more.
    pub fn scan_after(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: (&str, &str),
    ) -> impl DoubleEndedIterator<Item = &Arc<Object>> + use<'_> {
        // A place in another namespace (a token of another list) must not widen the range beyond this one.
        let found = self.resources.get(resource).and_then(|t| match namespace.map(|ns| after.0.cmp(ns)) {
            None | Some(Ordering::Equal) => Some(t.range(namespace, Some(after))),
            Some(Ordering::Less) => Some(t.range(namespace, None)),
            Some(Ordering::Greater) => None,
        });
        found.into_iter().flatten().map(|(_, o)| o)
    }

    /// The objects of a resource whose `spec.nodeName` is `node`, in key order, of one namespace or of all.
    pub fn on_node(
        &self,
        resource: &str,
        node: &str,
        namespace: Option<&str>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Object>> + use<'_> {
        let edge = |side| Bound::Excluded(NodeEdge { node, namespace, side });
        let found =
            self.resources.get(resource).map(|t| t.by_node.range((edge(Ordering::Less), edge(Ordering::Greater))));
        found.into_iter().flatten().map(|(_, o)| o)
    }

    /// Whether a resource has no object (in this namespace, if one is given).
    pub fn is_none(&self, resource: &str, namespace: Option<&str>) -> bool {
        self.resources.get(resource).is_none_or(|t| t.range(namespace, None).next().is_none())
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// How many objects a resource has, in all namespaces.
    pub fn count(&self, resource: &str) -> usize {
        self.resources.get(resource).map_or(0, |t| t.objects.len())
    }

    /// How many objects a resource has in a namespace.
    pub fn count_in(&self, resource: &str, namespace: &str) -> usize {
        self.resources.get(resource).and_then(|t| t.namespaces.get(namespace)).copied().unwrap_or(0)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.resources.values().map(|t| t.objects.len()).sum()
    }

    /// How many bytes the bodies of a resource have.
    pub fn bytes(&self, resource: &str) -> usize {
        self.resources.get(resource).map_or(0, |t| t.bytes)
    }

    /// How many bytes all bodies have.
    pub fn total_bytes(&self) -> usize {
        self.bytes
    }

    /// The resources that have objects, in order.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.keys()
    }

    /// Everything, in key order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.resources.values().flat_map(|t| t.objects.values())
    }

    /// Stores an object under its key; gives back what was there. The revision stays: `apply` and loading set it.
    pub fn put(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let name = Name { namespace: object.key.namespace.clone(), name: object.key.name.clone() };
        if !self.resources.contains_key(&object.key.resource) {
            self.resources.insert(object.key.resource.clone(), Table::default());
        }
        let table = self.resources.get_mut(&object.key.resource)?;
        table.bytes += object.body.len();
        self.bytes += object.body.len();
        let old = table.objects.insert(name.clone(), object.clone());
        match &old {
            Some(old) => {
                table.unindex(&name, old);
                self.bytes -= old.body.len();
            }
            None => table.recount(&name.namespace, |n| n + 1),
        }
        if let Some(node) = &object.meta.node_name {
            table.by_node.insert(OnNode { node: node.clone(), name }, object);
        }
        old
    }

    /// Removes an object; gives it back.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.at(key)?;
        let table = self.resources.get_mut(&*key.resource)?;
        let (name, old) = table.objects.remove_with_key(&Place::At(&key.namespace, &key.name))?;
        table.unindex(&name, &old);
        table.recount(&name.namespace, |n| n.saturating_sub(1));
        self.bytes -= old.body.len();
        if table.objects.is_empty() {
            self.resources.remove(&*key.resource);
        }
        Some(old)
    }

    /// The key's parts as the tables already share them, so that a resource's name exists once in memory.
    pub fn shared_key(&self, key: &Key) -> Key {
        if let Some(old) = self.at(key) {
            return old.key.clone();
        }
        let resource = self.resources.get_key_value(&*key.resource).map_or(&key.resource, |(r, _)| r);
        Key { resource: resource.clone(), namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

impl View for Tables {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.find(resource, namespace, name).cloned()
    }
    fn list(&self, resource: &str, namespace: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        Box::new(self.scan(resource, namespace).cloned())
    }
    fn list_after(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: (&str, &str),
    ) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        Box::new(self.scan_after(resource, namespace, after).cloned())
    }
    fn on_node(
        &self,
        resource: &str,
        node: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        Box::new(Tables::on_node(self, resource, node, namespace).cloned())
    }
    fn count(&self, resource: &str, namespace: Option<&str>) -> usize {
        match namespace {
            None => Tables::count(self, resource),
            Some(namespace) => self.count_in(resource, namespace),
        }
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entry(&"revision", &self.revision).entries(self.all().map(|o| (&o.key, o.revision))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_counted_while_it_has_objects() {
        let mut tables = Tables::default();
        let put = |tables: &mut Tables, namespace: &str, name: &str| {
            let key = Key::new("pods", namespace, name);
            tables.put(Arc::new(Object::decode(key.clone(), 1, bytes::Bytes::new())));
            key
        };
        let (first, _) = (put(&mut tables, "a", "x"), put(&mut tables, "a", "x"));
        let (second, other) = (put(&mut tables, "a", "y"), put(&mut tables, "b", "x"));
        let before = tables.clone();
        let counts = |tables: &Tables| ["a", "b", "c"].map(|namespace| tables.count_in("pods", namespace));
        assert_eq!(counts(&tables), [2, 1, 0]);
        tables.remove(&first);
        tables.remove(&first);
        tables.remove(&other);
        assert_eq!((counts(&tables), counts(&before)), ([1, 0, 0], [2, 1, 0]));
        assert_eq!(tables.resources["pods"].namespaces.len(), 1, "nothing stays of one that is empty");
        tables.remove(&second);
        assert_eq!((counts(&tables), tables.count_in("nodes", "")), ([0, 0, 0], 0));
    }
}
