//! What guests have open. Each descriptor of the host counts against its container's limit and the node's, from before it is
//! opened until nothing holds it any more, over all instances.

use std::fs::File;
use std::sync::{Arc, Weak};

use super::volume::Volume;
use crate::counted::{Counter, Permit};

/// How many files a container, and all guests of the node, have open and may.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) own: Arc<Counter>,
    pub(crate) node: Arc<Counter>,
}

/// An open file, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile {
    _own: Permit,
    _node: Permit,
}

/// What is known of a descriptor of a guest.
#[derive(Clone, Default)]
pub(crate) struct Open {
    /// Keeps it counted; none for the directory of a mount, which all instances share.
    pub(crate) _counted: Option<Arc<OpenFile>>,
    /// The volume that it is in, if that is in memory.
    pub(crate) volume: Option<Arc<Volume>>,
    /// The file itself, where preview 1 would not say.
    pub(crate) file: Weak<File>,
}

impl Open {
    /// The directory of a mount.
    pub(crate) fn of_mount(volume: Option<Arc<Volume>>) -> Open {
        Open { volume, ..Open::default() }
    }

    /// Whether what is here and there is in the same volume, if one of them is in memory: between others nothing is moved.
    pub(crate) fn beside(here: Option<&Open>, there: Option<&Open>) -> bool {
        let volume = |open: Option<&Open>| open.and_then(|o| o.volume.as_ref()).map(Arc::as_ptr);
        volume(here) == volume(there)
    }
}

impl Files {
    /// Room for one more, if there is some.
    pub(crate) fn take(&self) -> Option<OpenFile> {
        Some(OpenFile { _own: self.own.take()?, _node: self.node.take()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_limit_and_the_nodes() {
        let node = Counter::new(3);
        let files = |limit| Files { own: Counter::new(limit), node: node.clone() };
        let (one, other) = (files(2), files(5));
        let held = [one.take().unwrap(), one.take().unwrap()];
        assert!(one.take().is_none(), "its own limit");
        assert_eq!(node.now(), 2, "what was refused is not counted");
        let last = other.take().unwrap();
        assert!(other.take().is_none(), "the node's");
        assert_eq!(other.own.now(), 1);
        drop((held, last));
        assert_eq!((one.own.now(), other.own.now(), node.now()), (0, 0, 0));
    }
}
