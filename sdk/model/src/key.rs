//! The key of a stored object.

use std::sync::Arc;

/// Names one stored object. Keys order by resource, then namespace, then name, which is the order that lists have.
///
/// `resource` is Kubernetes' GroupResource in its usual text form: `pods`, `deployments.apps`. Things that the control
/// plane stores and the API does not serve (allocated addresses, quota counters) have a resource that begins with `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// GroupResource, such as `pods` or `deployments.apps`.
    pub resource: Arc<str>,
    /// Namespace, empty for cluster-scoped resources.
    pub namespace: Arc<str>,
    /// Object name.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its three parts.
    pub fn new(resource: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Key {
        Key { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.resource)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}
