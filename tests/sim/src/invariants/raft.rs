//! Raft's own safety: one leader in a term, the same entry at the same place, nothing committed is ever lost.

use std::collections::BTreeMap;

use copepod_consensus::Position;

use super::Broken;

/// What was seen of it.
#[derive(Default)]
pub struct Raft {
    leaders: BTreeMap<u64, u64>,
    entries: BTreeMap<(u64, u64), u64>,
    /// The first entry of each term: its leader's log when it was elected ended before it.
    begins: BTreeMap<u64, u64>,
    /// Up to where entries were applied, by the term in which whoever applied them was then.
    committed: BTreeMap<u64, u64>,
}

impl Raft {
    /// `id` leads in `term`.
    pub fn leads(&mut self, id: u64, term: u64) -> Result<(), Broken> {
        let leader = *self.leaders.entry(term).or_insert(id);
        if leader != id {
            return Err(("raft", format!("{leader} and {id} both lead in term {term}")));
        }
        Ok(())
    }

    /// Somebody wrote an entry.
    pub fn wrote(&mut self, at: Position, digest: u64) -> Result<(), Broken> {
        let known = *self.entries.entry((at.index, at.term)).or_insert(digest);
        if known != digest {
            return Err(("raft", format!("entry {} of term {} is not the same on all members", at.index, at.term)));
        }
        let first = self.begins.entry(at.term).or_insert(at.index);
        if at.index > *first {
            return Ok(());
        }
        *first = at.index;
        match self.committed.range(..at.term).max_by_key(|(_, index)| **index) {
            Some((term, committed)) => complete((at.term, at.index), (*term, *committed)),
            None => Ok(()),
        }
    }

    /// Somebody who was in `term` applied the entry at `index`: it was committed in that term or before.
    pub fn applied(&mut self, term: u64, index: u64) -> Result<(), Broken> {
        let committed = self.committed.entry(term).or_insert(index);
        *committed = index.max(*committed);
        match self.begins.range(term + 1..).min_by_key(|(_, first)| **first) {
            Some((later, first)) => complete((*later, *first), (term, index)),
            None => Ok(()),
        }
    }
}

/// A leader has all that was committed in the terms before its own. (What is committed in later terms it may lack: it can
/// come to lead when others have elected the next one already.)
fn complete((term, first): (u64, u64), (before, committed): (u64, u64)) -> Result<(), Broken> {
    if committed < first {
        return Ok(());
    }
    let how =
        format!("the leader of term {term} had {} entries; {committed} were committed in term {before}", first - 1);
    Err(("raft", how))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    #[test]
    fn a_leader_lacks_what_was_committed_before_its_term_and_is_found_whatever_is_seen_first() {
        let mut late = Raft::default();
        late.applied(2, 4).unwrap();
        late.wrote(at(5, 3), 1).unwrap();
        assert!(late.wrote(at(4, 3), 1).is_err());
        let mut early = Raft::default();
        early.wrote(at(4, 3), 1).unwrap();
        early.applied(2, 3).unwrap();
        assert!(early.applied(2, 4).is_err());
    }

    #[test]
    fn a_leader_may_lack_what_is_committed_after_its_term() {
        let mut raft = Raft::default();
        raft.applied(7, 4).unwrap();
        raft.wrote(at(3, 6), 1).unwrap();
        raft.leads(3, 6).unwrap();
        assert!(raft.leads(1, 6).is_err());
    }
}
