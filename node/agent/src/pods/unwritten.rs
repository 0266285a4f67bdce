//! In which order what is known of pods is written to the API.

use std::time::Duration;

use copepod_model::Time;

use super::Uid;
use super::line::Line;

/// Of so many writes one at least is of a pod that comes up, so that nobody waits for ever.
const TURN: u32 = 8;
/// How long a pod may come up before that is written down. Most are ready by then, and need one write instead of two of which
/// the second, that everybody waits for, would wait for the first.
const GRACE: Duration = Duration::from_millis(50);

/// Pods that may have something to write. Those that run, are over or have a problem go before those that only come up: who
/// waits for many pods waits for the former, and a pod that gets ready meanwhile needs one write less. Of each kind the one
/// that has waited longest goes first.
#[derive(Default)]
pub(super) struct Unwritten {
    first: Line<()>,
    /// With the time from which on it may be written.
    coming: Line<Time>,
    taken: u32,
}

impl Unwritten {
    /// Adds a pod, by whether it only comes up.
    pub fn insert(&mut self, uid: Uid, coming: bool, now: Time) {
        if !coming {
            self.coming.leave(&uid);
            self.first.join(uid, ());
        } else if !self.first.has(&uid) {
            self.coming.join(uid, now + GRACE);
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self, now: Time) -> Option<Uid> {
        self.taken = self.taken.wrapping_add(1);
        // Who would have to wait longer than the grace does so because the clock was set back.
        let may_come = self.coming.first().is_some_and(|from| *from <= now || *from > now + GRACE);
        if may_come && (self.first.is_empty() || self.taken.is_multiple_of(TURN)) {
            return self.coming.pop();
        }
        self.first.pop()
    }

    /// When to look again, once there is nobody whose turn it is.
    pub fn next_look(&self, now: Time) -> Option<Time> {
        self.coming.first().map(|from| (*from).min(now + GRACE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn uid(kind: &str, n: usize) -> Uid {
        Uid::from(format!("{kind}{n:02}"))
    }

    #[test]
    fn who_runs_goes_first_and_nobody_waits_for_ever() {
        let mut all = Unwritten::default();
        (0..4).for_each(|n| all.insert(uid("comes", n), true, NOW));
        (0..10).for_each(|n| all.insert(uid("runs", n), false, NOW));
        // Each is there once, as what it was last.
        all.insert(uid("comes", 3), false, NOW);
        all.insert(uid("runs", 9), true, NOW);
        let order: Vec<Uid> = std::iter::from_fn(|| all.pop(NOW + GRACE)).collect();
        let place = |of: Uid| order.iter().position(|o| *o == of).unwrap();
        assert_eq!(order.len(), 14);
        assert_eq!(place(uid("comes", 3)), 11, "it runs now");
        assert_eq!([0, 1, 2].map(|n| place(uid("comes", n))), [7, 12, 13]);
    }

    #[test]
    fn who_has_waited_longest_goes_first_whatever_its_uid() {
        let mut all = Unwritten::default();
        [5, 1, 9, 3].into_iter().for_each(|n| all.insert(uid("runs", n), false, NOW));
        assert_eq!(all.pop(NOW), Some(uid("runs", 5)));
        // One more change of a pod that waits already does not send it to the end of the line.
        [1, 5, 0].into_iter().for_each(|n| all.insert(uid("runs", n), false, NOW));
        let order: Vec<Uid> = std::iter::from_fn(|| all.pop(NOW)).collect();
        assert_eq!(order, [1, 9, 3, 5, 0].map(|n| uid("runs", n)));
    }

    #[test]
    fn a_pod_has_a_moment_to_come_up_before_that_is_written() {
        let mut all = Unwritten::default();
        let soon = NOW + GRACE / 2;
        all.insert(uid("quick", 0), true, NOW);
        all.insert(uid("slow", 0), true, NOW);
        assert_eq!((all.pop(soon), all.next_look(soon)), (None, Some(NOW + GRACE)));
        // Planned again it does not begin to wait anew.
        all.insert(uid("slow", 0), true, soon);
        all.insert(uid("quick", 0), false, soon);
        assert_eq!((all.pop(soon), all.pop(soon)), (Some(uid("quick", 0)), None));
        assert_eq!(all.pop(NOW + GRACE), Some(uid("slow", 0)));
        assert_eq!((all.pop(NOW + GRACE), all.next_look(NOW + GRACE)), (None, None));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let mut all = Unwritten::default();
        all.insert(uid("comes", 0), true, NOW);
        let before = Time::from_secs(NOW.secs() - 3600);
        assert_eq!(all.next_look(before), Some(before + GRACE));
        assert_eq!(all.pop(before), Some(uid("comes", 0)));
    }
}
