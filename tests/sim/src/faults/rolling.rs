//! All servers are restarted, one after the other, each after the last one is there again.

use std::rc::Rc;
use std::time::Duration;

use super::{Fault, struck};
use crate::chance::Chance;
use crate::group::Group;
use crate::group::process::Command;

pub(super) async fn strike(group: &Rc<Group>, chance: &mut Chance) {
    struck(group, Fault::Rolling);
    for id in group.running() {
        if group.leader() == Some(id)
            && let Some(to) = group.running().into_iter().find(|other| *other != id)
        {
            group.command(id, Command::Transfer(to));
            group.exec.sleep(Duration::from_millis(chance.below(1000))).await;
        }
        group.crash(id, false);
        group.exec.sleep(Duration::from_millis(100 + chance.below(1500))).await;
        group.start(id);
        group.exec.sleep(Duration::from_millis(chance.below(1500))).await;
    }
}
