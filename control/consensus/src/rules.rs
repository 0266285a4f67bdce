//! What a driver decides beside the machine: whose proposal an entry is, how far the log is cut, what a crash amid an
//! installation leaves. The store's driver and the simulation's decide by these.

use std::collections::VecDeque;
use std::time::Duration;

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

/// How much of the log a leader keeps for members that lack it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// At most so many bytes of entries, whatever they lack.
    pub bytes: usize,
    /// Nothing for one that was silent for so long. One that puts another's state in the place of its own is silent
    /// meanwhile.
    pub silence: Duration,
}

impl Hold {
    /// For a state of so many bytes: where the log has more than the state, whoever is behind is better off with the state.
    /// Installing it takes the longer the larger it is, so that the log which is kept meanwhile grows with it; but the log
    /// is in memory.
    pub fn of(state: usize) -> Hold {
        Hold { bytes: state.clamp(256 << 20, 1 << 30), silence: Duration::from_secs(300) }
    }
}

/// Up to where the log may be cut behind a checkpoint at `done`: members that are behind go on from the log, so that it keeps
/// what each lacks that was not silent for too long (`others`, with how long each was). One that fetches a whole state lacks
/// what is behind that. No more than the `hold` allows is kept, which is what is behind `floor` ([`Machine::floor`]), or than
/// there is since the checkpoint `before`. Only who leads knows of the others: a follower keeps what there is since then.
/// Whoever has no `peers` keeps nothing.
///
/// [`Machine::floor`]: crate::Machine::floor
pub fn cut(done: u64, before: u64, others: &[(Progress, Duration)], peers: bool, hold: Hold, floor: u64) -> u64 {
    if !peers {
        return done;
    }
    if others.is_empty() {
        return done.min(before);
    }
    let awaited = others.iter().filter(|(_, silent)| *silent < hold.silence);
    let lacks = awaited.map(|(p, _)| p.matched.max(p.snapshot.unwrap_or(0))).min().unwrap_or(done);
    done.min(lacks.max(floor.min(before)))
}

/// A server that is without a leader for so long says so. (One that leads and does not hear a majority steps down before.)
const LEADERLESS: Duration = Duration::from_secs(3);

/// What there is to say about a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// None is known, since so long.
    Lost(Duration),
    /// One is known again, after so long.
    Back(Duration),
}

/// Whether a server knows a leader: what is said of it, once when none is there and once when that is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaderless {
    since: Option<Duration>,
    said: bool,
}

impl Leaderless {
    /// A look at `now`, by any clock that goes on.
    pub fn look(&mut self, known: bool, now: Duration) -> Option<News> {
        let lasted = now.saturating_sub(*self.since.get_or_insert(now));
        if known {
            return std::mem::take(self).said.then_some(News::Back(lasted));
        }
        let news = !self.said && lasted >= LEADERLESS;
        self.said |= news;
        news.then_some(News::Lost(lasted))
    }
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
    fn the_log_keeps_what_a_member_lacks_that_is_awaited() {
        let s = Duration::from_secs;
        let one = |id, matched, silent| (Progress { id, matched, active: silent < 1, snapshot: None }, s(silent));
        let hold = Hold { bytes: 0, silence: s(300) };
        let group = [one(1, 100, 0), one(2, 90, 0), one(3, 10, 300)];
        assert_eq!(cut(100, 95, &group, true, hold, 0), 90, "one that was silent for too long keeps nothing");
        assert_eq!(cut(80, 50, &group, true, hold, 0), 80);
        assert_eq!(cut(100, 95, &group, true, hold, 93), 93, "nor does anyone keep more than the hold");
        assert_eq!(
            cut(100, 91, &group, true, hold, 93),
            91,
            "what came since the checkpoint before is kept all the same"
        );
        assert_eq!(cut(100, 50, &[], true, hold, 0), 50, "a follower knows of nobody");
        assert_eq!(cut(100, 50, &[], false, hold, 0), 100);
        assert_eq!(cut(100, 50, &[one(1, 100, 0), one(3, 10, 300)], true, hold, 0), 100);
    }

    #[test]
    fn the_log_behind_a_state_that_is_fetched_or_installed_is_kept() {
        let s = Duration::from_secs;
        let group = |matched, snapshot, silent| {
            let me = Progress { id: 1, matched: 100, active: true, snapshot: None };
            [(me, s(0)), (Progress { id: 2, matched, active: false, snapshot }, s(silent))]
        };
        let hold = Hold { bytes: 0, silence: s(300) };
        for silent in [0, 20, 299] {
            assert_eq!(cut(100, 95, &group(10, Some(60), silent), true, hold, 40), 60, "it fetches the state of 60");
            assert_eq!(
                cut(100, 95, &group(10, None, silent), true, hold, 40),
                40,
                "it has fetched one: all that there is"
            );
            assert_eq!(cut(100, 95, &group(62, None, silent), true, hold, 40), 62, "it has installed that of 62");
        }
        assert_eq!(cut(100, 95, &group(10, Some(60), 300), true, hold, 40), 100, "it died over it");
        assert_eq!(cut(100, 95, &group(10, Some(60), 20), true, hold, 70), 70, "too much for its sake");
    }

    #[test]
    fn more_of_the_log_is_kept_for_a_large_state_than_for_a_small_one() {
        let mib = |n: usize| n << 20;
        for (state, want) in [(0, 256), (100, 256), (400, 400), (8192, 1024)] {
            assert_eq!(Hold::of(mib(state)).bytes, mib(want), "{state} MiB");
        }
    }

    #[test]
    fn a_leader_that_is_missed_is_told_once_and_so_is_its_return() {
        let ms = Duration::from_millis;
        let mut watch = Leaderless::default();
        let mut looks = |all: &[(bool, u64)]| -> Vec<Option<News>> {
            all.iter().map(|(known, at)| watch.look(*known, ms(*at))).collect()
        };
        assert_eq!(
            looks(&[(true, 0), (false, 1000), (false, 3999), (true, 4000), (false, 4050), (false, 7049)]),
            [None; 6]
        );
        assert_eq!(looks(&[(false, 7050), (false, 9000), (false, 60_000)]), [Some(News::Lost(ms(3000))), None, None]);
        assert_eq!(looks(&[(true, 60_050), (true, 60_100)]), [Some(News::Back(ms(56_000))), None]);
        assert_eq!(looks(&[(false, 70_000), (false, 73_000)]), [None, Some(News::Lost(ms(3000)))]);
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
