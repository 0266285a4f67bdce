//! Who wants to know of which change.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_model::Object;

use crate::{Change, Tables};

/// What a watcher watches. What is none is not restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// GroupResource.
    pub resource: Arc<str>,
    /// Only in this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only objects of this name (`metadata.name` field selector).
    pub name: Option<Arc<str>>,
    /// Only objects whose `spec.nodeName` is this.
    pub node_name: Option<Arc<str>>,
}

impl Interest {
    /// Everything of a resource.
    pub fn all(resource: impl Into<Arc<str>>) -> Interest {
        Interest { resource: resource.into(), namespace: None, name: None, node_name: None }
    }

    /// Whether `change` is of interest: a node's watcher is told when an object comes to its node and when it leaves.
    pub fn matches(&self, change: &Change) -> bool {
        let on =
            |o: &Option<Arc<Object>>, node: &str| o.as_ref().and_then(|o| o.meta.node_name.as_deref()) == Some(node);
        *self.resource == *change.key.resource
            && self.namespace.as_deref().is_none_or(|ns| *ns == *change.key.namespace)
            && self.name.as_deref().is_none_or(|n| *n == *change.key.name)
            && self.node_name.as_deref().is_none_or(|n| on(&change.new, n) || on(&change.old, n))
    }

    /// Whether `object` itself is in the watched set.
    pub fn includes(&self, object: &Object) -> bool {
        *self.resource == *object.key.resource
            && self.namespace.as_deref().is_none_or(|ns| *ns == *object.key.namespace)
            && self.name.as_deref().is_none_or(|n| *n == *object.key.name)
            && self.node_name.as_deref().is_none_or(|n| object.meta.node_name.as_deref() == Some(n))
    }

    /// The objects in the watched set, in key order: what a watch begins with. Only those of its name, its node or its namespace are
    /// looked at.
    pub fn objects<'t>(&self, tables: &'t Tables) -> Box<dyn Iterator<Item = &'t Arc<Object>> + 't> {
        let (resource, namespace) = (&*self.resource, self.namespace.as_deref());
        if let Some(name) = self.name.as_deref() {
            // Where the last object in key order is in no namespace none is.
            let unscoped = || tables.scan(resource, None).next_back().is_none_or(|o| o.namespace().is_empty());
            if let Some(namespace) = namespace.or_else(|| unscoped().then_some("")) {
                let found = tables.find(resource, namespace, name).filter(|o| self.includes(o));
                return Box::new(found.into_iter());
            }
        }
        let interest = self.clone();
        match self.node_name.as_deref() {
            Some(node) => {
                let of_node = tables.on_node(resource, node, namespace);
                Box::new(of_node.filter(move |o| interest.includes(o)))
            }
            None => Box::new(tables.scan(resource, namespace).filter(move |o| interest.includes(o))),
        }
    }

    /// Where this watcher is filed: under the narrowest of its restrictions.
    fn bucket(&self) -> Bucket {
        let any = || Arc::from("");
        match (&self.name, &self.node_name, &self.namespace) {
            (Some(name), _, ns) => Bucket::Name(name.clone(), ns.clone().unwrap_or_else(any)),
            (None, Some(node), _) => Bucket::Node(node.clone()),
            (None, None, Some(ns)) => Bucket::Namespace(ns.clone()),
            (None, None, None) => Bucket::All,
        }
    }
}

enum Bucket {
    All,
    Namespace(Arc<str>),
    /// Name and namespace, which is empty when the watcher names none.
    Name(Arc<str>, Arc<str>),
    Node(Arc<str>),
}

/// Watchers by what they watch. A change touches those it may concern and no others.
#[derive(Debug, Default)]
pub struct WatchIndex {
    resources: BTreeMap<Arc<str>, OfResource>,
}

/// In the order of their ids: one that goes is found without looking at the others.
type Ids = BTreeMap<u64, Interest>;

#[derive(Debug, Default)]
struct OfResource {
    all: Ids,
    namespaces: BTreeMap<Arc<str>, Ids>,
    names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Ids>>,
    nodes: BTreeMap<Arc<str>, Ids>,
}

impl OfResource {
    fn ids(&mut self, bucket: Bucket) -> &mut Ids {
        match bucket {
            Bucket::All => &mut self.all,
            Bucket::Namespace(ns) => self.namespaces.entry(ns).or_default(),
            Bucket::Name(name, ns) => self.names.entry(name).or_default().entry(ns).or_default(),
            Bucket::Node(node) => self.nodes.entry(node).or_default(),
        }
    }

    fn prune(&mut self, bucket: Bucket) {
        fn drop_empty(map: &mut BTreeMap<Arc<str>, Ids>, key: &str) {
            if map.get(key).is_some_and(BTreeMap::is_empty) {
                map.remove(key);
            }
        }
        match bucket {
            Bucket::All => {}
            Bucket::Namespace(ns) => drop_empty(&mut self.namespaces, &ns),
            Bucket::Node(node) => drop_empty(&mut self.nodes, &node),
            Bucket::Name(name, ns) => {
                if let Some(of_name) = self.names.get_mut(&name) {
                    drop_empty(of_name, &ns);
                    if of_name.is_empty() {
                        self.names.remove(&name);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.namespaces.is_empty() && self.names.is_empty() && self.nodes.is_empty()
    }
}

impl WatchIndex {
    /// Files watcher `id`.
    pub fn insert(&mut self, id: u64, interest: Interest) {
        let bucket = interest.bucket();
        self.resources.entry(interest.resource.clone()).or_default().ids(bucket).insert(id, interest);
    }

    /// Forgets watcher `id`, which was filed with `interest`.
    pub fn remove(&mut self, id: u64, interest: &Interest) {
        let Some(of) = self.resources.get_mut(&interest.resource) else { return };
        of.ids(interest.bucket()).remove(&id);
        of.prune(interest.bucket());
        if of.is_empty() {
            self.resources.remove(&interest.resource);
        }
    }

    /// Calls `f` once with each watcher that `change` interests.
    pub fn interested(&self, change: &Change, mut f: impl FnMut(u64)) {
        let Some(of) = self.resources.get(&change.key.resource) else { return };
        let mut visit = |ids: Option<&Ids>| {
            for (id, interest) in ids.into_iter().flatten() {
                if interest.matches(change) {
                    f(*id);
                }
            }
        };
        visit(Some(&of.all));
        visit(of.namespaces.get(&change.key.namespace));
        if let Some(of_name) = of.names.get(&change.key.name) {
            visit(of_name.get(&change.key.namespace));
            if !change.key.namespace.is_empty() {
                visit(of_name.get(""));
            }
        }
        let node = |o: &Option<Arc<Object>>| o.as_ref().and_then(|o| o.meta.node_name.clone());
        let (new, old) = (node(&change.new), node(&change.old));
        if let Some(n) = &new {
            visit(of.nodes.get(n));
        }
        if old != new
            && let Some(n) = &old
        {
            visit(of.nodes.get(n));
        }
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

#[cfg(test)]
mod tests;
