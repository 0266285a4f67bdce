//! In which order pods are planned.

use super::Uid;
use super::line::Line;

/// Of so many plans one at least is of a pod that has not begun, so that none waits for ever.
const TURN: u32 = 8;

/// Pods that have to be planned. Those that have begun go before new ones: of many that come at once some are to be ready soon,
/// instead of all of them late. Of each kind the one that has waited longest goes first.
#[derive(Default)]
pub(super) struct Unplanned {
    begun: Line<()>,
    new: Line<()>,
    taken: u32,
}

impl Unplanned {
    /// A pod that was never planned.
    pub fn begin(&mut self, uid: Uid) {
        self.new.join(uid, ());
    }

    /// Something has happened to a pod.
    pub fn insert(&mut self, uid: Uid) {
        if !self.new.has(&uid) {
            self.begun.join(uid, ());
        }
    }

    /// The same for several.
    pub fn extend(&mut self, uids: impl IntoIterator<Item = Uid>) {
        uids.into_iter().for_each(|uid| self.insert(uid));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.new.is_empty()
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Uid> {
        self.taken = self.taken.wrapping_add(1);
        let (first, second) = match self.taken.is_multiple_of(TURN) {
            true => (&mut self.new, &mut self.begun),
            false => (&mut self.begun, &mut self.new),
        };
        first.pop().or_else(|| second.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(kind: &str, n: usize) -> Uid {
        Uid::from(format!("{kind}{n}"))
    }

    #[test]
    fn who_has_begun_goes_first_and_nobody_waits_for_ever() {
        let mut all = Unplanned::default();
        assert!(all.is_empty());
        [2, 0, 1].into_iter().for_each(|n| all.begin(uid("new", n)));
        // News of one that has not begun does not let it overtake the others.
        all.insert(uid("new", 1));
        all.extend((0..9).rev().map(|n| uid("begun", n)));
        all.insert(uid("begun", 8));
        let order: Vec<Uid> = std::iter::from_fn(|| all.pop()).collect();
        let mut expected: Vec<Uid> = (0..9).rev().map(|n| uid("begun", n)).collect();
        expected.insert(7, uid("new", 2));
        expected.extend([uid("new", 0), uid("new", 1)]);
        assert_eq!(order, expected);
        assert!(all.is_empty());
    }
}
