//! A node is not heard for longer than nodes are waited for, and hears nobody: its pods are evicted, if somebody leads for long
//! enough to do that.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{Fault, struck};
use crate::chance::Chance;
use crate::cluster::node;
use crate::group::Group;
use crate::group::net::Place;

/// The node monitor grace period of clusters in which nodes are silent: the usual one is longer than chaos.
pub const GRACE: Duration = Duration::from_secs(8);
/// How much longer chaos is there.
pub const LONGER: Duration = Duration::from_secs(15);

/// One node after the other, until all is healed.
pub(super) async fn strike(group: &Rc<Group>, healed: &Cell<bool>, mut chance: Chance) {
    let places: Vec<Place> = node::places().collect();
    loop {
        group.exec.sleep(Duration::from_millis(1000 + chance.below(5000))).await;
        let Some(place) = places.get(chance.below(places.len() as u64) as usize).copied() else { return };
        if healed.get() {
            return;
        }
        struck(group, Fault::Silence);
        group.net.borrow_mut().silence(place);
        group.exec.sleep(GRACE + Duration::from_millis(chance.below(20_000))).await;
        group.net.borrow_mut().end_silence(place);
    }
}
