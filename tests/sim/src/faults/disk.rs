//! A disk is slow, or full, or its syncs fail.

use std::rc::Rc;

use super::{Fault, Form, formed, later, struck};
use crate::chance::Chance;
use crate::group::Group;
use crate::group::disk::Trouble;
use crate::kv::any;

pub(super) fn strike(group: &Rc<Group>, chance: &mut Chance) {
    let Some(id) = any(group, chance) else { return };
    let (form, trouble) = match chance.below(4) {
        0 => (Form::Full, Trouble::Full),
        1 => (Form::NoSync, Trouble::NoSync),
        _ => (Form::Slow, Trouble::Slow(chance.below(600))),
    };
    let set = move |group: &Rc<Group>, trouble| {
        if let Some(server) = group.servers.borrow_mut().get_mut(&id) {
            server.disk.trouble = trouble;
        }
    };
    struck(group, Fault::Disk);
    formed(group, form);
    set(group, trouble);
    later(group, chance, 6000, move |group| set(group, Trouble::None));
}
