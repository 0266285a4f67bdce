//! The clock of a server or of a node is wrong by up to half a minute, and right again later.

use std::rc::Rc;

use super::{Fault, later, struck};
use crate::chance::Chance;
use crate::cluster::node;
use crate::group::Group;
use crate::group::net::Place;

pub(super) fn strike(group: &Rc<Group>, cluster: bool, chance: &mut Chance) {
    let skew = chance.below(60_000) as i64 - 30_000;
    let nodes = node::places().filter(|_| cluster);
    let places: Vec<Place> = group.servers.borrow().keys().copied().chain(nodes).collect();
    let Some(place) = places.get(chance.below(places.len() as u64) as usize).copied() else { return };
    struck(group, Fault::Clock);
    group.skews.borrow_mut().insert(place, skew);
    later(group, chance, 20_000, move |group| {
        group.skews.borrow_mut().remove(&place);
    });
}
