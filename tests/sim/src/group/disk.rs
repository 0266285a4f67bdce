//! A server's disk: a log of checked frames of which only a synced part survives a crash for certain, and the objects as
//! of a checkpoint, which are replaced whole: whatever cuts that off leaves the old ones or the new ones.

use std::time::Duration;

use copepod_consensus::record::{Record, seal, unseal};
use copepod_consensus::{ConfState, Entry, HardState, Position, Restored, SnapshotMetadata, rules};
use copepod_state::Tables;

use crate::chance::Chance;

/// How far objects go, and the members there.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The last entry.
    pub at: Position,
    /// The members as of it.
    pub members: ConfState,
}

impl Applied {
    /// The same, as raft says it.
    pub fn metadata(&self) -> SnapshotMetadata {
        SnapshotMetadata { conf_state: Some(self.members.clone()), index: self.at.index, term: self.at.term }
    }
}

/// What one commit writes, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Term, vote and commit index.
    pub hard_state: Option<HardState>,
    /// Entries, in the place of what stands at their indexes and behind.
    pub entries: Vec<Entry>,
    /// The log begins behind this.
    pub truncated: Option<SnapshotMetadata>,
    /// Another member's state is about to replace the objects.
    pub installing: Option<SnapshotMetadata>,
    /// It has: the log is empty, and nothing is under way.
    pub installed: bool,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Each sync takes so many milliseconds more.
    Slow(u64),
    /// Nothing more can be written.
    Full,
    /// Writes get there, syncs fail.
    NoSync,
}

impl Trouble {
    /// What a write comes to that has taken its time.
    pub fn of_a_write(self) -> Result<(), String> {
        match self {
            Trouble::None | Trouble::Slow(_) => Ok(()),
            Trouble::Full => Err("no space left".into()),
            Trouble::NoSync => Err("a sync failed".into()),
        }
    }

    /// How much longer one takes.
    pub fn delay(self) -> Duration {
        if let Trouble::Slow(millis) = self { Duration::from_millis(millis) } else { Duration::ZERO }
    }
}

/// What a log holds.
#[derive(Clone, Debug, Default)]
struct Contents {
    hard_state: HardState,
    truncated: SnapshotMetadata,
    entries: Vec<Entry>,
    installing: Option<SnapshotMetadata>,
}

/// A disk.
#[derive(Default)]
pub struct Disk {
    log: Vec<u8>,
    synced: usize,
    objects: Option<(Applied, Tables)>,
    /// Those that are being written in their place.
    writing: Option<(Applied, Tables)>,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// The kinds of rows.
const STATE: u8 = 0;
const TRUNCATED: u8 = 1;
const ENTRY: u8 = 2;
const INSTALLING: u8 = 3;
const INSTALLED: u8 = 4;

impl Disk {
    /// The disk of a member that begins with a state: `offline::restore` of the store.
    pub fn restored(applied: Applied, tables: Tables) -> Disk {
        let mut disk = Disk { objects: Some((applied.clone(), tables)), ..Disk::default() };
        let state = HardState { term: applied.at.term, commit: applied.at.index, ..HardState::default() };
        let truncated = Some(applied.metadata());
        disk.append(&Batch { hard_state: Some(state), truncated, ..Batch::default() });
        disk.sync();
        disk
    }

    /// Writes a commit without syncing it.
    pub fn append(&mut self, batch: &Batch) {
        let mut payload = Vec::new();
        let mut row = |kind: u8, bytes: Vec<u8>| {
            payload.push(kind);
            payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            payload.extend_from_slice(&bytes);
        };
        if batch.installed {
            row(INSTALLED, Vec::new());
        }
        if let Some(state) = &batch.hard_state {
            row(STATE, seal(0, state));
        }
        if let Some(t) = &batch.truncated {
            row(TRUNCATED, seal(0, t));
        }
        for entry in &batch.entries {
            row(ENTRY, seal(entry.index, entry));
        }
        if let Some(t) = &batch.installing {
            row(INSTALLING, seal(0, t));
        }
        self.log.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.log.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        self.log.extend_from_slice(&payload);
    }

    /// All that was written survives from here on.
    pub fn sync(&mut self) {
        self.synced = self.log.len();
    }

    /// What was written since the last sync has not come to the disk.
    pub fn forget(&mut self) {
        self.log.truncate(self.synced);
    }

    /// Begins to replace the objects.
    pub fn replace(&mut self, applied: Applied, tables: Tables) {
        self.writing = Some((applied, tables));
    }

    /// The new objects are there, or cannot be.
    pub fn replaced(&mut self) -> Result<(), String> {
        let new = self.writing.take();
        self.trouble.of_a_write()?;
        self.objects = new.or(self.objects.take());
        Ok(())
    }

    /// Whoever wrote is gone: of objects that were being written either all are there or none. Whether any were.
    pub fn cut_off(&mut self, chance: &mut Chance) -> bool {
        let Some(new) = self.writing.take() else { return false };
        if self.trouble != Trouble::Full && chance.one_in(2) {
            self.objects = Some(new);
        }
        true
    }

    /// Forgets in the file what the log has forgotten.
    pub fn tidy(&mut self) -> Result<(), String> {
        if self.log.len() < 1 << 16 {
            return Ok(());
        }
        let (contents, _) = self.read()?;
        self.log.clear();
        let Contents { hard_state, truncated, entries, installing } = contents;
        let truncated = Some(truncated);
        self.append(&Batch { hard_state: Some(hard_state), entries, truncated, installing, installed: false });
        self.sync();
        Ok(())
    }

    /// The power fails: of what was not synced some may be there, the last of it damaged. Whether any of it is.
    pub fn lose_power(&mut self, chance: &mut Chance) -> bool {
        let extra = (self.log.len() - self.synced) as u64;
        let kept = self.synced + chance.below(extra + 1) as usize;
        self.log.truncate(kept);
        if kept > self.synced && chance.one_in(2) {
            let at = self.synced + chance.below((kept - self.synced) as u64) as usize;
            self.log[at] ^= 1 << chance.below(8);
        }
        kept > self.synced
    }

    fn read(&self) -> Result<(Contents, usize), String> {
        let mut c = Contents::default();
        let mut at = 0;
        while let Some(frame) = frame(&self.log[at..]) {
            take_in(&mut c, frame)?;
            at += 8 + frame.len();
        }
        if at < self.synced {
            return Err(format!("the log is damaged at {at}, and {} bytes were synced", self.synced));
        }
        Ok((c, at))
    }

    /// What a process finds when it opens the disk: a torn end is cut off, an installation that was cut off is ended.
    pub fn open(&mut self) -> Result<(Restored, Applied, Tables), String> {
        let (mut c, end) = self.read()?;
        self.log.truncate(end);
        self.sync();
        let (applied, tables) = self.objects.clone().ok_or("the objects are missing")?;
        if let Some(metadata) = c.installing.take() {
            let mut batch = Batch { installed: true, ..Batch::default() };
            if rules::is_installed(&mut c.hard_state, &metadata, applied.at.index) {
                c.entries.clear();
                batch.hard_state = Some(c.hard_state.clone());
                batch.truncated = Some(metadata.clone());
                c.truncated = metadata;
            } else {
                batch.entries.clone_from(&c.entries);
                batch.truncated = Some(c.truncated.clone());
            }
            self.append(&batch);
            self.sync();
        }
        let restored = Restored {
            hard_state: c.hard_state,
            conf_state: applied.members.clone(),
            truncated: Position { index: c.truncated.index, term: c.truncated.term },
            entries: c.entries,
            applied: applied.at.index,
        };
        Ok((restored, applied, tables))
    }
}

/// The payload of a whole frame at the beginning of `bytes`.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*sum)).then_some(payload)
}

fn take_in(c: &mut Contents, mut payload: &[u8]) -> Result<(), String> {
    let mut first = true;
    while let Some((kind, rest)) = payload.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>().ok_or("a row is cut off")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (bytes, rest) = rest.split_at_checked(length).ok_or("a row is cut off")?;
        payload = rest;
        match *kind {
            STATE => c.hard_state = read(0, bytes)?,
            TRUNCATED => {
                c.truncated = read(0, bytes)?;
                c.entries.retain(|e| e.index > c.truncated.index);
            }
            ENTRY => {
                let index = bytes_index(bytes)?;
                if std::mem::take(&mut first) {
                    c.entries.retain(|e| e.index < index);
                }
                c.entries.push(read(index, bytes)?);
            }
            INSTALLING => c.installing = Some(read(0, bytes)?),
            INSTALLED => {
                c.installing = None;
                c.entries.clear();
            }
            other => return Err(format!("a row of kind {other}")),
        }
    }
    Ok(())
}

fn read<M: Record>(id: u64, bytes: &[u8]) -> Result<M, String> {
    unseal(id, bytes).map_err(|e| format!("record {id}: {e}"))
}

/// The record's key, which the store keeps beside it, from the entry itself.
fn bytes_index(bytes: &[u8]) -> Result<u64, String> {
    let mut entry = Entry::default();
    entry.merge_from_bytes(bytes.get(5..).unwrap_or_default()).map_err(|_| "an entry is no entry")?;
    Ok(entry.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![index as u8; 9], ..Entry::default() }
    }

    fn fresh() -> Disk {
        Disk::restored(Applied { at: Position { index: 3, term: 1 }, ..Applied::default() }, Tables::default())
    }

    #[test]
    fn what_was_synced_survives_and_a_torn_write_is_found() {
        for seed in 0..200 {
            let mut chance = Chance::new(seed);
            let mut disk = fresh();
            disk.append(&Batch { entries: vec![entry(4, 1), entry(5, 1)], ..Batch::default() });
            disk.sync();
            disk.append(&Batch { entries: vec![entry(5, 2), entry(6, 2)], ..Batch::default() });
            disk.lose_power(&mut chance);
            let (found, ..) = disk.open().unwrap();
            let terms: Vec<_> = found.entries.iter().map(|e| (e.index, e.term)).collect();
            let old = vec![(4, 1), (5, 1)];
            assert!(terms == old || terms == [(4, 1), (5, 2), (6, 2)], "seed {seed}: {terms:?}");
        }
    }

    #[test]
    fn a_checkpoint_that_is_cut_off_leaves_the_old_objects_or_the_new_ones_and_a_full_disk_the_old_ones() {
        let new = Applied { at: Position { index: 9, term: 2 }, ..Applied::default() };
        let after = |trouble: Trouble, seed: u64| {
            let mut disk = fresh();
            disk.trouble = trouble;
            disk.replace(new.clone(), Tables::default());
            assert!(disk.cut_off(&mut Chance::new(seed)));
            disk.objects.unwrap().0.at.index
        };
        let found: Vec<u64> = (0..20).map(|seed| after(Trouble::None, seed)).collect();
        assert!(found.contains(&3) && found.contains(&9), "{found:?}");
        assert!((0..20).all(|seed| after(Trouble::Full, seed) == 3));
        for (trouble, index) in [(Trouble::Full, 3), (Trouble::NoSync, 3), (Trouble::Slow(5), 9)] {
            let mut disk = fresh();
            disk.trouble = trouble;
            disk.replace(new.clone(), Tables::default());
            assert_eq!(disk.replaced().is_ok(), index == 9);
            assert!(!disk.cut_off(&mut Chance::new(0)), "nothing is being written any more");
            assert_eq!(disk.objects.unwrap().0.at.index, index, "{trouble:?}");
        }
    }

    #[test]
    fn an_installation_that_is_cut_off_leaves_the_old_state_or_the_new_one() {
        let new = Applied { at: Position { index: 9, term: 2 }, ..Applied::default() };
        for replaced in [false, true] {
            let mut disk = fresh();
            disk.append(&Batch { entries: vec![entry(4, 1)], ..Batch::default() });
            disk.append(&Batch { installing: Some(new.metadata()), ..Batch::default() });
            if replaced {
                disk.replace(new.clone(), Tables::default());
                disk.replaced().unwrap();
            }
            for _ in 0..2 {
                let (found, applied, _) = disk.open().unwrap();
                let expected = if replaced { (0, 9, 9) } else { (1, 3, 3) };
                assert_eq!((found.entries.len(), found.truncated.index, applied.at.index), expected);
            }
        }
    }
}
