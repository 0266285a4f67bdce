//! What a driver decides beside the machine: whose proposal an entry is, how far the log is cut, what a crash amid an
//! installation leaves. The store's driver and the simulation's decide by these.

use std::collections::VecDeque;

use raft::eraftpb::{HardState, SnapshotMetadata};

use crate::{Position, Progress};

/// Proposals that are in the log and not committed, in the order of their positions, each with whoever waits for it.
#[derive(Debug)]
pub struct Waiting<T>(VecDeque<(Position, T)>);

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting(VecDeque::new())
    }
}

impl<T> Waiting<T> {
    /// Proposals that got the positions from `first` on. What this member proposed when it led before may stand at the
    /// same indexes, or behind them; what became of it is known when something is committed there.
    pub fn add(&mut self, first: Position, all: impl IntoIterator<Item = T>) {
        let crossed = self.0.back().is_some_and(|(p, _)| p.index >= first.index);
        let at = |i| Position { index: first.index + i, term: first.term };
        self.0.extend(all.into_iter().enumerate().map(|(i, one)| (at(i as u64), one)));
        if crossed {
            self.0.make_contiguous().sort_by_key(|(p, _)| (p.index, p.term));
        }
    }

    /// The next of those about whom the committed entry `at` decides, and whether that entry is theirs: what waits at or
    /// before this index and is not this entry was overwritten by another leader's.
    pub fn decided(&mut self, at: Position) -> Option<(T, bool)> {
        let (position, one) = self.0.pop_front_if(|(p, _)| p.index <= at.index)?;
        Some((one, position == at))
    }

    /// Everybody, whatever became of it.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.0.drain(..).map(|(_, one)| one)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Up to where the log may be cut behind a checkpoint at `done`: members that are a little behind go on from the log, so
/// that it keeps what the slowest of those that are there lacks, but not more than since the checkpoint `before`. Only who
/// leads knows of the `others`; whoever has no `peers` keeps nothing.
pub fn cut(done: u64, before: u64, others: &[Progress], peers: bool) -> u64 {
    if !peers {
        return done;
    }
    let slowest = others.iter().filter(|p| p.active).map(|p| p.matched).min().unwrap_or(0);
    done.min(slowest.max(before))
}

/// After a crash amid the installation of the state of `metadata`: whether the objects, which go up to `applied`, were
/// replaced already. Then the log begins anew behind them and `state` is made to fit; else the installation is forgotten.
pub fn is_installed(state: &mut HardState, metadata: &SnapshotMetadata, applied: u64) -> bool {
    if applied < metadata.index {
        return false;
    }
    if state.term < metadata.term {
        // In a term that this member has not been in it has not voted.
        (state.term, state.vote) = (metadata.term, 0);
    }
    state.commit = metadata.index;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    #[test]
    fn an_entry_decides_about_all_that_wait_up_to_it() {
        let mut w = Waiting::default();
        w.add(at(5, 1), ["a", "b", "c"]);
        w.add(at(6, 3), ["d"]);
        assert_eq!(w.decided(at(4, 1)), None);
        assert_eq!(w.decided(at(5, 1)), Some(("a", true)));
        assert_eq!(w.decided(at(5, 1)), None);
        assert_eq!(w.decided(at(6, 3)), Some(("b", false)));
        assert_eq!(w.decided(at(6, 3)), Some(("d", true)));
        assert_eq!(w.decided(at(8, 3)), Some(("c", false)));
        assert!(w.is_empty());
    }

    #[test]
    fn the_log_keeps_what_a_member_that_is_there_lacks() {
        let one = |id, matched, active| Progress { id, matched, active, snapshot: None };
        let group = [one(1, 100, true), one(2, 90, true), one(3, 10, false)];
        assert_eq!(cut(100, 50, &group, true), 90);
        assert_eq!(cut(100, 95, &group, true), 95, "but not more than since the checkpoint before");
        assert_eq!(cut(80, 50, &group, true), 80);
        assert_eq!(cut(100, 50, &[], true), 50, "a follower knows of nobody");
        assert_eq!(cut(100, 50, &[], false), 100);
    }

    #[test]
    fn an_installation_is_whole_or_forgotten() {
        let metadata = SnapshotMetadata { index: 9, term: 4, ..SnapshotMetadata::default() };
        let mut state = HardState { term: 3, vote: 2, commit: 5 };
        assert!(!is_installed(&mut state, &metadata, 8));
        assert_eq!(state, HardState { term: 3, vote: 2, commit: 5 });
        assert!(is_installed(&mut state, &metadata, 9));
        assert_eq!(state, HardState { term: 4, vote: 0, commit: 9 });
        let mut voted = HardState { term: 4, vote: 2, commit: 5 };
        assert!(is_installed(&mut voted, &metadata, 12));
        assert_eq!(voted, HardState { term: 4, vote: 2, commit: 9 });
    }
}
