//! A leader hands over to another member, whether that one is up to it or not.

use std::rc::Rc;

use super::{Fault, struck};
use crate::chance::Chance;
use crate::group::Group;
use crate::group::process::Command;
use crate::kv::any;

pub(super) fn strike(group: &Rc<Group>, chance: &mut Chance) {
    if let (Some(leader), Some(to)) = (group.leader(), any(group, chance)) {
        struck(group, Fault::HandOver);
        group.command(leader, Command::Transfer(to));
    }
}
