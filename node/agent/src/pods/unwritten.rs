//! In which order what is known of pods is written to the API.

use std::collections::BTreeSet;

use super::Uid;

/// Of so many writes one at least is of a pod that comes up, so that nobody waits for ever.
const TURN: u32 = 8;

/// Pods that may have something to write. Those that run, or are over, go before those that only come up: who waits for many
/// pods waits for the former, and a pod that gets ready meanwhile needs one write less.
#[derive(Default)]
pub(super) struct Unwritten {
    first: BTreeSet<Uid>,
    pending: BTreeSet<Uid>,
    taken: u32,
}

impl Unwritten {
    /// Adds a pod, by whether it only comes up.
    pub fn insert(&mut self, uid: Uid, pending: bool) {
        if !pending {
            self.pending.remove(&uid);
            self.first.insert(uid);
        } else if !self.first.contains(&uid) {
            self.pending.insert(uid);
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Uid> {
        self.taken = self.taken.wrapping_add(1);
        if self.taken.is_multiple_of(TURN) {
            return self.pending.pop_first().or_else(|| self.first.pop_first());
        }
        self.first.pop_first().or_else(|| self.pending.pop_first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_goes_first_and_nobody_waits_for_ever() {
        let mut all = Unwritten::default();
        let uid = |kind: &str, n: usize| Uid::from(format!("{kind}{n:02}"));
        (0..4).for_each(|n| all.insert(uid("comes", n), true));
        (0..10).for_each(|n| all.insert(uid("runs", n), false));
        // Each is there once, as what it was last.
        all.insert(uid("comes", 3), false);
        all.insert(uid("runs", 9), true);
        let order: Vec<Uid> = std::iter::from_fn(|| all.pop()).collect();
        let place = |of: Uid| order.iter().position(|o| *o == of).unwrap();
        assert_eq!(order.len(), 14);
        assert_eq!(place(uid("comes", 3)), 0, "it runs now");
        assert_eq!([0, 1, 2].map(|n| place(uid("comes", n))), [7, 12, 13]);
    }
}
