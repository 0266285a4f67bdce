//! A server joins as a learner with the leader's state, votes when it has caught up, and another one leaves, alone or in
//! one joint change; under load, and at any moment something else may fail.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use copepod_consensus::ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};

use super::{Fault, struck};
use crate::chance::Chance;
use crate::group::disk::Disk;
use crate::group::{Group, Server};
use crate::kv::OUTSIDE;

/// The store's own limit.
const CAUGHT_UP: u64 = 100;
/// The most servers that there may be at once.
const MOST: usize = 5;

pub(super) fn strike(group: &Rc<Group>, changing: &Rc<Cell<bool>>, chance: &mut Chance) {
    if changing.replace(true) {
        return;
    }
    let (g, changing, mut chance) = (group.clone(), changing.clone(), chance.split());
    group.exec.spawn(OUTSIDE, async move {
        change(&g, &mut chance).await;
        changing.set(false);
    });
}

async fn change(group: &Rc<Group>, chance: &mut Chance) -> Option<()> {
    let leader = group.leader()?;
    let members = group.ask(leader, |p| p.role.members.clone())?;
    let known = group.servers.borrow().len();
    if known < MOST && (members.voters.len() < 3 || chance.one_in(2)) {
        // Ids never come again.
        let id = group.new_id();
        group.change_members(leader, &[(AddLearnerNode, id)]).await.ok()?;
        struck(group, Fault::Members);
        let leader = group.leader()?;
        let (applied, tables) = group.ask(leader, |p| (p.applied.clone(), p.tables.clone()))?;
        if !applied.members.learners.contains(&id) {
            return None;
        }
        let disk = Disk::restored(applied, tables);
        let server = Server { disk, process: None, life: 0, failed: false };
        group.servers.borrow_mut().insert(id, server);
        group.start(id);
        for _ in 0..100 {
            group.exec.sleep(Duration::from_millis(100)).await;
            let Some(leader) = group.leader() else { continue };
            let ready = group.ask(leader, |p| {
                let last = p.last_index();
                p.progress()
                    .iter()
                    .any(|m| m.id == id && m.active && m.snapshot.is_none() && m.matched + CAUGHT_UP >= last)
            });
            if ready != Some(true) {
                continue;
            }
            let voters = group.ask(leader, |p| p.role.members.voters.clone())?;
            let old = voters.into_iter().find(|v| *v != leader);
            match old.filter(|_| chance.one_in(2)) {
                // One joint change: at no time is the group one smaller or one greater.
                Some(old) if may_go(group, leader, old) => {
                    group.change_members(leader, &[(AddNode, id), (RemoveNode, old)]).await.ok()?;
                    leave(group, old).await;
                }
                _ => drop(group.change_members(leader, &[(AddNode, id)]).await),
            }
            return Some(());
        }
        return None;
    }
    let old = members.voters.into_iter().find(|v| *v != leader)?;
    if known > 3 && may_go(group, leader, old) {
        group.change_members(leader, &[(RemoveNode, old)]).await.ok()?;
        struck(group, Fault::Members);
        leave(group, old).await;
    }
    Some(())
}

/// Whether a majority of those who are left is there without it.
fn may_go(group: &Group, leader: u64, old: u64) -> bool {
    group
        .ask(leader, |p| {
            let left: Vec<u64> = p.role.members.voters.iter().copied().filter(|v| *v != old).collect();
            let progress = p.progress();
            let there = left.iter().filter(|v| progress.iter().any(|m| m.id == **v && m.active)).count();
            left.len() >= 2 && there > left.len() / 2
        })
        .unwrap_or(false)
}

/// A server that is no member any more is switched off, once those who are left know it.
async fn leave(group: &Rc<Group>, old: u64) {
    for _ in 0..100 {
        group.exec.sleep(Duration::from_millis(100)).await;
        let gone = group.leader().and_then(|leader| {
            group.ask(leader, |p| {
                let m = &p.role.members;
                ![&m.voters, &m.voters_outgoing, &m.learners, &m.learners_next].into_iter().flatten().any(|v| *v == old)
            })
        });
        if gone == Some(true) {
            return group.scrap(old);
        }
    }
}
