//! Where one watcher is between the writer and the window: what waits for it, and whether it reads the window instead.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Change, Compacted, Interest, Window};

/// The most changes that wait for one watcher before it is moved aside.
pub const QUEUE: usize = 256;
/// The most changes of the window that are looked through at once.
pub const STRIDE: usize = 1024;

/// A watcher's place: together with the window it tells every change of interest once, in order.
#[derive(Debug)]
pub struct Seat {
    /// Changes that wait, in order.
    queue: VecDeque<Arc<Change>>,
    /// Set while it is aside: what comes after the queue is in the window, behind this revision, and the writer puts
    /// nothing into the queue.
    aside: Option<u64>,
    /// The revision of the last change that waited or was handed out; nothing up to it comes again.
    last: u64,
}

impl Seat {
    /// A watcher that has everything up to `from`. One from the present needs nothing of the window; any other begins
    /// aside and catches up.
    pub fn new(from: u64, window: &Window) -> Result<Seat, Compacted> {
        window.covers(from)?;
        Ok(Seat { queue: VecDeque::new(), aside: (from < window.newest()).then_some(from), last: from })
    }

    /// A change of interest, from the writer; whether it waits now. A full seat is moved aside.
    pub fn offer(&mut self, change: &Arc<Change>) -> bool {
        if self.aside.is_some() || change.revision <= self.last {
            return false;
        }
        if self.queue.len() >= QUEUE {
            self.aside = Some(self.last);
            return false;
        }
        self.last = change.revision;
        self.queue.push_back(change.clone());
        true
    }

    /// The state jumped to `revision`, and nobody knows what changed on the way; whether this watcher is concerned. What
    /// waits was seen here; what follows it cannot be read in the window any more.
    pub fn reset(&mut self, revision: u64) -> bool {
        if self.last >= revision {
            return false;
        }
        self.aside = Some(self.aside.unwrap_or(self.last));
        true
    }

    /// What waits; nothing of it comes again.
    pub fn take(&mut self) -> Vec<Arc<Change>> {
        std::mem::take(&mut self.queue).into()
    }

    /// How many changes wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it has to read on in the window.
    pub fn is_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Reads on in the window; at its end the watcher is no longer aside. To be called while no change is on its way, so
    /// that the end of the window is the present.
    pub fn catch_up(&mut self, interest: &Interest, window: &Window) -> Result<Vec<Arc<Change>>, Compacted> {
        let Some(cursor) = self.aside else { return Ok(Vec::new()) };
        let mut changes = window.since(cursor)?;
        let mut found = Vec::new();
        let mut last = cursor;
        for change in changes.by_ref().take(STRIDE) {
            last = change.revision;
            if interest.matches(change) {
                found.push(change.clone());
            }
        }
        self.last = last;
        self.aside = changes.next().map(|_| last);
        Ok(found)
    }

    /// The revision up to which everything of interest was taken, where the writer is at `routed`: what a bookmark says.
    pub fn progress(&self, routed: u64) -> u64 {
        match (self.queue.front(), self.aside) {
            (Some(change), _) => change.revision - 1,
            (None, Some(cursor)) => cursor,
            (None, None) => routed.max(self.last),
        }
    }
}
