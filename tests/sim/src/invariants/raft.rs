//! Raft's own safety: one leader in a term, the same entry at the same place, nothing committed is ever lost.

use std::collections::BTreeMap;

use copepod_consensus::Position;

use super::Broken;

/// What was seen of it.
#[derive(Default)]
pub struct Raft {
    leaders: BTreeMap<u64, u64>,
    entries: BTreeMap<(u64, u64), u64>,
}

impl Raft {
    /// `id` leads in `term` with `last` entries, and entries up to `committed` were applied somewhere.
    pub fn leads(&mut self, id: u64, term: u64, last: u64, committed: u64) -> Result<(), Broken> {
        let leader = *self.leaders.entry(term).or_insert(id);
        if leader != id {
            return Err(("raft", format!("{leader} and {id} both lead in term {term}")));
        }
        if last < committed {
            return Err(("raft", format!("{id} leads in term {term} with {last} entries; {committed} are committed")));
        }
        Ok(())
    }

    /// Somebody wrote an entry.
    pub fn wrote(&mut self, at: Position, digest: u64) -> Result<(), Broken> {
        let known = *self.entries.entry((at.index, at.term)).or_insert(digest);
        if known != digest {
            return Err(("raft", format!("entry {} of term {} is not the same on all members", at.index, at.term)));
        }
        Ok(())
    }
}
