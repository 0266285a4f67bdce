//! Everybody's watch ends, as when a server or a proxy between closes its connections.

use std::rc::Rc;

use super::{Fault, struck};
use crate::group::Group;

pub(super) fn strike(group: &Rc<Group>) {
    struck(group, Fault::Watch);
    group.reset_watches();
}
