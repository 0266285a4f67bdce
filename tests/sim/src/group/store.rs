//! What a server's API asks of its store, by the rules of `control/server/src/store`: proposals go to the leader wherever
//! it is, reads are proven, what nobody knows is said to be unknown.

use std::rc::Rc;
use std::time::Duration;

use copepod_consensus::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use copepod_state::quota::{adds_nothing, alarm, slack};
use copepod_state::{Outcome, Tables, Txn, codec};

use super::process::{Command, ProposeError, Role};
use super::{Group, Origin};
use crate::counts::Event;
use crate::exec::{Receiver, oneshot};

/// As the store has them.
const PATIENCE: Duration = Duration::from_secs(5);
const OUTCOME: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(15);

impl Group {
    fn role(&self, id: u64) -> Option<Role> {
        self.ask(id, |p| p.role.clone())
    }

    /// What a server shows now.
    pub fn snapshot(&self, id: u64) -> Option<Tables> {
        self.ask(id, |p| p.shown.clone())
    }

    /// Waits until something changes at a server, and not longer than a while.
    pub async fn changed(&self, id: u64, delay: Duration) {
        match self.ask(id, |p| (p.signal.clone(), p.signal.count())) {
            Some((signal, seen)) => drop(self.exec.timeout(delay, signal.changed(seen)).await),
            None => self.exec.sleep(delay).await,
        }
    }

    fn admit(&self, id: u64, txn: &Txn) -> Result<(), ProposeError> {
        let mut servers = self.servers.borrow_mut();
        let Some(p) = servers.get_mut(&id).and_then(|s| s.process.as_mut()) else { return Ok(()) };
        let used = p.shown.total_bytes() as u64;
        p.full = alarm(p.full, used, self.quota);
        if !p.full || adds_nothing(txn, &p.shown, slack(used, self.quota)) {
            return Ok(());
        }
        Err(ProposeError::NoSpace)
    }

    /// Proposes a transaction at a server; the index at which it was applied comes with the outcome.
    pub async fn propose(
        self: &Rc<Self>,
        id: u64,
        origin: Origin,
        txn: &Txn,
    ) -> Result<(Outcome, u64), (ProposeError, u64)> {
        if let Err(e) = self.admit(id, txn) {
            self.counts.add(Event::TooMany);
            return Err((e, 0));
        }
        let body = codec::encode(txn);
        let tag = {
            let mut origins = self.origins.borrow_mut();
            origins.push(origin);
            origins.len() as u64
        };
        self.check(|all| {
            all.admitted(tag, body.len());
            Ok(())
        });
        let data = [&tag.to_le_bytes()[..], &body].concat();
        let done = match self.role(id) {
            Some(role) if role.sovereign => self.propose_here(id, data).await,
            _ => self.propose_among(id, data).await,
        };
        self.check(|all| all.answered(tag, &done));
        if matches!(done, Err(ProposeError::Unknown)) {
            self.counts.add(Event::Unknown);
        }
        done.map_err(|e| (e, tag))
    }

    async fn propose_among(self: &Rc<Self>, id: u64, data: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        let deadline = self.exec.now() + PATIENCE;
        loop {
            let leader = self.role(id).and_then(|r| r.leader);
            let done = match leader {
                Some(leader) if leader == id => self.propose_here(id, data.clone()).await,
                Some(leader) => self.propose_there(id, leader, data.clone()).await,
                None => Err(ProposeError::NotLeader),
            };
            match done {
                Ok((outcome, index)) => {
                    if leader != Some(id) {
                        // It is durable whether this server hears of it in time or not.
                        let _ = self.read_at(id, index).await;
                    }
                    return Ok((outcome, index));
                }
                Err(ProposeError::NotLeader) if self.exec.now() < deadline && self.role(id).is_some() => {
                    self.changed(id, AGAIN).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn propose_here(self: &Rc<Self>, id: u64, data: Vec<u8>) -> Result<(Outcome, u64), ProposeError> {
        if self.role(id).is_none() {
            return Err(ProposeError::NotLeader);
        }
        let (reply, outcome) = oneshot();
        self.command(id, Command::Propose(data, reply));
        self.answer(OUTCOME, outcome).await
    }

    /// No answer within the time, and nobody who could answer any more, are the same: nobody knows.
    async fn answer<T>(&self, within: Duration, answer: Receiver<Result<T, ProposeError>>) -> Result<T, ProposeError> {
        self.exec.timeout(within, answer).await.flatten().unwrap_or(Err(ProposeError::Unknown))
    }

    async fn propose_there(
        self: &Rc<Self>,
        id: u64,
        leader: u64,
        data: Vec<u8>,
    ) -> Result<(Outcome, u64), ProposeError> {
        let Some(there) = self.net.borrow_mut().arrivals(id, leader).into_iter().next() else {
            // It may have got as far as the wire, for all that this server knows; half of the time it did not.
            let unsent = self.reaches(leader, id);
            self.exec.sleep(Duration::from_millis(100)).await;
            return Err(if unsent { ProposeError::NotLeader } else { ProposeError::Unknown });
        };
        let (reply, outcome) = oneshot();
        let group = self.clone();
        self.exec.after(there, move || {
            let Some(life) = group.servers.borrow().get(&leader).map(|s| s.life) else { return };
            let g = group.clone();
            group.exec.spawn(Group::owner(leader, life), async move {
                // Whoever sent it may not know yet how full it is.
                let judged = codec::decode(&data[8..]).map_or(Ok(()), |txn| g.admit(leader, &txn));
                let done = match judged {
                    Ok(()) => g.propose_here(leader, data).await,
                    Err(e) => Err(e),
                };
                let back = g.net.borrow_mut().arrivals(leader, id).into_iter().next();
                if let Some(back) = back {
                    g.exec.sleep(back).await;
                    reply.send(done);
                }
            });
        });
        self.answer(ANSWER, outcome).await
    }

    /// A snapshot that has every write that was acknowledged, anywhere, before this call.
    pub async fn read_index(self: &Rc<Self>, id: u64) -> Option<Tables> {
        let deadline = self.exec.now() + PATIENCE;
        loop {
            if self.role(id)?.sovereign {
                return self.snapshot(id);
            }
            let (reply, tables) = oneshot();
            self.command(id, Command::Read(reply));
            match self.exec.timeout(deadline.since(self.exec.now()), tables).await {
                Some(Some(Some(tables))) => return Some(tables),
                Some(Some(None)) if self.exec.now() < deadline => self.changed(id, AGAIN).await,
                _ => return None,
            }
        }
    }

    /// A snapshot that has everything up to an index of the log.
    async fn read_at(self: &Rc<Self>, id: u64, index: u64) -> Option<Tables> {
        let (reply, tables) = oneshot();
        self.command(id, Command::ReadAt(index, reply));
        self.exec.timeout(PATIENCE, tables).await.flatten().flatten()
    }

    /// Changes who takes part, at the leader; answers who does.
    pub async fn change_members(
        self: &Rc<Self>,
        leader: u64,
        changes: &[(ConfChangeType, u64)],
    ) -> Result<ConfState, ProposeError> {
        let single = |(kind, id): &(ConfChangeType, u64)| {
            let mut single = ConfChangeSingle { node_id: *id, ..ConfChangeSingle::default() };
            single.set_change_type(*kind);
            single
        };
        let change = ConfChangeV2 { changes: changes.iter().map(single).collect(), ..ConfChangeV2::default() };
        let (reply, done) = oneshot();
        self.command(leader, Command::Change(change, reply));
        self.answer(OUTCOME, done).await
    }
}
