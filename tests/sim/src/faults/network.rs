//! Messages are lost, doubled, late, and so overtake each other.

use std::rc::Rc;

use super::{Fault, Form, formed, later, struck};
use crate::chance::Chance;
use crate::group::Group;

pub(super) fn strike(group: &Rc<Group>, chance: &mut Chance) {
    let form = {
        let mut net = group.net.borrow_mut();
        let often = 2 + chance.below(20);
        let (what, form) = match chance.below(3) {
            0 => (&mut net.loses, Form::Lost),
            1 => (&mut net.doubles, Form::Doubled),
            _ => (&mut net.delays, Form::Late),
        };
        *what = often;
        form
    };
    struck(group, Fault::Network);
    formed(group, form);
    later(group, chance, 6000, |group| {
        let mut net = group.net.borrow_mut();
        (net.loses, net.doubles, net.delays) = (0, 0, 0);
    });
}
