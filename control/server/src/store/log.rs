//! `raft.redb`: the log and the hard state. Every batch is one durable commit.

use copepod_consensus::record::{seal, unseal};
use copepod_consensus::{ConfState, Entry, HardState, Position, Restored, SnapshotMetadata, rules};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::error::Fault;
use super::guard::Guard;
use super::meta;
use super::mirror::Applied;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const HARD_STATE: &str = "hard_state";
/// The position before the first entry, and the members there. What rows stand at and before it is garbage.
const TRUNCATED: &str = "truncated";
/// Where another member's state begins that is being installed.
const INSTALLING: &str = "installing";
/// How many rows of garbage one commit takes away, so that no batch waits long for it.
const SWEEP: usize = 1024;

/// The open log.
pub(super) struct LogFile {
    db: Database,
    /// The first row that may exist.
    first: u64,
    /// The last row.
    last: u64,
    truncated: u64,
    /// Term and vote as they are on disk.
    voted: (u64, u64),
    /// Last row, term and vote as a commit would leave them that has failed: it may have come to the disk all the same.
    attempted: Option<(u64, (u64, u64))>,
    durability: Durability,
}

/// What a log has made durable, and others may rely on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promised {
    last: u64,
    voted: (u64, u64),
    attempted: Option<(u64, (u64, u64))>,
}

impl Promised {
    /// Both.
    pub(super) fn and(self, later: Promised) -> Promised {
        let (last, voted) = (self.last.max(later.last), self.voted.max(later.voted));
        Promised { last, voted, attempted: later.attempted }
    }
}

/// What it held.
#[derive(Clone, Debug)]
pub(super) struct LogContents {
    pub(super) hard_state: HardState,
    pub(super) truncated: SnapshotMetadata,
    pub(super) entries: Vec<Entry>,
    /// An installation was cut off; whether the objects are the new ones, they say themselves.
    pub(super) installing: Option<SnapshotMetadata>,
}

impl LogContents {
    /// What raft begins with, on objects as of `applied`.
    pub(super) fn restored(self, applied: &Applied) -> Restored {
        Restored {
            hard_state: self.hard_state,
            conf_state: applied.members.clone(),
            truncated: Position { index: self.truncated.index, term: self.truncated.term },
            entries: self.entries,
            applied: applied.at.index,
        }
    }
}

impl LogFile {
    /// Opens the log of member `id`; a new one begins with `id` as its only member.
    pub(super) fn open(backend: Guard, id: u64, durability: Durability) -> Result<(LogFile, LogContents), Fault> {
        let db = backend.database()?;
        if !meta::is_ready(&db)? {
            let members = ConfState { voters: vec![id], ..ConfState::default() };
            let start = SnapshotMetadata { conf_state: Some(members), ..SnapshotMetadata::default() };
            let txn = db.begin_write()?;
            {
                txn.open_table(ENTRIES)?;
                let mut table = txn.open_table(meta::TABLE)?;
                table.insert(HARD_STATE, seal(0, &HardState::default()).as_slice())?;
                table.insert(TRUNCATED, seal(0, &start).as_slice())?;
                meta::init(&mut table, id)?;
            }
            txn.commit()?;
        }
        let contents = read(&db, id)?;
        let truncated = contents.truncated.index;
        let txn = db.begin_read()?;
        let table = txn.open_table(ENTRIES)?;
        let first = table.first()?.map_or(truncated + 1, |(k, _)| k.value());
        let last = table.last()?.map_or(truncated, |(k, _)| k.value());
        drop((table, txn));
        let voted = (contents.hard_state.term, contents.hard_state.vote);
        Ok((LogFile { db, first, last, truncated, voted, attempted: None, durability }, contents))
    }

    /// Makes a batch durable: all of it or nothing. The answer says whether that includes the commit index. Raft needs no
    /// more of it than what is on disk already, and a row less is a page less to write and sync: where entries come and
    /// neither term nor vote is new, it stays as it is.
    pub(super) fn persist(
        &mut self,
        hard_state: &HardState,
        entries: &[Entry],
        truncate: Option<&SnapshotMetadata>,
    ) -> Result<bool, redb::Error> {
        let voted = (hard_state.term, hard_state.vote);
        let whole = entries.is_empty() || truncate.is_some() || voted != self.voted;
        let mut txn = self.db.begin_write()?;
        // Only the tests use another one, to prove that they see the difference.
        txn.set_durability(self.durability).map_err(redb::Error::from)?;
        let truncated = truncate.map_or(self.truncated, |t| t.index);
        let (mut first, mut last) = (self.first, self.last);
        {
            if whole {
                let mut table = txn.open_table(meta::TABLE)?;
                table.insert(HARD_STATE, seal(0, hard_state).as_slice())?;
                if let Some(t) = truncate {
                    table.insert(TRUNCATED, seal(0, t).as_slice())?;
                }
            }
            let mut table = txn.open_table(ENTRIES)?;
            if let Some(end) = entries.last() {
                for index in end.index + 1..=last {
                    table.remove(index)?;
                }
                for entry in entries {
                    table.insert(entry.index, seal(entry.index, entry).as_slice())?;
                }
                last = end.index;
            }
            let stop = truncated.min(last).min(first + SWEEP as u64 - 1);
            while first <= stop {
                table.remove(first)?;
                first += 1;
            }
        }
        self.attempted = Some((last, voted));
        txn.commit()?;
        self.attempted = None;
        (self.first, self.last, self.truncated, self.voted) = (first, last, truncated, voted);
        Ok(whole)
    }

    /// Notes that another member's state is about to replace the objects.
    pub(super) fn begin_install(&mut self, metadata: &SnapshotMetadata) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(meta::TABLE)?;
            table.insert(INSTALLING, seal(0, metadata).as_slice())?;
        }
        txn.commit()?;
        Ok(())
    }

    /// The objects are those of `metadata`: the log begins anew behind them.
    pub(super) fn finish_install(
        &mut self,
        hard_state: &HardState,
        metadata: &SnapshotMetadata,
    ) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(meta::TABLE)?;
            table.insert(HARD_STATE, seal(0, hard_state).as_slice())?;
            table.insert(TRUNCATED, seal(0, metadata).as_slice())?;
            table.remove(INSTALLING)?;
        }
        txn.delete_table(ENTRIES)?;
        txn.open_table(ENTRIES)?;
        self.attempted = Some((metadata.index, (hard_state.term, hard_state.vote)));
        txn.commit()?;
        self.attempted = None;
        (self.first, self.last, self.truncated) = (metadata.index + 1, metadata.index, metadata.index);
        self.voted = (hard_state.term, hard_state.vote);
        Ok(())
    }

    /// After a crash amid an installation: completes it if the objects were replaced already (`applied` says how far they
    /// go), else forgets it. The log of before is no continuation of the new objects.
    pub(super) fn settle_install(&mut self, contents: &mut LogContents, applied: u64) -> Result<(), redb::Error> {
        let Some(metadata) = contents.installing.take() else { return Ok(()) };
        if !rules::is_installed(&mut contents.hard_state, &metadata, applied) {
            let txn = self.db.begin_write()?;
            txn.open_table(meta::TABLE)?.remove(INSTALLING)?;
            return Ok(txn.commit()?);
        }
        self.finish_install(&contents.hard_state, &metadata)?;
        contents.entries.clear();
        contents.truncated = metadata;
        Ok(())
    }

    /// What it has made durable so far.
    pub(super) fn promised(&self) -> Promised {
        Promised { last: self.last, voted: self.voted, attempted: self.attempted }
    }

    /// Whether what another opening of the same file has promised is still there. A member that forgets an entry or a vote
    /// would let a majority be found where there is none.
    pub(super) fn keeps(&self, promised: &Promised) -> Result<(), String> {
        let kept = (self.voted.0 > promised.voted.0 || self.voted == promised.voted) && self.last >= promised.last;
        let kept = kept || promised.attempted == Some((self.last, self.voted));
        if kept { Ok(()) } else { Err("the disk has lost what was acknowledged: this server must be replaced".into()) }
    }

    /// Whether garbage is left that another [`LogFile::persist`] would take away.
    pub(super) fn has_garbage(&self) -> bool {
        self.first <= self.truncated.min(self.last)
    }
}

fn read(db: &Database, id: u64) -> Result<LogContents, Fault> {
    let txn = db.begin_read()?;
    let table = txn.open_table(meta::TABLE)?;
    meta::check(&table, id)?;
    let hard_state = meta::sealed(&table, HARD_STATE)?;
    let truncated: SnapshotMetadata = meta::sealed(&table, TRUNCATED)?;
    let installing = match table.get(INSTALLING)? {
        Some(_) => Some(meta::sealed(&table, INSTALLING)?),
        None => None,
    };
    let table = txn.open_table(ENTRIES)?;
    let mut entries = Vec::with_capacity(table.len()? as usize);
    for row in table.range(truncated.index + 1..)? {
        let (index, bytes) = row?;
        let index = index.value();
        let entry: Entry =
            unseal(index, bytes.value()).map_err(|e| Fault::Damaged(format!("log entry {index}: {e}")))?;
        entries.push(entry);
    }
    Ok(LogContents { hard_state, truncated, entries, installing })
}
