//! Some places do not reach others: one alone, two halves, one direction only, a bridge that both halves reach.

use std::rc::Rc;

use super::{Fault, Form, formed, later, struck};
use crate::chance::Chance;
use crate::group::Group;
use crate::group::net::Place;

/// Nodes and users, where there are any.
const OUTSIDE: [Place; 3] = [1001, 1002, 2000];

pub(super) fn strike(group: &Rc<Group>, cluster: bool, chance: &mut Chance) {
    let mut all: Vec<Place> = group.servers.borrow().keys().copied().collect();
    for i in (1..all.len()).rev() {
        all.swap(i, chance.below(i as u64 + 1) as usize);
    }
    // Often the leader is among those who are cut off.
    if let Some(at) = group.leader().and_then(|l| all.iter().position(|id| *id == l))
        && chance.one_in(2)
    {
        all.swap(0, at);
    }
    let some = 1 + chance.below((all.len() as u64 / 2).max(1)) as usize;
    let (few, rest) = all.split_at(some.min(all.len()));
    let number = {
        let mut net = group.net.borrow_mut();
        let number = net.anew();
        let (form, others) = match chance.below(5) {
            0 | 1 => {
                net.part(few, rest);
                (if few.len() == 1 { Form::Alone } else { Form::Halves }, rest)
            }
            2 => {
                few.iter().for_each(|a| rest.iter().for_each(|b| net.cut(*a, *b)));
                (Form::Mute, rest)
            }
            3 => {
                few.iter().for_each(|a| rest.iter().for_each(|b| net.cut(*b, *a)));
                (Form::Deaf, rest)
            }
            // The first of the rest is the bridge.
            _ => {
                let others = rest.get(1..).unwrap_or_default();
                net.part(few, others);
                (Form::Bridge, others)
            }
        };
        // One server has nobody to be cut off from.
        if !few.is_empty() && !others.is_empty() {
            formed(group, form);
        }
        // Nodes and users may be on one side only, or on none.
        if chance.one_in(3) {
            let outside: Vec<Place> = OUTSIDE.into_iter().filter(|_| chance.one_in(2)).collect();
            net.part(&outside, few);
            if cluster && !outside.is_empty() && !few.is_empty() {
                formed(group, Form::Outside);
            }
        }
        number
    };
    struck(group, Fault::Partition);
    later(group, chance, 8000, move |group| group.net.borrow_mut().mend(number));
}
