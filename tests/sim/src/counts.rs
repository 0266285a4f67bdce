//! How often what a run is there to see has happened in it. A fault that never strikes proves nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::faults::{Fault, Form};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A fault has struck somebody.
    Strike(Fault),
    /// One that has several forms had this one.
    Formed(Form),
    /// A request was answered 409.
    Conflict,
    /// One was answered 429, because of the API's room or of the space quota.
    TooMany,
    /// One was refused by a ResourceQuota.
    OverQuota,
    /// A write's outcome was not known to who asked for it.
    Unknown,
    /// A watch was answered 410.
    Gone,
    /// A member has put another's state in the place of its own.
    Installed,
    /// Another one leads, or the same in another term.
    LeaderChange,
    /// A crash came amid a write to the log, and has left some of it.
    TornLog,
    /// A crash came amid a write of the objects.
    TornObjects,
    /// A rollout without any fault was followed to its end.
    Rollout,
    /// A pod was evicted from a node that is lost.
    Evicted,
    /// A Service was given the addresses of its load balancer, or lost them.
    Balanced,
    /// An Event of the API was written, or counted once more.
    Recorded,
}

impl Event {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Event> {
        use Event::*;
        let strikes = Fault::SERVERS.into_iter().chain(Fault::NODES).map(Strike);
        let forms = Form::ALL.into_iter().map(Formed);
        let others = [
            Conflict,
            TooMany,
            OverQuota,
            Unknown,
            Gone,
            Installed,
            LeaderChange,
            TornLog,
            TornObjects,
            Rollout,
            Evicted,
            Balanced,
            Recorded,
        ];
        strikes.chain(forms).chain(others)
    }
}

/// How often, by event. Clones are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Rc<RefCell<BTreeMap<Event, u64>>>);

impl Counts {
    /// It has happened.
    pub fn add(&self, event: Event) {
        *self.0.borrow_mut().entry(event).or_default() += 1;
    }

    /// What has happened.
    pub fn get(&self) -> BTreeMap<Event, u64> {
        self.0.borrow().clone()
    }
}

/// Adds what another run has counted.
pub fn sum(all: &mut BTreeMap<Event, u64>, more: &BTreeMap<Event, u64>) {
    more.iter().for_each(|(event, n)| *all.entry(*event).or_default() += n);
}

/// Counts for people: those that have none, too.
pub fn text(all: &BTreeMap<Event, u64>) -> String {
    let one = |event: Event| format!("{event:?} {}", all.get(&event).unwrap_or(&0));
    Event::all().map(one).collect::<Vec<_>>().join(", ")
}

/// What has not happened.
pub fn missing(all: &BTreeMap<Event, u64>) -> Vec<Event> {
    Event::all().filter(|event| !all.contains_key(event)).collect()
}
