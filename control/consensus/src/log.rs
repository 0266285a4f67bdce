//! The log as raft reads it: the entries since the last compaction, in memory. The driver keeps the same on disk.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index.
    pub index: u64,
    /// Term of the entry there.
    pub term: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    /// The last position that is no longer in `entries`.
    pub(crate) truncated: Position,
    pub(crate) entries: VecDeque<Entry>,
    /// Sum of the entries' data lengths.
    pub(crate) bytes: usize,
    /// What a member gets that needs entries from before `truncated`: metadata; the objects are streamed beside it.
    pub(crate) snapshot: Option<Snapshot>,
}

impl Log {
    pub(crate) fn last(&self) -> u64 {
        self.truncated.index + self.entries.len() as u64
    }

    /// Appends entries that raft wants stored; what stands in their place is overwritten.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.saturating_sub(self.truncated.index + 1) as usize;
        while self.entries.len() > keep {
            self.bytes -= self.entries.pop_back().map_or(0, |e| e.data.len());
        }
        self.bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
        self.entries.extend(entries);
    }

    /// Forgets the entries up to `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.truncated.index < index {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= gone.data.len();
            self.truncated = Position { index: gone.index, term: gone.term };
        }
        // What a burst left is given back.
        if self.entries.capacity() > 4 * (self.entries.len() + 64) {
            self.entries.shrink_to_fit();
        }
    }

    /// The index behind which the entries have at most so many bytes of data.
    pub(crate) fn floor(&self, bytes: usize) -> u64 {
        let (mut floor, mut left) = (self.truncated.index, self.bytes);
        for entry in &self.entries {
            if left <= bytes {
                break;
            }
            left -= entry.data.len();
            floor = entry.index;
        }
        floor
    }

    /// Starts anew behind a snapshot.
    pub(crate) fn install(&mut self, metadata: &SnapshotMetadata) {
        self.entries.clear();
        self.bytes = 0;
        self.truncated = Position { index: metadata.index, term: metadata.term };
        self.conf_state = metadata.conf_state.clone().unwrap_or_default();
        self.hard_state.commit = self.hard_state.commit.max(metadata.index);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let at = |index: u64| (index - self.truncated.index - 1) as usize;
        let mut left = max_size.into().unwrap_or(u64::MAX);
        let mut out = Vec::new();
        for entry in self.entries.range(at(low)..at(high)) {
            // Fixed fields are small; at least one entry is always given.
            let size = entry.data.len() as u64 + 24;
            if size > left && !out.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let at = (index - self.truncated.index - 1) as usize;
        self.entries.get(at).map(|e| e.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let unavailable = raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        let fits = |s: &&Snapshot| s.get_metadata().index >= request_index;
        self.snapshot.as_ref().filter(fits).cloned().ok_or(unavailable)
    }
}
