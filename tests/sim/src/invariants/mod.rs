//! What must never happen, a file each, checked after every step over the changes since the last.

mod bound_once;
mod list_watch;
mod one_writer;
mod settled;

use crate::api::Api;
use crate::chance::Chance;

/// All invariants with their state.
pub struct Invariants {
    cursor: usize,
    list_watch: list_watch::ListWatch,
}

impl Invariants {
    /// Nothing seen yet.
    pub fn new(chance: Chance) -> Invariants {
        Invariants { cursor: 0, list_watch: list_watch::ListWatch::new(chance) }
    }

    /// Checks what happened since the last check.
    pub fn check(&mut self, api: &Api) -> Result<(), String> {
        for (change, actor) in api.since(self.cursor) {
            bound_once::check(change)?;
            one_writer::check(change, actor)?;
            self.list_watch.observe(change)?;
        }
        self.cursor = api.count();
        self.list_watch.check(api)
    }

    /// Checks a cluster that has gone quiet.
    pub fn converged(&self, api: &Api) -> Result<(), String> {
        settled::check(api)
    }
}
