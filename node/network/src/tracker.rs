//! What a pod has open, so that detaching it cuts everything at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::policy::Flow;
use crate::sync::lock;

/// Something that can be cut from outside; whoever uses it sees a reset.
pub(crate) trait Cut: Send + Sync {
    fn cut(&self);

    /// Whether it ends with its pod. What a pod has answered may still be on its way to whom it is for.
    fn ends_with_pod(&self) -> bool {
        true
    }
}

#[derive(Default)]
pub(crate) struct Tracker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    live: HashMap<u64, (Arc<dyn Cut>, Option<Flow>)>,
}

/// Keeps something tracked until it is dropped.
pub(crate) struct Live {
    tracker: Arc<Tracker>,
    id: u64,
}

impl Tracker {
    /// Tracks `what`, or cuts it at once when the pod is gone already. `flow` says what policies are asked of it.
    pub(crate) fn add(self: &Arc<Self>, what: Arc<dyn Cut>, flow: Option<Flow>) -> Option<Live> {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            if what.ends_with_pod() {
                what.cut();
            }
            return None;
        }
        state.next += 1;
        let id = state.next;
        state.live.insert(id, (what, flow));
        Some(Live { tracker: self.clone(), id })
    }

    pub(crate) fn cut_all(&self) {
        let live = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.live)
        };
        live.into_values().map(|(what, _)| what).filter(|what| what.ends_with_pod()).for_each(|what| what.cut());
    }

    /// Cuts what is not allowed.
    pub(crate) fn cut_unless(&self, allowed: impl Fn(&Flow) -> bool) {
        // Nobody who cuts or asks may wait for the lock.
        let live: Vec<(Arc<dyn Cut>, Flow)> = {
            let state = lock(&self.state);
            state.live.values().filter_map(|(what, flow)| Some((what.clone(), flow.clone()?))).collect()
        };
        for (what, flow) in live {
            if !allowed(&flow) {
                what.cut();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).live.len()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let gone = lock(&self.tracker.state).live.remove(&self.id);
        drop(gone);
    }
}
