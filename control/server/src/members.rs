//! The servers of the cluster: who they are, who joins, who leaves.
//!
//! Who votes is raft's own knowledge; names and addresses are objects beside it, which every server has.

mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copepod_consensus::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Progress};
use copepod_model::{Key, Status};
use copepod_state::{Op as Change, Outcome, Require, Tables, Txn};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

pub(crate) use rows::{RESOURCE, listed};
use rows::{described, key, put, row};

use crate::listener::stopped;
use crate::peers::Network;
use crate::store::{ProposeError, ReadError, Role, Store};

/// Counts the ids that were given out, so that none comes again.
const COUNTER: (&str, &str) = ("_cluster", "last-member");
/// How often a leader looks whether a learner has caught up.
const TEND: Duration = Duration::from_millis(100);
/// A learner with at most so many entries to go votes from then on.
const CAUGHT_UP: u64 = 100;
/// How long a request waits for a leader.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a leader listens for the others before it says that they are not there.
const HEARING: Duration = Duration::from_secs(1);
/// How often a change is tried that meets another one under way.
const ATTEMPTS: usize = 20;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its raft id; never used twice.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `host:port` for the other servers; empty where there are none.
    pub peer: String,
    /// `host:port` of its API.
    pub api: String,
    /// Whether it counts for majorities, or only learns.
    #[serde(default)]
    pub voter: bool,
    /// Whether it leads.
    #[serde(default)]
    pub leader: bool,
    /// Whether the leader has heard of it lately.
    #[serde(default)]
    pub reachable: bool,
    /// Whether it stays a learner until somebody promotes it.
    #[serde(default)]
    pub learner: bool,
}

/// What a server that joins is told about the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The id that it got.
    pub id: u64,
    /// All servers, itself included.
    pub members: Vec<Member>,
}

/// What can be asked of the leader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Op {
    List,
    Add { name: String, peer: String, api: String, learner: bool },
    Promote { id: u64, replacing: Option<u64> },
    Remove { id: u64 },
}

/// The group as its servers see it. Any server answers; changes go to the leader. Clones are the same.
#[derive(Clone, Debug)]
pub struct Members {
    store: Store,
    pub(crate) network: Option<Network>,
    /// One change is judged and made after the other: each depends on who is left after the one before.
    changing: Arc<Mutex<()>>,
}

impl Members {
    /// The group of `store`; without a network it never has another server.
    pub fn new(store: Store, network: Option<Network>) -> Members {
        Members { store, network, changing: Arc::default() }
    }

    /// All servers, by id.
    pub async fn list(&self) -> Result<Vec<Member>, Status> {
        let asked = self.ask(Op::List).await;
        // Without a leader nobody is known to be reachable, but who there is, is known.
        Ok(asked.unwrap_or_else(|_| described(&self.store.snapshot(), &self.store.role().borrow(), &BTreeSet::new())))
    }

    /// Takes a new server in as a learner; unless `learner` says otherwise it votes as soon as it has caught up. A dead
    /// server of the same name must be removed first: 409.
    pub async fn add(&self, name: &str, peer: &str, api: &str, learner: bool) -> Result<Joined, Status> {
        self.ask(Op::Add { name: name.into(), peer: peer.into(), api: api.into(), learner }).await
    }

    /// Lets a learner vote; in the place of another server if that is said, which is taken out in the same step.
    pub async fn promote(&self, id: u64, replacing: Option<u64>) -> Result<(), Status> {
        self.ask(Op::Promote { id, replacing }).await
    }

    /// Takes a server out, dead or alive; one that lives stops.
    pub async fn remove(&self, id: u64) -> Result<(), Status> {
        self.ask(Op::Remove { id }).await
    }

    /// Has the leader do it, wherever it is. Between two leaders it waits a moment.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, op: Op) -> Result<T, Status> {
        let deadline = Instant::now() + PATIENCE;
        let answer = loop {
            let leader = self.store.role().borrow().leader;
            let asked = match (&self.network, leader) {
                (Some(network), Some(leader)) if leader != self.store.member() => network.ask(leader, &op).await,
                _ => self.here(&op).await,
            };
            match asked {
                Ok(answer) => break answer,
                // It was not done.
                Err(e) if e.code == 503 && Instant::now() < deadline => tokio::time::sleep(TEND).await,
                Err(e) => return Err(e),
            }
        };
        serde_json::from_slice(&answer).map_err(Status::internal)
    }

    /// Does it, on the leader; the answer as JSON.
    pub(crate) async fn here(&self, op: &Op) -> Result<Vec<u8>, Status> {
        let _turn = match op {
            Op::List => None,
            _ => Some(self.changing.lock().await),
        };
        let role = self.store.role().borrow().clone();
        if !role.leads {
            return Err(Status::unavailable("there is no leader"));
        }
        let answer = match op {
            Op::List => {
                let view = self.view().await?;
                serde_json::to_vec(&described(&view, &role, &self.reachable()))
            }
            Op::Add { name, peer, api, learner } => {
                serde_json::to_vec(&self.add_here(name, peer, api, *learner).await?)
            }
            Op::Promote { id, replacing } => {
                self.promote_here(*id, *replacing, &role).await?;
                serde_json::to_vec(&())
            }
            Op::Remove { id } => {
                self.remove_here(*id, &role).await?;
                serde_json::to_vec(&())
            }
        };
        answer.map_err(Status::internal)
    }

    async fn view(&self) -> Result<Arc<Tables>, Status> {
        self.store.read_index().await.map_err(unreadable)
    }

    /// Those who have answered this leader lately, itself included.
    pub(crate) fn reachable(&self) -> BTreeSet<u64> {
        let heard = self.store.progress().into_iter().filter(|p| p.active).map(|p| p.id);
        heard.chain([self.store.member()]).collect()
    }

    async fn known(&self, id: u64) -> Result<Member, Status> {
        let view = self.view().await?;
        listed(&view).into_iter().find(|m| m.id == id).ok_or_else(|| Status::not_found("members", &id.to_string()))
    }

    async fn add_here(&self, name: &str, peer: &str, api: &str, learner: bool) -> Result<Joined, Status> {
        if self.network.is_none() {
            let why = "this server was not started to have others: start it as `copepod server`";
            return Err(Status::bad_request(why));
        }
        if name.is_empty() || peer.is_empty() || api.is_empty() {
            return Err(Status::bad_request("a server has a name and two addresses"));
        }
        let id = loop {
            let view = self.view().await?;
            let present = listed(&view);
            if let Some(other) = present.iter().find(|m| m.name == name) {
                let why = format!("server {} has this name; remove it first if it is gone", other.id);
                return Err(Status::conflict("members", name, &why));
            }
            let counter = Key::new(COUNTER.0, "", COUNTER.1);
            let counted = view.at(&counter);
            let last = counted.map_or(0, |o| o.value()["id"].as_u64().unwrap_or(0));
            let id = present.iter().map(|m| m.id).chain([last, self.store.member()]).max().unwrap_or(0) + 1;
            let unchanged =
                counted.map_or(Require::Absent(counter.clone()), |o| Require::At(counter.clone(), o.revision));
            let member = Member {
                id,
                name: name.into(),
                peer: peer.into(),
                api: api.into(),
                voter: false,
                leader: false,
                reachable: false,
                learner,
            };
            let txn = Txn {
                fence: None,
                require: vec![unchanged, Require::Absent(key(id))],
                ops: vec![put(counter, json!({"metadata": {"name": COUNTER.1}, "id": id})), row(&member)],
            };
            match self.propose(txn).await? {
                Outcome::Applied(_) => break id,
                _ => continue,
            }
        };
        if let Err(e) = self.change(&[(ConfChangeType::AddLearnerNode, id)]).await {
            // It may have been committed all the same; a member without an address is one that is not reached, and can be
            // removed.
            tracing::warn!("server {id} was not taken in: {}", e.message);
            if e.code == 503 {
                // That is certain: its name is free for the next attempt.
                self.forget(id).await?;
            }
            return Err(e);
        }
        let role = self.store.role().borrow().clone();
        Ok(Joined { id, members: described(&*self.view().await?, &role, &self.reachable()) })
    }

    async fn remove_here(&self, id: u64, role: &Role) -> Result<(), Status> {
        let voters = &role.members.voters;
        let member = listed(&*self.view().await?).into_iter().any(|m| m.id == id);
        if !member && !voters.contains(&id) && !role.members.learners.contains(&id) {
            return Err(Status::not_found("members", &id.to_string()));
        }
        self.judge(id, || may_go(voters, None, &self.reachable(), id)).await?;
        if id == self.store.member() {
            return self.leave_to_next(&Op::Remove { id }).await;
        }
        self.change(&[(ConfChangeType::RemoveNode, id)]).await?;
        self.forget(id).await
    }

    async fn promote_here(&self, id: u64, replacing: Option<u64>, role: &Role) -> Result<(), Status> {
        self.known(id).await?;
        let voters = &role.members.voters;
        // One that is far behind would be counted on and could confirm nothing.
        let behind = || if self.has_caught_up(id) { Ok(()) } else { Err("it has not caught up with the leader") };
        if !voters.contains(&id) {
            self.judge(id, behind).await?;
        }
        let Some(old) = replacing else {
            self.change(&[(ConfChangeType::AddNode, id)]).await?;
            return self.promoted(id).await;
        };
        if voters.contains(&id) && !voters.contains(&old) && !role.members.learners.contains(&old) {
            // An attempt before this one has done it.
            self.forget(old).await?;
            return self.promoted(id).await;
        }
        self.known(old).await?;
        if voters.contains(&id) || !voters.contains(&old) {
            let why = "a learner replaces a server that votes";
            return Err(Status::conflict("members", &id.to_string(), why));
        }
        self.judge(old, || may_go(voters, Some(id), &self.reachable(), old)).await?;
        if old == self.store.member() {
            return self.leave_to_next(&Op::Promote { id, replacing }).await;
        }
        // One joint change: at no time is the group one smaller or one greater.
        self.change(&[(ConfChangeType::AddNode, id), (ConfChangeType::RemoveNode, old)]).await?;
        self.forget(old).await?;
        self.promoted(id).await
    }

    /// Writes down that a server that votes does not stay a learner. It may announce itself meanwhile: then once more.
    async fn promoted(&self, id: u64) -> Result<(), Status> {
        loop {
            let view = self.view().await?;
            let waits = listed(&view).into_iter().find(|m| m.id == id && m.learner);
            let (Some(member), Some(written)) = (waits, view.at(&key(id))) else { return Ok(()) };
            let unchanged = Require::At(key(id), written.revision);
            let ops = vec![row(&Member { learner: false, ..member })];
            if let Outcome::Applied(_) = self.propose(Txn { require: vec![unchanged], ops, ..Txn::default() }).await? {
                return Ok(());
            }
        }
    }

    /// A refusal that depends on who is there: who has just begun to lead has heard nobody yet.
    async fn judge(&self, id: u64, ask: impl Fn() -> Result<(), &'static str>) -> Result<(), Status> {
        let deadline = Instant::now() + HEARING;
        while let Err(why) = ask() {
            if Instant::now() >= deadline {
                return Err(Status::conflict("members", &id.to_string(), why));
            }
            tokio::time::sleep(TEND).await;
        }
        Ok(())
    }

    /// A leader does not take itself out: the next one does.
    async fn leave_to_next(&self, op: &Op) -> Result<(), Status> {
        self.store.hand_over().await;
        let leader = self.store.role().borrow().leader;
        let (Some(network), Some(leader)) = (&self.network, leader.filter(|l| *l != self.store.member())) else {
            return Err(Status::unavailable("no other server takes over"));
        };
        network.ask(leader, op).await.map(drop)
    }

    async fn forget(&self, id: u64) -> Result<(), Status> {
        self.propose(Txn { ops: vec![Change::Delete { key: key(id) }], ..Txn::default() }).await.map(drop)
    }

    /// Writes down where this server is, if that is not what is written.
    pub(crate) async fn announce(&self, name: &str, peer: &str, api: &str) -> Result<(), Status> {
        let view = self.view().await?;
        let id = self.store.member();
        let all = listed(&view);
        if all.iter().any(|m| m.id != id && m.name == name) {
            return Err(Status::conflict("members", name, "another server has this name"));
        }
        let found = all.into_iter().find(|m| m.id == id);
        let plain = Member {
            id,
            name: name.into(),
            peer: peer.into(),
            api: api.into(),
            voter: false,
            leader: false,
            reachable: false,
            learner: found.as_ref().is_some_and(|m| m.learner),
        };
        if found.as_ref() == Some(&plain) {
            return Ok(());
        }
        // Not over a row that was removed, or written anew, meanwhile.
        let unchanged = view.at(&key(id)).map_or(Require::Absent(key(id)), |o| Require::At(key(id), o.revision));
        match self.propose(Txn { require: vec![unchanged], ops: vec![row(&plain)], ..Txn::default() }).await? {
            Outcome::Applied(_) => Ok(()),
            _ => Err(Status::unavailable("the servers have changed meanwhile")),
        }
    }

    async fn propose(&self, txn: Txn) -> Result<Outcome, Status> {
        self.store.propose(txn).await.map_err(unproposed)
    }

    /// Changes what members are; several of them by a joint change (Raft thesis §4.3), which ends by itself. Raft takes one
    /// change after the other: what meets another one is tried again.
    async fn change(&self, changes: &[(ConfChangeType, u64)]) -> Result<(), Status> {
        let single = |(kind, id): &(ConfChangeType, u64)| {
            let mut single = ConfChangeSingle { node_id: *id, ..ConfChangeSingle::default() };
            single.set_change_type(*kind);
            single
        };
        let done = |members: &ConfState| {
            members.voters_outgoing.is_empty() && changes.iter().all(|(kind, id)| is_done(*kind, *id, members))
        };
        let mut proposed = false;
        for _ in 0..ATTEMPTS {
            let mut members = self.store.role().borrow().members.clone();
            // One that is between two groups takes no other change.
            if !done(&members) && members.voters_outgoing.is_empty() {
                let change = ConfChangeV2 { changes: changes.iter().map(single).collect(), ..ConfChangeV2::default() };
                members = self.store.change_members(change).await.map_err(unproposed)?;
                proposed = true;
            }
            if done(&members) {
                return Ok(());
            }
            tokio::time::sleep(TEND).await;
        }
        let why = "another change of the membership does not end";
        Err(if proposed { Status::timeout(format!("the outcome is unknown: {why}")) } else { Status::unavailable(why) })
    }

    /// Whether another member has nearly all that this leader has.
    fn has_caught_up(&self, id: u64) -> bool {
        let progress = self.store.progress();
        let last = progress.iter().find(|p| p.id == self.store.member()).map_or(0, |p| p.matched);
        let enough = |p: &Progress| p.active && p.snapshot.is_none() && p.matched > 0 && p.matched + CAUGHT_UP >= last;
        progress.iter().any(|p| p.id == id && enough(p))
    }

    /// While this server leads: lets learners vote that have caught up. Returns when `stop` turns true.
    pub(crate) async fn tend(&self, mut stop: watch::Receiver<bool>) {
        let mut role = self.store.role();
        loop {
            let now = role.borrow_and_update().clone();
            if now.leads && !now.members.learners.is_empty() {
                let rows = listed(&self.store.snapshot());
                let waits = |m: &&Member| !m.learner && now.members.learners.contains(&m.id);
                if let Some(ready) = rows.iter().filter(waits).find(|m| self.has_caught_up(m.id)) {
                    tracing::info!(server = ready.id, "has caught up and votes from now on");
                    let _turn = self.changing.lock().await;
                    if let Err(e) = self.change(&[(ConfChangeType::AddNode, ready.id)]).await {
                        tracing::warn!(server = ready.id, "does not vote yet: {}", e.message);
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(TEND) => {}
                    () = stopped(&mut stop) => return,
                }
                continue;
            }
            tokio::select! {
                changed = role.changed() => if changed.is_err() { return },
                () = stopped(&mut stop) => return,
            }
        }
    }
}

/// Whether a majority of those who are left, and of who comes for it, is there once `id` is gone (etcd's strict
/// reconfiguration check).
fn may_go(voters: &[u64], comes: Option<u64>, reachable: &BTreeSet<u64>, id: u64) -> Result<(), &'static str> {
    if !voters.contains(&id) {
        return Ok(());
    }
    let left: Vec<u64> = voters.iter().copied().filter(|v| *v != id).chain(comes).collect();
    let there = left.iter().filter(|v| reachable.contains(v)).count();
    match left.len() {
        0 => Err("it is the only server that votes"),
        n if there < n / 2 + 1 => Err("without it no majority of the servers would be there"),
        _ => Ok(()),
    }
}

fn is_done(kind: ConfChangeType, id: u64, members: &ConfState) -> bool {
    let (votes, learns) = (members.voters.contains(&id), members.learners.contains(&id));
    match kind {
        ConfChangeType::AddNode => votes,
        ConfChangeType::AddLearnerNode => votes || learns,
        ConfChangeType::RemoveNode => !votes && !learns,
    }
}

fn unproposed(e: ProposeError) -> Status {
    match e {
        ProposeError::Unknown(why) => Status::timeout(format!("the outcome of the write is unknown: {why}")),
        other => Status::unavailable(other.to_string()),
    }
}

fn unreadable(e: ReadError) -> Status {
    Status::unavailable(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_whom_the_others_need() {
        let here = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let needed = Err("without it no majority of the servers would be there");
        assert_eq!(may_go(&[1, 2, 3], None, &here(&[1, 2, 3]), 3), Ok(()));
        assert_eq!(may_go(&[1, 2, 3], None, &here(&[1, 2]), 3), Ok(()), "a dead one");
        assert_eq!(may_go(&[1, 2, 3], None, &here(&[1, 2]), 2), needed);
        assert_eq!(may_go(&[1], None, &here(&[1]), 1), Err("it is the only server that votes"));
        assert_eq!(may_go(&[1, 2], None, &here(&[1]), 9), Ok(()), "a learner");
        assert_eq!(may_go(&[1, 2, 3], Some(4), &here(&[1, 4]), 2), Ok(()));
        assert_eq!(may_go(&[1, 2, 3], Some(4), &here(&[1, 2]), 2), needed, "neither 3 nor 4 is there");
        assert_eq!(may_go(&[1], Some(2), &here(&[1, 2]), 1), Ok(()), "the only one, for another");
    }
}
