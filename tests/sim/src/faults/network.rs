//! Messages are lost, doubled, late, and so overtake each other.

use std::rc::Rc;

use super::{Fault, later, struck};
use crate::chance::Chance;
use crate::group::Group;

pub(super) fn strike(group: &Rc<Group>, chance: &mut Chance) {
    {
        let mut net = group.net.borrow_mut();
        let often = 2 + chance.below(20);
        match chance.below(3) {
            0 => net.loses = often,
            1 => net.doubles = often,
            _ => net.delays = often,
        }
    }
    struck(group, Fault::Network);
    later(group, chance, 6000, |group| {
        let mut net = group.net.borrow_mut();
        (net.loses, net.doubles, net.delays) = (0, 0, 0);
    });
}
