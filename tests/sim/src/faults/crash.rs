//! A process ends and comes back; with the power goes what was not synced, of one server or of all.

use std::rc::Rc;

use super::{Fault, later, struck};
use crate::chance::Chance;
use crate::group::Group;
use crate::kv::any;

pub(super) fn strike(group: &Rc<Group>, power: bool, chance: &mut Chance) {
    let Some(one) = any(group, chance) else { return };
    let gone = if power && chance.one_in(4) { group.running() } else { vec![one] };
    struck(group, if power { Fault::Power } else { Fault::Crash });
    for id in gone {
        group.crash(id, power);
        later(group, chance, 5000, move |group| group.start(id));
    }
}
