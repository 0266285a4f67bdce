//! A server's clock is wrong by up to half a minute, and right again later.

use std::rc::Rc;

use super::later;
use crate::chance::Chance;
use crate::group::Group;

pub(super) fn strike(group: &Rc<Group>, chance: &mut Chance) {
    let skew = chance.below(60_000) as i64 - 30_000;
    let chosen = chance.below(group.servers.borrow().len() as u64) as usize;
    let Some(id) = group.servers.borrow().keys().nth(chosen).copied() else { return };
    let set = move |group: &Rc<Group>, skew| {
        if let Some(server) = group.servers.borrow_mut().get_mut(&id) {
            server.skew = skew;
        }
    };
    set(group, skew);
    later(group, chance, 20_000, move |group| set(group, 0));
}
