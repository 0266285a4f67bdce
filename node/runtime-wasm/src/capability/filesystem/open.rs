//! What guests have open. Each descriptor of the host counts against its container's limit and the node's, from before it is
//! opened until nothing holds it any more, over all instances.

use std::sync::Arc;

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
