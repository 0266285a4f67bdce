//! What a watch lets through, and as what.

use copepod_model::{ApiRequest, Object, Status};

use crate::Registry;
use crate::call::resolve;
use crate::read::{Selectors, check_options};

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object began to match.
    Added,
    /// The object changed and still matches.
    Modified,
    /// The object is gone or no longer matches.
    Deleted,
}

impl EventKind {
    /// As it stands in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

/// Which changes a watch shows.
pub struct WatchFilter {
    namespace: Option<String>,
    selectors: Selectors,
}

impl WatchFilter {
    pub(crate) fn of(registry: &Registry, req: &ApiRequest) -> Result<WatchFilter, Status> {
        let (kind, _) = resolve(registry, req)?;
        check_options(&req.list, true)?;
        let namespace = (!req.namespace.is_empty()).then(|| req.namespace.clone());
        Ok(WatchFilter { namespace, selectors: Selectors::of(&kind, req)? })
    }

    /// The namespace that it is confined to.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The one name that it is about, if its selector says so.
    pub fn name(&self) -> Option<&str> {
        self.selectors.name()
    }

    /// Whether it shows an object.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|n| n == object.namespace()) && self.selectors.matches(object)
    }

    /// The event that a change is for this watch, and the object to send. Of `Deleted` that is the object before the
    /// change: the server sends it at the revision of the change (`Object::at_revision`).
    pub fn event<'o>(&self, old: Option<&'o Object>, new: Option<&'o Object>) -> Option<(EventKind, &'o Object)> {
        let old = old.filter(|o| self.matches(o));
        match (old, new.filter(|o| self.matches(o))) {
            (None, Some(new)) => Some((EventKind::Added, new)),
            (Some(_), Some(new)) => Some((EventKind::Modified, new)),
            (Some(old), None) => Some((EventKind::Deleted, old)),
            (None, None) => None,
        }
    }
}
