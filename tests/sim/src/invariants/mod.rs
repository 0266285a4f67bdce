//! What must never happen, a file each. What concerns the history of the objects is checked where an entry is applied for
//! the first time; everybody who applies it later must get the same.

pub mod acknowledged;
mod addresses;
pub mod balanced;
mod bound_once;
pub mod canon;
mod capacity;
mod collector;
pub mod evictions;
mod fenced;
pub mod linearizable;
pub mod list_watch;
mod one_writer;
pub mod quota;
pub mod raft;
pub mod resource_quota;
mod revisions;
mod rollout;
pub mod settled;
pub mod whole;

use std::sync::Arc;
use std::time::Duration;

use copepod_model::Time;
use copepod_state::{Change, Outcome, Tables};

use acknowledged::Acknowledged;
use addresses::Addresses;
use canon::Canon;
use evictions::Evictions;
use linearizable::History;
use quota::Quota;
use raft::Raft;
use revisions::Revisions;

use crate::group::Origin;
use crate::group::disk::Applied;
use crate::group::process::{ProposeError, Seen};

/// Which invariant, and how it broke.
pub type Broken = (&'static str, String);

/// All of them.
pub struct Invariants {
    raft: Raft,
    /// The one history.
    pub canon: Canon,
    acknowledged: Acknowledged,
    /// What clients asked of single keys.
    pub history: History,
    quota: Quota,
    addresses: Addresses,
    evictions: Evictions,
    revisions: Revisions,
    /// Whether nothing fails and nobody but the control loops changes anything.
    pub steady: bool,
}

impl Invariants {
    /// Nothing has happened to the state that all begin with.
    pub fn new(applied: Applied, tables: Tables, quota: u64) -> Invariants {
        Invariants {
            raft: Raft::default(),
            canon: Canon::new(&applied, tables),
            acknowledged: Acknowledged::default(),
            history: History::default(),
            quota: Quota::new(quota),
            addresses: Addresses::default(),
            evictions: Evictions::default(),
            revisions: Revisions::default(),
            steady: false,
        }
    }

    /// Something was seen of server `id`.
    pub fn observe(&mut self, id: u64, seen: &Seen, origins: &[Origin]) -> Result<(), Broken> {
        match seen {
            Seen::Started => {
                self.revisions.started(id);
                Ok(())
            }
            Seen::Leads(term) => self.raft.leads(id, *term),
            Seen::Wrote(at, digest) => self.raft.wrote(*at, *digest),
            Seen::Installed(applied, tables) => {
                let known = self.canon.history.get(&tables.revision());
                if known.is_none() && applied.at.index > self.canon.last() {
                    return Err(("raft", format!("server {id} installed {}, which nobody applied", applied.at.index)));
                }
                self.revisions.shows(id, tables.revision())
            }
            Seen::Applied { at, term, tag, outcome, changes, tables, members } => {
                self.raft.applied(*term, at.index)?;
                let first = self.canon.applied(*at, *tag, outcome, changes, tables, members)?;
                self.revisions.shows(id, tables.revision())?;
                if !first {
                    return Ok(());
                }
                whole::check(tables)?;
                self.quota.applied(*tag, tables)?;
                let origin = tag.checked_sub(1).and_then(|n| origins.get(n as usize));
                match origin {
                    Some(origin) => self.changed(at.term, origin, outcome, changes, tables),
                    None => Ok(()),
                }
            }
        }
    }

    /// What a transaction of somebody has changed.
    fn changed(
        &mut self,
        term: u64,
        origin: &Origin,
        outcome: &Option<Outcome>,
        changes: &[Arc<Change>],
        tables: &Tables,
    ) -> Result<(), Broken> {
        fenced::check(term, origin, outcome)?;
        for change in changes {
            bound_once::check(change)?;
            one_writer::check(change, origin.actor)?;
            self.addresses.check(change, origin, tables)?;
            capacity::check(change, tables)?;
            resource_quota::check(change, tables)?;
            collector::check(change, origin.actor, tables)?;
            self.evictions.check(change, origin)?;
            rollout::check(change, origin.actor, origin.view.as_ref(), tables)?;
            if self.steady {
                rollout::steady(change, tables)?;
            }
        }
        Ok(())
    }

    /// The control loops of a term's leader begin, at so much by a clock that nobody sets; nodes may be silent for `grace`.
    pub fn led(&mut self, term: u64, now: Time, grace: Duration) {
        self.evictions.led(term, now, grace);
    }

    /// A server let a transaction in.
    pub fn admitted(&mut self, tag: u64, bytes: usize) {
        self.quota.admitted(tag, bytes);
    }

    /// A client was answered.
    pub fn answered(&mut self, tag: u64, answer: &Result<(Outcome, u64), ProposeError>) -> Result<(), Broken> {
        if matches!(answer, Err(ProposeError::NotLeader | ProposeError::NoSpace)) {
            self.quota.refused(tag);
        }
        self.acknowledged.answered(&self.canon, tag, answer)
    }

    /// What is checked when everything has come to rest: all servers are the same.
    pub fn settled(&mut self, servers: &[(u64, Tables)]) -> Result<(), Broken> {
        self.acknowledged.settled(&self.canon)?;
        for (id, tables) in servers {
            let same = tables.revision() == self.canon.tables.revision()
                && tables.all().zip(self.canon.tables.all()).all(|(a, b)| a.key == b.key && a.body == b.body)
                && tables.len() == self.canon.tables.len();
            if !same {
                let (is, should) = (tables.revision(), self.canon.tables.revision());
                return Err(("acknowledged", format!("server {id} has come to rest at {is}, and the log at {should}")));
            }
        }
        self.history.check()
    }

    /// How many transactions were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.count()
    }
}
